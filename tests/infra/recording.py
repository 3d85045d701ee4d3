"""A program run against Pulumi's mocks, every registration awaited and recorded."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import pulumi
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc

from infra.config.parse import BuildRecords, parse
from infra.registry.reference import ResolvedModel, parse_reference
from tests.infra.aws import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.config.stack import StackConfig

DIGEST = "sha256:" + "d" * 64
"""Digest that `resolve_without_registry` gives to every artifact."""

RECORDS = BuildRecords(
    images={
        name: f"slipway.local/{name}@sha256:{fill * 64}"
        for name, fill in (
            ("inference", "1"),
            ("mlflow", "2"),
            ("object-store", "3"),
            ("istiod", "4"),
            ("istio-proxy", "5"),
            ("istio-cni", "d"),
            ("prometheus", "6"),
            ("prometheus-adapter", "7"),
            ("kserve", "8"),
            ("keda", "9"),
            ("kafka", "c"),
            ("batch", "a"),
            ("kuberay", "b"),
            ("ray", "e"),
        )
    },
    istio_charts="/istio/manifests/charts",
    kserve_charts="/kserve/charts",
    keda_charts="/keda/charts",
    kuberay_charts="/kuberay/charts",
)
"""What the tools would have recorded."""

CERTIFICATE = {"certificate": "generated-certificate", "key": "generated-key", "ca": "generated-authority"}
"""What every `ServingCertificate` turns out to be."""

GENERATED = "generated-secret"
"""What every `RandomSecret` turns out to be."""


@dataclass(frozen=True)
class Registered:
    type: str
    name: str
    inputs: dict[str, Any]
    provider: str
    """Name of the provider that it was declared with; empty for the default one."""

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]


@dataclass
class Recorded:
    resources: list[Registered] = field(default_factory=list)
    dependencies: dict[str, set[str]] = field(default_factory=dict)
    """What each resource waits for, both as `<kind> <name>`."""
    hooks: list[pulumi.ResourceHook] = field(default_factory=list)
    """Hooks that the program gave to the engine. Nothing calls them here."""
    outputs: Any = None
    """What the program returned; Outputs inside are resolved, or None where unknown."""

    def of(self, kind: str) -> dict[str, Registered]:
        return {resource.name: resource for resource in self.resources if resource.kind == kind}

    def one(self, kind: str, name: str) -> dict[str, Any]:
        found = self.of(kind)
        assert name in found, f"no {kind} {name} was registered, only {sorted(found)}"
        return found[name].inputs


class EngineLikeMocks(pulumi_mocks.Mocks):
    """Answers as an engine would: inputs come back; in a preview what only creation can tell is unknown."""

    def __init__(self, recorded: Recorded, stacks: Mapping[str, Any], *, preview: bool) -> None:
        self._recorded = recorded
        self._stacks = stacks
        self._preview = preview

    def call(self, args):
        raise AssertionError(f"the program called {args.token}: previews must not depend on the provider's functions")

    def new_resource(self, args):
        if args.typ == "pulumi:pulumi:StackReference":
            # Another stack's outputs are known, in previews too.
            return args.name, {**args.inputs, "outputs": self._stacks[args.name], "secretOutputNames": []}
        self._recorded.resources.append(Registered(args.typ, args.name, opened(args.inputs), _provider(args.provider)))
        if self._preview:
            # Nothing that is created is known, not even what was asked for: the strictest preview there is.
            return None, {}
        state = dict(args.inputs)
        if args.typ.endswith(":RandomSecret"):
            state["result"] = GENERATED
        if args.typ.endswith(":ServingCertificate"):
            state |= CERTIFICATE
        if args.typ.startswith("aws:"):
            state |= answers.outputs(args.typ, args.name, args.inputs)
        return f"{args.name}-id" if args.custom else None, state


class WatchingMonitor(pulumi_mocks.MockMonitor):
    """Sees of a registration what mocks are not told."""

    def __init__(self, mocks: EngineLikeMocks, recorded: Recorded) -> None:
        super().__init__(mocks)
        self._recorded = recorded

    def RegisterResource(self, request):  # noqa: N802 (the SDK's name)
        response = super().RegisterResource(request)
        self._recorded.dependencies[_resource(response.urn)] = {_resource(urn) for urn in request.dependencies}
        return response


def _resource(urn: str) -> str:
    """`urn:…::…:<kind>::<name>` → `<kind> <name>`."""
    *_, types, name = urn.split("::")
    return f"{types.rpartition(':')[2]} {name}"


def _provider(reference: str | None) -> str:
    """`urn:…::<name>::<id>` → name."""
    return reference.split("::")[-2] if reference else ""


def opened(value: Any) -> Any:
    """A property bag with its secrets opened."""
    if rpc.is_rpc_secret(value):
        return opened(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: opened(child) for key, child in value.items()}
    return [opened(child) for child in value] if isinstance(value, list) else value


def record(program: Callable[[], Any], *, preview: bool, stacks: Mapping[str, Any] | None = None) -> Recorded:
    """Runs the program to the end: every resource registered, every Output resolved, any failure raised.

    `stacks` are the outputs of other stacks, by their full names.
    """
    # In a thread of its own, with a loop of its own: the mocks leave both behind, and this closes them.
    loops: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def kept_event_loop() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    try:
        with mock.patch("asyncio.new_event_loop", kept_event_loop), ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(_record, program, stacks or {}, preview=preview).result()
    finally:
        for loop in loops:
            _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what a failed program left behind; that it failed is raised already."""
    loop.set_exception_handler(lambda *_: None)
    pending = asyncio.all_tasks(loop)

    async def end() -> None:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await loop.shutdown_default_executor()

    loop.run_until_complete(end())
    loop.close()


