"""Providers for the real engine that keep resources in memory instead of a cloud or a cluster.

They believe what they are told: a resource is there as soon as it is created, unless the test says that it never
will be. What they prove is the program and the engine together: which operations happen, in which order, and what
a failure leaves behind. What Kubernetes makes of the objects is proven on a real cluster, in tests/e2e; what AWS
makes of them is not (docs/aws-unproven.md).
"""

# ruff: noqa: N802 (the protocol names the methods and their arguments)
from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's mark for what only an update will tell."""

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
    """What all of them share. `operations` grow with every update; previews leave none."""

    package: ClassVar[str]
    version: ClassVar[str]

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

    def replacing(self, type_: str, before: dict[str, Any], after: dict[str, Any], changed: list[str]) -> list[str]:
        """Changed inputs that make a resource another one."""
        raise NotImplementedError

    def beside(self, before: dict[str, Any], after: dict[str, Any]) -> bool:
        """Whether a resource and its successor can be there at once."""
        raise NotImplementedError

    def told(self, type_: str, name: str, inputs: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        """Outputs beside the inputs; `old` is the state of what is updated."""
        return {}

    def Handshake(self, request, context):
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request, context):
        return plugin_pb2.PluginInfo(version=self.version)

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
        replaces = self.replacing(request.type, before, after, changed)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME,
            diffs=changed,
            replaces=replaces,
            deleteBeforeReplace=bool(replaces) and not self.beside(before, after),
        )

    def Create(self, request, context):
        told = self.told(request.type, request.name, plain(request.properties), None)
        if request.preview:
            return provider_pb2.CreateResponse(properties=extended(request.properties, dict.fromkeys(told, UNKNOWN)))
        self._perform("create", request, request.properties, context)
        id_ = f"{kind_of(request.type)}-{request.name}"
        return provider_pb2.CreateResponse(id=id_, properties=extended(request.properties, told))

    def Update(self, request, context):
        old = plain(request.olds)
        told = self.told(request.type, request.name, plain(request.news), old)
        if not request.preview:
            self._perform("update", request, request.news, context)
            return provider_pb2.UpdateResponse(properties=extended(request.news, told))
        seen = {key: value if old.get(key) == value else UNKNOWN for key, value in told.items()}
        return provider_pb2.UpdateResponse(properties=extended(request.news, seen))

    def Delete(self, request, context):
        with self.lock:
            self.operations.append(Operation("delete", kind_of(request.type), request.name))
            key = f"{kind_of(request.type)} {request.name}"
            # What is remembered may be its successor, where both can be there at once.
            remembered, gone = self.objects.get(key, {}), plain(request.properties)
            if remembered.items() <= gone.items() or not self.beside(remembered, gone):
                self.objects.pop(key, None)
        return empty_pb2.Empty()

    def Read(self, request, context):
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def _perform(self, action, request, properties, context):
        operation = Operation(action, kind_of(request.type), request.name)
        key = f"{operation.kind} {operation.name}"
        with self.lock:
            self.operations.append(operation)
            self.objects[key] = plain(properties)
        if key in self.never_ready:
            context.abort(grpc.StatusCode.UNKNOWN, self.never_ready[key])


def kind_of(type_: str) -> str:
    return type_.rpartition(":")[2]


def extended(properties, told: dict[str, Any]):
    """A property bag with more in it; secrets stay secrets."""
    bag = type(properties)()
    bag.CopyFrom(properties)
    bag.update(told)
    return bag


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
    """A provider that listens; `attached` is its part of `PULUMI_DEBUG_PROVIDERS`."""

    def __init__(self, provider: RememberingProvider) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, self._server)
        self.attached = f"{provider.package}:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(grace=None).wait()
