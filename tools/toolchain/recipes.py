"""What the toolchain is made of: one Go module per tool, each pinned by its own go.mod and go.sum under `go/`.

One go.mod per tool keeps their dependency versions apart; a tool's own `replace` lines are
copied into it, as they do not apply to a dependency.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

PULUMI_VERSION = "3.255.0"
KUBERNETES_PROVIDER_VERSION = "4.25.0"
KUBERNETES_VERSION = "v1.34.2"
KEDA_VERSION = "2.21.0"
KUBERAY_VERSION = "1.5.1"

PULUMI_KUBERNETES = "github.com/pulumi/pulumi-kubernetes/provider/v4"


class Group(StrEnum):
    """Which part of the product needs a tool; a machine that has the part already builds none of the group."""

    PULUMI = "pulumi"
    CLUSTER = "cluster"
    IMAGES = "images"
    MONITORING = "monitoring"
    KSERVE = "kserve"
    KEDA = "keda"
    KUBERAY = "kuberay"
    BATCH = "batch"
    RAY = "ray"
    KAFKA = "kafka"
    MTLS = "mtls"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file or directory of a module, copied out of the module cache at build time."""

    module: str
    source: str
    destination: str
    """Relative to the artifact (`bin/…`, `share/…`), or with `into_source` to the folder that is built."""
    into_source: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One `go build`: the folder `go/<name>` with its go.mod, what it yields and how long that takes."""

    name: str
    group: Group
    binaries: tuple[str, ...]
    estimate: int
    """Seconds for a cold build on two cores, download included."""
    package: str = "tool"
    """`tool`: what the go.mod's tool lines name; `.`: the main of the folder itself."""
    tags: tuple[str, ...] = field(default=(), repr=False)
    """Build tags. Outside the representation, so that what has none keeps its key in the cache."""
    ldflags: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    """(as `go build` names it, as it has to be called)."""


def _kubernetes_version_flags() -> tuple[str, ...]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    values = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "buildDate": "2025-11-12T00:00:00Z",  # a fixed date: the build is a function of its inputs
    }
    return tuple(f"-X {package}.{name}={value}" for name, value in values.items())


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="pulumi",
        group=Group.PULUMI,
        binaries=("pulumi",),
        estimate=240,
        ldflags=(f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}",),
        copies=(
            Copy(
                module="github.com/pulumi/pulumi/sdk/v3",
                source="python/cmd/pulumi-language-python-exec",
                destination="bin/pulumi-language-python-exec",
            ),
            Copy(
                module="github.com/pulumi/pulumi/sdk/v3",
                source="python/dist/pulumi-resource-pulumi-python",
                destination="bin/pulumi-resource-pulumi-python",
            ),
        ),
    ),
    Recipe(
        name="pulumi-kubernetes",
        group=Group.PULUMI,
        binaries=("pulumi-resource-kubernetes",),
        estimate=420,
        package=".",
        ldflags=(f"-X {PULUMI_KUBERNETES}/pkg/version.Version={KUBERNETES_PROVIDER_VERSION}",),
        copies=(
            Copy(
                module=PULUMI_KUBERNETES,
                source="cmd/pulumi-resource-kubernetes/schema.json",
                destination="schema.json",
                into_source=True,
            ),
            Copy(
                module=PULUMI_KUBERNETES,
                source="cmd/pulumi-resource-kubernetes/terraform-mapping.json",
                destination="terraform-mapping.json",
                into_source=True,
            ),
        ),
        rename=(("pulumi-kubernetes", "pulumi-resource-kubernetes"),),
    ),
    Recipe(
        name="kubernetes",
        group=Group.CLUSTER,
        binaries=(
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ),
        estimate=420,
        ldflags=_kubernetes_version_flags(),
    ),
    Recipe(name="etcd", group=Group.CLUSTER, binaries=("etcd",), estimate=30, rename=(("server", "etcd"),)),
    Recipe(name="coredns", group=Group.CLUSTER, binaries=("coredns",), estimate=100),
    Recipe(name="metrics-server", group=Group.CLUSTER, binaries=("metrics-server",), estimate=90),
    Recipe(
        name="hostpath-provisioner", group=Group.CLUSTER, binaries=("hostpath-provisioner",), estimate=60, package="."
    ),
    Recipe(name="pause", group=Group.CLUSTER, binaries=("pause",), estimate=5, package="."),
    Recipe(name="forward", group=Group.CLUSTER, binaries=("forward",), estimate=5, package="."),
    Recipe(
        name="istio",
        group=Group.IMAGES,
        binaries=("install-cni", "istio-cni", "pilot-agent", "pilot-discovery"),
        estimate=260,
        copies=(
            Copy(module="istio.io/istio", source="manifests/charts", destination="share/istio/charts"),
            Copy(
                module="istio.io/istio",
                source="tools/packaging/common/envoy_bootstrap.json",
                destination="share/istio/envoy_bootstrap.json",
            ),
        ),
    ),
    Recipe(name="versitygw", group=Group.IMAGES, binaries=("versitygw",), estimate=75),
    Recipe(
        name="prometheus",
        group=Group.MONITORING,
        binaries=("prometheus",),
        estimate=150,
        # Twenty clouds' ways to find what to scrape would take as long again; Debian's package lacks the one that is
        # needed. The web pages, which are not in the module, are left out.
        tags=("remove_all_sd", "enable_kubernetes_sd"),
        ldflags=("-X github.com/prometheus/common/version.Version=3.14.0",),
    ),
    Recipe(
        name="prometheus-adapter",
        group=Group.MONITORING,
        binaries=("prometheus-adapter",),
        estimate=120,
        rename=(("adapter", "prometheus-adapter"),),
    ),
    Recipe(
        name="kserve",
        group=Group.KSERVE,
        binaries=("kserve",),
        estimate=120,
        copies=(
            Copy(
                module="github.com/kserve/kserve",
                source="charts/kserve-crd-minimal",
                destination="share/kserve/charts/kserve-crd-minimal",
            ),
        ),
        rename=(("manager", "kserve"),),
    ),
    Recipe(
        name="keda",
        group=Group.KEDA,
        binaries=("keda", "keda-adapter"),
        estimate=450,
        copies=(
            Copy(
                module="github.com/kedacore/keda/v2",
                source="config/crd/bases",
                destination="share/keda/charts/keda-crd/templates",
            ),
        ),
        rename=(("operator", "keda"), ("adapter", "keda-adapter")),
    ),
    Recipe(
        name="kuberay",
        group=Group.KUBERAY,
        binaries=("kuberay",),
        estimate=130,
        package=".",
        copies=(
            Copy(
                module="github.com/ray-project/kuberay/ray-operator",
                source="config/crd/bases",
                destination="share/kuberay/charts/kuberay-crd/templates",
            ),
        ),
    ),
)
