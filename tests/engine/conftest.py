"""A project of its own for each test, run by the real engine against a local backend."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from infra.evidence.seal import TAG, Seal, seal
from tests.engine.aws_provider import RememberingAccount
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.remembering_provider import Serving
from tests.infra.evaluated import KEY, content_of
from tests.infra.recording import RECORDS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROOT = Path(__file__).resolve().parents[2]

PASSPHRASE = "engine-tests"

COMMAND_SECONDS = 240
"""Far above what a command takes here (some 10 s), for a machine that builds beside the tests."""


@dataclass
class Ran:
    code: int
    output: str

    def __bool__(self) -> bool:
        return self.code == 0


@dataclass
class Project:
    """A copy of the program's entry point with a stack file that the test writes."""

    directory: Path
    env: dict[str, str]
    registry_url: str
    stack: str = "test"
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def stack_file(self) -> Path:
        return self.directory / "stacks" / f"Pulumi.{self.stack}.yaml"

    def configure(self, **keys: Any) -> None:
        """Sets keys below `slipway:`; the others stay."""
        self.config |= {f"slipway:{key}": value for key, value in keys.items()}
        content = yaml.safe_load(self.stack_file.read_text()) if self.stack_file.exists() else {}
        self.stack_file.write_text(yaml.safe_dump({**(content or {}), "config": self.config}))

    def pulumi(self, *arguments: str) -> Ran:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    def preview(self, *arguments: str) -> Ran:
        return self.pulumi("preview", "--stack", self.stack, "--color", "never", *arguments)

    def up(self, *arguments: str) -> Ran:
        return self.pulumi("up", "--stack", self.stack, "--yes", "--skip-preview", "--color", "never", *arguments)

    def destroy(self) -> Ran:
        return self.pulumi("destroy", "--stack", self.stack, "--yes", "--skip-preview", "--color", "never")

    def outputs(self) -> dict[str, Any]:
        done = self.pulumi("stack", "output", "--stack", self.stack, "--json")
        assert done, done.output
        return json.loads(done.output)

    def exported(self) -> str:
        """The stack's state as it is kept."""
        done = self.pulumi("stack", "export", "--stack", self.stack)
        assert done, done.output
        return done.output

    def previewed(self, *arguments: str) -> str:
        """A preview as the engine writes it for programs."""
        done = subprocess.run(
            ["pulumi", "preview", "--stack", self.stack, "--json", "--non-interactive", *arguments],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def steps(self) -> dict[str, str]:
        """What a preview would do."""
        return steps_of(self.previewed())


def steps_of(previewed: str) -> dict[str, str]:
    """Operation by `<kind> <name>`, unchanged resources left out."""
    return {
        f"{urn.split('::')[2].split('$')[-1].rpartition(':')[2]} {urn.rpartition('::')[2]}": step["op"]
        for step in json.loads(previewed)["steps"]
        if step["op"] != "same"
        for urn in [step["urn"]]
    }


@pytest.fixture
def provider():
    return RememberingCluster()


@pytest.fixture
def registry():
    """A registry that has every version of every model, and where the alias `champion` is version 7."""
    with Registry() as serving:
        yield serving


GOLDEN = {"tolerance": 1e-6, "rows": [{"features": {"a": 1.0}, "probability": 0.25, "prediction": 0}]}
"""Golden rows of every version in the registry."""


class Registry:
    """`evidence` has the files of versions that were evaluated: content and seal by model and version."""

    class Handler(http.server.BaseHTTPRequestHandler):
        evidence: ClassVar[dict[tuple[str, str], tuple[bytes, Seal]]] = {}

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            asked = dict(urllib.parse.parse_qsl(url.query))
            if "/mlflow-artifacts/" in url.path:
                self._artifact(url.path, asked)
                return
            version = asked.get("version", "7")
            found = asked.get("name") != "missing" and "search" not in url.path
            tags = [{"key": "slipway.artifact.digest", "value": f"sha256:{int(version):064x}"}]
            if found_evidence := self.evidence.get((asked.get("name", ""), version)):
                tags.append({"key": TAG, "value": found_evidence[1].dump()})
            location = f"mlflow-artifacts:/{asked.get('name')}/{version}"
            body = {"model_version": {"version": version, "tags": tags}, "artifact_uri": location}
            self.send_response(200 if found or "search" in url.path else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            missing = {} if "search" in url.path else {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            self.wfile.write(json.dumps(body if found else missing).encode())

        def _artifact(self, path: str, asked: dict[str, str]) -> None:
            """Of every version the golden rows, of evaluated ones their evidence."""
            *_, model, version, name = path.split("/")
            content = json.dumps({"files": [{"path": "golden.json", "is_dir": False}]}).encode()
            if "path" not in asked:
                content = self.evidence[model, version][0] if name == "evidence.json" else json.dumps(GOLDEN).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    def __init__(self) -> None:
        self.evidence: dict[tuple[str, str], tuple[bytes, Seal]] = {}

    def add(self, model: str, version: str, said: dict[str, Any], key: Ed25519PrivateKey = KEY) -> None:
        """Record evidence of a version, signed by a key."""
        content = content_of({"digest": f"sha256:{int(version):064x}", **said})
        location = f"mlflow-artifacts:/{model}/{version}/evidence.json"
        self.evidence[model, version] = (content, seal(content, location, key))

    def __enter__(self):
        handler = type("Handler", (self.Handler,), {"evidence": self.evidence})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def engine_env(directory: Path, toolchain_bin: Path, attached: str) -> dict[str, str]:
    """Environment of the engine: our toolchain, a backend and a home below a directory, the providers that listen."""
    for each in ("home", "state"):
        (directory / each).mkdir()
    return {
        "PATH": os.pathsep.join([str(toolchain_bin), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(directory / "home"),
        "PULUMI_HOME": str(directory / "home" / ".pulumi"),
        "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # What listens needs no plugin; the engine would look for one on the network, and again, at each command.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_DEBUG_PROVIDERS": attached,
        # gRPC of the language host and the program would otherwise try a machine's proxy for 127.0.0.1.
        "NO_PROXY": "127.0.0.1,localhost",
    }


def new_project(root: Path, env: dict[str, str], registry_url: str, stack: str = "test") -> Project:
    """An initialised stack of the real program, its configuration empty but for the registry."""
    directory = root / stack
    (directory / "stacks").mkdir(parents=True)
    (directory / "build").mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", directory)
    shutil.copy(ROOT / "stacks" / "__main__.py", directory / "stacks")
    charts = {key: getattr(RECORDS, key) for key in ("istio_charts", "kserve_charts", "keda_charts", "kuberay_charts")}
    (directory / "build" / "images.json").write_text(json.dumps(dict(RECORDS.images)))
    (directory / "build" / "toolchain.json").write_text(json.dumps(charts))
    made = Project(directory=directory, env=env, registry_url=registry_url, stack=stack)
    initialised = made.pulumi("stack", "init", stack)
    assert initialised, initialised.output
    # What the provider remembers answers no request: the checklist has tests of its own.
    made.configure(registry={"url": registry_url}, checklist={"enabled": False})
    return made


@pytest.fixture
def pulumi_env(tmp_path, toolchain_bin, provider):
    """The engine's environment with the provider above, and an account for those who ask AWS."""
    with Serving(provider) as inside, Serving(RememberingAccount()) as outside:
        yield engine_env(tmp_path, toolchain_bin, f"{inside.attached},{outside.attached}")


@pytest.fixture
def project(tmp_path, pulumi_env, registry):
    """A stack configured as an environment without models."""
    made = new_project(tmp_path, pulumi_env, registry.url)
    made.configure(platform={"kind": "local"}, models={})
    return made


def problems_in(output: str) -> list[str]:
    """Our own error lines in what the engine prints."""
    return [line.strip() for line in re.findall(r"^.*slipway:[a-z].* → .*$", output, flags=re.MULTILINE)]
