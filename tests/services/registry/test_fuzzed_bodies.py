"""Bodies that no caller means to send, through sockets, to every path that predicts."""

import gzip
import json
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.services.registry.wire import Wire, chunked, request

pytestmark = pytest.mark.slow

MODEL = "breast-cancer"
HEADER = "inference-header-content-length"
JSON, CSV = "application/json", "text/csv"

FUZZED = settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)

REFUSALS = {400, 404, 413}
"""What a bad request may get; /predict has 422 besides."""

DEPTHS = (70, 990, 1023, 5000)
NESTED = ["[" * depth + "]" * depth for depth in DEPTHS] + ['{"a":' * depth + "1" + "}" * depth for depth in DEPTHS]
VALUES = [
    "null", "true", '""', '"text"', "[]", "{}", "[[]]", "[{}]", "[[1,2],[3]]", "[null]", "0", "-0", "1.5", "-1",
    "1e999", "-1e999",
    "1e-999", "NaN", "-Infinity", "9" * 19, "9" * 25, "9" * 400, "9" * 5000, "2147483648", "18446744073709551616",
    r'"\u0000"', r'"\ud800"', r'[NaN, "\ud800"]', '"' + "x" * 5000 + '"', "[1,]", "'", "\x00", "\ufeff{}", *NESTED,
    "[" + "1," * 100 + "1]", str([2**62] * 20),
]  # fmt: skip
"""JSON of what parsers, arithmetic and messages have failed on, and what is no JSON."""


def golden_bodies(row):
    """Path → a body that is answered 200."""
    values = list(row.values())
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP64", "data": values}
    v2 = {"id": "1", "inputs": [tensor], "outputs": [{"name": "probability"}], "parameters": {"own": 1}}
    binary = {**tensor, "parameters": {"binary_data_size": 8 * len(values)}}
    binary.pop("data")
    return {
        "/predict": [{"features": row, "request_id": "1"}, {"features": [row]}],
        f"/v1/models/{MODEL}:predict": [{"instances": [row]}, {"instances": [values]}],
        f"/v2/models/{MODEL}/infer": [v2, {"inputs": [binary]}],
        f"/v2/models/{MODEL}/versions/1/infer": [v2],
        "/invocations": [
            {"dataframe_split": {"columns": list(row), "data": [values]}, "params": {"own": 1}},
            {"dataframe_records": [row]},
            {"inputs": {name: [value] for name, value in row.items()}},
        ],
    }


PATHS = list(golden_bodies({"x": 1}))


@pytest.fixture(scope="module")
def row(golden):
    return golden[0]["features"]


class Caller:
    """Sends all its requests on one connection: that nothing of one is left to the next is part of every test."""

    def __init__(self, wire, golden):
        self._wire = wire
        self._golden = golden
        self._body = request("/predict", json.dumps({"features": golden["features"]}).encode())

    def ask(self, raw):
        self._wire.send(raw)
        return self._wire.answer()

    def still_answers(self):
        answer = self.ask(self._body)
        assert answer.status == 200, answer
        assert answer.json["probability"] == pytest.approx(self._golden["probability"], abs=1e-6)


@pytest.fixture(scope="module")
def caller(service, golden):
    with Wire(service.url) as wire:
        yield Caller(wire, golden[0])


def check(answer, path):
    """An answer, or a refusal in the form of the path's protocol, that says nothing of how it came about."""
    if answer.status == 200:
        return
    assert answer.status in REFUSALS | ({422} if path == "/predict" else set()), answer
    assert not answer.closes, f"the request was read whole, so that the next may follow: {answer}"
    assert answer.headers["content-type"] == JSON
    told = answer.json
    if path.startswith("/v"):
        assert set(told) == {"error"}
        message = told["error"]
    elif path == "/invocations":
        assert set(told) == {"error_code", "message"}
        message = told["message"]
    else:
        assert set(told) == {"error", "message", "field", "request_id"}
        message = told["message"]
    assert " → " in message, message
    assert len(message) < 1000, "a message is no echo of the body"
    assert not any(word in answer.body for word in (b"Traceback", b'.py"', b"site-packages"))


def places(value, found=()):
    """Paths to every value of a JSON document, itself included."""
    yield found
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        yield from places(member, (*found, key))


def replaced(value, place, by):
    if not place:
        return by
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy


MARK = "@@"


@st.composite
def broken(draw, body):
    """JSON of a good body with one or two values that are not."""
    text = MARK
    for _ in range(draw(st.integers(1, 2))):
        # By depth first: or most of what is drawn would be one of thirty numbers.
        depth = draw(st.integers(0, 4))
        chosen = [place for place in places(body) if len(place) <= depth]
        body = replaced(body, draw(st.sampled_from(chosen[-40:])), MARK)
    text = json.dumps(body)
    while f'"{MARK}"' in text:
        text = text.replace(f'"{MARK}"', draw(st.sampled_from(VALUES)), 1)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, content):
    """Bytes of which some are cut off, doubled or different."""
    at, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    return draw(st.sampled_from([content[:at], content[at:], content[:at] + content[end:], content + content[at:end],
                                 content[:at] + draw(st.binary(max_size=20)) + content[end:]]))  # fmt: skip


