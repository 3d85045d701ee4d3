from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading

import pytest

from bench.openloop import Spec, as_json, client, percentile, told

needs_go = pytest.mark.slow
"""The client is built from Go, which `make check` does without."""


class Answering:
    """An HTTP server that answers every third request with 429 and, told so, stalls once."""

    def __init__(self, stall: float = 0.0):
        self.stall = stall
        self.seen = 0
        self.under_way = threading.Event()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        started.wait()

    def _run(self, started):
        async def serve():
            self._end = asyncio.Event()
            async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
                self.port = server.sockets[0].getsockname()[1]
                started.set()
                await self._end.wait()

        self._loop.run_until_complete(serve())

    async def _answer(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.seen += 1
                if self.seen == 50:
                    self.under_way.set()
                if self.stall and self.seen == 50:
                    threading.Event().wait(self.stall)  # the whole server, as a pause of its collector would
                status = b"429 Too Many Requests" if self.seen % 3 == 0 else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def ask(tmp_path):
    request = tmp_path / "request"
    request.write_bytes(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
    servers = []

    def run(rate=300.0, seed=1, by=told, **options):
        server = Answering(**options)
        servers.append(server)
        spec = tmp_path / "spec.json"
        spec.write_text(
            as_json(Spec(port=server.port, request=str(request), rate=rate, seconds=1.0, warm_up=0.1, seed=seed))
        )
        return by([str(client()), str(spec)], timeout=30)

    run.servers = servers

    yield run
    for server in servers:
        server.close()


@needs_go
def test_answers_are_told_by_status_and_none_is_lost(ask):
    found = ask()
    counts = {status: each["count"] for status, each in found["statuses"].items()}
    assert found["unanswered"] == 0
    assert set(counts) == {"200", "429"}
    assert counts["200"] == pytest.approx(2 * counts["429"], rel=0.2)


@needs_go
def test_a_server_that_stalls_pays_for_all_who_would_have_come_meanwhile(ask):
    found = ask(stall=0.4)
    assert found["statuses"]["200"]["max_ms"] >= 390
    assert found["statuses"]["200"]["p99_ms"] > 250, "a closed loop would have seen one slow answer of hundreds"


@needs_go
def test_a_client_that_was_not_running_neither_blames_the_server_nor_drops_a_request(ask):
    def stopped_on_its_way(command, timeout):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert ask.servers[-1].under_way.wait(timeout)
        os.kill(process.pid, signal.SIGSTOP)
        threading.Event().wait(0.4)  # what is tested, not a wait for something
        os.kill(process.pid, signal.SIGCONT)
        return json.loads(process.communicate(timeout=timeout)[0])

    undisturbed, found = ask(), ask(by=stopped_on_its_way)
    assert found["away_ms"] >= 390
    assert found["seconds"] == pytest.approx(1 + found["away_ms"] / 1e3)
    assert found["statuses"]["200"]["max_ms"] < 300
    answered = [sum(each["count"] for each in told["statuses"].values()) for told in (undisturbed, found)]
    assert answered[0] == answered[1]


@needs_go
def test_arrivals_are_the_same_for_every_server_and_as_many_as_the_rate_says(ask):
    def arrivals(seed):
        return sum(each["count"] for each in ask(rate=1000.0, seed=seed)["statuses"].values())

    first = arrivals(seed=1)
    assert first == arrivals(seed=1)
    assert first != arrivals(seed=2)
    assert first == pytest.approx(1000, rel=0.1)


def test_percentiles_are_values_that_were_seen():
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile(list(map(float, range(1, 101))), 99) == 99.0
    assert percentile([1.0], 99) == 1.0
