"""What binds a document to a version: its hash, and the signature of who evaluated it.

The seal is one tag of the model version, so that it is replaced at once or not at all. The hash tells a file that was
changed after it was sealed; the signature tells a seal that somebody made who is not believed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from infra.evidence.document import SCHEMA

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from infra.evidence.document import Document

TAG = "slipway.evidence"
"""Tag of an MLflow model version: its evidence's `Seal`."""

ALGORITHM = "ed25519:"
"""Prefix of a public key as people write it, before its 32 bytes in base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The tag's content."""

    sha256: str
    """Of the file, in hex."""
    location: str
    """Where MLflow keeps the file: `mlflow-artifacts:/…`."""
    signer: str
    """Public key, `ed25519:` and base64."""
    signature: str
    """Ed25519 over the file's bytes, base64."""

    def dump(self) -> str:
        """The tag's value."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Evidence as it was found. All plain values: it goes into the component's inputs."""

    document: Document
    """Empty where it cannot be read."""
    sha256: str = ""
    signer: str = ""
    """Who has signed it; empty where the signature is not that key's."""
    tampered: str = ""
    """Why it is not what was sealed; empty where it is."""

    def plain(self) -> dict[str, Any]:
        """The same as a mapping."""
        return asdict(self)


def public_key(key: Ed25519PrivateKey) -> str:
    """The public half as people write it."""
    return ALGORITHM + base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def seal(content: bytes, location: str, key: Ed25519PrivateKey) -> Seal:
    """The seal of a file that lies at `location`."""
    return Seal(
        sha256=hashlib.sha256(content).hexdigest(),
        location=location,
        signer=public_key(key),
        signature=base64.b64encode(key.sign(content)).decode(),
    )


def read_seal(tag: str) -> Seal | None:
    """The seal of a tag's value, None where it is none."""
    try:
        content = json.loads(tag)
    except ValueError:
        return None
    names = {"sha256", "location", "signer", "signature"}
    if not isinstance(content, dict) or content.keys() != names:
        return None
    return Seal(**content) if all(isinstance(value, str) for value in content.values()) else None


def unseal(content: bytes, sealed: Seal) -> Reading:
    """What a file says, and whether it is what was sealed and by whom."""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != sealed.sha256:
        return Reading(document={}, sha256=sha256, tampered=f"the file has SHA-256 {sha256}, its seal {sealed.sha256}")
    try:
        document = json.loads(content)
    except ValueError as error:
        return Reading(document={}, sha256=sha256, tampered=f"the file is no JSON ({error})")
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        return Reading(document={}, sha256=sha256, tampered=f"the file is no {SCHEMA}")
    return Reading(document=document, sha256=sha256, signer=sealed.signer if _signed(content, sealed) else "")


def _signed(content: bytes, sealed: Seal) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(sealed.signer.removeprefix(ALGORITHM), validate=True))
        key.verify(base64.b64decode(sealed.signature, validate=True), content)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return sealed.signer.startswith(ALGORITHM)
