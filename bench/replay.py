"""`python -m bench.replay`: the same V2 requests to our service, Triton and MLServer, and their answers side by side.

1. requests that differ in rows, encoding, selected outputs and id are made once, from a fixed seed
2. each server runs alone and answers all of them
3. values are compared with what the model answers in-process, the rest of each answer with ours
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.environments import ROOT, cache, is_ready
from bench.measure import free_port
from bench.processes import BenchError, Process, adopt_orphans
from bench.protocols import JSON_BYTES, MODEL, Message
from bench.servers import OURS, SERVERS, Place, base_environment
from bench.verify import MismatchError, compare, post, wait_ready
from bench.workloads import INPUT, OUTPUT, WORKLOADS, artifact, is_built

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.protocols import Array
    from bench.servers import Server
    from bench.workloads import Workload

SERVERS_COMPARED = (OURS, "triton", "mlserver")
REQUESTS, MOST_ROWS, SEED = 200, 64, 11
KINDS = ("status", "id", "names", "datatypes", "shapes", "values")
"""What may differ, in the order in which it is looked at."""

_DTYPES = {"FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request."""

    start: int
    rows: int
    binary: bool
    """Whether its input is."""
    selects: bool
    binary_output: bool | None
    """What it says of its output, or of all; None where it says nothing."""
    id: str

    def message(self, inputs: Array) -> Message:
        """As V2 has it."""
        rows = np.ascontiguousarray(inputs[self.start : self.start + self.rows], dtype="<f4")
        tensor: dict[str, Any] = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP32"}
        content: dict[str, Any] = {"id": self.id} if self.id else {}
        if self.binary:
            tensor["parameters"] = {"binary_data_size": rows.nbytes}
        else:
            tensor["data"] = [float(str(value)) for value in rows.ravel()]
        content["inputs"] = [tensor]
        wanted = {} if self.binary_output is None else {"binary_data": self.binary_output}
        if self.selects:
            content["outputs"] = [{"name": OUTPUT, **({"parameters": wanted} if wanted else {})}]
        elif self.binary_output is not None:
            content["parameters"] = {"binary_data_output": self.binary_output}
        head = json.dumps(content).encode()
        path = f"/v2/models/{MODEL}/infer"
        if not self.binary:
            return Message(path, {"Content-Type": "application/json"}, head)
        headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(len(head))}
        return Message(path, headers, head + rows.tobytes())

    def __str__(self) -> str:
        form = "binary" if self.binary else "JSON"
        outputs = f"{'selected ' if self.selects else ''}outputs binary {self.binary_output}"
        return f"{self.rows} rows from {self.start}, {form}, {outputs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One answer, without what a server may choose: its model's version, the order and encoding of its JSON."""

    status: int
    id: str = ""
    names: tuple[str, ...] = ()
    datatypes: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, status: int, headers: dict[str, str], body: bytes) -> Told:
        """Read an answer; raises `BenchError` where it is no V2."""
        if status != HTTPStatus.OK:
            return cls(status=status)
        try:
            at = int(headers.get(JSON_BYTES.lower(), len(body)))
            message = json.loads(body[:at])
            values: list[float] = []
            for output in message["outputs"]:
                size = output.get("parameters", {}).get("binary_data_size")
                if size is None:
                    values += np.asarray(output["data"], dtype=np.float64).ravel().tolist()
                    continue
                values += np.frombuffer(body[at : at + size], _DTYPES[output["datatype"]]).astype(np.float64).tolist()
                at += size
            return cls(
                status=status,
                id=message.get("id") or "",
                names=tuple(output["name"] for output in message["outputs"]),
                datatypes=tuple(output["datatype"] for output in message["outputs"]),
                shapes=tuple(tuple(output["shape"]) for output in message["outputs"]),
                values=tuple(values),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BenchError(f"the answer is no V2 ({error!r}): {body[:200]!r}") from error


def varied(count: int, rows: int, *, named: bool = True) -> list[Asked]:
    """Requests on an input of so many rows; outputs are selected where the model has `named` ones."""
    random = np.random.default_rng(SEED)
    found = []
    for number in range(count):
        size = int(random.integers(1, MOST_ROWS, endpoint=True))
        found.append(
            Asked(
                start=int(random.integers(0, rows - size, endpoint=True)),
                rows=size,
                binary=bool(random.integers(2)),
                selects=bool(random.integers(2)) and named,
                binary_output=(None, True, False)[random.integers(3)],
                id=f"request-{number}" if random.integers(2) else "",
            )
        )
    return found


def differences(asked: Asked, told: Told, ours: Told, expected: Array, tolerance: float) -> dict[str, str]:
    """What is wrong or unlike ours with an answer, by its kind; empty where nothing is."""
    if told.status != ours.status or told.status != HTTPStatus.OK:
        return {} if told.status == ours.status else {"status": f"{told.status}, ours {ours.status}"}
    found = {}
    # Where the caller gives no id, a server may choose one.
    if asked.id and told.id != asked.id:
        found["id"] = f"{told.id!r} for {asked.id!r}"
    for kind in ("names", "datatypes", "shapes"):
        if getattr(told, kind) != getattr(ours, kind):
            found[kind] = f"{getattr(told, kind)}, ours {getattr(ours, kind)}"
    try:
        compare(np.array(told.values), expected, tolerance, "values")
    except MismatchError as error:
        found["values"] = str(error)
    return found


def replay(server: Server, workload: Workload, messages: Iterable[Message]) -> list[Told]:
    """A server's answers, in the order of the requests."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slipway-replay-", ignore_cleanup_errors=True) as scratch:
        place = Place(
            workload=workload, artifact=artifact(workload.name, cache()), scratch=Path(scratch), port=port, source=ROOT
        )
        launch = server.launch(place)
        with Process(launch.command, Path(scratch), {**base_environment(), **launch.environment}) as process:
            wait_ready(process, server, port)
            return [Told.of(*post(port, message)) for message in messages]


def compared(workload: Workload) -> int:
    """Print a workload's table; the result is how many answers differ."""
    files = artifact(workload.name, cache())
    inputs, expected = np.load(files / "inputs.npy"), np.load(files / "expected.npy")
    requests = varied(REQUESTS, len(inputs), named=workload.torch)
    print(f"{workload.name} {workload.title}: {len(requests)} requests, tolerance {workload.tolerance:g}")
    print(f"  {'':<14} {'asked':>6} {'same':>6}" + "".join(f"{kind:>11}" for kind in KINDS))
    ours: dict[Asked, Told] = {}
    wrong = 0
    for name in SERVERS_COMPARED:
        server = SERVERS[name]
        asked = [each for each in requests if not each.binary or "binary" in server.protocols]
        try:
            answers = replay(server, workload, [each.message(inputs) for each in asked])
        except BenchError as error:
            print(f"  {server.title:<14} {str(error).splitlines()[0]}")
            wrong += 1
            continue
        told = dict(zip(asked, answers, strict=True))
        ours = ours or told
        wrong += _line(server, workload, told, ours, expected)
    return wrong


def _line(server: Server, workload: Workload, told: dict[Asked, Told], ours: dict[Asked, Told], expected: Array) -> int:
    counts, first, unlike = Counter[str](), dict[str, str](), 0
    for asked, one in told.items():
        rows = expected[asked.start : asked.start + asked.rows]
        found = differences(asked, one, ours[asked], rows, workload.tolerance)
        if server.name == OURS and one.status != HTTPStatus.OK:
            found["status"] = str(one.status)
        if not workload.torch:  # MLflow's signature of this model names no output and has no second dimension
            found = {kind: text for kind, text in found.items() if kind not in ("names", "shapes")}
        unlike += bool(found)
        counts.update(found.keys())
        for kind, text in found.items():
            first.setdefault(kind, f"{asked}: {text}")
    print(f"  {server.title:<14} {len(told):>6} {len(told) - unlike:>6}" + "".join(f"{counts[k]:>11}" for k in KINDS))
    for kind, text in first.items():
        print(f"    first of {kind}: {text}")
    return unlike


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the result is its exit code, 1 where an answer differs."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.replay", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workloads", default="C,B", help="default %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        workloads = _chosen(chosen.workloads.split(","))
        adopt_orphans()
        return 1 if sum(map(compared, workloads)) else 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _chosen(names: list[str]) -> list[Workload]:
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise BenchError(f"workload {unknown[0]!r} → known are {', '.join(WORKLOADS)} → ask for one of them")
    missing = [name for name in names if not is_built(name, cache())]
    missing += [name for name in SERVERS_COMPARED if SERVERS[name].environment and not is_ready(name)]
    if missing:
        raise BenchError(f"{', '.join(missing)}: not there → `python -m bench` makes it → run that first")
    return [WORKLOADS[name] for name in names]


if __name__ == "__main__":
    sys.exit(main())
