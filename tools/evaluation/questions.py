"""What an evaluation asks a running service: the holdout, the golden rows, its metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from services.contract import SERVING_METRICS, Route
from tools.evaluation.holdout import chunks
from tools.evaluation.service import RELEASE
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tools.evaluation.metrics import Answers

ROWS_A_REQUEST = 128
ANSWER_SECONDS = 60.0


def infer_path(model: str) -> str:
    """Path of the Open Inference Protocol, whose answers have every output."""
    return f"/v2/models/{model}/infer"


def answers(url: str, model: str, columns: Mapping[str, list[Any]], rows: int) -> Answers:
    """Every output for every row."""
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as client:
        inputs = _asked(client, f"/v2/models/{model}")["inputs"]
        found: dict[str, list[Any]] = {}
        for chunk in chunks(rows, ROWS_A_REQUEST):
            body = body_of(inputs, columns, chunk)
            response = client.post(infer_path(model), content=body, headers={"content-type": "application/json"})
            for name, values in _outputs(_read(response)).items():
                found.setdefault(name, []).extend(values)
    return found


def body_of(inputs: Sequence[Mapping[str, Any]], columns: Mapping[str, list[Any]], rows: Sequence[int]) -> bytes:
    """A request with some rows: a tensor for each input of the model, by its name."""
    lacking = [each["name"] for each in inputs if each["name"] not in columns]
    if lacking:
        raise StepError(
            f"the data lack {', '.join(lacking[:5])} → they have a column for each input of the model → "
            "name other data with --data FILE --target COLUMN"
        )
    tensors = [
        {
            "name": each["name"],
            "datatype": each["datatype"],
            "shape": [len(rows)],
            "data": [_typed(columns[each["name"]][row], each["datatype"]) for row in rows],
        }
        for each in inputs
    ]
    return json.dumps({"inputs": tensors}).encode()


def described(url: str, model: str) -> Sequence[Mapping[str, Any]]:
    """Inputs of the model as the service describes them."""
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as client:
        inputs: Sequence[Mapping[str, Any]] = _asked(client, f"/v2/models/{model}")["inputs"]
    return inputs


def golden_difference(url: str, artifact: Path) -> dict[str, Any]:
    """How far the answers to the artifact's golden rows are from those of training; nothing where it has none."""
    found = sorted(artifact.rglob("golden.json"))
    if not found:
        return {}
    golden = json.loads(found[0].read_text())
    rows = golden["rows"]
    response = httpx.post(
        f"{url}{Route.PREDICT}", json={"features": [row["features"] for row in rows]}, timeout=ANSWER_SECONDS
    )
    answered = _read(response)
    scores = answered["probability"] if answered["probability"] is not None else answered["prediction"]
    expected = [row["probability"] if row.get("probability") is not None else row["prediction"] for row in rows]
    numbers = all(isinstance(score, (int, float)) for score in scores)  # JSON has null for what is none
    differences = [abs(score - right) for score, right in zip(scores, expected, strict=True)] if numbers else []
    return {
        "goldenRows": len(rows),
        "goldenDifference": max(differences, default=None),
        "goldenTolerance": golden["tolerance"],
    }


def monitored(url: str, model: str) -> dict[str, list[str]]:
    """Which of the series that alerts and dashboards read the service has for this model, and which it lacks."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    response = httpx.get(f"{url}{Route.METRICS}", timeout=ANSWER_SECONDS)
    response.raise_for_status()
    families = text_string_to_metric_families(response.text)
    present = {
        sample.name.removesuffix("_bucket")
        for family in families
        for sample in family.samples
        if sample.labels.get("model") == model and sample.labels.get("release") == RELEASE
    }
    return {
        "series": sorted(metric for metric in SERVING_METRICS if metric in present),
        "missing": sorted(metric for metric in SERVING_METRICS if metric not in present),
    }


def _asked(client: httpx.Client, path: str) -> dict[str, Any]:
    return _read(client.get(path))


def _read(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise StepError(
            f"the service answered {response.status_code}: {response.text.strip()[:500]} → it answers the holdout → "
            "correct the data, or mend the model"
        )
    content: dict[str, Any] = response.json()
    return content


def _outputs(answer: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Outputs by name, the row first; JSON has their values flat."""
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]).tolist() for output in answer["outputs"]}


def _typed(value: object, datatype: str) -> object:
    """A value as its tensor has it: tables make floats of integers that have a gap, and booleans of neither."""
    if value is None or datatype == "BYTES":
        return value
    if datatype.startswith(("INT", "UINT")) and isinstance(value, float) and value.is_integer():
        return int(value)
    return bool(value) if datatype == "BOOL" else value
