"""What a codec is, and the JSON reading that all of them share."""

from __future__ import annotations

import json
import reprlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import orjson

from services.inference.core.errors import MalformedBody

if TYPE_CHECKING:
    from services.inference.core.schema import ModelInfo
    from services.inference.core.types import Request, Response

BodyIn_contra = TypeVar("BodyIn_contra", contravariant=True)
BodyOut_co = TypeVar("BodyOut_co", covariant=True)


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3


class Body(NamedTuple):
    """What an HTTP message carries: JSON, and behind it raw tensors where `json_bytes` says where it ends."""

    content: bytes | bytearray
    json_bytes: int | None = None
    media_type: bytes = b""
    """Content-Type of a request."""


class Codec(Protocol[BodyIn_contra, BodyOut_co]):
    """One protocol's form of requests and responses."""

    def decode(self, body: BodyIn_contra, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""

    def encode(self, request: Request, response: Response, model: ModelInfo) -> BodyOut_co:
        """Write the response to `request`."""


def read_object(body: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Parse a JSON object.

    NaN and Infinity are no JSON, but Python's own `json.dumps` writes them: such a body is read
    leniently once, so that the refusal can name the feature instead of a column of the text.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = bytes(body)
        if b"NaN" not in text and b"Infinity" not in text:
            raise _malformed(f"the body is not JSON ({error})") from error
        try:
            value = json.loads(text)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair, which no answer could repeat
        except (ValueError, RecursionError) as lenient:
            raise _malformed(f"the body is not JSON ({error})") from lenient
    if not isinstance(value, dict):
        raise _malformed(f"the body is a JSON {json_type(value)}")
    return value


def write(value: object) -> bytes:
    """Write JSON; numpy arrays and scalars included."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_default)


def json_type(value: object) -> str:
    """What JSON calls the type of a parsed value."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def shown(value: object, length: int = 40) -> str:
    """A caller's value in a message: short and made in short time, however long or deep the value is."""
    return (value if isinstance(value, str) else _SHORT.repr(value))[:length]


def _default(value: Any) -> Any:
    """Arrays that orjson does not take itself: of objects, of float16, or not contiguous."""
    return value.tolist()


def _malformed(value: str) -> MalformedBody:
    return MalformedBody(value, "a request is a JSON object", "see /docs for an example of each protocol")
