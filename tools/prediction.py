"""Asks a deployed model, as an application would: over HTTP through the gateway."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from infra.registry.client import headers, refusal
from tools.steps import StepError

TIMEOUT_SECONDS = 30.0


def predict(endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST a body of the `/predict` protocol and return the answer; `StepError` with the service's own words."""
    answer = _request("POST", f"{endpoint}/predict", json=body)
    if answer.is_error:
        raise StepError(f"{endpoint}/predict answered {answer.status_code}: {answer.text.strip()}")
    found: dict[str, Any] = answer.json()
    return found


def input_example(registry: str, uri: str) -> list[dict[str, Any]]:
    """Rows of the input example registered with `models:/<name>/<version>`, each by feature name."""
    model, _, version = uri.removeprefix("models:/").rpartition("/")
    located = _request(
        "GET",
        f"{registry}/api/2.0/mlflow/model-versions/get-download-uri",
        params={"name": model, "version": version},
        headers=headers(),
    )
    if (refused := refusal(located)) is not None:
        raise StepError(refused)
    if located.is_error:
        raise StepError(
            f"{uri}: {located.json().get('message', located.text)} → "
            "its input example is asked for → "
            "register it, or give rows: `slipway predict MODEL --data FILE`"
        )
    root = urlsplit(located.json()["artifact_uri"]).path.strip("/")
    answer = _request(
        "GET", f"{registry}/api/2.0/mlflow-artifacts/artifacts/{root}/input_example.json", headers=headers()
    )
    if answer.is_error:
        raise StepError(
            f"{uri}: has no input example → `slipway predict` sends it → "
            "register the model with one, or give rows: `--data FILE`"
        )
    example = answer.json()
    return [dict(zip(example["columns"], row, strict=True)) for row in example["data"]]


def _request(method: str, url: str, **options: Any) -> httpx.Response:
    try:
        return httpx.request(method, url, timeout=TIMEOUT_SECONDS, **options)
    except httpx.HTTPError as error:
        raise StepError(
            f"{url}: {error or type(error).__name__} → the gateway answers there → `slipway cluster status`, `make up`"
        ) from error
