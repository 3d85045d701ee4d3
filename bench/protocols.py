"""What goes over the wire: one request as each server wants it, and its answer as numbers again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

MODEL = "bench"
"""The name under which servers that name their models serve it."""

JSON_BYTES = "Inference-Header-Content-Length"
"""Of a V2 body with binary data: where its JSON ends."""


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP POST."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Protocol:
    """How to ask, and how to read the answer: float64 [rows]."""

    name: str
    ask: Callable[[Array, int], Message]
    """Rows float32 [rows, 32], and the microseconds that the caller waits, 0 for no bound."""
    read: Callable[[bytes, dict[str, str]], Array]
    """Body and headers (names in lower case) of the answer."""


def _v2_json(rows: Array, timeout: int) -> Message:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": _short(rows.ravel())}
    return _json(f"/v2/models/{MODEL}/infer", _with_timeout({"inputs": [tensor]}, timeout))


def _v2_binary(rows: Array, timeout: int) -> Message:
    data = np.ascontiguousarray(rows, dtype="<f4").tobytes()
    tensor = {
        "name": "input", "shape": list(rows.shape), "datatype": "FP32", "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    message = _with_timeout({"inputs": [tensor], "parameters": {"binary_data_output": True}}, timeout)
    head = json.dumps(message, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(len(head))}
    return Message(f"/v2/models/{MODEL}/infer", headers, head + data)


def _with_timeout(message: dict[str, Any], timeout: int) -> dict[str, Any]:
    return {**message, "parameters": {**message.get("parameters", {}), "timeout": timeout}} if timeout else message


def _plain(path: str) -> Callable[[Array, int], Message]:
    def ask(rows: Array, timeout: int) -> Message:
        if timeout:
            raise ValueError(f"a timeout for {path} → only V2 has one → ask over V2")
        return _json(path, {"inputs": [_short(row) for row in rows]})

    return ask


def _json(path: str, content: dict[str, Any]) -> Message:
    return Message(path, {"Content-Type": "application/json"}, json.dumps(content, separators=(",", ":")).encode())


def _short(values: Array) -> list[float]:
    """As people write them: 0.1234, not the sixteen digits that a float32 has as a float64."""
    return [float(str(value)) for value in values]


def _read_v2(body: bytes, headers: dict[str, str]) -> Array:
    end = int(headers.get(JSON_BYTES.lower(), len(body)))
    output = json.loads(body[:end])["outputs"][0]
    if "data" in output:
        return np.asarray(output["data"], dtype=np.float64).ravel()
    dtype = {"FP32": "<f4", "FP64": "<f8"}[output["datatype"]]
    return np.frombuffer(body[end:], dtype=dtype).astype(np.float64).ravel()


def _read_member(name: str) -> Callable[[bytes, dict[str, str]], Array]:
    def read(body: bytes, headers: dict[str, str]) -> Array:  # noqa: ARG001  # one form for all
        content = json.loads(body)
        return np.asarray(content[name] if name else content, dtype=np.float64).ravel()

    return read


V2_JSON = Protocol("V2 JSON", _v2_json, _read_v2)
V2_BINARY = Protocol("V2 binary", _v2_binary, _read_v2)
MLFLOW_JSON = Protocol("MLflow JSON", _plain("/invocations"), _read_member("predictions"))
PREDICT_JSON = Protocol("own JSON", _plain("/predict"), _read_member("outputs"))
BARE_JSON = Protocol("own JSON", _plain("/predict"), _read_member(""))


def reply_bytes(rows: int, encoding: str) -> int:
    """About the size of an answer's body: 20 characters a number in JSON, 4 bytes in binary, and what names them."""
    return 130 + rows * (20 if encoding == "json" else 4)
