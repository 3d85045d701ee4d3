"""The servers: how each is started, what it speaks, and the configuration that it gets.

`settings` says in a person's words what is set and why; bench/README.md publishes it. All get one
process or thread for the model, one torch thread, and the same core.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.environments import ROOT, python_of, site_packages
from bench.protocols import BARE_JSON, MLFLOW_JSON, MODEL, PREDICT_JSON, V2_BINARY, V2_JSON, Protocol
from services.contract import Env, directory_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bench.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one server runs."""

    workload: Workload
    artifact: Path
    scratch: Path
    """An empty directory of its own."""
    port: int
    source: Path
    """The directory that holds `services/`, for our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run; the working directory is the scratch directory."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    leaves: str = ""
    """A directory outside the scratch directory that goes with the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One of the servers side by side."""

    name: str
    title: str
    launch: Callable[[Place], Launch]
    protocols: Mapping[str, Protocol]
    """By encoding, `json` or `binary`."""
    ready: str
    """Path that answers 200 once the model is loaded."""
    settings: str
    package: str = ""
    """The distribution whose version is told."""
    environment: str = ""
    """Its virtual environment; empty for the project's own."""
    start_seconds: float = 120.0


def base_environment() -> dict[str, str]:
    """What every server gets: one thread in each library, no GPU, no telemetry, nothing of the caller's shell."""
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **{key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in os.environ},
        **dict.fromkeys(one, "1"),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }


def _peer(place: Place, environment: str, *command: str, **more: str) -> Launch:
    """A peer's interpreter with our serve files on its path."""
    python = python_of(environment)
    path = f"{python.parent}:{os.environ['PATH']}"
    return Launch(
        command=[str(python), *command],
        environment={"PATH": path, "PYTHONPATH": str(ROOT), "BENCH_ARTIFACT": str(place.artifact), **more},
    )


def _script(name: str) -> str:
    return str(ROOT / "bench" / "peers" / name / "serve.py")


def _slipway(place: Place) -> Launch:
    bundle = place.artifact / "bundle"
    model = bundle if bundle.is_dir() else place.artifact / "mlflow"
    settings = {
        Env.MODEL_NAME: MODEL,
        Env.MODEL_URI: model,
        Env.MODEL_DIGEST: directory_digest(model),
        Env.CACHE_DIR: place.scratch / "cache",
        Env.HTTP_HOST: "127.0.0.1",
        Env.HTTP_PORT: place.port,
        Env.GRPC_PORT: place.port + 1,
        Env.TORCH_THREADS: 1,
    }
    return Launch(
        command=[sys.executable, "-m", "services.inference.main"],
        environment={**{str(key): str(value) for key, value in settings.items()}, "PYTHONPATH": str(place.source)},
    )


