"""The floor: confluent-kafka, batches of 512 read, scored with one call and written. No errors, headers, keys' order,
commits that wait, metrics or guarantee: what any worker in Python has to do at least.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer

from bench.streams.scoring import FEATURES, VERSION, probabilities

ROWS = 512


def main() -> None:
    """Run until ended."""
    client = {"bootstrap.servers": os.environ["BENCH_BROKERS"]}
    consumer = Consumer({**client, "group.id": os.environ["BENCH_GROUP"], "auto.offset.reset": "earliest"})
    producer = Producer({**client, "linger.ms": 5, "compression.type": "lz4"})
    output = os.environ["BENCH_OUTPUT"]
    consumer.subscribe([os.environ["BENCH_INPUT"]])
    while True:
        messages = consumer.consume(ROWS, 0.01)
        if not messages:
            continue
        values = [message.value() or b"" for message in messages]
        rows = np.array([[features[name] for name in FEATURES] for features in map(orjson.loads, values)])
        found = probabilities(rows)
        predictions = (found > 0.5).astype(int).tolist()  # noqa: PLR2004  # the threshold
        end = f',"timestamp":"{datetime.now(UTC).isoformat()}","model_version":"{VERSION}"}}'.encode()
        for message, value, prediction, probability in zip(messages, values, predictions, found.tolist(), strict=True):
            written = b'{"input":%s,"prediction":%d,"probability":%s%s' % (value, prediction, b"%r" % probability, end)
            producer.produce(output, written, message.key())
        producer.poll(0)


if __name__ == "__main__":
    main()
