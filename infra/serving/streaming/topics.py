"""The topics of a stack, declared by a Job that may run again at any time, and with them who may use them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

from infra import names
from infra.access import Needs
from infra.config.base import PROJECT
from infra.k8s import workloads
from infra.k8s.manifest import Manifest, declare, name_of
from services.contract import TOPICS_MODULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.access import Granted
    from infra.config.streaming import TopicConfig
    from infra.outputs import PlatformOutputs

LIST = "topics.json"
APPLY_SECONDS = 180
"""For the Job, image start and retries included."""

LABELS = {names.LABEL_NAME: names.TOPICS}


@dataclass(frozen=True, kw_only=True)
class TopicsArgs:
    """What topics are declared from."""

    topics: Mapping[str, TopicConfig]
    clients: Mapping[str, Needs]
    """What those who use them need, by account."""
    image: str
    """The service's, which knows Kafka."""
    platform: PlatformOutputs


class PartitionsProvider(dynamic.ResourceProvider):
    """Remembers how many partitions each topic was given, and refuses fewer: Kafka cannot, and the Job would fail."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Remember."""
        return dynamic.CreateResult(id_=names.TOPICS, outs=props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        """Called by every preview. Raises where a topic would get fewer."""
        before, after = olds["partitions"], news["partitions"]
        shrunk = [
            f"{PROJECT}:topics.{topic}.partitions: {int(after[topic])} → {int(before[topic])} there are, and Kafka "
            f"takes none away: messages would go with them → set it to {int(before[topic])}, or name another topic"
            for topic in sorted(before.keys() & after.keys())
            if int(after[topic]) < int(before[topic])
        ]
        if shrunk:
            raise ValueError("\n".join(shrunk))
        return dynamic.DiffResult(changes=before != after)

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        """Remember topics that left the stack file, too: they are still there."""
        return dynamic.UpdateResult(outs={"partitions": {**olds["partitions"], **news["partitions"]}})


class Partitions(dynamic.Resource, module="slipway", name="Partitions"):
    """Partitions by topic."""

    partitions: pulumi.Output[dict[str, int]]

    def __init__(self, name: str, partitions: Mapping[str, int], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PartitionsProvider(), name, {"partitions": dict(partitions)}, opts)


class Topics(pulumi.ComponentResource):
    """Every topic as the stack file has it: made, or changed. None is ever deleted."""

    applied: pulumi.Resource
    """Topics and rights are there once this is."""

    def __init__(self, name: str, args: TopicsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:serving:Topics", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        kafka, namespace = args.platform.kafka, args.platform.namespaces.models
        if kafka is None:
            raise AssertionError("topics without Kafka are refused with the configuration")
        counted = Partitions(name, {topic: config.partitions for topic, config in args.topics.items()}, child)
        files = {LIST: topic_list(args.topics)}
        mounted = declare(name, workloads.config_map(names.TOPICS, namespace, LABELS, files), child)
        account = declare(name, workloads.service_account(names.TOPICS, namespace, LABELS), child)
        needs = Needs(declares=list(args.topics), lets=args.clients)
        granted = args.platform.access.grant(names.TOPICS, namespace, needs, child)
        spec = JobSpec(
            image=args.image,
            namespace=namespace,
            account=name_of(account),
            bootstrap=kafka.bootstrap,
            files=name_of(mounted),
            digest=hashlib.sha256(files[LIST].encode()).hexdigest(),
            granted=granted,
        )
        # A Job cannot change: the provider replaces it, and the new one needs the old one's name.
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True, depends_on=[counted, *granted.after])
        self.applied = declare(name, job(spec), options)
        self.register_outputs({})


def topic_list(topics: Mapping[str, TopicConfig]) -> str:
    """What the Job reads."""
    listed = {
        topic: {
            "partitions": config.partitions,
            "replication": config.replication,
            "config": {**config.config, "retention.ms": str(config.retention_hours * 3_600_000)},
        }
        for topic, config in topics.items()
    }
    return json.dumps(listed, indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What the Job is made from."""

    image: str
    namespace: pulumi.Input[str]
    account: pulumi.Input[str]
    bootstrap: pulumi.Input[str]
    files: pulumi.Input[str]
    """ConfigMap with the list."""
    digest: str
    """Of the list: another one is another Job."""
    granted: Granted


def job(spec: JobSpec) -> Manifest:
    """The Job."""
    container = workloads.container(
        "topics",
        spec.image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="256Mi"),
        {"files": "/files", "scratch": workloads.SCRATCH, **spec.granted.mounts},
        command=["python", "-m", TOPICS_MODULE, spec.bootstrap, f"/files/{LIST}"],
        env=[*workloads.env({"HOME": workloads.SCRATCH}), *spec.granted.env],
    )
    pod = workloads.Pod(
        labels={**LABELS, **spec.granted.labels},
        containers=[container],
        volumes={
            "files": {"configMap": {"name": spec.files}},
            "scratch": {"emptyDir": {"sizeLimit": "64Mi"}},
            **spec.granted.volumes,
        },
        annotations={names.ANNOTATION_CONFIG_DIGEST: spec.digest},
        service_account=spec.account,
    )
    return workloads.job(names.TOPICS, spec.namespace, pod, APPLY_SECONDS)
