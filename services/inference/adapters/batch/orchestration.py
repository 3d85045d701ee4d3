"""Prefect without a server: a flow run that only this process knows.

Prefect's engine tells an API of every state that a flow enters and asks whether it may. Where `PREFECT_API_URL` names
no server, Prefect would start one of its own, with a database: seconds and 200 MB for a job that needs neither. Here
the engine is given a client whose transport answers in this process: every state is accepted. Retries, caching and
persisted results are the engine's own either way.
"""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_PROCESS = "http://in-process/api"
"""Nothing resolves it: the transport answers before a connection is made."""


class InProcessApi(httpx.BaseTransport):
    """The five requests that the engine makes for one flow run."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, Any]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as Prefect's API would that has no rules of its own."""
        path = request.url.path.removeprefix("/api").strip("/")
        body: Any = json.loads(request.read() or b"{}")
        identity = str(uuid.uuid4())
        if path == "admin/version":
            return httpx.Response(200, json=prefect.__version__)
        if path == "flows":
            return httpx.Response(201, json={"id": identity, "name": body["name"]})
        if path == "flow_runs":
            self._runs[identity] = {**body, "id": identity, "name": "batch"}
            return httpx.Response(201, json=self._runs[identity])
        _, _, rest = path.partition("flow_runs/")
        run = self._runs.get(rest.removesuffix("/set_state"))
        if run is None:
            return httpx.Response(404, json={"detail": f"no {path} here"})
        if rest.endswith("/set_state"):
            run["state"] = {**body["state"], "id": identity, "timestamp": datetime.now(UTC).isoformat()}
            return httpx.Response(201, json={"state": run["state"], "status": "ACCEPT", "details": {}})
        return httpx.Response(200, json=run)


@contextmanager
def api(url: str | None) -> Iterator[None]:
    """What a flow runs in: Prefect's own client where there is a server, else one that stays in this process."""
    if url is not None:
        yield
        return
    client = SyncPrefectClient(IN_PROCESS, httpx_settings={"transport": InProcessApi()})
    # Its constructor would make a client by the settings, and so the server.
    context = SyncClientContext.model_construct(client=client)
    # Nobody listens to heartbeats, and a flow would wait a second for their thread.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), context:
        yield
