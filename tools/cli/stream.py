"""`slipway stream`: look at streams and send dead letters back. Needs to reach the brokers: from a pod, or locally."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from services.inference import msk
from tools.steps import StepError

app = typer.Typer(name="stream", help="Dead letters and lag of streams.", no_args_is_help=True)

Brokers = Annotated[str, typer.Option(help="Brokers to start from: host:port, separated by commas.")]
Properties = Annotated[
    Path | None, typer.Option(help="File of librdkafka's properties, key=value lines: users and passwords.")
]
IamRegion = Annotated[
    str | None, typer.Option(help="AWS region of an MSK cluster: sign in by IAM, as whose credentials there are.")
]


def client(brokers: str, properties: Path | None, iam_region: str | None) -> dict[str, Any]:
    """What a client of the brokers is told. Raises `StepError`."""
    if iam_region is not None:
        if properties is not None:
            raise StepError("--properties and --iam-region: both given → one says how to sign in → drop the other")
        return {**msk.client(iam_region), "bootstrap.servers": brokers}
    try:
        lines = properties.read_text().splitlines() if properties else []
    except OSError as error:
        raise StepError(f"{properties}: {error.strerror} → a readable file → correct --properties") from error
    pairs = [line.split("=", 1) for line in lines if line.strip() and not line.startswith("#")]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:  # noqa: PLR2004  # its value may be a secret, and is not told
            raise StepError(f"{properties}, entry {number}: it has no '=' → a line is key=value → correct it")
    return {**{key.strip(): value.strip() for key, value in pairs}, "bootstrap.servers": brokers}


@app.command()
def replay(
    topic: Annotated[str, typer.Argument(help="The topic with the dead letters.")],
    brokers: Brokers,
    properties: Properties = None,
    iam_region: IamRegion = None,
    error: Annotated[
        list[str] | None, typer.Option(help="Only letters with this class of error; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send back so many at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent back; send nothing.")] = False,
    group: Annotated[str, typer.Option(help="Whose progress it is: another name begins from the first letter.")] = "",
) -> None:
    """Send dead letters back to the topics they came from, each once; an interrupted run goes on where it was."""
    from tools import dead_letters  # noqa: PLC0415  # the client is for those who ask for it

    asked = dead_letters.Replay(
        topic=topic,
        group=group or f"{topic}-replay",
        errors=frozenset(error or ()),
        limit=limit,
        dry_run=dry_run,
    )
    found = dead_letters.replay(client(brokers, properties, iam_region), asked, lambda line: print(line, flush=True))
    would = "would go" if dry_run else "went"
    for source, count in sorted(found.sent.items()):
        print(f"{count} {would} back to {source}")
    for why, count in sorted(found.left_out.items()):
        print(f"{count} stay: {why}")
    if not found.sent and not found.left_out:
        print(f"{topic}: nothing left to send back")


@app.command()
def lag(
    group: Annotated[str, typer.Argument(help="Consumer group of the stream: the model's name unless said otherwise.")],
    topic: Annotated[str, typer.Argument(help="The stream's input.")],
    brokers: Brokers,
    properties: Properties = None,
    iam_region: IamRegion = None,
) -> None:
    """Messages of each partition that no commit has covered yet."""
    from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

    from tools.kafka.reading import consumer_of, partitions_of  # noqa: PLC0415

    consumer = consumer_of(client(brokers, properties, iam_region), group)
    try:
        places = [TopicPartition(topic, each) for each in partitions_of(consumer, topic)]
        total = 0
        for place in consumer.committed(places, 10):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), 10, cached=False)
            behind = high - max(place.offset, low)
            total += behind
            print(f"partition {place.partition}: {behind}")
        print(f"in all: {total}")
    except KafkaException as error:
        raise StepError(f"{topic}: {error.args[0]} → the brokers answer this user → check --brokers") from error
    finally:
        consumer.close()
