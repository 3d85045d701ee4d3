"""From the add-ons' settings to what they provide."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra import names
from infra.addons.cert_manager import CertManager
from infra.addons.custom_metrics import CustomMetrics, CustomMetricsArgs
from infra.addons.external_dns import ExternalDns, ExternalDnsArgs
from infra.addons.grafana import GrafanaArgs, GrafanaServer
from infra.addons.istio import Istio, IstioArgs
from infra.addons.keda import KedaArgs, KedaScaler
from infra.addons.kserve import KserveArgs, KserveController
from infra.addons.kuberay import KuberayArgs, KuberayOperator
from infra.addons.mlflow import MlflowServer, MlflowServerArgs
from infra.addons.monitoring import Prometheus, PrometheusArgs
from infra.outputs import (
    AddonOutputs,
    Gateway,
    Grafana,
    Keda,
    Kserve,
    Kuberay,
    Mlflow,
    Monitoring,
    PlatformOutputs,
)
from infra.telemetry.alerts import Objective

if TYPE_CHECKING:
    from infra.config.models import SloConfig
    from infra.config.stack import StackConfig


def install(config: StackConfig, platform: PlatformOutputs) -> AddonOutputs:
    """Declares the add-ons, the mesh first: MLflow is reached through its gateway."""
    istio_args = IstioArgs(
        config=config.addons.istio,
        images=config.images,
        exposure=platform.exposure,
        backends=platform.namespaces,
        authorities=[each.authority for each in config.addons.mlflow.login if each.authority is not None],
        closed=closed_paths(config, internal=platform.exposure.internal),
        mtls=config.mtls,
        production=config.production,
    )
    gateway = Istio("istio", istio_args, platform.within).gateway
    mlflow_args = MlflowServerArgs(
        config=config.addons.mlflow,
        image=config.images["mlflow"],
        platform=platform,
        gateway=gateway,
        production=config.production,
    )
    mlflow = MlflowServer(names.MLFLOW, mlflow_args, platform.within).mlflow
    monitoring = monitor(config, platform, gateway)
    grafana = show(config, platform, gateway, monitoring)
    surround(config, platform)
    keda = scale(config, platform, monitoring)
    return AddonOutputs(
        gateway=gateway,
        mlflow=mlflow,
        monitoring=monitoring,
        grafana=grafana,
        keda=keda,
        kserve=serve(config, platform, mlflow, keda),
        kuberay=gather(config, platform),
    )


def closed_paths(config: StackConfig, *, internal: bool) -> list[str]:
    """What is for the environment's own network, where others reach the gateway, too."""
    if internal:
        return []
    addons = config.addons
    return [
        *([] if addons.mlflow.login else [names.MLFLOW_PATH]),
        names.PROMETHEUS_PATH,
        *([names.GRAFANA_PATH] if addons.grafana.enabled else []),
    ]


def monitor(config: StackConfig, platform: PlatformOutputs, gateway: Gateway) -> Monitoring | None:
    """Prometheus and the metrics API that scales by it, where the stack wants them."""
    if not config.addons.monitoring.enabled:
        return None
    args = PrometheusArgs(
        config=config.addons.monitoring,
        image=config.images["prometheus"],
        objectives=[_objective(name, model.slo) for name, model in config.models.items() if model.kind == "realtime"],
        streams=[name for name, model in config.models.items() if model.kind == "stream" and model.scaling.min > 0],
        namespaces=platform.namespaces,
        gateway=gateway,
        gpu_metrics=platform.gpu_metrics,
    )
    monitoring = Prometheus(names.PROMETHEUS, args, platform.within).monitoring
    metrics_args = CustomMetricsArgs(
        image=config.images["prometheus-adapter"], monitoring=monitoring, namespaces=platform.namespaces
    )
    CustomMetrics(names.PROMETHEUS_ADAPTER, metrics_args, platform.within)
    return monitoring


def show(
    config: StackConfig, platform: PlatformOutputs, gateway: Gateway, monitoring: Monitoring | None
) -> Grafana | None:
    """Grafana, where the stack wants it."""
    if not config.addons.grafana.enabled:
        return None
    if monitoring is None:
        raise AssertionError("Grafana without Prometheus is refused with the configuration")
    args = GrafanaArgs(namespaces=platform.namespaces, gateway=gateway, monitoring=monitoring)
    return GrafanaServer(names.GRAFANA, args, platform.within).grafana


def surround(config: StackConfig, platform: PlatformOutputs) -> None:
    """What nothing here depends on, for what else runs in the cluster."""
    if config.addons.cert_manager.enabled:
        CertManager(names.CERT_MANAGER, platform.within)
    external_dns = config.addons.external_dns
    if external_dns.zones:
        args = ExternalDnsArgs(
            config=external_dns, platform=platform, owner=str(urlsplit(config.platform.url).hostname)
        )
        ExternalDns(names.EXTERNAL_DNS, args, platform.within)


def scale(config: StackConfig, platform: PlatformOutputs, monitoring: Monitoring | None) -> Keda | None:
    """KEDA, where the stack wants it."""
    if not config.addons.keda.enabled:
        return None
    args = KedaArgs(
        config=config.addons.keda,
        image=config.images["keda"],
        namespaces=platform.namespaces,
        monitoring=monitoring,
        kafka=platform.kafka,
        access=platform.access,
        lags={
            model.group or name: model.input
            for name, model in config.models.items()
            if model.kind == "stream" and model.scaling.automatic
        },
    )
    return KedaScaler(names.KEDA, args, platform.within).keda


def serve(config: StackConfig, platform: PlatformOutputs, mlflow: Mlflow, keda: Keda | None) -> Kserve | None:
    """KServe, where the stack wants it."""
    if not config.addons.kserve.enabled:
        return None
    args = KserveArgs(
        config=config.addons.kserve,
        image=config.images["kserve"],
        storage_image=config.images["inference"],
        namespaces=platform.namespaces,
        mlflow_url=mlflow.url,
        after=keda.operator if keda else None,
    )
    return KserveController(names.KSERVE, args, platform.within).kserve


def gather(config: StackConfig, platform: PlatformOutputs) -> Kuberay | None:
    """KubeRay, where the stack wants it."""
    if not config.addons.kuberay.enabled:
        return None
    args = KuberayArgs(config=config.addons.kuberay, image=config.images["kuberay"], namespaces=platform.namespaces)
    return KuberayOperator(names.KUBERAY, args, platform.within).kuberay


def _objective(model: str, slo: SloConfig) -> Objective:
    """What alerts go by; a model that promises no error rate is held to the usual one."""
    usual = Objective(model=model)
    return Objective(model=model, p99_ms=slo.p99_ms, error_rate=slo.error_rate or usual.error_rate)
