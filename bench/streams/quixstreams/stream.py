"""quixstreams: a function over a data frame of messages, with the guarantee that is asked for, commits every 100 ms."""

from __future__ import annotations

import os

from quixstreams import Application  # type: ignore[import-not-found]  # of the peer's environment

from bench.streams.scoring import one


def main() -> None:
    """Run until ended."""
    app = Application(
        broker_address=os.environ["BENCH_BROKERS"],
        consumer_group=os.environ["BENCH_GROUP"],
        processing_guarantee=os.environ["BENCH_GUARANTEE"],
        commit_interval=0.1,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config={"linger.ms": 5},
    )
    source = app.topic(os.environ["BENCH_INPUT"], value_deserializer="json", key_deserializer="bytes")
    target = app.topic(os.environ["BENCH_OUTPUT"], value_serializer="json", key_serializer="bytes")
    app.dataframe(source).apply(one).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