@st.composite
def encoded(draw, content):
    """Content and its Content-Encoding, which may not be what it is."""
    name = draw(st.sampled_from([None, None, "gzip", "deflate", "identity", "br", "gzip, gzip", "", "GZIP"]))
    headers = {} if name is None else {"content-encoding": name}
    form = draw(st.sampled_from(["as it is", "gzip", "deflate", "raw", "damaged"]))
    if form != "as it is":
        made = {"deflate": zlib.compress, "raw": lambda data: zlib.compress(data)[2:-4]}.get(form, gzip.compress)(
            content
        )
        content = draw(damaged(made)) if form == "damaged" else made
    return content, headers


@pytest.mark.parametrize("path", PATHS)
def test_a_body_with_wrong_values_is_answered_or_refused(caller, row, path):
    bodies = golden_bodies(row)[path]

    @FUZZED
    @given(st.sampled_from(bodies).flatmap(broken))
    def fuzz(body):
        check(caller.ask(request(path, body, content_type=JSON)), path)

    fuzz()
    caller.still_answers()


@pytest.mark.parametrize("path", PATHS)
def test_every_value_in_every_place_of_the_form_is_answered_or_refused(caller, row, path):
    """Without luck: each of the values in each place that is no single feature."""
    for body in golden_bodies(row)[path]:
        seen = set()
        for place in places(body):
            kind = (len(place), *(key for key in place if key not in row and not isinstance(key, int)))
            if kind in seen:
                continue
            seen.add(kind)
            text = json.dumps(replaced(body, place, MARK))
            for value in VALUES:
                raw = text.replace(f'"{MARK}"', value).encode()
                check(caller.ask(request(path, raw, content_type=JSON)), path)
                check(caller.ask(request(path, raw, **{HEADER: len(raw)})), path)
    caller.still_answers()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("media_type", [JSON, CSV, "application/octet-stream", "text/plain; charset=utf-16", "x"])
def test_bytes_of_any_kind_are_answered_or_refused(caller, row, path, media_type):
    good = json.dumps(golden_bodies(row)[path][0]).encode()
    if media_type == CSV:
        good = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n".encode()

    @FUZZED
    @given(
        st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode), damaged(good)).flatmap(encoded),
        st.sampled_from([None, "gzip", "gzip;q=0", "*", "x,,;"]),
        st.booleans(),
    )
    def fuzz(content, accepted, in_chunks):
        body, headers = content
        headers = {**headers, "content-type": media_type} | ({"accept-encoding": accepted} if accepted else {})
        if in_chunks:
            raw = request(path, **headers, transfer_encoding="chunked") + chunked(body, 64)
        else:
            raw = request(path, body, **headers)
        check(caller.ask(raw), path)

    fuzz()
    caller.still_answers()


@pytest.mark.parametrize("path", [path for path in PATHS if path.startswith("/v2")])
def test_binary_tensors_of_any_length_are_answered_or_refused(caller, row, path):
    values = struct.pack(f"<{len(row)}d", *row.values())
    datatypes = ["FP64", "FP32", "FP16", "INT64", "UINT8", "BOOL", "BYTES"]

    @st.composite
    def message(draw):
        size = draw(st.sampled_from([len(values), 0, 1, -1, 2**70, None, "8", 8.5, True]))
        shape = draw(st.sampled_from([[1, 30], [2, 15], [30], [1, 60], [2**62, 2**62], [1] * 70, [0], [1, 30, 1]]))
        tensor = {"name": "x", "shape": shape, "datatype": draw(st.sampled_from(datatypes))}
        tensor["parameters"] = {"binary_data_size": size}
        parameters = draw(
            st.sampled_from([{}, {"binary_data_output": True}, {"binary_data_output": "no"}, {"timeout": 1}])
        )
        head = json.dumps({"inputs": [tensor] * draw(st.integers(1, 2)), "parameters": parameters}).encode()
        content = head + draw(st.sampled_from([values, values[:-1], b"", values * 2, b"\xff" * 240]))
        length = draw(
            st.sampled_from([len(head), len(content), 0, 1, len(head) - 1, 10**30, "9" * 6000, -1, "", "1e3", "²"])
        )
        return content, length

    @FUZZED
    @given(message())
    def fuzz(drawn):
        content, length = drawn
        raw = request(path, content, **{HEADER: length})
        answer = caller.ask(raw)
        if answer.status != 504:  # of a microsecond's patience
            check(answer, path)

    fuzz()
    caller.still_answers()


@pytest.mark.parametrize("path", PATHS)
def test_a_body_beyond_the_limit_is_refused_however_it_comes(caller, path):
    large = b"1" * 200_001
    bomb = gzip.compress(b"1" * 50_000_000)
    for raw in (
        request(path, large),
        request(f"{path}?", large),
        request(path, bomb, content_encoding="gzip"),
        request(path, transfer_encoding="chunked") + chunked(large, 1000),
    ):
        answer = caller.ask(raw)
        assert answer.status == 413, answer
        check(answer, path)
    caller.still_answers()


def test_an_encoding_that_the_caller_refuses_is_not_used(caller, row):
    body = json.dumps({"features": [row] * 150}).encode()
    for accepted, encoding in {
        "gzip": "gzip",
        "deflate, gzip;q=0": "deflate",
        "gzip;q=0": None,
        "gzip; Q=0.5": "gzip",
    }.items():
        answer = caller.ask(request("/predict", body, accept_encoding=accepted))
        assert answer.headers.get("content-encoding") == encoding, accepted
