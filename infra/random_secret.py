"""A secret made once and kept in the stack's state, encrypted.

Pulumi's own `random` provider would do; this one needs no plugin, so that a machine
without access to Pulumi's plugin server can bring an environment up.
"""

from __future__ import annotations

import secrets
from typing import Any

import pulumi
from pulumi import dynamic


class RandomSecretProvider(dynamic.ResourceProvider):
    """Makes the value at creation and never again."""

    # The provider's code holds no secret; encrypting it would differ at each update and show as a change.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Draws the value from the operating system's generator."""
        value = secrets.token_hex(int(props["bytes"]))
        return dynamic.CreateResult(id_=secrets.token_hex(8), outs={"bytes": props["bytes"], "result": value})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        """Another length is another secret; nothing else changes one."""
        changed = int(olds["bytes"]) != int(news["bytes"])
        return dynamic.DiffResult(changes=changed, replaces=["bytes"] if changed else [])


class RandomSecret(dynamic.Resource, module="slipway", name="RandomSecret"):
    """A secret of `length` random bytes, in hex."""

    result: pulumi.Output[str]

    def __init__(self, name: str, length: int, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            RandomSecretProvider(),
            name,
            {"bytes": length, "result": None},
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["result"])),
        )
