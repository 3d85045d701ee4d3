"""A cluster that only remembers."""

from __future__ import annotations

from typing import Any

from tests.engine.remembering_provider import RememberingProvider, kind_of

FORCES_REPLACEMENT = {"ConfigMap": "data", "Secret": "stringData", "Job": "spec"}
"""Kinds and the property whose change replaces the object, as the real provider has it."""


class RememberingCluster(RememberingProvider):
    package, version = "kubernetes", "4.25.0"

    def replacing(self, type_, before, after, changed):
        replaces = [key for key in changed if FORCES_REPLACEMENT.get(kind_of(type_)) == key]
        return [*replaces, "metadata.name"] if self.beside(before, after) else replaces

    def beside(self, before, after):
        # As the real provider has it: two objects of one name cannot be there at once, of two names they can.
        return name_in(before) != name_in(after)


def name_in(inputs: dict[str, Any]) -> str | None:
    return inputs.get("metadata", {}).get("name")
