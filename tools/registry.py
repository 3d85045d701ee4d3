"""Models in an MLflow registry: register a bundle, read what is there.

The client needs no access to the artifact store: everything goes through the server's proxy
(`mlflow server --serve-artifacts`). MLflow is imported inside the functions; it takes seconds.
"""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from infra.evidence.seal import TAG
from infra.registry.client import headers, refusal
from services.contract import BUNDLE_DIGEST_TAG, DIGEST_TAG, directory_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "pydantic", "pyyaml", "torch")
"""What a python_function environment installs to load a bundle, beside this package."""
LOG_SUFFIX = ".promotions"
"""Of a registered model that is the log of another's promotions and holds no model: see `tools.promotion`."""

_ANSWER_SECONDS = 10.0
_SCALARS = {"FP32": "float", "FP64": "double", "INT64": "long", "BYTES": "string", "BOOL": "boolean"}


class RegistryError(Exception):
    """The registry cannot be reached or does not hold what was asked for: value → rule → remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    version: str
    digest: str
    """`contract.DIGEST_TAG`: what a release pins; empty for a version that Slipway did not register."""
    bundle_digest: str
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since the epoch."""
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    created: bool = False
    """Whether this call made it, or found it."""
    evaluated: bool = False
    """Whether evidence is recorded for it."""

    @property
    def uri(self) -> str:
        """What a release names."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A bundle to register."""

    name: str
    bundle: Path
    metrics: Mapping[str, float]
    parameters: Mapping[str, float]
    alias: str = "champion"


def check_reachable(tracking_uri: str | None) -> str:
    """The URI, if a tracking server answers there; MLflow's own client would retry for minutes."""
    remedy = "start the environment with `make up`, or name a server with --tracking-uri or MLFLOW_TRACKING_URI"
    if not tracking_uri:
        raise RegistryError(f"no tracking server is named → models live in an MLflow registry → {remedy}")
    try:
        answer = httpx.get(f"{tracking_uri.rstrip('/')}/health", headers=headers(), timeout=_ANSWER_SECONDS)
        if (refused := refusal(answer)) is not None:
            raise RegistryError(refused)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryError(f"{tracking_uri}: {error} → an MLflow server answers /health → {remedy}") from error
    return tracking_uri


def register_bundle(tracking_uri: str, registration: Registration) -> RegisteredVersion:
    """Register a bundle as a new version, or find the version that holds the same bundle; set the alias.

    1. look for a ready version with this bundle's digest
    2. log the model in a run: MLmodel, signature, input example, parameters, metrics
    3. download it as the service will and compute its digest
    4. create the version with both digests on it: there is no moment without them
    5. promote it
    """
    from tools.promotion import promote  # noqa: PLC0415  # it stands on this module

    client = client_of(tracking_uri)
    bundle_digest = directory_digest(registration.bundle)
    existing = _with_bundle(client, registration.name, bundle_digest)  # 1
    with _tracking(tracking_uri):
        version = existing or _create(client, registration, bundle_digest)
    promote(tracking_uri, registration.name, str(version.version), registration.alias)  # 5
    return show_version(tracking_uri, registration.name, str(version.version), created=existing is None)


def list_versions(tracking_uri: str, name: str | None = None) -> list[RegisteredVersion]:
    """All versions of a model, or the newest of each model, newest first."""
    client = client_of(tracking_uri)
    names = [name] if name else [model.name for model in client.search_registered_models()]
    names = [each for each in names if not each.endswith(LOG_SUFFIX)]
    found = []
    for each in names:
        versions = list(_versions(client, each))
        found += versions if name else versions[:1]
    if name and not found:
        raise RegistryError(
            f"model {name!r} is not in {tracking_uri} → a model is registered first → `slipway models list`"
        )
    return [_described(client, version) for version in found]


def show_version(
    tracking_uri: str, name: str, version: str | None = None, *, created: bool = False
) -> RegisteredVersion:
    """One version with its metrics and parameters; the newest where none is named."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = client_of(tracking_uri)
    if version is None:
        version = list_versions(tracking_uri, name)[0].version
    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        raise RegistryError(
            f"model {name!r} version {version} is not in {tracking_uri} → a version is registered first "
            "→ `slipway models list` shows what is there"
        ) from error
    return _described(client, found, created=created)


def find_version(tracking_uri: str, text: str) -> RegisteredVersion:
    """The version that `NAME`, `NAME/VERSION` or `NAME@ALIAS` means; the newest where only the name is given."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    text = text.removeprefix("models:/")
    name, at, alias = text.partition("@")
    if not at:
        name, _, version = text.partition("/")
        return show_version(tracking_uri, name, version or None)
    try:
        found = client_of(tracking_uri).get_model_version_by_alias(name, alias)
    except MlflowException as error:
        raise RegistryError(
            f"{text}: not in {tracking_uri} → an alias points at a version → `slipway models promote NAME/VERSION`"
        ) from error
    return show_version(tracking_uri, name, str(found.version))


