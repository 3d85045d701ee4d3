"""What becomes of a micro-batch, without a broker."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from services.contract import DeadLetter
from services.inference.adapters.stream import output
from services.inference.adapters.stream.letters import Letters, Topic
from services.inference.adapters.stream.output import OTHER_TOPICS, AtLeastOnce, Record, StreamFailed
from services.inference.adapters.stream.pace import FIRST_ROWS, Pace
from services.inference.adapters.stream.scoring import Refusal, Scorer
from services.inference.adapters.stream.topics import keeping
from services.inference.core.schema import Feature, ModelInfo, ModelMetadata, Schema

SCHEMA = Schema(features=(Feature(name="x"),))


class Doubling:
    """A pipeline that doubles, refuses a batch with 13 in it, and counts its calls."""

    def __init__(self, outputs=None):
        metadata = ModelMetadata(platform="test", schema=SCHEMA, outputs=(), score="prediction", example=SCHEMA.zeros())
        self.info = ModelInfo(name="m", version="7", release="r", digest="", metadata=metadata)
        self.mirrors = ()
        self.calls = 0
        self._outputs = outputs

    def run(self, rows, parameters):
        self.calls += 1
        if self._outputs is not None:
            return self._outputs
        if (rows.numbers == 13).any():
            raise RuntimeError("thirteen")
        return {"prediction": rows.numbers[:, 0] * 2}


def score(*values, pipeline=None):
    return Scorer(pipeline or Doubling()).score(values)


def x(number):
    return b'{"x": %d}' % number


def test_answers_stand_in_the_order_of_their_messages():
    answers = [json.loads(value) for value in score(*map(x, range(12)))]
    assert [(each["input"]["x"], each["prediction"]) for each in answers] == [(n, 2 * n) for n in range(12)]


def test_an_answer_repeats_the_bytes_of_its_message():
    raw = b'{ "x":1.10, "note" : "\\u00e9" }'
    [answer] = score(raw)
    assert answer.startswith(b'{"input":' + raw), "written again they could differ"
    assert json.loads(answer)["input"]["x"] == 1.1


def test_one_bad_message_costs_its_neighbours_nothing_and_the_model_few_calls():
    pipeline = Doubling()
    values = [x(number) for number in range(100, 612)]
    values[300] = x(13)
    outcomes = score(*values, pipeline=pipeline)
    [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert outcomes.index(refused) == 300
    assert refused.error == "PredictionFailed"
    assert "thirteen" in refused.message
    assert pipeline.calls < 25, "halves are tried, not rows"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "Tombstone"),
        (b"", "MalformedBody"),
        (b"null", "MalformedBody"),
        (b"[1]", "MalformedBody"),
        (b"{", "MalformedBody"),
        (b'{"x": 1', "MalformedBody"),
        (b"\xff", "MalformedBody"),
        (b'{"y": 1}', "MissingFeature"),
        (b'{"x": null}', "InvalidValue"),
        (b'{"x": "1"}', "InvalidValue"),
        (b'{"x": 1, "other": NaN}', "MalformedBody"),
    ],
)
def test_what_is_no_message_is_refused_by_its_class(value, error):
    first, refused, last = score(x(1), value, x(2))
    assert refused.error == error
    assert json.loads(first)["prediction"] == 2
    assert json.loads(last)["prediction"] == 4


def test_a_model_that_answers_another_number_of_rows_has_answered_none():
    outcomes = score(x(1), x(2), x(3), pipeline=Doubling({"prediction": np.zeros(7)}))
    assert [outcome.error for outcome in outcomes] == ["PredictionFailed"] * 3


def test_texts_and_vectors_are_answered_too():
    texts = {"prediction": np.array(["a,b", 'c"d'], dtype=object), "probability": np.array([[0.1, 0.9], [0.5, 0.5]])}
    first, second = map(json.loads, score(x(1), x(2), pipeline=Doubling(texts)))
    assert (first["prediction"], second["prediction"]) == ("a,b", 'c"d')
    assert first["probability"] == [0.1, 0.9]


def test_batches_grow_while_the_model_is_quick_and_shrink_when_it_is_slow():
    pace = Pace(most_rows=512, batch_seconds=0.01, commit_seconds=0.1)
    assert pace.rows == FIRST_ROWS
    for _ in range(10):
        pace.took(pace.rows, 0.001)
    assert pace.rows == 512
    pace.took(512, 5.0)
    assert pace.rows == 256
    for _ in range(20):
        pace.took(pace.rows, 5.0)
    assert pace.rows == 1, "a row at a time at worst"


def message(value, key=b"k", headers=None):
    return SimpleNamespace(
        value=lambda: value,
        key=lambda: key,
        headers=lambda: headers,
        topic=lambda: "in",
        partition=lambda: 3,
        offset=lambda: 41,
    )


def letters(output_bytes=1000, dead_bytes=1000, partitions=4):
    return Letters(Topic("out", partitions, output_bytes), Topic("dead", 1, dead_bytes), 4)


def test_an_answer_goes_to_its_messages_partition_where_there_are_as_many():
    record, error = letters().record(message(b"{}"), b"answer", "7")
    assert (record.topic, record.partition, error) == ("out", 3, "")
    record, _ = letters(partitions=3).record(message(b"{}"), b"answer", "7")
    assert record.partition == -1, "its key decides"


def test_what_is_too_large_goes_to_the_dead_letters_and_without_its_bytes_where_they_are_too_many():
    record, error = letters(output_bytes=500).record(message(b"v" * 300), b"a" * 600, "7")
    assert (record.topic, error, record.value) == ("dead", "OutputTooLarge", b"v" * 300)
    record, _ = letters(output_bytes=500, dead_bytes=900).record(message(b"v" * 800), b"a" * 1000, "7")
    assert record.value is None
    assert b"left out" in dict(record.headers)[DeadLetter.MESSAGE]


def test_a_compacted_topic_gets_no_answer_without_a_key_which_it_would_refuse_for_ever():
    compacted = Letters(Topic("out", 4, 1000, compacted=True), Topic("dead", 1, 1000), 4)
    record, error = compacted.record(message(b"{}", key=None), b"answer", "7")
    assert (record.topic, error, record.value) == ("dead", "KeyMissing", b"{}")
    record, error = compacted.record(message(b"{}"), b"answer", "7")
    assert (record.topic, error) == ("out", "")
    record, error = letters().record(message(b"{}", key=None), b"answer", "7")
    assert (record.topic, error) == ("out", "")


def test_dead_letters_are_not_compacted_away():
    assert keeping(Topic("dead", 1, 1000)).name == "dead"
    with pytest.raises(StreamFailed, match="'dead': compacted → each letter of a key would take the place"):
        keeping(Topic("dead", 1, 1000, compacted=True))


@pytest.mark.parametrize("code", OTHER_TOPICS)
def test_topics_that_changed_under_way_are_looked_at_by_a_new_worker_and_not_tried_twenty_times(monkeypatch, code):
    class Changed:
        poll = None

        def produce(self, *_, **__):
            raise KafkaException(KafkaError(code))

    monkeypatch.setattr(output, "Producer", lambda _: Changed())
    with pytest.raises(StreamFailed, match=r"topic out: .* → a new one looks again"):
        AtLeastOnce({}, 1000).send([Record("out", b"v", None, None, 7)])


def test_a_letter_that_dies_again_says_where_it_died_last():
    old = [(DeadLetter.TOPIC.value, b"elsewhere"), ("x-request-id", b"r")]
    record, _ = letters().record(message(b"v", headers=old), Refusal("E", "why"), "7")
    names = [name for name, _ in record.headers]
    assert names.count(DeadLetter.TOPIC) == 1
    assert dict(record.headers)[DeadLetter.TOPIC] == b"in"
    assert dict(record.headers)["x-request-id"] == b"r"
