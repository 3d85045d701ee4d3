"""The blows, and what is left after them."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools.chaos.world import SETTLE_SECONDS, Crew, Feed, create_topics, settled, tally
from tools.kafka.broker import Broker
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 3
ZOMBIE_SECONDS = 4.0
"""Longer than a session: the zombie's partitions are another's when it wakes, and its transaction may be still open."""

BLOWS = {"kill worker": 12, "kill broker": 1, "zombie": 2, "join": 1, "leave": 1}
"""What is done, by weight."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of it."""

    messages: int
    kills: int
    """SIGKILLs at least, of workers and broker."""
    seconds: float
    """Over which messages and blows are spread."""
    seed: int = 0
    directory: Path | None = None
    """Where logs and data stay; nowhere unless said."""


@dataclass(kw_only=True)
class Report:
    """As `docs/chaos.json` has it."""

    messages: int
    lost: int
    duplicated: int
    out_of_order: int
    wrong: int
    dead_letters: int
    kills: dict[str, int] = field(default_factory=dict)
    """SIGKILLs by what was killed."""
    zombies: int
    """Workers that were stopped for longer than their session, then woken."""
    rebalances: dict[str, int] = field(default_factory=dict)
    """Workers that joined and left in order, beyond those that came back after kills."""
    restarts: int
    """Workers that ended by themselves and were started again."""
    seconds: float
    seed: int

    @property
    def exact(self) -> bool:
        """Whether every message was answered or put aside once, in order."""
        return not (self.lost or self.duplicated or self.out_of_order or self.wrong)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def run(plan: Plan, say: Callable[[str], None] = print) -> Report:
    """Do it and judge. Raises `StepError` where it could not be carried out."""
    with tempfile.TemporaryDirectory(prefix="slipway-chaos-") as scratch:
        directory = plan.directory or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        with Broker(directory / "broker") as broker:
            create_topics(broker)
            crew = Crew(broker, directory / "workers", commit_ms=50)
            try:
                return _run(plan, broker, crew, say)
            finally:
                crew.stop()


def _run(plan: Plan, broker: Broker, crew: Crew, say: Callable[[str], None]) -> Report:
    started = time.monotonic()
    for number in range(WORKERS):
        crew.start(f"w{number}")
    feed = Feed(broker, plan.messages, plan.seconds)
    feed.start()
    done = _Blows(plan, broker, crew).deal(started, say)
    feed.join(SETTLE_SECONDS)
    feed.check()
    say(f"{time.monotonic() - started:.0f} s: no more blows, waiting for the last answers")
    deadline = time.monotonic() + SETTLE_SECONDS
    while not feed.done or not settled(broker):
        crew.mend()
        if time.monotonic() > deadline:
            raise StepError(f"the stream did not settle within {SETTLE_SECONDS} s → see the workers' logs")
        time.sleep(0.5)
    crew.stop()
    found = tally(broker, plan.messages)
    return Report(
        messages=plan.messages,
        **asdict(found),
        kills={"worker": done["kill worker"], "broker": done["kill broker"]},
        zombies=done["zombie"],
        rebalances={"joined": done["join"], "left": done["leave"]},
        restarts=crew.restarts,
        seconds=round(time.monotonic() - started, 1),
        seed=plan.seed,
    )


class _Blows:
    """Deals them out evenly, in an order that the seed decides."""

    def __init__(self, plan: Plan, broker: Broker, crew: Crew) -> None:
        self._plan, self._broker, self._crew = plan, broker, crew
        self._random = random.Random(plan.seed)  # noqa: S311  # nothing secret
        self._zombies: dict[str, float] = {}
        self._joined = 0

    def deal(self, started: float, say: Callable[[str], None]) -> Counter[str]:
        """Until there were enough kills; the result counts all."""
        done: Counter[str] = Counter()
        per_kill = self._plan.seconds / self._plan.kills
        while (kills := done["kill worker"] + done["kill broker"]) < self._plan.kills:
            due = started + per_kill * (kills + 1)
            self._idle_until(due)
            blow = self._random.choices(list(BLOWS), list(BLOWS.values()))[0]
            if kills == self._plan.kills // 2 and not done["kill broker"]:
                blow = "kill broker"  # however few blows there are, this is one
            if kills == self._plan.kills // 3 and not done["zombie"]:
                blow = "zombie"
            if self._strike(blow):
                done[blow] += 1
            if kills % 20 == 0 and blow.startswith("kill"):
                say(f"{time.monotonic() - started:.0f} s: {dict(done)}")
        self._wake(all_of_them=True)
        return done

    def _idle_until(self, due: float) -> None:
        while True:
            self._wake()
            self._crew.mend()
            left = due - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def _wake(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        for name, until in list(self._zombies.items()):
            if all_of_them or now >= until:
                del self._zombies[name]
                self._crew.send(name, signal.SIGCONT)

    def _strike(self, blow: str) -> bool:
        """Whether there was something to strike."""
        awake = [name for name in self._crew.running if name not in self._zombies]
        extra = [name for name in awake if name.startswith("extra")]
        if blow == "kill broker":
            self._broker.kill()
            self._broker.start()
        elif blow == "join":
            self._joined += 1
            self._crew.start(f"extra{self._joined}")
        elif blow == "leave" and extra:
            self._crew.end(extra[0], signal.SIGTERM)
        elif blow == "zombie" and awake:
            name = self._random.choice(awake)
            self._crew.send(name, signal.SIGSTOP)
            self._zombies[name] = time.monotonic() + ZOMBIE_SECONDS
        elif blow == "kill worker" and awake:
            name = self._random.choice(awake)
            self._crew.end(name, signal.SIGKILL)
            self._crew.start(name)
        else:
            return False
        return True
