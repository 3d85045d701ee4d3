"""The MLflow server: database from the platform, artifacts on S3 through the server's own proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pulumi

from infra import names
from infra.access import Needs, Place
from infra.k8s import login, mesh, network, probes, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.outputs import Bucket, Gateway, Mlflow, MlflowDatabase, PlatformOutputs

if TYPE_CHECKING:
    from infra.access import Granted
    from infra.config.addons import IssuerConfig, MlflowConfig

PORT = 5000
HEALTH = "/health"
SERVER_INFO = "/api/3.0/mlflow/server-info"
"""Where MLflow's clients ask what the server can do (mlflow/utils/server_info.py)."""

WORKERS = 2
"""Processes. Two, so that a long artifact transfer leaves one for the API; each takes some 400 MB."""

LABELS = {names.LABEL_NAME: names.MLFLOW}

ARTIFACTS = "mlflow"
"""Prefix of the artifacts in the models' bucket."""

NEEDS = Needs(writes=[Place("models", f"{ARTIFACTS}/")], database=True)

LOGIN = f"{names.MLFLOW}-login"
"""What asks for tokens at the gateway."""

MIGRATION = "mlflow-migration"
MIGRATION_SECONDS = 1800
"""For tables of millions of metrics, and the image's start."""

STARTUP_SECONDS = 180
"""Time to import MLflow and migrate the database, on two busy cores."""


@dataclass(frozen=True, kw_only=True)
class MlflowServerArgs:
    """What MLflow is made from."""

    config: MlflowConfig
    image: str
    platform: PlatformOutputs
    gateway: Gateway
    production: bool
    """Whether people depend on it."""


class MlflowServer(pulumi.ComponentResource):
    """A registry that answers inside the cluster and, below `/mlflow`, through the gateway."""

    mlflow: Mlflow

    def __init__(self, name: str, args: MlflowServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Mlflow", name, facts(args), opts)
        child = pulumi.ResourceOptions(parent=self)
        namespaces = args.platform.namespaces
        account = workloads.service_account(names.MLFLOW, namespaces.platform, LABELS)
        granted = args.platform.access.grant(names.MLFLOW, namespaces.platform, NEEDS, child)
        account_name = name_of(declare(name, account, child))
        manifest = server_manifest(args, account_name, granted)
        declare(f"{name}-policy", network_policy(args), child)
        migrated = self._migrated(args, granted, account_name)
        ready = pulumi.ResourceOptions(parent=self, depends_on=[*granted.after, *migrated])
        server = declare(name, manifest, ready)
        service_manifest = workloads.service(names.MLFLOW, namespaces.platform, LABELS, {"http": PORT})
        service = declare(name, service_manifest, pulumi.ResourceOptions(parent=self, depends_on=[server]))
        host = pulumi.Output.all(name_of(service), namespaces.platform).apply(lambda it: names.service_host(*it))
        paths = routes(args.platform.models_bucket)
        guards = self._guarded(args, [route["name"] for route in paths])
        routed = declare(
            name,
            mesh.virtual_service(names.MLFLOW, namespaces.platform, args.gateway.reference, paths),
            pulumi.ResourceOptions(parent=self, depends_on=[service, *guards]),
        )
        self.mlflow = Mlflow(
            # By way of the route: whoever uses the registry finds it reachable from outside too.
            url=pulumi.Output.all(host, name_of(routed)).apply(lambda it: f"http://{it[0]}:{PORT}"),
            port=PORT,
            public_url=public_url(args.gateway, args.config),
        )
        self.register_outputs({"url": self.mlflow.url, "publicUrl": self.mlflow.public_url})

    def _guarded(self, args: MlflowServerArgs, routes: list[str]) -> list[pulumi.CustomResource]:
        """What asks for a token, where the configuration says whose."""
        issuers = [issuer(each) for each in args.config.login]
        if not issuers:
            return []
        gateway = args.gateway
        where = (LOGIN, gateway.namespace, gateway.selector)
        manifests = [
            login.request_authentication(*where, issuers),
            login.authorization(*where, issuers, [names.MLFLOW_PATH]),
            login.only_on_routes(*where, len(issuers), routes),
        ]
        options = pulumi.ResourceOptions(parent=self, depends_on=[gateway.ready])
        return [declare(LOGIN, manifest, options) for manifest in manifests]

    def _migrated(
        self, args: MlflowServerArgs, granted: Granted, account: pulumi.Input[str]
    ) -> list[pulumi.CustomResource]:
        """A database server's tables, made or brought to this MLflow's version. In a file the server does it itself."""
        if args.platform.mlflow_database.claim is not None:
            return []
        # A Job cannot change: the provider replaces it, and the new one needs the old one's name.
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True, depends_on=[*granted.after])
        return [declare(MIGRATION, migration_manifest(args, account, granted), options)]


def public_url(gateway: Gateway, config: MlflowConfig) -> str | None:
    """Address through the gateway; None where that serves models alone, for others reach it and nobody signs in."""
    return f"{gateway.url}{names.MLFLOW_PATH}" if gateway.internal or config.login else None


def facts(args: MlflowServerArgs) -> dict[str, pulumi.Input[Any]]:
    """Inputs of the component, for previews and policies."""
    return {
        "production": args.production,
        "publicUrl": public_url(args.gateway, args.config),
        "login": [each.issuer for each in args.config.login],
    }


def issuer(config: IssuerConfig) -> login.Issuer:
    """As the mesh is told of it."""
    keys = {"jwksUri": config.jwks_uri, "jwks": config.jwks}
    return login.Issuer(
        issuer=config.issuer,
        audiences=config.audiences,
        subjects=config.subjects,
        keys={name: value for name, value in keys.items() if value is not None},
    )