def client_of(tracking_uri: str) -> MlflowClient:
    """MLflow's client of one server; nothing of the process's own state."""
    from mlflow import MlflowClient  # noqa: PLC0415

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def _tracking(uri: str) -> Iterator[None]:
    """MLflow logs models through process-wide state only: set it, and put it back.

    Its messages are for interactive use and would mix with ours; by default it also copies the
    pyproject.toml and uv.lock of the current directory into the artifact, whatever they belong to.
    """
    import mlflow  # noqa: PLC0415
    from mlflow import environment_variables  # noqa: PLC0415

    switches: Any = environment_variables
    tracking: Any = mlflow
    logger = logging.getLogger("mlflow")
    before = tracking.get_tracking_uri() if tracking.is_tracking_uri_set() else None
    level = logger.level
    mlflow.set_tracking_uri(uri)
    logger.setLevel(logging.ERROR)
    switches.MLFLOW_LOG_UV_FILES.set(value=False)
    switches.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(value=True)
    try:
        yield
    finally:
        switches.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.unset()
        switches.MLFLOW_LOG_UV_FILES.unset()
        logger.setLevel(level)
        tracking.set_tracking_uri(before)


def _versions(client: MlflowClient, name: str, more: str = "") -> Sequence[ModelVersion]:
    found = client.search_model_versions(f"name = '{_quoted(name)}'{more}")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def _quoted(name: str) -> str:
    return name.replace("'", "''")


def _with_bundle(client: MlflowClient, name: str, bundle_digest: str) -> ModelVersion | None:
    found = _versions(client, name, f" and tags.`{BUNDLE_DIGEST_TAG}` = '{bundle_digest}'")
    return next((version for version in found if version.status == "READY"), None)


def _create(client: MlflowClient, registration: Registration, bundle_digest: str) -> ModelVersion:
    import mlflow  # noqa: PLC0415

    from services.inference.runtimes.sources.registry import download_proxied  # noqa: PLC0415

    mlflow.set_experiment(registration.name)
    with mlflow.start_run(run_name=registration.name):
        mlflow.log_params(dict(registration.parameters))
        mlflow.log_metrics(dict(registration.metrics))
        logged = _log_model(registration)  # 2
    location = client.get_logged_model(logged.model_id).artifact_location
    with tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        files = Path(scratch) / "artifact"
        files.mkdir()
        download_proxied(location, mlflow.get_tracking_uri(), files)
        digest = directory_digest(files)  # 3
    tags = {DIGEST_TAG: digest, BUNDLE_DIGEST_TAG: bundle_digest}
    if not client.search_registered_models(f"name = '{_quoted(registration.name)}'"):
        client.create_registered_model(registration.name)
    return client.create_model_version(  # 4
        registration.name, f"models:/{logged.model_id}", logged.run_id, tags=tags, model_id=logged.model_id
    )


def _log_model(registration: Registration) -> Any:
    import mlflow  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415
    from mlflow.types import DataType  # noqa: PLC0415

    from services.inference.runtimes import mlflow_loader  # noqa: PLC0415

    example = pd.DataFrame(json.loads((registration.bundle / "input_example.json").read_text()))
    signature = _signature(registration.bundle)
    # JSON writes 10.0 as 10; MLflow does not take an integer for a double.
    doubles = [column.name for column in signature.inputs if column.type == DataType.double]
    return mlflow.pyfunc.log_model(
        name=registration.name,
        loader_module=mlflow_loader.NAME,
        data_path=str(registration.bundle),
        signature=signature,
        input_example=example.astype(dict.fromkeys(doubles, "float64")),
        pip_requirements=list(REQUIREMENTS),
    )


def _signature(bundle: Path) -> ModelSignature:
    """Columns in and columns out, as the bundle's runtime declares them; no value is looked at."""
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, Schema  # noqa: PLC0415

    from services.inference.runtimes.bundle import BundleRuntime  # noqa: PLC0415

    metadata = BundleRuntime.read(bundle).metadata
    return ModelSignature(
        inputs=Schema([ColSpec(_SCALARS[feature.datatype], feature.name) for feature in metadata.schema.features]),
        outputs=Schema([ColSpec(_SCALARS[o.datatype], o.name) for o in metadata.outputs if len(o.shape) == 1]),
    )


def _described(client: MlflowClient, version: ModelVersion, *, created: bool = False) -> RegisteredVersion:
    run = client.get_run(version.run_id).data if version.run_id else None
    model = client.get_registered_model(version.name)  # a version's own list of aliases is empty in a search
    return RegisteredVersion(
        name=version.name,
        version=str(version.version),
        digest=version.tags.get(DIGEST_TAG, ""),
        bundle_digest=version.tags.get(BUNDLE_DIGEST_TAG, ""),
        aliases=tuple(sorted(alias for alias, at in model.aliases.items() if str(at) == str(version.version))),
        created_ms=int(version.creation_timestamp),
        run_id=version.run_id or "",
        metrics=dict(run.metrics) if run else {},
        parameters=dict(run.params) if run else {},
        created=created,
        evaluated=TAG in version.tags,
    )
