"""Advertises GPUs that are not there, so that what asks for them can be scheduled on a machine without any.

A component of the cluster: `python -m tools.cluster.gpus SERVER NODE PKI COUNT ACCELERATOR`. It acts as the node, which
may change its own status and labels. A kubelet that starts anew takes away extended resources that no device plugin
vouches for (`reconcileExtendedResource`), so they are looked at again and again.

The only node gets no taint: nothing else could run on it. Pods that ask for GPUs tolerate one all the same, and reach
the node by label and resource.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.config.accelerators import ACCELERATORS, NODE_LABEL, WHOLE
from tools.steps import StepError

CHECK_SECONDS = 2.0
"""Pods that ask for GPUs stay where they are meanwhile: only new ones have to wait."""

MOST = 16
"""GPUs of the largest machine that is sold (p4de, p5 and a2-megagpu have 8 to 16)."""

DEFAULT_ACCELERATOR = "nvidia-l4"


@dataclass(frozen=True)
class Gpus:
    """How many of which kind."""

    count: int
    accelerator: str

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """`2` or `2:nvidia-h100`; `StepError` for anything else."""
        count, _, accelerator = text.partition(":")
        accelerator = accelerator or DEFAULT_ACCELERATOR
        if not count.isdecimal() or not 1 <= int(count) <= MOST:
            raise StepError(f"--gpus {text}: {count!r} → from 1 to {MOST} → write N or N:ACCELERATOR")
        if accelerator not in ACCELERATORS:
            raise StepError(
                f"--gpus {text}: {accelerator!r} → an accelerator of this project → one of: {', '.join(ACCELERATORS)}"
            )
        return cls(int(count), accelerator)

    def missing_from(self, node: dict[str, Any]) -> tuple[bool, bool]:
        """Whether the node lacks the label, and whether it lacks the resource."""
        label = node["metadata"]["labels"].get(NODE_LABEL) != self.accelerator
        return label, node["status"].get("capacity", {}).get(WHOLE) != str(self.count)


class Node:
    """The cluster's node, by the API and with its own certificate."""

    def __init__(self, server: str, name: str, pki: Path) -> None:
        self._url = f"{server}/api/v1/nodes/{name}"
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "kubelet.crt", pki / "kubelet.key")

    def get(self) -> dict[str, Any]:
        """The node as it is."""
        return self._call("", None)

    def patch(self, part: str, change: dict[str, Any]) -> None:
        """Change the node, or its `/status`."""
        self._call(part, change)

    def _call(self, part: str, change: dict[str, Any] | None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 our own URL
            self._url + part,
            data=None if change is None else json.dumps(change).encode(),
            headers={"content-type": "application/merge-patch+json"},
            method="GET" if change is None else "PATCH",
        )
        with urllib.request.urlopen(request, timeout=5, context=self._context) as answer:  # noqa: S310 our own URL
            found: dict[str, Any] = json.load(answer)
            return found


def advertise(node: Node, gpus: Gpus) -> bool:
    """Put label and resource on the node where they are missing; whether any was."""
    label, resource = gpus.missing_from(node.get())
    if label:
        node.patch("", {"metadata": {"labels": {NODE_LABEL: gpus.accelerator}}})
    if resource:
        quantity = {WHOLE: str(gpus.count)}
        # The kubelet takes the capacity over into what can be allocated, but only at its next report.
        node.patch("/status", {"status": {"capacity": quantity, "allocatable": quantity}})
    return label or resource


def main() -> None:
    """Advertise until killed; the API server may be away for a while."""
    server, name, pki, count, accelerator = sys.argv[1:]
    node, gpus = Node(server, name, Path(pki)), Gpus(int(count), accelerator)
    while True:
        try:
            if advertise(node, gpus):
                print(f"advertised {gpus.count} × {gpus.accelerator}", flush=True)
        except OSError as error:
            print(f"{error}: trying again", flush=True)
        time.sleep(CHECK_SECONDS)


if __name__ == "__main__":
    main()
