"""Arithmetic on Kubernetes quantities."""

from __future__ import annotations


def cores(quantity: str) -> float:
    """Cores of a CPU quantity: `250m` is 0.25, `2` is 2."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
