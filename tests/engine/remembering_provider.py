"""A Kubernetes provider for the real engine that keeps objects in memory instead of a cluster.

It believes what it is told: an object is ready as soon as it is created, unless the test
says that it never will be. What it proves is the program and the engine together: which
operations happen, in which order, and what a failure leaves behind. What Kubernetes makes
of the objects is proven on a real cluster, in tests/e2e.
"""

# ruff: noqa: N802 (the protocol names the methods and their arguments)
from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

VERSION = "4.25.0"

FORCES_REPLACEMENT = {"ConfigMap": "data", "Secret": "stringData", "Job": "spec"}
"""Kinds and the property whose change replaces the object, as the real provider has it."""

SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # the engine's mark for a secret in a property bag


@dataclass(frozen=True)
class Operation:
    action: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}"


@dataclass
class RememberingProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The provider. `operations` grow with every update; previews leave none."""

    operations: list[Operation] = field(default_factory=list)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Inputs by `<kind> <name>` of what exists."""
    never_ready: dict[str, str] = field(default_factory=dict)
    """Reason by `<kind> <name>` of what fails to become ready."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget_operations(self) -> None:
        self.operations.clear()

    def performed(self) -> list[str]:
        return [str(operation) for operation in self.operations]

    def Handshake(self, request, context):
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request, context):
        return plugin_pb2.PluginInfo(version=VERSION)

    def Attach(self, request, context):
        return empty_pb2.Empty()

    def Cancel(self, request, context):
        return empty_pb2.Empty()

    def CheckConfig(self, request, context):
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request, context):
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request, context):
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request, context):
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request, context):
        before, after = plain(request.old_inputs), plain(request.news)
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if not changed:
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
        replaces = [key for key in changed if FORCES_REPLACEMENT.get(kind_of(request)) == key]
        renamed = name_in(before) != name_in(after)
        if renamed:
            replaces.append("metadata.name")
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME,
            diffs=changed,
            replaces=replaces,
            # As the real provider has it: two objects of one name cannot be there at once, of two names they can.
            deleteBeforeReplace=bool(replaces) and not renamed,
        )

    def Create(self, request, context):
        if request.preview:
            return provider_pb2.CreateResponse(properties=request.properties)
        self._perform("create", request, request.properties, context)
        return provider_pb2.CreateResponse(id=f"{kind_of(request)}-{request.name}", properties=request.properties)

    def Update(self, request, context):
        if not request.preview:
            self._perform("update", request, request.news, context)
        return provider_pb2.UpdateResponse(properties=request.news)

    def Delete(self, request, context):
        with self.lock:
            self.operations.append(Operation("delete", kind_of(request), request.name))
            key = f"{kind_of(request)} {request.name}"
            # Its successor is there already where it has another name.
            if name_in(self.objects.get(key, {})) == name_in(plain(request.properties)):
                self.objects.pop(key, None)
        return empty_pb2.Empty()

    def Read(self, request, context):
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def _perform(self, action, request, properties, context):
        operation = Operation(action, kind_of(request), request.name)
        key = f"{operation.kind} {operation.name}"
        with self.lock:
            self.operations.append(operation)
            self.objects[key] = plain(properties)
        if key in self.never_ready:
            context.abort(grpc.StatusCode.UNKNOWN, self.never_ready[key])


def kind_of(request) -> str:
    return request.type.rpartition(":")[2]


def name_in(inputs: dict[str, Any]) -> str | None:
    return inputs.get("metadata", {}).get("name")


def plain(struct) -> dict[str, Any]:
    """A property bag as plain data, secrets opened."""
    return opened(json_format.MessageToDict(struct))


def opened(value):
    if isinstance(value, dict):
        if SECRET_SIGNATURE in value:
            return opened(value["value"])
        return {key: opened(child) for key, child in value.items()}
    if isinstance(value, list):
        return [opened(child) for child in value]
    return value


class Serving:
    """A provider that listens; `port` is for `PULUMI_DEBUG_PROVIDERS=kubernetes:<port>`."""

    def __init__(self, provider: RememberingProvider) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(grace=None).wait()
