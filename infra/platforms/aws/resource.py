"""The one step from data to AWS resources, and the names and tags that they share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import pulumi

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Inputs: TypeAlias = dict[str, Any]
"""Inputs of a resource as the provider's schema spells them: camelCase, values that may be Outputs."""


@cache
def provider_version() -> str:
    """Of the AWS provider, as its SDK is installed; kept, for every resource asks and each answer takes 2 ms."""
    return version("pulumi-aws")


class AwsResource(pulumi.CustomResource):
    """Anything that the AWS provider makes, from plain data.

    The SDK's classes say the same by type; importing those of EC2 alone takes longer than all else that the program
    does. Tests hold every type and input to the SDK's own description.
    """

    def __init__(
        self, token: str, name: str, inputs: Inputs, opts: pulumi.ResourceOptions, outputs: Sequence[str] = ()
    ) -> None:
        pinned = pulumi.ResourceOptions(version=provider_version())
        known = {**dict.fromkeys(outputs), **inputs}
        super().__init__(f"aws:{token}", name, known, pulumi.ResourceOptions.merge(opts, pinned))

    def output(self, name: str) -> pulumi.Output[Any]:
        """A property that AWS tells: one of the inputs, or of the `outputs` that were asked for."""
        found: pulumi.Output[Any] = pulumi.get(self, name)
        return found


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where resources are made, and what all of them share."""

    environment: str
    account: str
    region: str
    protect: bool
    """Whether what holds data is protected and retained."""
    boundary: str | None = None
    """IAM policy that bounds every role."""

    @property
    def prefix(self) -> str:
        """Begins every name."""
        return f"slipway-{self.environment}"

    def named(self, name: str) -> dict[str, str]:
        """The tag that the console shows."""
        return {"Name": f"{self.prefix}-{name}"}

    def arn(self, service: str, resource: str, *, regional: bool = True, owned: bool = True) -> str:
        """ARN of something of this account."""
        region, account = self.region if regional else "", self.account if owned else ""
        return f"arn:aws:{service}:{region}:{account}:{resource}"

    def keeping(self, parent: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
        """Options of what holds data: nobody destroys it by mistake, and what Pulumi forgets stays."""
        return pulumi.ResourceOptions(parent=parent, protect=self.protect, retain_on_delete=self.protect, **options)


def document(statements: Sequence[Mapping[str, Any]]) -> pulumi.Output[str]:
    """A policy's JSON; statements may hold Outputs."""
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def plain_document(statements: Sequence[Mapping[str, Any]]) -> str:
    """`document` of statements that are known."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
