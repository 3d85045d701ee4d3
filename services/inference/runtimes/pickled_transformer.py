"""A fitted transformer that is a pickle: read only where the bundle's manifest names its SHA-256.

A pickle runs code when it is read. The declarative `transformer.json` does not and is what to write; this is for
pipelines that exist already. `manifest.json` maps file names to digests, and where the release names a digest of the
whole bundle, that covers the manifest too.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.inference.core.errors import InvalidArtifact, UntrustedArtifact
from services.inference.core.types import Rows

if TYPE_CHECKING:
    from pathlib import Path

FILE, MANIFEST = "transformer.pkl", "manifest.json"
_MATRIX = 2


class PickledTransformer:
    """Anything with scikit-learn's `transform`, over numeric features in the bundle's order."""

    def __init__(self, transformer: Any, features: tuple[str, ...]) -> None:
        self._transformer = transformer
        self._features = features
        self._takes_frame = hasattr(transformer, "feature_names_in_")

    @classmethod
    def read(cls, directory: Path, features: tuple[str, ...]) -> Self:
        """Check, then unpickle; `UntrustedArtifact` where the manifest does not vouch for the very bytes."""
        content = (directory / FILE).read_bytes()
        _check(directory / MANIFEST, content)
        import joblib  # noqa: PLC0415  # scikit-learn's own way to write a pickle, which reads plain ones too

        try:
            return cls(joblib.load(io.BytesIO(content)), features)
        except Exception as error:  # a pickle can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else ""
            raise InvalidArtifact(
                f"{FILE}: {type(error).__name__}: {reason}", "it is a pickle that this environment reads",
                "write it with the versions of this service, or as transformer.json",
            ) from error  # fmt: skip

    def apply(self, rows: Rows) -> Rows:
        """Feature rows → model input, float32 [rows, width]."""
        given: Any = rows.numbers.astype(np.float64)  # a copy: scikit-learn's may work in place
        if self._takes_frame:
            import pandas as pd  # noqa: PLC0415

            given = pd.DataFrame(given, columns=list(self._features))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            found = self._transformer.transform(given)
        dense = np.asarray(found.todense() if hasattr(found, "todense") else found, dtype=np.float32)
        return Rows(dense if dense.ndim == _MATRIX else dense.reshape(len(rows), -1))


def _check(manifest: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    remedy = f'write {{"{FILE}": "{digest}"}} into {MANIFEST} if you trust it, or use transformer.json'
    try:
        named = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        raise UntrustedArtifact(
            f"{FILE} without a {MANIFEST}", "a pickle is read only where a manifest vouches for it", remedy
        ) from None
    except ValueError as error:
        raise InvalidArtifact(
            f"{MANIFEST}: {error}", "it maps file names to SHA-256 digests", "write it again"
        ) from error
    found = named.get(FILE) if isinstance(named, dict) else None
    if str(found).removeprefix("sha256:") != digest:
        raise UntrustedArtifact(f"{FILE} has SHA-256 {digest}", f"{MANIFEST} says {found}", remedy)
