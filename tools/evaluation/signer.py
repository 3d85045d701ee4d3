"""The key that this user's evaluations are signed with. Made on first use; it never leaves the user's directory."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tools import paths
from tools.steps import StepError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def key_file() -> Path:
    """Where the key is."""
    return paths.config() / "signer.pem"


def signing_key() -> Ed25519PrivateKey:
    """The user's key; made where there is none. `StepError` where others may read it, or it is no such key."""
    path = key_file()
    if not path.exists():
        _make(path)
    if path.stat().st_mode & OTHERS:
        raise StepError(f"{path}: others may read it → whoever has the key signs in your name → `chmod 600 {path}`")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise StepError(f"{path}: {error} → an Ed25519 key in PEM → move it away; a new one is made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StepError(f"{path}: {type(key).__name__} → an Ed25519 key → move it away; a new one is made")
    return key


def _make(path: Path) -> None:
    """A new key, complete or not at all; of two processes that make one at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor, aside = tempfile.mkstemp(dir=path.parent)  # readable by this user alone from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
    finally:
        Path(aside).unlink()