def _record(program: Callable[[], Any], stacks: Mapping[str, Any], *, preview: bool) -> Recorded:
    recorded = Recorded()
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks = EngineLikeMocks(recorded, stacks, preview=preview)
    monitor = WatchingMonitor(mocks, recorded)
    pulumi_mocks.set_mocks(mocks, project="slipway", stack="local", preview=preview, monitor=monitor)

    @pulumi.runtime.test
    def run() -> pulumi.Output[Any]:
        def keep(outputs: Any) -> None:
            recorded.outputs = outputs

        return pulumi.Output.from_input(program()).apply(keep, run_with_unknowns=True)

    def keep_hook(hook: pulumi.ResourceHook) -> asyncio.Future[None]:
        recorded.hooks.append(hook)
        known = asyncio.get_event_loop().create_future()
        known.set_result(None)
        return known

    # The mocks have no engine that could call back.
    with mock.patch("pulumi.resource_hooks.register_resource_hook", keep_hook):
        run()
    return recorded


def stack(**keys: Any) -> StackConfig:
    """A stack's configuration from the keys below `slipway:`, with what the tools record."""
    values = {"platform": {"kind": "local"}, "models": {}, **keys}
    return parse({f"slipway:{key}": json.dumps(value) for key, value in values.items()}, RECORDS)


def realtime(**keys: Any) -> dict[str, Any]:
    """A model of one release, as the stack file has it."""
    return {
        "kind": "realtime",
        "releases": {"v1": {"model": "models:/breast-cancer/1"}},
        "traffic": {"v1": 100},
        **keys,
    }


def batch(**keys: Any) -> dict[str, Any]:
    """A model that scores a table every night, as the stack file has it."""
    return {
        "kind": "batch",
        "model": "models:/breast-cancer/1",
        "input": "features/patients/date={date}",
        "output": "predictions/patients/date={date}",
        "schedule": "0 2 * * *",
        **keys,
    }


def resolve_without_registry(models, url):
    """Takes versions from the references themselves; an alias is version 7."""
    return {
        name: {release: resolved(reference) for release, (_, reference) in model.references.items()}
        for name, model in models.items()
    }


def resolved(reference: str) -> ResolvedModel:
    parsed = parse_reference(reference)
    return ResolvedModel(reference=reference, name=parsed.name, version=parsed.version or "7", digest=DIGEST)
