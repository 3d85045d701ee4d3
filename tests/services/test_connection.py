"""One connection without a socket, by a clock that stands in for the event loop: when it ends, and what with it."""

import heapq
from itertools import count

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.inference.adapters.http.connection import MOST_HEAD_BYTES, Connection
from services.inference.adapters.http.direct import direct_protocol
from services.inference.adapters.http.exchange import Endpoint

PATIENCE = 5


class Timer:
    def __init__(self, act):
        self.act = act

    def cancel(self):
        self.act = None


class Clock:
    """The parts of an event loop that a connection uses."""

    def __init__(self):
        self.now = 0.0
        self.timers = []
        self.made = count()

    def time(self):
        return self.now

    def call_later(self, seconds, act):
        timer = Timer(act)
        heapq.heappush(self.timers, (self.now + seconds, next(self.made), timer))
        return timer

    def pass_until(self, now):
        while self.timers and self.timers[0][0] <= now:
            self.now, _, timer = heapq.heappop(self.timers)
            if timer.act is not None:
                timer.act()
        self.now = now


async def application(scope, receive, send):
    raise NotImplementedError


class Transport:
    closed = False
    reading = True
    written = b""

    def get_extra_info(self, name):
        del name

    def pause_reading(self):
        self.reading = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def transport():
    return Transport()


def connected(protocol, clock, transport):
    config = uvicorn.Config(application, timeout_keep_alive=PATIENCE, log_config=None, ws="none")
    config.load()
    made = protocol(config=config, server_state=ServerState(), app_state={}, _loop=clock)
    made.connection_made(transport)
    return made


@pytest.fixture
def connection(clock, transport):
    return connected(Connection, clock, transport)


def test_an_idle_connection_is_closed_so_long_after_its_last_answer(connection, clock, transport):
    connection.on_response_complete()
    clock.pass_until(3)
    connection.data_received(b"POST /predict HTTP/1.1\r\n")
    connection.on_response_complete()
    clock.pass_until(3 + PATIENCE - 0.1)
    assert not transport.closed
    clock.pass_until(3 + PATIENCE)
    assert transport.closed


def test_a_connection_that_waits_for_its_answer_is_left_open(clock, transport):
    service = Unanswered()
    connection = connected(direct_protocol(service, service), clock, transport)
    clock.pass_until(3)
    connection.data_received(b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
    clock.pass_until(10 * PATIENCE)
    assert not transport.closed
    connection.on_response_complete()
    clock.pass_until(11 * PATIENCE)
    assert transport.closed


def test_a_busy_connection_has_one_timer_however_many_requests_it_brings(connection, clock):
    connection.data_received(b"POST /predict HTTP/1.1\r\nfolded: ")
    for _ in range(100):
        connection.on_response_complete()
        connection.data_received(b"on ")
    assert len(clock.timers) == 1


@pytest.mark.parametrize("line", [b"POST /", b"POST /predict HTTP/1.1\r\nx-long: "], ids=["line", "header"])
def test_a_head_that_does_not_end_is_refused_and_not_collected(connection, transport, line):
    connection.data_received(line)
    for _ in range(MOST_HEAD_BYTES // 1024 - 1):
        connection.data_received(b"x" * 1024)
    assert not transport.closed
    connection.data_received(b"x" * 1024)
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"at most 65536 bytes" in transport.written
    assert transport.closed


def test_heads_in_parts_are_counted_one_by_one(clock, transport):
    service = Unanswered()
    connection = connected(direct_protocol(service, service), clock, transport)
    part = b"x" * (MOST_HEAD_BYTES - 100)
    for _ in range(3):
        connection.data_received(b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\nx-long: ")
        connection.data_received(part)
        connection.data_received(b"\r\n\r\n{}")
        connection.cycle.response_complete = True
    assert not transport.closed
    assert transport.written == b""


def test_what_was_asked_before_an_endless_head_is_still_answered(clock, transport):
    service = Unanswered()
    connection = connected(direct_protocol(service, service), clock, transport)
    connection.data_received(b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}GET /")
    connection.data_received(b"x" * MOST_HEAD_BYTES)
    assert (transport.written, transport.closed, transport.reading) == (b"", False, False)
    assert not connection.cycle.keep_alive, "its answer ends the connection"


@pytest.mark.parametrize("asked", [b"", b"POST /predict HTTP/1.1\r\nx-slow: "], ids=["nothing", "half a head"])
def test_a_caller_that_does_not_ask_is_not_waited_for_for_ever(connection, clock, transport, asked):
    if asked:
        connection.data_received(asked)
    for now in range(1, PATIENCE):
        clock.pass_until(now)
        if asked:
            connection.data_received(b"x")
    assert not transport.closed
    clock.pass_until(PATIENCE)
    assert transport.closed


def test_every_head_has_its_own_time(clock, transport):
    service = Unanswered()
    connection = connected(direct_protocol(service, service), clock, transport)
    for asked in range(3):
        clock.pass_until(asked * (PATIENCE - 1))
        connection.data_received(b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n")
        clock.pass_until((asked + 1) * (PATIENCE - 1))
        assert not transport.closed
        connection.data_received(b"\r\n{}")
        connection.cycle.response_complete = True
        connection.on_response_complete()


class Unanswered:
    """An exchange that takes a prediction and never answers, and the accounts of it."""

    max_body_bytes = 1024
    release = "v1"

    def __init__(self):
        self.happened = []

    def endpoint(self, protocol):
        return Endpoint(protocol, None)

    def start(self, *_):
        return lambda: self.happened.append("cancelled")

    def begin(self, *_):
        return "visit"

    def end(self, visit, status, _):
        self.happened.append((visit, status))


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n\r\n"], ids=["alone", "another asked behind it"])
def test_a_prediction_ends_with_the_connection_of_its_caller(clock, transport, behind):
    service = Unanswered()
    connection = connected(direct_protocol(service, service), clock, transport)
    connection.data_received(b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}" + behind)
    assert service.happened == []
    connection.connection_lost(ConnectionResetError())
    assert service.happened == ["cancelled", ("visit", 499)]
