"""The loop of the textbooks: kafka-python, one message at a time, offsets committed in the background."""

from __future__ import annotations

import json
import os

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-not-found]  # of the peer's environment

from bench.streams.scoring import one


def main() -> None:
    """Run until ended."""
    consumer = KafkaConsumer(
        os.environ["BENCH_INPUT"],
        bootstrap_servers=os.environ["BENCH_BROKERS"],
        group_id=os.environ["BENCH_GROUP"],
        auto_offset_reset="earliest",
        value_deserializer=json.loads,
    )
    producer = KafkaProducer(
        bootstrap_servers=os.environ["BENCH_BROKERS"],
        value_serializer=lambda value: json.dumps(value).encode(),
        linger_ms=5,
    )
    for message in consumer:
        producer.send(os.environ["BENCH_OUTPUT"], one(message.value), key=message.key)


if __name__ == "__main__":
    main()
