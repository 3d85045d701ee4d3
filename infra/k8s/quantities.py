"""Arithmetic on Kubernetes quantities."""

from __future__ import annotations


def cores(quantity: str) -> float:
    """Cores of a CPU quantity: `250m` is 0.25, `2` is 2."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
DECIMAL = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
"""Multipliers by suffix."""


def nbytes(quantity: str) -> int:
    """Bytes of a quantity: `1Gi` is 1073741824, `2k` is 2000."""
    for suffix, factor in {**BINARY, **DECIMAL}.items():
        if quantity.endswith(suffix):
            return int(float(quantity.removesuffix(suffix)) * factor)
    return int(float(quantity))