def migration_manifest(args: MlflowServerArgs, account: pulumi.Input[str], granted: Granted) -> Manifest:
    """The Job that migrates, as the server's account. Another image is another Job."""
    platform = args.platform
    container = workloads.container(
        MIGRATION,
        args.image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="1Gi"),
        {"scratch": workloads.SCRATCH, **granted.mounts},
        command=["mlflow", "db", "upgrade", platform.mlflow_database.uri],
        env=[*environment(platform.models_bucket, platform.mlflow_database), *granted.env],
    )
    pod = workloads.Pod(
        labels={names.LABEL_NAME: MIGRATION, **granted.labels},
        containers=[container],
        volumes={"scratch": {"emptyDir": {"sizeLimit": "64Mi"}}, **granted.volumes},
        service_account=account,
    )
    return workloads.job(MIGRATION, platform.namespaces.platform, pod, MIGRATION_SECONDS)


def server_manifest(args: MlflowServerArgs, account: pulumi.Input[str], granted: Granted) -> Manifest:
    """The Deployment of the server. One pod: SQLite has one writer, and its volume one node."""
    platform = args.platform
    container = workloads.container(
        "mlflow",
        args.image,
        workloads.resources(cpu="100m", cpu_limit="2", memory=args.config.memory),
        {
            "scratch": workloads.SCRATCH,
            **({"database": "/database"} if platform.mlflow_database.claim else {}),
            **granted.mounts,
        },
        command=["mlflow", "server"],
        args=[
            "--host=0.0.0.0",
            f"--port={PORT}",
            f"--workers={WORKERS}",
            "--serve-artifacts",
            pulumi.Output.concat("--artifacts-destination=s3://", platform.models_bucket.name, f"/{ARTIFACTS}"),
            f"--allowed-hosts={','.join(allowed_hosts(args.gateway.url))}",
        ],
        env=[*environment(platform.models_bucket, platform.mlflow_database), *granted.env],
        ports=[{"name": "http", "containerPort": PORT}],
        startupProbe=probes.startup(HEALTH, "http", within=STARTUP_SECONDS),
        readinessProbe=probes.readiness(HEALTH, "http"),
        livenessProbe=probes.liveness(HEALTH, "http"),
    )
    pod = workloads.Pod(
        labels={**LABELS, **granted.labels},
        containers=[container],
        volumes={
            "scratch": {"emptyDir": {"sizeLimit": "4Gi"}},
            **database_volume(platform.mlflow_database),
            **granted.volumes,
        },
        service_account=account,
    )
    return workloads.singleton(names.MLFLOW, platform.namespaces.platform, pod, selector=LABELS)


def environment(bucket: Bucket, database: MlflowDatabase) -> list[Manifest]:
    """Variables of the server's container."""
    plain: dict[str, pulumi.Input[str]] = {
        "MLFLOW_BACKEND_STORE_URI": database.uri,
        "HOME": workloads.SCRATCH,
        "AWS_DEFAULT_REGION": bucket.region,
        # Evaluations of language models and the like in background processes; nothing here uses them.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if bucket.endpoint is not None:
        plain["MLFLOW_S3_ENDPOINT_URL"] = bucket.endpoint
    return workloads.env(plain)


def database_volume(database: MlflowDatabase) -> Manifest:
    """The volume under the database, where it is a file."""
    if database.claim is None:
        return {}
    return {"database": {"persistentVolumeClaim": {"claimName": database.claim}}}


def allowed_hosts(gateway_url: str) -> list[str]:
    """Host headers that MLflow accepts: the gateway's, and its own Service's under each of its names.

    Anything else is a DNS rebinding attempt, against which MLflow checks this header.
    """
    namespace = names.PLATFORM_NAMESPACE
    full = names.service_host(names.MLFLOW, namespace)
    inside = [full, full.removesuffix(".cluster.local"), f"{names.MLFLOW}.{namespace}", names.MLFLOW]
    return [urlsplit(gateway_url).netloc, *(f"{host}:{PORT}" for host in inside)]


def routes(bucket: Bucket) -> list[Manifest]:
    """Everything below `/mlflow/` goes to the server, which thinks it is at the root."""
    host = names.service_host(names.MLFLOW, names.PLATFORM_NAMESPACE)
    # Artifacts are as large as models are: no limit on the time of one transfer.
    route = mesh.rewriting_route("mlflow", mesh.below(names.MLFLOW_PATH), [mesh.destination(host, PORT)], timeout=None)
    to_slash = {
        "name": "mlflow-slash",
        "match": [{"uri": {"exact": names.MLFLOW_PATH}}],
        "redirect": {"uri": f"{names.MLFLOW_PATH}/", "redirectCode": 308},
    }
    if bucket.endpoint is None:
        return [to_slash, route]
    # MLflow offers links straight into the object store, which callers outside the cluster cannot reach and would
    # wait for. Clients take the offer from this path; without an answer they download through the server.
    no_direct_links = mesh.answering_route(
        "mlflow-no-direct-links",
        {"uri": {"exact": f"{names.MLFLOW_PATH}{SERVER_INFO}"}},
        404,
        "artifacts are served through this server",
    )
    return [to_slash, no_direct_links, route]


def network_policy(args: MlflowServerArgs) -> Manifest:
    """The gateway and the models may ask MLflow; its way to S3 is the platform's to allow."""
    callers = [network.namespace_peer(args.gateway.namespace), network.namespace_peer(args.platform.namespaces.models)]
    return network.allow(
        names.MLFLOW, args.platform.namespaces.platform, LABELS, ingress=[network.flow("from", callers, [PORT])]
    )
