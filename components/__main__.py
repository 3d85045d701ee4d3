"""Hosts the components of `infra.components` for programs in other languages."""

from __future__ import annotations

from importlib.metadata import version

from pulumi.provider.experimental import component_provider_host

from infra.components import BatchModel, RealtimeModel, StreamModel

component_provider_host(name="slipway", components=[RealtimeModel, BatchModel, StreamModel], version=version("slipway"))
