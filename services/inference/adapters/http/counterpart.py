"""Another release of the model, asked the same over V2: what a mirrored release compares its answers with."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import orjson

from services.inference.adapters.http.openapi import JSON_BYTES
from services.inference.core.codec.v2 import from_bytes
from services.inference.core.schema import DATATYPES

if TYPE_CHECKING:
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.schema import Schema
    from services.inference.core.shadow import Answer
    from services.inference.core.types import Array, Outputs, Parameters, Request, Rows

TIMEOUT_SECONDS = 2.0
"""What the other release gets for its answer. It is told so: one that is busy refuses at once."""


class Counterpart:
    """The live release at a base address, for the process that is its shadow."""

    authoritative = True

    def __init__(self, url: str, model: str, *, share: float) -> None:
        self.name = httpx.URL(url).host.partition(".")[0]
        self._path = f"/v2/models/{model}/infer"
        self._share = share
        # One connection: the shadow's thread is one.
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, limits=httpx.Limits(max_connections=1))

    def answer_for(self, live: Pipeline, request: Request) -> Answer | str | None:
        """How to get its answer; None where this request is not of the share that is compared."""
        if random.random() >= self._share:  # noqa: S311  # no secret
            return None
        return partial(self._ask, live.info.metadata.schema, request.rows, request.parameters)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, schema: Schema, rows: Rows, parameters: Parameters) -> Outputs:
        body, json_bytes = question(schema, rows, parameters)
        answer = self._client.post(self._path, content=body, headers={JSON_BYTES: str(json_bytes)})
        answer.raise_for_status()
        return told(answer.content, int(answer.headers[JSON_BYTES]))


def question(schema: Schema, rows: Rows, parameters: Parameters) -> tuple[bytes, int]:
    """The body of a V2 request for these rows, and the bytes of its JSON; numbers are binary, both ways."""
    inputs: list[dict[str, Any]] = []
    parts: list[bytes] = []

    def add(name: str, datatype: str, values: Any) -> None:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if datatype == "BYTES":  # texts may be missing, which binary cannot say
            texts = (value.decode() if isinstance(value, bytes) else value for value in values.ravel())
            inputs.append(tensor | {"data": list(texts)})
            return
        data = np.ascontiguousarray(values, dtype=DATATYPES[datatype]).tobytes()
        inputs.append(tensor | {"parameters": {"binary_data_size": len(data)}})
        parts.append(data)

    for spec, block in zip(schema.tensors, rows.blocks if schema.tensors else (), strict=True):
        add(spec.name, spec.datatype, block)
    for at, feature in enumerate(schema.numeric):
        add(feature.name, "FP64", rows.numbers[:, at])
    for at, feature in enumerate(schema.text):
        add(feature.name, "BYTES", rows.texts[:, at])
    asked = {**dict(parameters), "binary_data_output": True, "timeout": round(TIMEOUT_SECONDS * 1e6)}
    head = orjson.dumps({"inputs": inputs, "parameters": asked})
    return b"".join((head, *parts)), len(head)


def told(body: bytes, json_bytes: int) -> Outputs:
    """The outputs of a V2 answer in binary."""
    outputs = orjson.loads(body[:json_bytes])["outputs"]
    found, at, data = {}, json_bytes, memoryview(body)
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        name = output["name"]
        values = from_bytes(name, output["datatype"], tuple(output["shape"]), data[at : at + size])
        found[name] = _decoded(values) if output["datatype"] == "BYTES" else values
        at += size
    return found


def _decoded(values: Array) -> Array:
    """Texts, as a model of this process gives them."""
    texts = np.empty(values.shape, dtype=object)
    texts.ravel()[:] = [value.decode(errors="replace") for value in values.ravel()]
    return texts
