"""From a platform's configuration to what every platform provides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.platforms.local.platform import LocalPlatform, LocalPlatformArgs, public_url

if TYPE_CHECKING:
    from infra.config.stack import StackConfig
    from infra.outputs import PlatformOutputs


def provision(config: StackConfig) -> PlatformOutputs:
    """Declares the platform. The one place that knows which kinds there are."""
    args = LocalPlatformArgs(
        config=config.platform, images=config.images, mlflow_database_size=config.addons.mlflow.database_size
    )
    return LocalPlatform(config.platform.kind, args).outputs


def gateway_url(config: StackConfig) -> str:
    """Base address of the gateway as this machine reaches it."""
    return public_url(config.platform)
