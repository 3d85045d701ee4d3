"""The MLflow model registry: `models:/name/version` and `models:/name@alias`.

MLflow's own `models:/` download adds a file of its own to the artifact and depends on global
state; here the registry is only asked where the version lies, and that place is downloaded.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from services.contract import DIGEST_TAG
from services.inference.core.errors import FetchFailed
from services.inference.runtimes.sources.base import Located, TransientError, not_found
from services.inference.runtimes.sources.s3 import S3Source

if TYPE_CHECKING:
    from mlflow import MlflowClient

_URI = re.compile(r"models:/(?P<name>(?!\.)[^/@:]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class RegistrySource:
    """A model version of an MLflow server whose artifacts it proxies, or keeps on S3."""

    def __init__(self, uri: str, tracking_uri: str | None, s3_endpoint_url: str | None) -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise FetchFailed(
                f"model {uri}",
                "a registry URI is models:/name/version or models:/name@alias",
                "correct the model's URI",
            )
        if not tracking_uri:
            raise FetchFailed(
                f"model {uri}: no registry", "models:/ needs a tracking server", "set MLFLOW_TRACKING_URI"
            )
        self._uri = uri
        self._name, self._version, self._alias = match["name"], match["version"], match["alias"]
        self._tracking_uri = tracking_uri
        self._s3_endpoint_url = s3_endpoint_url

    def locate(self) -> Located:
        """Ask the registry for the version and where its files lie."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            client = self._client()
            if self._version:
                found = client.get_model_version(self._name, self._version)
            else:
                found = client.get_model_version_by_alias(self._name, self._alias)
            location = client.get_model_version_download_uri(self._name, str(found.version))
            if location.startswith("models:/"):  # the version points at a logged model
                location = client.get_logged_model(location.removeprefix("models:/")).artifact_location
        except MlflowException as error:
            if error.error_code in _MISSING:
                raise not_found(self._uri, f"not in the registry at {self._tracking_uri}") from error
            raise TransientError(f"the registry at {self._tracking_uri}: {_line(error)}") from error
        return Located(uri=str(location), version=str(found.version), digest=found.tags.get(DIGEST_TAG))

    def download(self, located: Located, into: Path) -> None:
        """Bring the version's files, through the server's proxy or straight from S3."""
        if located.uri.startswith("s3://"):
            S3Source(located.uri, self._s3_endpoint_url).download(located, into)
            return
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            download_proxied(located.uri, self._tracking_uri, into)
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            raise TransientError(f"{located.uri}: {_line(error)}") from error
        if not any(into.iterdir()):
            raise not_found(self._uri, f"{located.uri} is empty")

    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient  # noqa: PLC0415  # two seconds of import that other sources do not need

        return MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)


def download_proxied(location: str, tracking_uri: str, into: Path) -> None:
    """Bring all files below `location` into a directory; MLflow's errors pass through.

    MLflow puts them in a folder named after the location's end: they are moved out of it.
    """
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="mlflow-", dir=into.parent) as scratch:
        root = Path(download_artifacts(artifact_uri=location, dst_path=scratch, tracking_uri=tracking_uri))
        for entry in root.iterdir():
            entry.rename(into / entry.name)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
