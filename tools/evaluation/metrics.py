"""Holdout metrics of a model's answers, by scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from services.inference.core.schema import Task
from tools.steps import StepError

Answers: TypeAlias = Mapping[str, list[Any]]
"""Values of the service's outputs by name, for every row."""

CLASSES_FOR_AUC = 2


def measure(task: Task, labels: Sequence[Any], answers: Answers, classes: Sequence[str] = ()) -> dict[str, float]:
    """Metrics by the names of `infra.evidence.document`.

    `classes` name the predictions 0, 1, …, where the labels are names. `StepError` where the answers lack what the
    task needs.
    """
    truth = _numbered(labels, classes)
    return {name: float(value) for name, value in _MEASURES[task](truth, answers).items()}


def _numbered(labels: Sequence[Any], classes: Sequence[str]) -> Any:
    numbers = {name: number for number, name in enumerate(classes)}
    if labels and all(isinstance(label, str) and label in numbers for label in labels):
        return np.array([numbers[label] for label in labels])
    return np.array(labels)


def _binary(truth: Any, answers: Answers) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score  # noqa: PLC0415  # a second

    predicted, probability = _prediction(answers), _output(answers, "probability").astype(np.float64)
    found = {
        "accuracy": accuracy_score(truth, predicted),
        "f1": f1_score(truth, predicted),
        "logLoss": log_loss(truth, probability, labels=[0, 1]),
    }
    if len(set(truth.tolist())) == CLASSES_FOR_AUC:
        found["rocAuc"] = roc_auc_score(truth, probability)
    return found


def _multiclass(truth: Any, answers: Answers) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score  # noqa: PLC0415

    predicted, probabilities = _prediction(answers), _output(answers, "probabilities").astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # of float32, they sum to one only nearly
    labels = list(range(probabilities.shape[1]))
    found = {
        "accuracy": accuracy_score(truth, predicted),
        "f1Macro": f1_score(truth, predicted, average="macro"),
        "logLoss": log_loss(truth, probabilities, labels=labels),
    }
    if set(truth.tolist()) == set(labels) and len(labels) > CLASSES_FOR_AUC:
        found["rocAuc"] = roc_auc_score(truth, probabilities, multi_class="ovr", labels=labels)
    return found


def _regression(truth: Any, answers: Answers) -> dict[str, float]:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error  # noqa: PLC0415

    predicted = _prediction(answers).astype(np.float64)
    return {
        "mae": mean_absolute_error(truth, predicted),
        "rmse": root_mean_squared_error(truth, predicted),
        "r2": r2_score(truth, predicted),
    }


def _prediction(answers: Answers) -> Any:
    """The output `prediction`, or of a model that names its result otherwise the first that is no probability."""
    names = [name for name in answers if not name.startswith("probabilit")]
    return _output(answers, "prediction" if "prediction" in answers else next(iter(names), "prediction"))


def _output(answers: Answers, name: str) -> Any:
    if name not in answers:
        raise StepError(
            f"the model answers {', '.join(answers)} → its task needs {name} → "
            "name its task with --task, or register a model that answers it"
        )
    return np.array(answers[name])


_MEASURES: Mapping[Task, Callable[[Any, Answers], dict[str, float]]] = {
    Task.BINARY: _binary,
    Task.MULTICLASS: _multiclass,
    Task.REGRESSION: _regression,
}
