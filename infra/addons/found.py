"""Add-ons that another stack has installed: what they provide, without declaring anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.addons import istio, kuberay, mlflow, monitoring
from infra.outputs import AddonOutputs, Gateway, Keda, Kserve, Kuberay, Mlflow, Monitoring

if TYPE_CHECKING:
    from infra.config.stack import StackConfig
    from infra.outputs import PlatformOutputs


def found(config: StackConfig, platform: PlatformOutputs) -> AddonOutputs:
    """What the configuration says that the environment has. Their names are the same in every one."""
    url = platform.exposure.url
    # Whoever can reach the cluster finds them there: nothing else is to be waited for.
    there = platform.providers[-1]
    addons = config.addons
    gateway = Gateway(
        reference=_known(f"{names.INGRESS_NAMESPACE}/{names.GATEWAY}"),
        namespace=_known(names.INGRESS_NAMESPACE),
        selector=istio.GATEWAY_SELECTOR,
        ready=there,
        url=url,
        internal=platform.exposure.internal,
        mtls=config.mtls,
    )
    return AddonOutputs(
        gateway=gateway,
        mlflow=Mlflow(
            url=_known(f"http://{names.service_host(names.MLFLOW, names.PLATFORM_NAMESPACE)}:{mlflow.PORT}"),
            port=mlflow.PORT,
            public_url=mlflow.public_url(gateway, addons.mlflow),
        ),
        monitoring=Monitoring(
            url=_known(f"http://{names.service_host(names.PROMETHEUS, names.PLATFORM_NAMESPACE)}:{monitoring.PORT}"),
            public_url=f"{url}{names.PROMETHEUS_PATH}" if platform.exposure.internal else None,
            port=monitoring.PORT,
        )
        if addons.monitoring.enabled
        else None,
        kserve=Kserve(ready=(there,)) if addons.kserve.enabled else None,
        keda=Keda(
            operator=there,
            api=_known(names.KEDA),
            kafka_authentication=_known(names.KAFKA) if platform.kafka else None,
        )
        if addons.keda.enabled
        else None,
        kuberay=Kuberay(operator=there, namespace=_known(names.KUBERAY_NAMESPACE), labels=kuberay.LABELS)
        if addons.kuberay.enabled
        else None,
    )


def _known(value: str) -> pulumi.Output[str]:
    return pulumi.Output.from_input(value)
