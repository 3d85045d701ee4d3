"""`slipway doctor`: what is missing before a stack can be deployed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.config.aws import AwsPlatformConfig
from infra.config.platform import LocalPlatformConfig
from infra.registry.client import TOKEN
from tools.cluster import preflight
from tools.doctor import aws, checkout, login
from tools.doctor.check import Finding, good, unknown
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def examine(
    config: Mapping[str, Any], build: Path, variables: Mapping[str, str], *, context: str | None = None
) -> Iterator[Finding]:
    """Everything that is looked at, in the order in which it is needed."""
    yield checkout.engine(variables)
    yield from checkout.backend(variables)
    parsed, found = checkout.configuration(config)
    yield from found
    if parsed is None:
        for subject in ("images", "charts", login.SUBJECT, "platform"):
            yield unknown(subject, "the stack file says not which", "correct the file and run `slipway doctor` again")
        return
    yield checkout.images(parsed, build)
    yield from checkout.charts(parsed, build)
    yield login.login(parsed.addons.mlflow.login, os.environ.get(TOKEN), datetime.now(UTC))
    platform = parsed.platform
    if isinstance(platform, AwsPlatformConfig):
        yield from aws.findings(platform)
    elif isinstance(platform, LocalPlatformConfig):
        yield machine(platform, context)
    else:
        yield unknown("platform", f"is {platform.stack}'s", "run `slipway doctor` with that stack")


def machine(platform: LocalPlatformConfig, context: str | None) -> Finding:
    """What the embedded cluster needs; a cluster of one's own is its owner's."""
    if context is not None:
        return unknown("machine", f"the cluster is {context}'s", f"`kubectl --context {context} get nodes`")
    try:
        preflight.check(platform.gateway_port)
    except StepError as error:
        return Finding("bad", "machine", str(error))
    return good("machine", "can run the embedded cluster")
