"""MLflow's registry over its REST API. No MLflow import: that alone would double the program's start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx

from infra.errors import RegistryError
from infra.evidence.seal import TAG, Reading, read_seal, unseal
from infra.registry.client import refusal
from services.contract import artifact_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
INVALID = "INVALID_PARAMETER_VALUE"
"""MLflow's answer to an alias or version that does not exist, among others."""


class NoSuchEntryError(Exception):
    """The registry answers, and does not have it."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version as the registry describes it."""

    version: str
    tags: dict[str, str]


class MlflowRegistry:
    """Reads of one registry.

    Raises RegistryError where it cannot be asked, NoSuchEntryError where it has no such thing.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def version(self, name: str, version: str) -> Version:
        """A version by number."""
        answer = self._api("model-versions/get", {"name": name, "version": version})
        return _version(answer["model_version"])

    def version_of_alias(self, name: str, alias: str) -> Version:
        """The version that an alias points at now."""
        return _version(self._api("registered-models/alias", {"name": name, "alias": alias})["model_version"])

    def versions(self, name: str) -> list[str]:
        """Numbers of a model's versions, newest first; empty when there is no such model."""
        answer = self._api("model-versions/search", {"filter": f"name='{name}'", "max_results": "100"})
        found = [str(version["version"]) for version in answer.get("model_versions", [])]
        return sorted(found, key=int, reverse=True)

    def digest(self, name: str, version: str) -> str:
        """Digest of a version's artifact, computed by reading every file of it once."""
        root = self._root(name, version)
        return artifact_digest((path.removeprefix(f"{root}/"), self._sha256(path)) for path in self._files(root))

    def file(self, name: str, version: str, file_name: str) -> bytes | None:
        """A file of a version's artifact, wherever in it; None where there is none of that name."""
        root = self._root(name, version)
        found = next((path for path in self._files(root) if path.rpartition("/")[2] == file_name), None)
        if found is None:
            return None
        try:
            response = self._client.get(f"{ARTIFACTS}/{quote(found)}")
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        return response.content

    def _root(self, name: str, version: str) -> str:
        """Where the proxy has a version's artifact."""
        answer = self._api("model-versions/get-download-uri", {"name": name, "version": version})
        location = urlsplit(str(answer["artifact_uri"]))
        if location.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"{answer['artifact_uri']} → artifacts are read through MLflow's own proxy → "
                "start the server with --serve-artifacts and register the version again"
            )
        return location.path.strip("/")

    def evidence(self, version: Version) -> Reading | None:
        """What was recorded about a version when it was evaluated, and whether it is what was sealed; None: nothing.

        A seal whose file is gone or lies elsewhere is no error of the registry: it is evidence that proves nothing.
        """
        tag = version.tags.get(TAG)
        if tag is None:
            return None
        sealed = read_seal(tag)
        location = urlsplit(sealed.location) if sealed else None
        if sealed is None or location is None or location.scheme != "mlflow-artifacts":
            return Reading(document={}, tampered=f"tag {TAG} is no seal of a file in MLflow")
        try:
            response = self._client.get(f"{ARTIFACTS}/{quote(location.path.strip('/'))}")
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if not response.is_success:
            return Reading(document={}, tampered=f"{sealed.location} answers {response.status_code}")
        return unseal(response.content, sealed)

    def _files(self, directory: str) -> Iterator[str]:
        # A listing names its entries relative to the directory that was asked for.
        for entry in self._get(ARTIFACTS, {"path": directory}).json().get("files", []):
            path = f"{directory}/{entry['path']}"
            if entry.get("is_dir"):
                yield from self._files(path)
            else:
                yield path

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        try:
            with self._client.stream("GET", f"{ARTIFACTS}/{quote(path)}") as response:
                response.raise_for_status()
                for block in response.iter_bytes():
                    digest.update(block)
        except httpx.HTTPError as error:
            raise RegistryError(
                f"{path}: {error} → every file of the artifact can be read → register it again"
            ) from error
        return digest.hexdigest()

    def _api(self, method: str, parameters: dict[str, str]) -> Any:
        return self._get(f"{API}/{method}", parameters).json()

    def _get(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        try:
            response = self._client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if response.is_success and response.headers.get("content-type", "").startswith("application/json"):
            return response
        if (refused := refusal(response)) is not None:
            raise RegistryError(refused)
        code = _error_code(response)
        if code in {NOT_FOUND, INVALID}:
            raise NoSuchEntryError(code)
        raise RegistryError(
            f"{response.request.url} answered {response.status_code} {code or response.text[:100]!r} → "
            "an MLflow server is expected there → check slipway:registry.url"
        )

    def _silent(self, error: httpx.HTTPError) -> RegistryError:
        return RegistryError(
            f"{self._client.base_url} does not answer ({error or type(error).__name__}) → "
            "model references are resolved before anything is deployed → bring the environment up (`make up`), "
            "or set slipway:registry.url"
        )


def _error_code(response: httpx.Response) -> str:
    try:
        content = response.json()
    except ValueError:
        return ""
    return str(content.get("error_code", "")) if isinstance(content, dict) else ""


def _version(described: dict[str, Any]) -> Version:
    tags = {tag["key"]: tag.get("value", "") for tag in described.get("tags", [])}
    return Version(version=str(described["version"]), tags=tags)
