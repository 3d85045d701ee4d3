"""`postgresql+rdsiam://user@host:port/database`: PostgreSQL on RDS, signed in to by IAM.

SQLAlchemy finds it by its entry point. Each new connection gets a token of its own, which is made here, without a call
to AWS, from the pod's identity, and is good for 15 minutes: no password is stored anywhere, and none has to be turned.
"""

from __future__ import annotations

import os
from typing import Any

import botocore.session
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2


class Dialect(PGDialect_psycopg2):
    """psycopg2 with a password that is made when it is needed."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """Connect with a new token."""
        client = botocore.session.get_session().create_client("rds", region_name=os.environ["AWS_DEFAULT_REGION"])
        parameters["password"] = client.generate_db_auth_token(
            DBHostname=parameters["host"], Port=int(parameters["port"]), DBUsername=parameters["user"]
        )
        return super().connect(*arguments, **parameters)