TRITON_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 1024
input [{{ name: "input" data_type: TYPE_FP32 dims: [ 32 ] }}]
output [{{ name: "output" data_type: TYPE_{datatype} dims: [ 1 ] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{ }}
"""


def _triton(place: Place) -> Launch:
    packages = site_packages("triton")
    server = packages / "pytriton" / "tritonserver"
    model, backend = place.scratch / "models" / MODEL, place.scratch / "backends" / "python"
    (model / "1").mkdir(parents=True)
    backend.mkdir(parents=True)
    (model / "config.pbtxt").write_text(TRITON_CONFIG.format(name=MODEL, datatype=place.workload.datatype))
    for ours in ("triton/model.py", "served.py"):
        shutil.copy(ROOT / "bench" / "peers" / ours, model / "1")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(server / "backends" / "python").iterdir(), stub):
        if file.is_file():
            shutil.copy(file, backend / file.name)
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{sys.base_prefix}/lib"
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={place.scratch / 'models'}", f"--backend-directory={place.scratch / 'backends'}",
        "--http-address=127.0.0.1", f"--http-port={place.port}", f"--http-thread-count={TRITON_HTTP_THREADS}",
        "--allow-grpc=false", "--allow-metrics=false", "--log-verbose=0",
        "--disable-auto-complete-config",
    ]  # fmt: skip
    # Its stub takes the Python, and so the packages, that come first on PATH.
    return Launch(command=command, environment=_peer(place, "triton", LD_LIBRARY_PATH=libraries).environment)


TRITON_HTTP_THREADS = 4
"""Of 1, 2, 4 and 8, the default, on one core: the fastest in each trial, by a little."""


def _mlflow(place: Place) -> Launch:
    command = ["-m", "mlflow", "models", "serve", "-m", str(place.artifact / "mlflow"), "--env-manager", "local"]
    return _peer(place, "mlflow", *command, "--host", "127.0.0.1", "--port", str(place.port), "--workers", "1")


def _mlserver(place: Place) -> Launch:
    settings = {
        "host": "127.0.0.1", "http_port": place.port, "grpc_port": place.port + 1, "metrics_endpoint": None,
        "parallel_workers": 0, "debug": False, "gzip_enabled": False,
    }  # fmt: skip
    model = {"name": MODEL, "implementation": "bench.peers.mlserver.serve.Served"} | MLSERVER_BATCHING
    (place.scratch / "settings.json").write_text(json.dumps(settings))
    (place.scratch / "model-settings.json").write_text(json.dumps(model))
    return _peer(place, "mlserver", str(python_of("mlserver").with_name("mlserver")), "start", str(place.scratch))


MLSERVER_BATCHING: dict[str, object] = {"max_batch_size": 32, "max_batch_time": 0.001}


def _kserve(place: Place) -> Launch:
    return _peer(place, "kserve", _script("kserve"), "--http_port", str(place.port), "--model_name", MODEL)


def _litserve(place: Place) -> Launch:
    batching = {"BENCH_BATCH": "64", "BENCH_BATCH_SECONDS": "0.005", "BENCH_FAST_QUEUE": "0"}
    return _peer(place, "litserve", _script("litserve"), str(place.port), **batching)


def _bentoml(place: Place) -> Launch:
    command = ["-m", "bentoml", "serve", "bench.peers.bentoml.serve:Served", "--host", "127.0.0.1"]
    home = {
        "BENTOML_HOME": str(place.scratch / "home"),
        "BENTOML_CONFIG_OPTIONS": "services.logging.access.enabled=false",
    }
    return _peer(place, "bentoml", *command, "--port", str(place.port), **home)


def _ray(place: Place) -> Launch:
    # A socket's path has 107 characters at most, so Ray's directory cannot be below ours.
    directory = f"/tmp/slipway-bench-ray-{place.port}"  # noqa: S108
    return replace(_peer(place, "ray", _script("ray"), str(place.port), directory), leaves=directory)


def _echo(place: Place) -> Launch:
    command = [
        sys.executable, "-m", "uvicorn", "bench.echo:app", "--host", "127.0.0.1", "--port", str(place.port),
        "--workers", "1", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    return Launch(command=command, environment={"PYTHONPATH": str(ROOT)})


OURS, FLOOR, IN_PROCESS = "slipway", "asgi-echo", "in-process"

_V2 = {"json": V2_JSON, "binary": V2_BINARY}

SERVERS = {
    each.name: each
    for each in (
        Server(
            name=OURS,
            title="Slipway",
            launch=_slipway,
            protocols=_V2,
            ready="/v2/health/ready",
            settings="as the image runs it: every setting at its default, one torch thread; A, C and D are bundles, "
            "B is an MLflow model behind its digest",
        ),
        Server(
            name="triton",
            title="NVIDIA Triton",
            launch=_triton,
            protocols=_V2,
            ready="/v2/health/ready",
            package="nvidia-pytriton",
            environment="triton",
            settings="tritonserver 2.51 itself, from the nvidia-pytriton wheel, with its Python backend (the wheel has "
            "no other): one CPU instance, dynamic batching without delay, max_batch_size 1024, "
            f"{TRITON_HTTP_THREADS} HTTP threads (slightly faster than the default 8 here), gRPC and metrics off",
        ),
        Server(
            name="mlflow",
            title="mlflow models serve",
            launch=_mlflow,
            protocols={"json": MLFLOW_JSON},
            ready="/ping",
            package="mlflow",
            environment="mlflow",
            settings="one uvicorn worker with uvloop and httptools, tensor signature (no data frame); no batching",
        ),
        Server(
            name="mlserver",
            title="MLServer",
            launch=_mlserver,
            protocols={"json": V2_JSON},
            ready=f"/v2/models/{MODEL}/ready",
            package="mlserver",
            environment="mlserver",
            settings="custom runtime, parallel_workers 0 (in-process: one core gains nothing from a second process), "
            "adaptive batching of up to 32 requests within 1 ms (faster than 5 ms and than none), metrics and gzip off",
        ),
        Server(
            name="kserve",
            title="KServe ModelServer",
            launch=_kserve,
            protocols=_V2,
            ready=f"/v2/models/{MODEL}/ready",
            package="kserve",
            environment="kserve",
            settings="custom model, one worker, uvloop; gRPC, latency and access logs off; its ModelServer has no "
            "batching (KServe does that in a sidecar)",
        ),
        Server(
            name="litserve",
            title="LitServe",
            launch=_litserve,
            protocols={"json": PREDICT_JSON},
            ready="/health",
            package="litserve",
            environment="litserve",
            settings="one worker, one API server, batches of up to 64 requests within 5 ms (faster than 1 ms or none "
            "and than with fast_queue)",
        ),
        Server(
            name="bentoml",
            title="BentoML",
            launch=_bentoml,
            protocols={"json": BARE_JSON},
            ready="/readyz",
            package="bentoml",
            environment="bentoml",
            settings="one worker, batchable API: adaptive batching up to 1,024 rows (faster than none); metrics and "
            "access log off",
        ),
        Server(
            name="ray",
            title="Ray Serve",
            launch=_ray,
            protocols={"json": PREDICT_JSON},
            ready="/-/healthz",
            package="ray",
            environment="ray",
            settings="one proxy and one replica, @serve.batch of up to 64 requests without delay, access log off; "
            "RAY_SERVE_THROUGHPUT_OPTIMIZED was slower on one core",
        ),
        Server(
            name=FLOOR,
            title="bare ASGI under uvicorn",
            launch=_echo,
            protocols=_V2,
            ready="/ready",
            package="uvicorn",
            settings="reads the body, answers one of the same size as ours: no model, no decoding; uvloop, httptools",
        ),
    )
}
