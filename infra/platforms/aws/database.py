"""RDS PostgreSQL under MLflow. Nobody has a password: MLflow signs in by IAM, and AWS keeps and turns the master's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        scope, config, child = args.scope, args.config, pulumi.ResourceOptions(parent=self)
        self.key = keys.key(scope, "database", "MLflow's database", child)
        subnets = AwsResource(
            "rds/subnetGroup:SubnetGroup",
            "database",
            {"name": f"{scope.prefix}-mlflow", "subnetIds": list(args.network.data), "tags": scope.named("mlflow")},
            child,
        )
        guard = AwsResource(
            "ec2/securityGroup:SecurityGroup",
            "database",
            {
                "name": f"{scope.prefix}-database",
                "description": "MLflow's database: asked from the cluster",
                "vpcId": args.network.vpc.id,
                "tags": scope.named("database"),
            },
            child,
        )
        network.allow_group(args.clients, guard, "database", PORT, child)
        parameters = AwsResource(
            "rds/parameterGroup:ParameterGroup",
            "database",
            {
                "name": f"{scope.prefix}-mlflow-{config.version}",
                "family": f"postgres{config.version}",
                "parameters": [{"name": "rds.force_ssl", "value": "1"}, {"name": "log_connections", "value": "1"}],
                "tags": scope.named("mlflow"),
            },
            child,
        )
        multi_az = args.production if config.multi_az is None else config.multi_az
        self.instance = AwsResource(
            "rds/instance:Instance",
            "database",
            {
                "identifier": f"{scope.prefix}-mlflow",
                "engine": "postgres",
                "engineVersion": config.version,
                "instanceClass": config.instance_class,
                "allocatedStorage": config.storage_gb,
                "maxAllocatedStorage": config.storage_gb * GROWTH,
                "storageType": "gp3",
                "storageEncrypted": True,
                "kmsKeyId": self.key.output("arn"),
                "dbName": NAME,
                "username": MASTER,
                "manageMasterUserPassword": True,
                "masterUserSecretKmsKeyId": self.key.output("arn"),
                "iamDatabaseAuthenticationEnabled": True,
                "multiAz": multi_az,
                "publiclyAccessible": False,
                "dbSubnetGroupName": subnets.output("name"),
                "vpcSecurityGroupIds": [guard.id],
                "parameterGroupName": parameters.output("name"),
                "caCertIdentifier": "rds-ca-rsa2048-g1",
                "backupRetentionPeriod": config.backup_days,
                "backupWindow": "03:00-03:30",
                "maintenanceWindow": "sun:04:00-sun:05:00",
                "copyTagsToSnapshot": True,
                "deletionProtection": scope.protect,
                "skipFinalSnapshot": not scope.protect,
                **({"finalSnapshotIdentifier": f"{scope.prefix}-mlflow-final"} if scope.protect else {}),
                "autoMinorVersionUpgrade": True,
                "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
                "performanceInsightsEnabled": True,
                "performanceInsightsKmsKeyId": self.key.output("arn"),
                "performanceInsightsRetentionPeriod": INSIGHTS_DAYS,
                "tags": scope.named("mlflow"),
            },
            scope.keeping(self),
            outputs=("address", "arn", "resourceId", "masterUserSecrets"),
        )
        self.secret_arn = self.instance.output("masterUserSecrets").apply(lambda it: str(it[0]["secretArn"]))
        self.register_outputs({"address": self.instance.output("address")})


def libpq(address: str) -> str:
    """How the database is reached, but for the user: never without knowing that it is the one."""
    return f"host={address} port={PORT} dbname={NAME} sslmode=verify-full sslrootcert={AUTHORITIES}"


def uri(address: str) -> str:
    """SQLAlchemy's address of MLflow's database. `rdsiam` is our driver: a token of 15 minutes for each connection."""
    return f"postgresql+rdsiam://{USER}@{address}:{PORT}/{NAME}?sslmode=verify-full&sslrootcert={AUTHORITIES}"
