"""HTTP/1.1 as connections bring it: pipelined, in pieces, half sent, malformed; by raw sockets."""

import json
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.contract import Metric
from tests.services.registry.wire import SECONDS, Wire, chunked, request

MODEL = "breast-cancer"


@pytest.fixture
def wire(service):
    with Wire(service.url) as wire:
        yield wire


@pytest.fixture(scope="module")
def body(golden):
    return json.dumps({"features": golden[0]["features"]}).encode()


@pytest.fixture
def right(golden):
    """Whether an answer is the golden row's."""

    def check(answer):
        assert answer.status == 200, answer
        assert answer.json["probability"] == pytest.approx(golden[0]["probability"], abs=1e-6)

    return check


def test_pipelined_requests_are_answered_in_their_order(wire, body, right):
    health = request("/health", method="GET", x_request_id="health")
    pairs = [(request("/predict", body, x_request_id=f"p{at}"), health) for at in range(20)]
    wire.send(b"".join(part for pair in pairs for part in pair))
    for at in range(20):
        prediction = wire.answer()
        assert prediction.headers["x-request-id"] == f"p{at}"
        right(prediction)
        assert wire.answer().headers["x-request-id"] == "health"


def test_a_request_may_come_in_any_pieces(wire, body, right):
    whole = request("/predict", body)
    wire.send(*(whole[at : at + 1] for at in range(len(whole))))
    right(wire.answer())
    for cut in range(1, 120, 7):
        wire.send(whole[:cut], whole[cut:] + whole[:cut], whole[cut:])
        right(wire.answer())
        right(wire.answer())


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("path", ["/predict", "/predict?through=fastapi"])
def test_a_chunked_body_is_read_to_its_end_and_no_further(wire, body, right, size, path):
    head = request(path, transfer_encoding="chunked")
    wire.send(head + chunked(body, size, b";name=value") + request("/predict", body))
    right(wire.answer())
    right(wire.answer())


@pytest.mark.parametrize("path", ["/predict", f"/v2/models/{MODEL}/infer"])
def test_a_caller_that_waits_for_100_gets_it_and_then_its_answer(wire, body, path):
    wire.send(request(path, content_length=len(body), expect="100-continue"))
    assert wire.answer().status == 100
    wire.send(body)
    assert wire.answer().status == (200 if path == "/predict" else 400)


def test_a_caller_that_waits_for_100_is_told_at_once_that_its_body_is_too_large(wire):
    wire.send(request("/predict", content_length=300_000, expect="100-continue"))
    answer = wire.answer()
    assert (answer.status, answer.json["error"]) == (413, "request_too_large")
    # What comes next may be the body or another request; only a new connection is sure.
    assert answer.closes
    assert wire.is_closed()


@pytest.mark.parametrize("more", [{}, {"connection": "keep-alive"}])
def test_http_1_0_is_answered_and_its_connection_closed(wire, body, right, more):
    wire.send(request("/predict", body, version="1.0", **more))
    answer = wire.answer()
    right(answer)
    assert answer.closes
    assert wire.is_closed()


def test_connection_close_is_obeyed_and_what_follows_it_ignored(wire, body, right):
    wire.send(request("/predict", body, connection="close") + request("/predict", body))
    answer = wire.answer()
    right(answer)
    assert answer.closes
    assert wire.is_closed()


def test_header_names_are_of_any_case(wire, golden, body, right):
    wire.send(
        b"POST /predict HTTP/1.1\r\nhOsT: x\r\nX-REQUEST-id: mixed\r\nCONTENT-lengTH: %d\r\n\r\n" % len(body) + body
    )
    answer = wire.answer()
    right(answer)
    assert answer.headers["x-request-id"] == "mixed"


OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"}


@pytest.mark.parametrize("path", ["/predict", "/predict?through=fastapi"])
def test_an_offer_of_http_2_as_java_makes_it_is_ignored(wire, body, right, path):
    wire.send(request(path, body, **OFFER))
    right(wire.answer())
    wire.send(request(path, transfer_encoding="chunked", **OFFER), chunked(body, 50))
    right(wire.answer())
    pipelined = request("/health", method="GET", **OFFER) + request(path, body, **OFFER)
    wire.send(request(path, body) + pipelined + request(path, body))
    for expected in (right, lambda answer: answer.json["status"] == "ready", right, right):
        expected(wire.answer())


def test_a_request_is_answered_although_nonsense_follows_it(wire, body, right):
    wire.send(request("/predict", body) + b"nonsense\r\n\r\n")
    answer = wire.answer()
    right(answer)
    assert answer.closes
    assert wire.is_closed()


@pytest.mark.parametrize(
    "malformed",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /predict\xff HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        # A proxy in front could take either for the body's length, and the rest for the next caller's request.
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, identity\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\nna me: x\r\ncontent-length: 2\r\n\r\n{}",
        b"CONNECT test:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=[
        "no HTTP",
        "TLS",
        "path",
        "negative",
        "two lengths",
        "length and chunks",
        "coding",
        "chunk",
        "name",
        "CONNECT",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(wire, service, body, right, malformed):
    wire.send(malformed)
    answer = wire.answer()
    assert (answer.status, answer.closes) == (400, True), answer
    assert wire.is_closed()
    with Wire(service.url) as another:
        another.send(request("/predict", body))
        right(another.answer())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict", 400),
        ("POST", "/invocations", 400),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/predict", 405),
        ("HEAD", "/predict", 405),
        ("POST", "/nowhere", 404),
        ("POST", "/v2/repository/index", 403),
        ("OPTIONS", "*", 404),
    ],
)
def test_a_refused_request_leaves_its_connection_open(wire, body, right, method, path, status):
    wire.send(request(path, b"{", method=method))
    answer = wire.answer(bodiless=method == "HEAD")
    assert (answer.status, answer.closes) == (status, False), answer
    wire.send(request("/predict", body))
    right(wire.answer())


def account(service):
    """Requests abandoned, failed, and under way; the scrape is left out."""
    families = list(text_string_to_metric_families(httpx.get(f"{service.url}/metrics").text))
    samples = [sample for family in families for sample in family.samples]
    counted = {code: sum(s.value for s in samples if s.labels.get("code") == code) for code in ("499", "500")}
    return counted["499"], counted["500"], sum(s.value for s in samples if s.name == Metric.IN_FLIGHT) - 1


def becomes(service, expected):
    deadline = time.monotonic() + SECONDS
    while (found := account(service)) != expected:  # each look is a request; nothing tells of it earlier
        assert time.monotonic() < deadline, f"abandoned, failed, under way: {found}, not {expected}"


@pytest.mark.parametrize("path", ["/predict", "/predict?through=fastapi"])
@pytest.mark.parametrize("sent", [0, 100])
def test_a_caller_that_goes_in_the_middle_of_its_body_is_forgotten(service, body, right, path, sent):
    gone, failed, _ = account(service)
    wires = [Wire(service.url) for _ in range(5)]
    for wire in wires:
        wire.send(request(path, body[:sent], content_length=len(body)))
    becomes(service, (gone, failed, 5))
    for wire in wires:
        wire.abort()
    becomes(service, (gone + 5, failed, 0))
    with Wire(service.url) as wire:
        wire.send(request("/predict", body))
        right(wire.answer())


def test_a_body_that_does_not_end_is_not_read_for_ever(wire):
    wire.send(request("/predict", transfer_encoding="chunked"))
    chunk = b"10000\r\n" + b"1" * 0x10000 + b"\r\n"
    with pytest.raises(ConnectionError):
        wire.send(*[chunk] * 10_000)
