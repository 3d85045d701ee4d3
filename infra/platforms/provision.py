"""From a platform's configuration to what every platform provides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from infra.config.aws import AwsPlatformConfig
from infra.config.platform import ReferencePlatformConfig
from infra.config.stack import ImageName
from infra.platforms.aws.platform import AwsPlatform, AwsPlatformArgs
from infra.platforms.aws.reference import OUTPUT, referenced
from infra.platforms.local.platform import LocalPlatform, LocalPlatformArgs

if TYPE_CHECKING:
    from infra.config.stack import StackConfig
    from infra.outputs import PlatformOutputs


def provision(config: StackConfig) -> tuple[PlatformOutputs, dict[str, Any]]:
    """Declares the platform, or finds it; also what the stack exports of it. The one place that knows the kinds."""
    if isinstance(config.platform, ReferencePlatformConfig):
        return referenced(config.platform), {}
    if isinstance(config.platform, AwsPlatformConfig):
        aws = AwsPlatformArgs(
            config=config.platform,
            production=config.production,
            images=get_args(ImageName),
            mlflow_image=config.images["mlflow"],
        )
        made = AwsPlatform(config.platform.kind, aws)
        return made.outputs, {OUTPUT: made.facts.exported()}
    local = LocalPlatformArgs(
        config=config.platform, images=config.images, mlflow_database_size=config.addons.mlflow.database_size
    )
    return LocalPlatform(config.platform.kind, local).outputs, {}
