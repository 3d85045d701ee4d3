"""From a platform's configuration to what every platform provides."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from infra.config.aws import AwsPlatformConfig
from infra.config.stack import ImageName
from infra.platforms.aws.platform import AwsPlatform, AwsPlatformArgs
from infra.platforms.aws.platform import public_url as aws_url
from infra.platforms.local.platform import LocalPlatform, LocalPlatformArgs, public_url

if TYPE_CHECKING:
    from infra.config.stack import StackConfig
    from infra.outputs import PlatformOutputs


def provision(config: StackConfig) -> PlatformOutputs:
    """Declares the platform. The one place that knows which kinds there are."""
    if isinstance(config.platform, AwsPlatformConfig):
        aws_args = AwsPlatformArgs(config=config.platform, production=config.production, images=get_args(ImageName))
        return AwsPlatform(config.platform.kind, aws_args).outputs
    args = LocalPlatformArgs(
        config=config.platform, images=config.images, mlflow_database_size=config.addons.mlflow.database_size
    )
    return LocalPlatform(config.platform.kind, args).outputs


def gateway_url(config: StackConfig) -> str:
    """Base address of the gateway as this machine reaches it."""
    if isinstance(config.platform, AwsPlatformConfig):
        return aws_url(config.platform)
    return public_url(config.platform)
