"""Errors of the program. All of them are the operator's to fix, none is a bug report.

SlipwayError            what `pulumi up` prints instead of a traceback
├── ConfigError         the stack file says something it may not (`infra.config`)
└── RegistryError       a model reference does not resolve (`infra.registry`)
"""

from __future__ import annotations


class SlipwayError(Exception):
    """A message of the form `key: value → rule → remedy`, one line per problem."""


class ConfigError(SlipwayError):
    """Every problem of a stack file at once."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{count} in the stack's configuration:", *(f"  {line}" for line in problems)]))


class RegistryError(SlipwayError):
    """A model reference that the registry cannot turn into a version and a digest."""
