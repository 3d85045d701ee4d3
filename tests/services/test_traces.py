"""Traces as a collector receives them: over OTLP, from the service's own process."""

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.contract import Env
from tests.services.scaling import body, scaling_bundle

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes what is sent to /v1/traces."""

    def __init__(self):
        self.spans = []
        self.resources = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    outer.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
                    for scope in resource.scope_spans:
                        outer.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_is_a_span_of_its_callers_trace_with_its_wait_and_its_batch_below(serve, tmp_path, collector):
    uri = scaling_bundle(tmp_path / "bundle", 2.0)
    service = serve({Env.MODEL_NAME: "m", Env.MODEL_URI: uri, Env.OTLP_ENDPOINT: collector.url}).ready()
    sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "me"}
    with service.client() as client:
        assert client.post("/v2/models/m/infer", json=body(1, 2), headers=sampled).is_success
        unsampled = {"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}
        assert client.post("/v2/models/m/infer", json=body(1, 2), headers=unsampled).is_success
        assert client.post("/v2/models/m/infer", content=b"{", headers=sampled).status_code == 400
        assert client.get("/v2/models/m", headers=sampled).is_success
        assert client.get("/metrics").is_success
    service.stop()  # sends what waits
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert len(spans) == len(collector.spans), "neither what is not sampled nor probes"
    by_name = defaultdict(list)
    for span in spans:
        by_name[span.name].append(span)
    served, refused = sorted(by_name["POST v2"], key=lambda span: attributes(span)["http.response.status_code"])
    (asked,) = by_name["GET v2"]
    (wait,), (predict,) = by_name["wait"], by_name["predict"]
    assert {span.parent_span_id.hex() for span in (served, refused, asked)} == {PARENT}
    assert {span.parent_span_id for span in (wait, predict)} == {served.span_id}
    assert attributes(served)["http.response.status_code"] == 200
    assert attributes(served)["slipway.request_id"] == "me"
    assert attributes(refused)["http.response.status_code"] == 400
    assert attributes(predict)["slipway.batch_rows"] == 1
    times = [served.start_time_unix_nano, wait.start_time_unix_nano, wait.end_time_unix_nano]
    times += [predict.start_time_unix_nano, predict.end_time_unix_nano, served.end_time_unix_nano]
    assert times == sorted(times)
    assert {resource["service.name"] for resource in collector.resources} == {"m"}
    assert {resource["service.version"] for resource in collector.resources} == {"v7"}


def test_a_collector_that_is_away_holds_nobody_up(serve, tmp_path):
    uri = scaling_bundle(tmp_path / "bundle", 2.0)
    away = "http://127.0.0.1:9"  # discard: nobody listens
    brief = {"OTEL_EXPORTER_OTLP_TIMEOUT": 1}
    service = serve({Env.MODEL_NAME: "m", Env.MODEL_URI: uri, Env.OTLP_ENDPOINT: away} | brief).ready()
    for _ in range(20):
        assert httpx.post(f"{service.url}/v2/models/m/infer", json=body(1, 2), timeout=5).is_success
    assert service.stop() == 0
