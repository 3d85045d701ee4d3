"""The policy pack: `pulumi preview --policy-pack policies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from policies.rules import RULES, STACK_RULES
from policies.rules.rule import ADVICE, Declared

if TYPE_CHECKING:
    from policies.rules.rule import Level, Rule, StackRule


def policy(rule: Rule, level: Level) -> ResourceValidationPolicy:
    """A rule at one of its levels in the engine's terms, where a policy has one level alone."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for violation in rule.violations(args.resource_type, args.props, level):
            report(violation, None)

    return ResourceValidationPolicy(
        name=rule.name if level == "mandatory" else f"{rule.name}{ADVICE}",
        description=rule.description,
        enforcement_level=EnforcementLevel(level),
        validate=validate,
    )


def stack_policy(rule: StackRule) -> StackValidationPolicy:
    """A rule about the whole stack in the engine's terms."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [Declared(each.resource_type, each.name, each.props) for each in args.resources]
        for violation in rule.violations(resources):
            report(violation, None)

    return StackValidationPolicy(
        name=rule.name,
        description=rule.description,
        enforcement_level=EnforcementLevel(rule.level),
        validate=validate,
    )


PolicyPack(
    name="slipway",
    policies=[
        *(policy(rule, level) for rule in RULES for level in rule.levels),
        *(stack_policy(rule) for rule in STACK_RULES),
    ],
)
