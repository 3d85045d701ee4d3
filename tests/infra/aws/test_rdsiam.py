"""How MLflow signs in at its database: the driver in its image."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from infra.platforms.aws import database

DRIVER = Path(__file__).parents[3] / "images/mlflow/rdsiam"


@pytest.fixture
def engine(monkeypatch):
    """SQLAlchemy with the driver installed, as who has credentials."""
    monkeypatch.syspath_prepend(str(DRIVER))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield sqlalchemy.create_engine(database.uri("mlflow.rds.test"))
    sys.modules.pop("rdsiam", None)


def test_each_connection_has_a_token_for_this_user_of_this_server_as_its_password(engine, monkeypatch):
    asked = []

    def refuse(_dialect, *_arguments, **parameters):
        asked.append(parameters)
        raise ConnectionError

    monkeypatch.setattr(PGDialect_psycopg2, "connect", refuse)
    with pytest.raises(ConnectionError):
        engine.connect()
    [told] = asked
    token = urlsplit(f"https://{told['password']}")
    assert (token.hostname, token.port) == (told["host"], int(told["port"])) == ("mlflow.rds.test", database.PORT)
    assert parse_qs(token.query)["DBUser"] == [told["user"]] == [database.USER]
    assert parse_qs(token.query)["X-Amz-Expires"] == ["900"]
    assert (told["sslmode"], told["sslrootcert"]) == ("verify-full", database.AUTHORITIES)
