"""ECR: where the images of this repository go, and where nodes find them by digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra.platforms.aws import keys
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 30
"""Images of each repository; what runs is pulled by then, and older releases are built again from their commit."""


@dataclass(frozen=True, kw_only=True)
class ImagesArgs:
    """What the repositories are made from."""

    scope: Scope
    names: Sequence[str]


class Images(pulumi.ComponentResource):
    """A repository for each image: tags that never move, scanned at each push, encrypted."""

    def __init__(self, name: str, args: ImagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsImages", name, {}, opts)
        scope, child = args.scope, pulumi.ResourceOptions(parent=self)
        key = keys.key(scope, "images", "images", child)
        self.urls: dict[str, pulumi.Output[str]] = {}
        for image in args.names:
            inputs = {
                "name": f"{scope.prefix}/{image}",
                "imageTagMutability": "IMMUTABLE",
                "imageScanningConfiguration": {"scanOnPush": True},
                "encryptionConfigurations": [{"encryptionType": "KMS", "kmsKey": key.output("arn")}],
                "tags": scope.named(image),
            }
            made = AwsResource("ecr/repository:Repository", image, inputs, child, outputs=("arn", "repositoryUrl"))
            policy = {"repository": made.output("name"), "policy": json.dumps(expiry())}
            AwsResource("ecr/lifecyclePolicy:LifecyclePolicy", image, policy, child)
            self.urls[image] = made.output("repositoryUrl")
        self.register_outputs(dict(self.urls))


def expiry() -> dict[str, object]:
    """What goes when there are more than `KEPT`."""
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT}
    rule = {
        "rulePriority": 1,
        "description": f"the newest {KEPT}",
        "selection": selection,
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}
