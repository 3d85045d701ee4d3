"""Stream workers against a real broker: answers, dead letters, commits, and what happens when things end."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from services.contract import DeadLetter, Env, Metric, Route

pytestmark = pytest.mark.slow


def values(messages):
    return [json.loads(message.value()) for message in messages]


def headers(message):
    return {name: content.decode() for name, content in message.headers() or []}


def test_an_answer_carries_its_input_and_who_answered(stream):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = [("traceparent", trace.encode()), ("x-request-id", b"r-1"), ("other", b"stays behind")]
    stream.send([("k", b'{"x": 3, "note": "kept as it is"}', sent)])
    stream.worker()
    [message] = stream.answers(1)
    answer = json.loads(message.value())
    when = datetime.fromisoformat(answer.pop("timestamp"))
    assert answer == {
        "input": {"x": 3, "note": "kept as it is"},
        "prediction": 6.0,
        "probability": None,
        "model_version": "7",
    }
    assert (datetime.now(UTC) - when).total_seconds() < 60
    assert message.key() == b"k"
    assert headers(message) == {"traceparent": trace, "x-request-id": "r-1"}, "trace and request id go on, no other"


def test_what_cannot_be_scored_becomes_a_dead_letter_and_stops_nothing(stream):
    bad = {
        b"not json": "MalformedBody",
        b"[1]": "MalformedBody",
        b'{"y": 1}': "MissingFeature",
        b'{"x": "three"}': "InvalidValue",
        b'{"x": NaN}': "InvalidValue",
        b'{"x": 13}': "PredictionFailed",
        b"\xff\xfe": "MalformedBody",
        None: "Tombstone",
    }
    good = [b'{"x": %d}' % number for number in range(13)]
    stream.send([("k", value) for pair in zip(good, bad, strict=False) for value in pair] + good[len(bad) :])
    stream.worker()
    assert sorted(answer["input"]["x"] for answer in values(stream.answers(13))) == list(range(13))
    letters = stream.dead_letters(len(bad))
    found = {letter.value(): headers(letter) for letter in letters}
    # NaN is no JSON, and no number either: which of the two is said is the reader's choice.
    expected = {value: error for value, error in bad.items() if value != b'{"x": NaN}'}
    assert {value: found[value][DeadLetter.ERROR] for value in expected} == expected
    unlucky = found[b'{"x": 13}']
    assert unlucky[DeadLetter.TOPIC] == stream.input
    assert "thirteen is unlucky" in unlucky[DeadLetter.MESSAGE]
    assert unlucky[DeadLetter.MODEL_VERSION] == "7"
    places = {(headers(each)[DeadLetter.PARTITION], headers(each)[DeadLetter.OFFSET]) for each in letters}
    assert len(places) == len(bad), "each says where it came from"
    assert {letter.key() for letter in letters} == {b"k"}


def test_an_answer_that_its_topic_would_not_take_becomes_a_dead_letter(cluster, stream):
    names = cluster.names()
    cluster.create(names[0])
    cluster.create(names[1], **{"max.message.bytes": "20000"})
    cluster.create(names[2])
    stream.input, stream.output, stream.dead = names
    big = b'{"x": 1, "pad": "%s"}' % (b"p" * 30_000)
    stream.send([big, b'{"x": 2}'])
    stream.worker()
    assert [answer["prediction"] for answer in values(stream.answers(1))] == [4.0]
    [letter] = stream.dead_letters(1)
    assert letter.value() == big, "the original bytes are kept"
    assert headers(letter)[DeadLetter.ERROR] == "OutputTooLarge"


def test_a_dead_letter_that_its_topic_would_not_take_says_so_without_the_bytes(cluster, stream):
    names = cluster.names()
    cluster.create(names[0])
    cluster.create(names[1])
    cluster.create(names[2], **{"max.message.bytes": "5000"})
    stream.input, stream.output, stream.dead = names
    stream.send([b"no json " * 1000, b'{"x": 2}'])
    stream.worker()
    [letter] = stream.dead_letters(1)
    assert letter.value() is None
    assert "its bytes are left out" in headers(letter)[DeadLetter.MESSAGE]
    assert len(stream.answers(1)) == 1


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_a_worker_that_is_told_to_stop_commits_what_it_began_and_its_successor_goes_on(stream, guarantee):
    settings = {Env.STREAM_GUARANTEE: guarantee, Env.STREAM_COMMIT_MS: 30_000}
    stream.send([(str(n), b'{"x": %d}' % n) for n in range(100, 200)])
    worker = stream.worker(settings)
    worker.until(lambda: _metric(worker, Metric.PREDICTED_ROWS) == 100 or None, "nothing is predicted")
    assert worker.stop() == 0
    assert worker.said("drained")
    assert len(stream.answers(100)) == 100, "it did not wait for the commit that was due in 30 s"
    assert stream.cluster.lag(stream.group, stream.input) == 0
    stream.send([("1", b'{"x": 500}')])
    stream.worker()
    assert 1000.0 in [answer["prediction"] for answer in values(stream.answers(101))]
    assert len(stream.answers()) == 101, "nothing is answered twice"


def test_a_worker_that_is_killed_in_a_transaction_has_answered_nothing_and_its_successor_all(stream):
    stream.send([(str(n), b'{"x": %d}' % n) for n in range(100, 200)])
    worker = stream.worker({Env.STREAM_COMMIT_MS: 30_000})
    worker.until(lambda: _metric(worker, Metric.PREDICTED_ROWS) == 100 or None, "nothing is predicted")
    worker.kill()
    assert stream.answers(0) == []
    stream.worker()
    found = sorted(answer["input"]["x"] for answer in values(stream.answers(100)))
    assert found == list(range(100, 200)), "each once"


def test_two_workers_share_the_partitions_and_keep_the_order_of_each_key(stream):
    stream.send([(f"k{n % 20}", b'{"x": 1, "n": %d}' % n) for n in range(2000)])
    first = stream.worker({Env.STREAM_BATCH_ROWS: 16}).ready()
    second = stream.worker({Env.STREAM_WORKER: "w1"}).ready()
    stream.send([(f"k{n % 20}", b'{"x": 1, "n": %d}' % n) for n in range(2000, 4000)])
    stream.answers(4000)
    orders = {}
    for message in stream.answers():
        orders.setdefault(message.key(), []).append(json.loads(message.value())["input"]["n"])
    assert sum(map(len, orders.values())) == 4000, "nothing is answered twice, though partitions moved"
    assert all(order == sorted(order) for order in orders.values())
    assert first.stop() == second.stop() == 0


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_partitions_that_move_take_along_what_was_done_of_them(stream, guarantee):
    settings = {Env.STREAM_GUARANTEE: guarantee, Env.STREAM_COMMIT_MS: 30_000}
    stream.send([(str(n), b'{"x": 1}') for n in range(200)])
    first = stream.worker(settings)
    first.until(lambda: _metric(first, Metric.PREDICTED_ROWS) == 200 or None, "nothing is predicted")
    second = stream.worker({**settings, Env.STREAM_WORKER: "w1"})
    second.until(lambda: first.said("partitions given up"), "no partition is given up")
    assert stream.cluster.lag(stream.group, stream.input) == 0, "committed before they went, and not after 30 s"
    assert len(stream.answers()) == 200


def test_the_order_of_keys_is_kept_where_the_topics_have_different_partitions(cluster, stream):
    stream.output = cluster.create(f"{stream.output}-narrow", 3)
    stream.send([(f"k{n % 20}", b'{"x": 1, "n": %d}' % n) for n in range(1000)])
    stream.worker()
    stream.answers(1000)
    places = {}
    orders = {}
    for message in stream.answers():
        places.setdefault(message.key(), set()).add(message.partition())
        orders.setdefault(message.key(), []).append(json.loads(message.value())["input"]["n"])
    assert all(len(place) == 1 for place in places.values()), "a key has one partition"
    assert all(order == sorted(order) for order in orders.values())


def test_a_slow_model_gets_smaller_batches_and_stays_in_its_group(stream):
    stream.send([b'{"x": %d}' % n for n in range(1000, 1100)])
    worker = stream.worker({"properties": {"max.poll.interval.ms": 3000, "session.timeout.ms": 3000}})
    stream.answers(100)
    assert not worker.said("partitions lost"), "100 rows at 50 ms would take 5 s at once"


def test_the_broker_may_go_away_and_come_back(stream):
    worker = stream.worker().ready()
    stream.send([("a", b'{"x": 1}')])
    stream.answers(1)
    stream.cluster.broker.kill()
    stream.cluster.broker.start()
    stream.send([("a", b'{"x": 2}')])
    assert [answer["prediction"] for answer in values(stream.answers(2))] == [2.0, 4.0]
    assert worker.stop() == 0


def test_probes_and_metrics_tell_of_the_worker(stream):
    stream.send([("k", b'{"x": 1}'), ("k", b"no json")])
    worker = stream.worker().ready()
    stream.dead_letters(1)
    assert httpx.get(worker.url + Route.LIVE).status_code == 200
    assert httpx.get(worker.url + Route.READY).status_code == 200
    worker.until(lambda: _metric(worker, Metric.STREAM_COMMITS, result="committed"), "no commit is counted")
    assert _metric(worker, Metric.STREAM_MESSAGES, result="predicted") == 1
    assert _metric(worker, Metric.STREAM_MESSAGES, result="dead") == 1
    assert _metric(worker, Metric.STREAM_DEAD_LETTERS, error="MalformedBody") == 1
    text = httpx.get(worker.url + Route.METRICS).text
    for metric in Metric:
        if metric.startswith("slipway_stream"):
            assert metric in text, f"{metric} is documented, and there"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({Env.STREAM_INPUT: "nowhere"}, "topic 'nowhere': not there"),
        ({Env.STREAM_BROKERS: "127.0.0.1:1"}, "brokers 127.0.0.1:1"),
        ({Env.STREAM_BROKERS: None}, Env.STREAM_BROKERS),
        ({Env.STREAM_OUTPUT: "t", Env.STREAM_DEAD_LETTER: "t"}, "two are the same"),
        ({"properties": {"isolation.level": "read_uncommitted"}}, "isolation.level → the worker sets it itself"),
        ({Env.MODEL_DIGEST: "sha256:" + "0" * 64}, "digest"),
    ],
)
def test_what_cannot_work_ends_the_process_with_one_line(stream, setting, said):
    worker = stream.worker(setting)
    assert worker.wait() == 1
    told = [line for line in worker.stderr.read_text().splitlines() if not line.startswith("%")]  # librdkafka's own
    assert len(told) == 1, told
    assert said in told[0]


def _metric(worker, name, **labels):
    try:
        text = httpx.get(worker.url + Route.METRICS, timeout=5).text
    except httpx.TransportError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return None
