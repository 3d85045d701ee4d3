"""What a realtime model writes down of the requests that it answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from infra.config.base import ConfigModel, TablePath, broken_rule
from infra.config.streaming import TopicName  # noqa: TC001 (pydantic reads it at run time)

BUCKET = "predictions/"


class PredictionLogConfig(ConfigModel):
    """A line for each row of some of the requests: what came in, what was answered, by which release."""

    path: TablePath | None = None
    """Where its objects go, by day and hour: `predictions/<path>`."""

    topic: TopicName | None = None
    """A topic of the stack, where it goes to Kafka; messages have the request's id for a key."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the requests, chosen by their id: every release writes down the same ones."""

    redact: list[str] = Field(default_factory=list)
    """Features that are left out."""

    @field_validator("path")
    @classmethod
    def _with_the_predictions(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith(BUCKET) or any(sign in path for sign in "*?[]{}")):
            raise broken_rule("below the bucket of predictions, in one place", "write predictions/<path>")
        return path

    @field_validator("topic")
    @classmethod
    def _to_one_place(cls, topic: str | None, info: ValidationInfo) -> str | None:
        if "path" in info.data and (topic is None) == (info.data["path"] is None):
            raise broken_rule("a log goes to one place", "set path or topic, and not both")
        return topic

    @field_validator("redact")
    @classmethod
    def _without_commas(cls, names: list[str]) -> list[str]:
        if any("," in name for name in names):
            raise broken_rule("names without commas, which separate them", "rename the feature")
        return names

    @property
    def prefix(self) -> str | None:
        """What the keys of its objects begin with; None where it has none."""
        return None if self.path is None else f"{self.path.removeprefix(BUCKET)}/"
