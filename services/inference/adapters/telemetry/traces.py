"""OpenTelemetry traces over OTLP: a span for each request, and below it its wait and its batch.

The SDK reads its own variables: `OTEL_EXPORTER_OTLP_ENDPOINT` turns traces on, `OTEL_TRACES_SAMPLER` chooses among
requests that come without a trace, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` describe the process. Import this
module only where traces are on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.contract import VERSION_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from services.inference.core.types import Ran

PARENT, STATE = b"traceparent", b"tracestate"

_SERVER_ERROR = 500


class Traces:
    """The spans of one process."""

    def __init__(self, model: str, release: str) -> None:
        ours = Resource.create({SERVICE_NAME: model, SERVICE_VERSION: release})
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("slipway")
        self._release = release
        self._context = TraceContextTextMapPropagator()

    def begin(self, name: str, method: str, path: bytes, headers: Mapping[bytes, bytes]) -> Span | None:
        """A request has arrived; None where it is not sampled."""
        carrier = {key.decode(): headers[key].decode("latin-1") for key in (PARENT, STATE) if key in headers}
        parent = self._context.extract(carrier) if carrier else None
        attributes = {"http.request.method": method, "url.path": path.decode(errors="replace")}
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        return span if span.is_recording() else None

    def end(self, span: Span, status: int, request_id: str, ran: Ran | None) -> None:
        """It is answered; `ran` says when its batch ran, None where it was in none."""
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("slipway.request_id", request_id)
        span.set_attribute(VERSION_HEADER, self._release)
        if ran is not None:
            # What runs is timed by another clock than spans are.
            origin = time.time_ns() - round(time.perf_counter() * 1e9)
            created, started, ended = (origin + round(moment * 1e9) for moment in (ran.created, ran.started, ran.ended))
            context = set_span_in_context(span)
            self._tracer.start_span("wait", context, start_time=created).end(started)
            batch = self._tracer.start_span("predict", context, start_time=started)
            batch.set_attribute("slipway.batch_rows", ran.rows)
            batch.end(ended)
        if status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send what waits; blocks for seconds at most."""
        self._provider.shutdown()
