"""The data set and its split.

569 samples, 30 measures of cell nuclei (W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI
Machine Learning Repository, 1993), as `sklearn.datasets.load_breast_cancer` ships it. The label
here is 1 for malignant, the class that a screening looks for; scikit-learn's own is the opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CLASSES = ("benign", "malignant")
SEED = 20_260_101
HOLDOUT = 0.2
VALIDATION = 0.2
"""Shares of the whole: 60% train, 20% choose the threshold, 20% are never looked at before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Features [rows, 30] in float64 and labels [rows] in {0, 1}."""

    features: Array
    labels: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The split data set."""

    names: tuple[str, ...]
    train: Part
    validation: Part
    holdout: Part


def load_dataset() -> Dataset:
    """Load and split, stratified by label; the same split on every call."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  # seconds of import
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    raw = load_breast_cancer()
    features = np.asarray(raw.data, dtype=np.float64)
    labels = 1 - np.asarray(raw.target, dtype=np.int64)
    x, x_hold, y, y_hold = train_test_split(features, labels, test_size=HOLDOUT, stratify=labels, random_state=SEED)
    x_train, x_valid, y_train, y_valid = train_test_split(
        x, y, test_size=VALIDATION / (1 - HOLDOUT), stratify=y, random_state=SEED
    )
    return Dataset(
        names=tuple(str(name) for name in raw.feature_names),
        train=Part(features=x_train, labels=y_train),
        validation=Part(features=x_valid, labels=y_valid),
        holdout=Part(features=x_hold, labels=y_hold),
    )
