"""A real Prometheus, configured as the program does but for where the targets are and how often it evaluates."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from infra import names
from infra.telemetry import scraping
from services.contract import HTTP_PORT
from tests.processes import Process, free_port
from tools.toolchain import build

if TYPE_CHECKING:
    from pathlib import Path


def answers(url: str):
    try:
        return True if httpx.get(url, timeout=5).is_success else None
    except httpx.TransportError:
        return None


def target(url: str, model: str, release: str) -> dict[str, Any]:
    """A pod as Kubernetes' service discovery describes it."""
    return {
        "targets": [url.removeprefix("http://")],
        "labels": {
            "__meta_kubernetes_namespace": names.MODELS_NAMESPACE,
            "__meta_kubernetes_pod_name": f"{model}-{release}-0",
            "__meta_kubernetes_pod_phase": "Running",
            "__meta_kubernetes_pod_container_port_number": str(HTTP_PORT),
            "__meta_kubernetes_pod_label_slipway_dev_model": model,
            "__meta_kubernetes_pod_label_slipway_dev_release": release,
        },
    }


def panels(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and query of everything that a dashboard shows."""
    chosen = {"$model": ".*", "$release": ".*", "$__rate_interval": "30s"}
    found = []
    for panel in dashboard["panels"]:
        for each in panel["targets"]:
            query = each["expr"]
            for variable, value in chosen.items():
                query = query.replace(variable, value)
            found.append((panel["title"], query))
    return found


class Prometheus(Process):
    """A server of the test's own; it runs when the constructor returns."""

    def __init__(self, directory: Path, targets: dict[str, list[dict[str, Any]]], rules: dict[str, Any]) -> None:
        config = scraping.prometheus_config(scrape_seconds=1)
        config["global"]["evaluation_interval"] = "1s"
        for job in config["scrape_configs"]:
            del job["kubernetes_sd_configs"]
            job["static_configs"] = targets.get(job["job_name"], [])
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        (directory / "rules.yml").write_text(yaml.safe_dump(rules))
        port = free_port()
        command = [
            str(build.binary("prometheus")), f"--config.file={directory}/prometheus.yml", "--web.route-prefix=/",
            f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}",
            f"--web.external-url=http://127.0.0.1:{port}{names.PROMETHEUS_PATH}",
        ]  # fmt: skip
        super().__init__(command, directory, dict(os.environ))
        self.url = f"http://127.0.0.1:{port}"
        self.until(lambda: answers(f"{self.url}/-/ready"), "Prometheus does not start")

    def ask(self, query: str) -> list:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=30).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]["result"]

    def value(self, query: str) -> float | None:
        result = self.ask(query)
        return float(result[0]["value"][1]) if result else None

    def missing(self, query: str) -> list[str]:
        """Series that a query names and that are not there."""
        return sorted(selector for selector in self.selectors(query) if not self.ask(selector))

    def selectors(self, query: str) -> set[str]:
        """Every series that a query names, without windows and offsets."""
        answer = httpx.get(f"{self.url}/api/v1/parse_query", params={"query": query}, timeout=30).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        found = set()

        def walk(node: object) -> None:
            if isinstance(node, dict):
                if node.get("type") in {"vectorSelector", "matrixSelector"}:
                    matchers = (f"{it['name']}{it['type']}{json.dumps(it['value'])}" for it in node["matchers"])
                    found.add("{" + ",".join(matchers) + "}")
                for child in node.values():
                    walk(child)
            elif isinstance(node, list):
                for child in node:
                    walk(child)

        walk(answer["data"])
        return found
