"""Puts evidence where the program finds it: files in the version's run, then one tag on the version.

1. `evidence.json` and the model card are stored, in a directory that is named after the file's hash
2. the tag is set: seal and location at once; from here on the new evidence counts
3. people find the card from the version's description

Whatever ends it before 2 leaves the old evidence as it was; again, it does the same again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import RegistryError as UnreadableError
from infra.evidence.document import text
from infra.evidence.seal import TAG, seal
from infra.registry.client import connect
from infra.registry.mlflow import MlflowRegistry, NoSuchEntryError
from tools.evaluation import card
from tools.evaluation.signer import signing_key
from tools.registry import client_of
from tools.steps import StepError

if TYPE_CHECKING:
    from infra.evidence.seal import Reading, Seal
    from tools.evaluation.evaluate import Evidence
    from tools.registry import RegisteredVersion

FILE, CARD = "evidence.json", "model-card.md"

CARD_TAG = "slipway.model-card"
"""Tag of a model version: where its model card is."""

OURS = "Model card: "
"""Begins a description that we wrote; one that a person wrote is left alone."""


def record(tracking_uri: str, evidence: Evidence) -> Seal:
    """Store the evidence and its card, sealed. `StepError` where the registry does not take them."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    version = evidence.version
    if not version.run_id:
        raise StepError(f"{version.uri}: has no run → its evidence is an artifact of it → register it from a run")
    try:
        return _record(tracking_uri, evidence)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise StepError(f"{version.uri}: {reason} → its evidence is kept in the registry → evaluate again") from error


def _record(tracking_uri: str, evidence: Evidence) -> Seal:
    version = evidence.version
    client = client_of(tracking_uri)
    key = signing_key()
    content = (json.dumps(evidence.document, indent=1, sort_keys=True) + "\n").encode()
    directory = f"evidence/{version.version}-{hashlib.sha256(content).hexdigest()[:16]}"
    run = client.get_run(version.run_id).info
    sealed = seal(content, f"{run.artifact_uri}/{directory}/{FILE}", key)
    with tempfile.TemporaryDirectory(prefix="slipway-evidence-") as scratch:  # 1
        (Path(scratch) / FILE).write_bytes(content)
        (Path(scratch) / CARD).write_text(card.render(evidence.document, evidence.verdicts, sealed))
        client.log_artifacts(version.run_id, scratch, directory)
    client.set_model_version_tag(version.name, version.version, TAG, sealed.dump())  # 2
    client.set_model_version_tag(version.name, version.version, CARD_TAG, f"{run.artifact_uri}/{directory}/{CARD}")  # 3
    description = client.get_model_version(version.name, version.version).description or ""
    if not description or description.startswith(OURS):
        page = f"#/experiments/{run.experiment_id}/runs/{version.run_id}/artifacts/{directory}/{CARD}"
        client.update_model_version(version.name, version.version, f"{OURS}[{CARD}]({page})")
    return sealed


def read(tracking_uri: str, version: RegisteredVersion) -> Reading | None:
    """The evidence of a version as the program would read it at preview; None where there is none."""
    with connect(tracking_uri) as connection:
        registry = MlflowRegistry(connection)
        try:
            return registry.evidence(registry.version(version.name, version.version))
        except (UnreadableError, NoSuchEntryError) as error:
            raise StepError(f"{version.uri}: {error}") from error


def is_fresh(reading: Reading | None, version: RegisteredVersion, max_age: timedelta) -> bool:
    """Whether evidence is whole, signed, of this artifact and younger than `max_age`."""
    if reading is None or reading.tampered or not reading.signer:
        return False
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(text(reading.document, "evaluatedAt"))
    except (ValueError, TypeError):
        return False
    return text(reading.document, "digest") == version.digest and age < max_age
