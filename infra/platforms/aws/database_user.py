"""MLflow's user in its database: made by a Job, because only inside the VPC is the database to be reached."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import network, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.platforms.aws import access, database, iam
from infra.platforms.aws.network import HTTPS, blocks

if TYPE_CHECKING:
    from infra.platforms.aws.cluster import Cluster
    from infra.platforms.aws.database import Database
    from infra.platforms.aws.resource import Scope

SCRIPT = Path(__file__).with_name("make_user.py")
NAME = "mlflow-user"
"""Job, account and role."""
LABELS = {names.LABEL_NAME: NAME, names.LABEL_IDENTITY: NAME}
SECONDS = 300
"""For the Job, image start and retries included."""


@dataclass(frozen=True, kw_only=True)
class DatabaseUserArgs:
    """What the user is made from."""

    scope: Scope
    cluster: Cluster
    database: Database
    data_cidrs: pulumi.Output[list[str]]
    namespace: pulumi.Output[str]
    image: str
    """Python with boto3, psycopg2 and RDS' authorities: MLflow's."""
    kubernetes: pulumi.ProviderResource


class DatabaseUser(pulumi.ComponentResource):
    """The Job, which alone may read the master's password."""

    address: pulumi.Output[str]
    """The database's, once the user is there."""

    def __init__(self, name: str, args: DatabaseUserArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsDatabaseUser", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        inside = pulumi.ResourceOptions(parent=self, provider=args.kubernetes)
        statements = [
            iam.allow(["secretsmanager:GetSecretValue"], [args.database.secret_arn]),
            iam.allow(["kms:Decrypt"], [args.database.key.output("arn")]),
        ]
        role = iam.role(args.scope, NAME, iam.trust(iam.POD_IDENTITY), statements, child)
        associated = access.associate(args.cluster.name, args.namespace, NAME, role, child)
        ways_out = [
            network.flow("to", [access.AGENT], [access.AGENT_PORT]),
            # Secrets Manager has public addresses, or the VPC's where an endpoint stands for it.
            network.flow("to", [], [HTTPS]),
            network.flow("to", blocks(args.data_cidrs), [database.PORT]),
        ]
        reaching = declare(NAME, network.allow(NAME, args.namespace, LABELS, egress=ways_out), inside)
        account = declare(NAME, workloads.service_account(NAME, args.namespace, LABELS), inside)
        files = {SCRIPT.name: SCRIPT.read_text()}
        mounted = declare(NAME, workloads.config_map(NAME, args.namespace, LABELS, files), inside)
        # A Job cannot change: the provider replaces it, and the new one needs the old one's name.
        options = pulumi.ResourceOptions.merge(
            inside, pulumi.ResourceOptions(delete_before_replace=True, depends_on=[associated, reaching])
        )
        made = declare(NAME, job(args, name_of(account), name_of(mounted)), options)
        address = args.database.instance.output("address")
        self.address = pulumi.Output.all(address, name_of(made)).apply(lambda it: str(it[0]))
        self.register_outputs({"address": self.address})


def job(args: DatabaseUserArgs, account: pulumi.Input[str], files: pulumi.Input[str]) -> Manifest:
    """The Job; another script is another Job."""
    container = workloads.container(
        NAME,
        args.image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="256Mi"),
        {"files": "/files", "scratch": workloads.SCRATCH},
        command=[
            "python",
            f"/files/{SCRIPT.name}",
            args.database.secret_arn,
            args.scope.region,
            args.database.instance.output("address").apply(database.libpq),
            database.USER,
        ],
        env=workloads.env({"HOME": workloads.SCRATCH}),
    )
    pod = workloads.Pod(
        labels=LABELS,
        containers=[container],
        volumes={"files": {"configMap": {"name": files}}, "scratch": {"emptyDir": {"sizeLimit": "64Mi"}}},
        annotations={names.ANNOTATION_CONFIG_DIGEST: hashlib.sha256(SCRIPT.read_bytes()).hexdigest()},
        service_account=account,
    )
    return workloads.job(NAME, args.namespace, pod, SECONDS)
