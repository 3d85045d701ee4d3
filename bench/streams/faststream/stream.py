"""FastStream over confluent-kafka: batches in, one call of the model, batches out; at-least-once is what it has."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from faststream import AckPolicy, FastStream  # type: ignore[import-not-found]  # of the peer's environment
from faststream.confluent import KafkaBroker  # type: ignore[import-not-found]

from bench.streams.scoring import many


def main() -> None:
    """Run until ended."""
    broker = KafkaBroker(os.environ["BENCH_BROKERS"], linger_ms=5)

    @broker.subscriber(  # type: ignore[untyped-decorator]
        os.environ["BENCH_INPUT"],
        batch=True,
        max_records=512,
        group_id=os.environ["BENCH_GROUP"],
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def score(messages: list[dict[str, Any]]) -> None:
        await broker.publish_batch(*many(messages), topic=os.environ["BENCH_OUTPUT"])

    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main()
