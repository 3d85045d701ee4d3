"""Combinations of a stream model's keys, and of the stack's topics, that would not do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.base import PROJECT, Refused
from infra.config.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.config.stack import StackConfig
    from infra.config.streaming import StreamModelConfig


def stream_refusals(config: StackConfig) -> list[str]:
    """One line for each; they need the whole stack: its topics, its platform, its add-ons."""
    streams = {name: model for name, model in config.models.items() if model.kind == "stream"}
    lines = [
        f"{PROJECT}:models.{name}.{each.key}: {shown(each.value)} → {each.rule} → {each.remedy}"
        for name, model in streams.items()
        for each in [*_topics(model, config), *_scaling(model, config)]
    ]
    lines += _logs(config)
    brokers = config.platform.brokers
    if (streams or config.topics) and not brokers:
        key = f'models.{next(iter(streams))}.kind: "stream"' if streams else "topics: set"
        lines.append(
            f"{PROJECT}:{key} → needs Kafka on the platform → set {PROJECT}:platform.{config.platform.kafka_key}"
        )
    for name, topic in config.topics.items():
        if brokers and topic.replication > brokers:
            lines.append(
                f"{PROJECT}:topics.{name}.replication: {topic.replication} → a copy is on a broker of its own, and the "
                f"platform has {brokers} → lower it"
            )
    groups: dict[str, str] = {}
    for name, model in streams.items():
        other = groups.setdefault(model.group or name, name)
        if other != name:
            lines.append(
                f"{PROJECT}:models.{name}.group: {shown(model.group)} → {other} has it, and they would share the "
                "messages → name another"
            )
    return lines


def _logs(config: StackConfig) -> Iterator[str]:
    known = ", ".join(sorted(config.topics)) or "none"
    for name, model in config.models.items():
        log = model.prediction_log if model.kind == "realtime" else None
        if log is not None and log.topic is not None and log.topic not in config.topics:
            yield (
                f"{PROJECT}:models.{name}.predictionLog.topic: {shown(log.topic)} → a topic of the stack ({known}) → "
                f"declare it: {PROJECT}:topics.{log.topic}"
            )


def _topics(model: StreamModelConfig, config: StackConfig) -> Iterator[Refused]:
    for key, topic in (("input", model.input), ("output", model.output), ("deadLetter", model.dead_letter)):
        if topic not in config.topics:
            known = ", ".join(sorted(config.topics)) or "none"
            yield Refused(key, topic, f"a topic of the stack ({known})", f"declare it: {PROJECT}:topics.{topic}")
    if len({model.input, model.output, model.dead_letter}) < 3:  # noqa: PLR2004  # there are three
        yield Refused("output", model.output, "a stream that reads what it writes never ends", "name three topics")


def _scaling(model: StreamModelConfig, config: StackConfig) -> Iterator[Refused]:
    scaling = model.scaling
    if scaling.max is not None and scaling.max < scaling.min:
        yield Refused("scaling.max", scaling.max, f"at least scaling.min, {scaling.min}", "raise it, or lower min")
    if scaling.automatic and not config.addons.keda.enabled:
        yield Refused(
            "scaling.max", scaling.max, "workers follow their lag by the keda add-on",
            f"set {PROJECT}:addons.keda.enabled, or drop max",
        )  # fmt: skip
    if scaling.min == 0 and not scaling.automatic:
        yield Refused("scaling.min", 0, "nobody would answer", "set `max` above it, or 1")
    topic = config.topics.get(model.input)
    most = max(scaling.max or 0, scaling.min)
    if topic is not None and most > topic.partitions:
        key = "scaling.max" if scaling.max is not None and scaling.max >= scaling.min else "scaling.min"
        yield Refused(
            key, most, f"no more than {model.input} has partitions, {topic.partitions}: others would idle",
            f"lower it, or raise {PROJECT}:topics.{model.input}.partitions",
        )  # fmt: skip
    if "lag" in scaling.model_fields_set and not scaling.automatic:
        yield Refused("scaling.lag", scaling.lag, "is how workers follow the load", "set `max` above `min`")
