"""Where things are on this machine. The only module of `tools` that reads the environment for paths."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout."""

BUILD = PROJECT / "build"
"""What commands leave behind in the checkout for people and for the Pulumi program; ignored by git."""


def cache() -> Path:
    """Built toolchain, images and packages: safe to delete, made again when needed, shared by all checkouts."""
    if explicit := os.environ.get("SLIPWAY_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway"


def config() -> Path:
    """What belongs to the user and to no checkout: the key that evaluations are signed with."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "slipway"


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file that is there complete or not at all, whenever this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    aside.touch(mode=mode)  # before the content, so that a secret is never readable by others
    aside.write_bytes(content)
    aside.replace(path)


def clusters() -> Path:
    """Parent of the embedded clusters' state directories, one per cluster name."""
    return Path(os.environ.get("SLIPWAY_STATE", "/var/lib/slipway"))
