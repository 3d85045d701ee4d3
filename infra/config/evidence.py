"""The evidence gate: what a release has to show before traffic reaches it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, FiniteFloat, ValidationInfo, field_validator

from infra.config.base import ConfigModel, PublicKey, broken_rule
from infra.evidence.document import Falling, Rising

Margin: TypeAlias = Rising | Falling | Literal["p99Ratio"]
"""Figures that a candidate is compared with the live release by."""


def _margins() -> dict[Margin, float]:
    return {"rocAuc": 0.01, "accuracy": 0.02, "f1": 0.03, "f1Macro": 0.03, "r2": 0.02}


class EvidenceConfig(ConfigModel):
    """How the policy pack judges the evidence of releases, which `slipway models evaluate` records.

    A release that gets traffic, or is the shadow, is held to it; the others are advised.
    """

    enforcement: Literal["mandatory", "advisory", "off"] = "advisory"
    """Whether bad evidence fails a preview (mandatory), is told (advisory) or is not looked at (off)."""

    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Age in days from which evidence is stale."""

    signers: tuple[PublicKey, ...] = ()
    """Public keys of those whose evaluations are believed (`slipway models signer` prints one's own).
    Without any, a signature only shows that the evidence was not changed: enough to advise, not to block."""

    minimum: dict[Rising, FiniteFloat] = Field(default_factory=dict)
    """Least value of holdout metrics, of all models."""

    regression_margin: dict[Margin, Annotated[FiniteFloat, Field(ge=0)]] = Field(default_factory=_margins)
    """How much worse than the live release's a candidate's figure may be: metrics by difference, `p99Ratio` by ratio
    of the latencies. A metric that the live release lacks is not compared."""

    @field_validator("signers")
    @classmethod
    def _mandatory_knows_whom_it_believes(cls, signers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not signers and info.data.get("enforcement") == "mandatory":
            raise broken_rule(
                "a mandatory gate names whom it believes: anyone can sign with a key of their own",
                "add the key that `slipway models signer` prints",
            )
        return signers


class ChecklistConfig(ConfigModel):
    """The post-deployment checklist, which runs at the end of an update and fails it."""

    enabled: bool = True
    """Whether it runs."""

    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """How long a line of it may take to pass: gateways learn of a route, Prometheus of a pod, only after a while."""
