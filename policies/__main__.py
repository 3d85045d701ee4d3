"""The policy pack: `pulumi preview --policy-pack policies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)

from policies.rules import RULES

if TYPE_CHECKING:
    from policies.rules.rule import Rule


def policy(rule: Rule) -> ResourceValidationPolicy:
    """A rule in the engine's terms."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for violation in rule.violations(args.resource_type, args.props):
            report(violation, None)

    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.description,
        enforcement_level=EnforcementLevel(rule.level),
        validate=validate,
    )


PolicyPack(name="slipway", policies=[policy(rule) for rule in RULES])
