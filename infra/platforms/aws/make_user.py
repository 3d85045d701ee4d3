"""Runs inside the cluster, in the MLflow image: makes the user that MLflow is in its database.

boto3 and psycopg2 only, no import from this repository: the file is mounted as it is. Every step may run again on what
an earlier run left.

    1. The master's password is read from where AWS keeps and turns it.
    2. The user exists, may sign in by IAM, and therefore by nothing else.
    3. It may make tables in the database's one schema, and owns what it makes.

Arguments: ARN of the master's secret, region, how the database is reached as libpq writes it, the user.
"""

from __future__ import annotations

import json
import sys

import boto3
import psycopg2
from psycopg2 import sql


def main(secret: str, region: str, database: str, user: str) -> None:
    """The three steps of the module's docstring."""
    # 1
    kept = boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=secret)
    master = json.loads(kept["SecretString"])
    connection = psycopg2.connect(database, user=master["username"], password=master["password"])
    name = sql.Identifier(user)
    with connection, connection.cursor() as cursor:
        # 2
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (user,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE USER {}").format(name))
        cursor.execute(sql.SQL("GRANT rds_iam TO {}").format(name))
        # 3
        cursor.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(name))
    connection.close()
    print(f"{user} may use the database")


if __name__ == "__main__":
    main(*sys.argv[1:])
