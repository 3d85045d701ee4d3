"""Combinations of keys that would not do what they say. Each is refused, with the key and what to do instead.

What one key says by itself is checked where it is declared; here stands what only several keys together can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.config.accelerators import whole_gpus
from infra.config.base import PROJECT, Refused
from infra.config.batch_combinations import batch_refusals
from infra.config.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.config.addons import AddonsConfig
    from infra.config.models import ModelConfig, RealtimeModelConfig
    from infra.config.stack import StackConfig
    from infra.config.workload import ResourcesConfig


def refusals(name: str, model: ModelConfig, addons: AddonsConfig) -> list[str]:
    """One line for each combination of a model that would silently do nothing, or something else."""
    if model.kind == "batch":
        found = [*batch_refusals(name, model, addons)]
    elif model.kind == "stream":
        found = []  # those of streams need the whole stack: `stream_refusals`
    else:
        found = [*_shadow(model), *_scaling(model), *_runtime(name, model), *_needs(model, addons)]
    return [
        f"{PROJECT}:models.{name}.{each.key}: {shown(each.value)} → {each.rule} → {each.remedy}"
        for each in found
    ]  # fmt: skip


def _shadow(model: RealtimeModelConfig) -> Iterator[Refused]:
    shadow = model.shadow
    if shadow is None:
        if model.mirror is not None:
            yield Refused("mirror", "set", "copies traffic to the shadow, and there is none", "name one under `shadow`")
        return
    if shadow not in model.releases:
        known = ", ".join(sorted(model.releases))
        yield Refused("shadow", shadow, "one of the model's releases", f"add it to `releases`, or name one of: {known}")
    elif model.traffic.get(shadow, 0) > 0:
        yield Refused(
            "shadow", shadow, "answers nobody, and this release has traffic",
            f"set traffic.{shadow} to 0, or drop `shadow`",
        )  # fmt: skip


def _scaling(model: RealtimeModelConfig) -> Iterator[Refused]:
    scaling = model.scaling
    targets = [
        key for key, value in (("cpu", scaling.cpu), ("requestsPerSecond", scaling.requests_per_second)) if value
    ]
    if scaling.max is not None and scaling.max < max(scaling.min, 1):
        yield Refused("scaling.max", scaling.max, f"at least scaling.min, {scaling.min}", "raise it, or lower min")
    elif scaling.automatic and not targets:
        yield Refused(
            "scaling.max", scaling.max, "replicas follow a load that is measured", "set `cpu` or `requestsPerSecond`"
        )
    for key in targets:
        if not scaling.automatic:
            value = scaling.cpu if key == "cpu" else scaling.requests_per_second
            yield Refused(f"scaling.{key}", value, "scales between min and max", "set `max` above `min`")
    for key in ("up", "down"):
        if key in scaling.model_fields_set and not scaling.automatic:
            yield Refused(f"scaling.{key}", "set", "is how replicas follow the load", "set `max` above `min`")
    if scaling.min == 0 and not model.knative:
        remedy = "at least 1, or KServe's Knative mode, which lets it wait"
        yield Refused("scaling.min", 0, "a request to no replica would fail", remedy)
    if model.knative and len(targets) > 1:
        yield Refused("scaling", targets, "Knative scales by one of them", "drop the other")


def _runtime(name: str, model: RealtimeModelConfig) -> Iterator[Refused]:
    if model.kserve is not None and model.runtime != "kserve":
        yield Refused(
            "kserve", "set", f"is for runtime kserve, and this one is {model.runtime}", "drop it, or set runtime"
        )
    if model.runtime == "kserve":
        for release in model.releases:
            workload = f"{names.workload(name, release)}-predictor"
            if len(workload) > names.LONGEST_NAME:
                rule = f"KServe names its Service {workload}, and a name has at most {names.LONGEST_NAME} characters"
                yield Refused(f"releases.{release}", release, rule, "shorten the model's name or the release's")
    if model.knative and model.scaling.model_fields_set & {"up", "down"}:
        yield Refused("scaling", "up, down", "Knative has its own pace", "drop them, or use kserve.mode standard")


def _needs(model: RealtimeModelConfig, addons: AddonsConfig) -> Iterator[Refused]:
    if model.runtime == "kserve" and not addons.kserve.enabled:
        yield Refused(
            "runtime", model.runtime, "needs KServe in the cluster", "set addons.kserve.enabled, or runtime deployment"
        )
    if model.scaling.automatic and model.scaling.requests_per_second and not addons.monitoring.enabled:
        yield Refused(
            "scaling.requestsPerSecond", model.scaling.requests_per_second, "is measured by the monitoring add-on",
            "set addons.monitoring.enabled, or scale by `cpu`",
        )  # fmt: skip


def unreachable_registry(config: StackConfig) -> list[str]:
    """One line where previews would ask a registry through a gateway that does not serve it."""
    served = config.platform.internal or config.addons.mlflow.login
    if served or config.registry.url is not None or not config.models:
        return []
    return [
        f"{PROJECT}:registry.url: missing → a gateway that others reach serves models alone, and previews ask the "
        "registry → set it to MLflow's address on your network, or say in addons.mlflow.login who signs in"
    ]


def grafana_without_prometheus(config: StackConfig) -> list[str]:
    """One line where Grafana would have nothing to show."""
    addons = config.addons
    if not addons.grafana.enabled or addons.monitoring.enabled:
        return []
    return [
        f"{PROJECT}:addons.grafana.enabled: true → shows what the monitoring add-on measures → "
        "set addons.monitoring.enabled, or drop it"
    ]


def knative_in_the_mesh(config: StackConfig) -> list[str]:
    """One line for each model whose pods Knative would ask without a certificate of the mesh."""
    if not config.mtls:
        return []
    return [
        f"{PROJECT}:models.{name}.kserve.mode: knative → its activator has no certificate of the mesh → "
        "set mode standard, or addons.istio.mtls disable"
        for name, model in config.models.items()
        if model.kind == "realtime" and model.knative
    ]


def zones_without_aws(config: StackConfig) -> list[str]:
    """One line where external-dns would have no zone to reach."""
    if not config.addons.external_dns.zones or config.platform.kind != "local":
        return []
    return [
        f"{PROJECT}:addons.externalDns.zones: set → Route 53 is AWS', and the platform is local → drop it, or set a "
        "platform on AWS"
    ]


def over_quota(models: Mapping[str, ModelConfig], gpus: Mapping[str, int]) -> list[str]:
    """One line for each kind of GPU of which the releases' peak is more than there are.

    At its peak a release has its most replicas, and one more while its pods are replaced; a batch model has the pods of
    one run.
    """
    demands: dict[str, list[tuple[str, int]]] = {}
    for name, model in models.items():
        for key, asked, peak in _peaks(model):
            if asked.gpu is not None and asked.accelerator is not None:
                count = whole_gpus(asked.accelerator, asked.gpu * peak, asked.gpu_share)
                demands.setdefault(asked.accelerator, []).append((f"{name}.{key}.gpu", count))
    return [
        f"{PROJECT}:models.{key}: {count} at its peak, {sum(each for _, each in of)} with all releases → "
        f"{PROJECT}:platform.gpus.{accelerator} is {gpus.get(accelerator, 0)} → "
        "ask for less, lower scaling.max, or raise that where the nodes have more"
        for accelerator, of in sorted(demands.items())
        if sum(each for _, each in of) > gpus.get(accelerator, 0)
        for key, count in of
    ]


def _peaks(model: ModelConfig) -> Iterator[tuple[str, ResourcesConfig, int]]:
    """Resources by their key below the model, and how many pods have them at once at most."""
    if model.kind == "batch":
        yield "resources", model.resources, model.pods
        return
    if model.kind == "stream":
        yield "resources", model.resources, max(model.scaling.max or 0, model.scaling.min) + 1
        return
    peak = max(model.scaling.max or model.scaling.min, 1) + 1
    for release, config in model.releases.items():
        yield f"releases.{release}.resources", config.resources, peak
