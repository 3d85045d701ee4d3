"""RDS PostgreSQL under MLflow. Nobody has a password: MLflow signs in by IAM, and AWS keeps and turns the master's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.platforms.aws import keys, network
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from infra.config.aws import DatabaseConfig
    from infra.platforms.aws.network import Network

PORT = 5432
NAME = "mlflow"
USER = "mlflow"
"""Who MLflow is there: a user that can sign in by IAM alone."""
MASTER = "slipway"

AUTHORITIES = "/etc/ssl/rds.pem"
"""RDS' own certificate authorities, in MLflow's image."""

GROWTH = 5
"""Times its first size that the disk grows to by itself."""

INSIGHTS_DAYS = 7
"""Of performance data: what is free."""


@dataclass(frozen=True, kw_only=True)
class DatabaseArgs:
    """What the database is made from."""

    scope: Scope
    config: DatabaseConfig
    network: Network
    clients: pulumi.Input[str]
    """Security group of those who may connect: the cluster's."""
    production: bool


class Database(pulumi.ComponentResource):
    """A PostgreSQL that only the cluster reaches, only over TLS."""

    instance: AwsResource
    secret_arn: pulumi.Output[str]
    """Of the master's password, which AWS makes and turns; for the job that makes MLflow's user."""

    def __init__(self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsDatabase", name, {}, opts)
        self._scope, self._args, self._child = args.scope, args, pulumi.ResourceOptions(parent=self)
        self.key = keys.key(self._scope, "database", "MLflow's database", self._child)
        self.instance = AwsResource(
            "rds/instance:Instance",
            "database",
            {
                **instance(self._scope, args.config, multi_az=args.production),
                **{key: self.key.output("arn") for key in KEYS},
                "dbSubnetGroupName": self._subnets().output("name"),
                "vpcSecurityGroupIds": [self._guard().id],
                "parameterGroupName": self._parameters().output("name"),
            },
            self._scope.keeping(self),
            outputs=("address", "arn", "resourceId", "masterUserSecrets"),
        )
        self.secret_arn = self.instance.output("masterUserSecrets").apply(lambda it: str(it[0]["secretArn"]))
        self.register_outputs({"address": self.instance.output("address")})

    def _subnets(self) -> AwsResource:
        inputs = {
            "name": f"{self._scope.prefix}-mlflow",
            "subnetIds": list(self._args.network.data),
            "tags": self._scope.named("mlflow"),
        }
        return AwsResource("rds/subnetGroup:SubnetGroup", "database", inputs, self._child)

    def _guard(self) -> AwsResource:
        inputs = {
            "name": f"{self._scope.prefix}-database",
            "description": "MLflow's database: asked from the cluster",
            "vpcId": self._args.network.vpc.id,
            "tags": self._scope.named("database"),
        }
        guard = AwsResource("ec2/securityGroup:SecurityGroup", "database", inputs, self._child)
        network.allow_group(self._args.clients, guard, "database", PORT, self._child)
        return guard

    def _parameters(self) -> AwsResource:
        version = self._args.config.version
        inputs = {
            "name": f"{self._scope.prefix}-mlflow-{version}",
            "family": f"postgres{version}",
            "parameters": [{"name": "rds.force_ssl", "value": "1"}, {"name": "log_connections", "value": "1"}],
            "tags": self._scope.named("mlflow"),
        }
        return AwsResource("rds/parameterGroup:ParameterGroup", "database", inputs, self._child)


KEYS = ("kmsKeyId", "masterUserSecretKmsKeyId", "performanceInsightsKmsKeyId")
"""Everything of it that is encrypted, by the one key."""


def instance(scope: Scope, config: DatabaseConfig, *, multi_az: bool) -> dict[str, Any]:
    """Inputs of the instance that are known; `multi_az` where the configuration says nothing of it."""
    inputs = {
        "identifier": f"{scope.prefix}-mlflow",
        "engine": "postgres",
        "engineVersion": config.version,
        "instanceClass": config.instance_class,
        "allocatedStorage": config.storage_gb,
        "maxAllocatedStorage": config.storage_gb * GROWTH,
        "storageType": "gp3",
        "storageEncrypted": True,
        "dbName": NAME,
        "username": MASTER,
        "manageMasterUserPassword": True,
        "iamDatabaseAuthenticationEnabled": True,
        "multiAz": multi_az if config.multi_az is None else config.multi_az,
        "publiclyAccessible": False,
        "caCertIdentifier": "rds-ca-rsa2048-g1",
        "backupRetentionPeriod": config.backup_days,
        "backupWindow": "03:00-03:30",
        "maintenanceWindow": "sun:04:00-sun:05:00",
        "copyTagsToSnapshot": True,
        "deletionProtection": scope.protect,
        "skipFinalSnapshot": not scope.protect,
        "autoMinorVersionUpgrade": True,
        "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
        "performanceInsightsEnabled": True,
        "performanceInsightsRetentionPeriod": INSIGHTS_DAYS,
        "tags": scope.named("mlflow"),
    }
    return {**inputs, "finalSnapshotIdentifier": f"{scope.prefix}-mlflow-final"} if scope.protect else inputs


def libpq(address: str) -> str:
    """How the database is reached, but for the user: never without knowing that it is the one."""
    return f"host={address} port={PORT} dbname={NAME} sslmode=verify-full sslrootcert={AUTHORITIES}"


def uri(address: str) -> str:
    """SQLAlchemy's address of MLflow's database. `rdsiam` is our driver: a token of 15 minutes for each connection."""
    return f"postgresql+rdsiam://{USER}@{address}:{PORT}/{NAME}?sslmode=verify-full&sslrootcert={AUTHORITIES}"
