"""Life of the process: what it does before it is ready, when it cannot be, and when it is told to stop."""

import fcntl
import hashlib
import pickle
import shutil
import signal
import socket

import httpx
import pytest
import yaml
from mlflow import MlflowClient

from services.contract import DIGEST_TAG, Env, directory_digest
from tools.registry import Registration, register_bundle

OTHER_DIGEST = "sha256:" + "0" * 64


def ended(service):
    """Exit code, standard error and termination log of a process that ends by itself."""
    code = service.wait()
    return code, service.stderr.read_text(), service.termination_log.read_text()


def refused(service, *said):
    """The process ended as a pod should: code 1, one line, the same in the termination log."""
    code, stderr, termination = ended(service)
    assert code == 1, stderr
    assert stderr.startswith("slipway: "), stderr
    assert len(stderr.splitlines()) == 1, f"one clear line, no stack trace:\n{stderr}"
    assert termination == stderr, "Kubernetes shows the termination log as the pod's reason"
    for part in said:
        assert part in stderr


@pytest.fixture
def poisoned(tmp_path):
    """An MLflow model whose pickle leaves a mark when anything unpickles it: (directory, mark)."""
    mark = tmp_path / "mark"
    directory = tmp_path / "poisoned"
    (directory / "data").mkdir(parents=True)

    class Mark:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    (directory / "python_model.pkl").write_bytes(pickle.dumps(Mark()))
    (directory / "data" / "model.pth").write_bytes(pickle.dumps(Mark()))
    flavors = {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "data": "python_model.pkl",
        },
        "sklearn": {"pickled_model": "python_model.pkl", "serialization_format": "pickle", "sklearn_version": "1.9.1"},
    }
    signature = {"inputs": '[{"type": "double", "name": "a", "required": true}]', "outputs": None}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": signature}))
    return directory, mark


def test_the_wrong_digest_is_refused_before_anything_is_deserialised(serve, poisoned):
    directory, mark = poisoned
    service = serve({Env.MODEL_URI: directory, Env.MODEL_DIGEST: OTHER_DIGEST})
    refused(service, directory_digest(directory), f"the release was made for {OTHER_DIGEST}")
    assert not mark.exists(), "a pickle was read before its digest was checked"


def test_pickles_are_refused_where_no_digest_vouches_for_them(serve, poisoned):
    directory, mark = poisoned
    refused(serve({Env.MODEL_URI: directory}), "SLIPWAY_MODEL_DIGEST")
    assert not mark.exists()


def test_the_poison_works_where_the_digest_vouches_for_it(serve, poisoned):
    directory, mark = poisoned
    service = serve({Env.MODEL_URI: directory, Env.MODEL_DIGEST: directory_digest(directory)})
    assert service.wait() == 1, "a file handle is no model"
    assert mark.exists(), "or the two tests above prove nothing"


def test_a_registered_version_with_another_digest_is_refused(serve, registered, mlflow_server):
    service = serve(
        {Env.MODEL_URI: registered.uri, Env.MODEL_DIGEST: OTHER_DIGEST, Env.MLFLOW_TRACKING_URI: mlflow_server}
    )
    refused(service, registered.digest)


def test_a_registered_version_that_was_changed_since_is_refused_without_a_digest_of_the_release_too(
    serve, registered, mlflow_server, bundle, tmp_path
):
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    config = changed / "config.yaml"
    config.write_text(config.read_text().replace("name: ", "name: forged-"))
    found = register_bundle(mlflow_server, Registration(name="changed", bundle=changed, metrics={}, parameters={}))
    MlflowClient(mlflow_server, mlflow_server).set_model_version_tag("changed", found.version, DIGEST_TAG, OTHER_DIGEST)
    service = serve({Env.MODEL_URI: found.uri, Env.MLFLOW_TRACKING_URI: mlflow_server})
    refused(service, f"its version was registered with {OTHER_DIGEST}")


def test_a_version_that_is_not_registered_is_refused(serve, registered, mlflow_server):
    service = serve({Env.MODEL_URI: f"models:/{registered.name}/99", Env.MLFLOW_TRACKING_URI: mlflow_server})
    refused(service, "models:/breast-cancer/99", "not in the registry")


def test_an_alias_is_resolved_to_its_version(serve, registered, mlflow_server):
    service = serve(
        {
            Env.MODEL_URI: f"models:/{registered.name}@champion",
            Env.MODEL_DIGEST: registered.digest,
            Env.MLFLOW_TRACKING_URI: mlflow_server,
        }
    ).ready()
    with service.client() as client:
        assert client.get("/health").json()["version"] == registered.version
    assert service.stop() == 0


def test_a_broken_module_is_refused_by_its_name(serve, bundle, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "model.pt").write_bytes((bundle / "model.pt").read_bytes()[:5000])
    refused(serve({Env.MODEL_URI: broken, Env.MODEL_DIGEST: directory_digest(broken)}), "model.pt")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({Env.MODEL_URI: None}, "SLIPWAY_MODEL_URI"),
        ({Env.MODEL_URI: "/nowhere"}, "no such directory"),
        ({Env.MODEL_URI: "models:/a/1"}, "MLFLOW_TRACKING_URI"),
        ({Env.MODEL_URI: "ftp://a/b"}, "ftp://a/b"),
        ({Env.MODEL_URI: "/nowhere", Env.MODEL_DIGEST: "sha256:abc"}, "SLIPWAY_MODEL_DIGEST"),
        ({Env.MODEL_URI: "/nowhere", Env.CACHE_DIR: "/proc/cache"}, "/proc/cache"),
    ],
)
def test_a_setting_that_cannot_work_is_named(serve, settings, said):
    code, stderr, _ = ended(serve(settings))
    assert code == 1
    assert said in stderr
    assert len(stderr.splitlines()) == 1, stderr


def test_a_port_that_is_taken_is_named(serve, bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(serve({Env.MODEL_URI: bundle, Env.HTTP_PORT: port}), f"127.0.0.1:{port}")


def test_a_process_is_live_but_not_ready_until_its_model_is_loaded_and_stops_when_told(serve, bundle):
    service = serve({Env.MODEL_URI: "/nowhere"})
    service.wait()
    digest = directory_digest(bundle)
    cache = service.cache / "artifacts"
    cache.mkdir(parents=True, exist_ok=True)
    lock = cache / f".{hashlib.sha256(digest.encode()).hexdigest()[:32]}.lock"
    settings = {Env.MODEL_URI: bundle, Env.MODEL_DIGEST: digest, Env.CACHE_DIR: service.cache}
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another process downloads: loading waits for it
        loading, stopped = serve(settings), serve(settings)
        with loading.client() as client:
            assert client.get("/v2/health/live").status_code == 200
            assert client.get("/v2/health/ready").status_code == 503
            assert client.get("/health").json()["status"] == "loading"
            answer = client.post("/predict", json={"features": {}})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        with stopped.client() as client:
            assert client.get("/v2/health/live").status_code == 200
        stopped.signal(signal.SIGTERM)
        assert stopped.wait(30) == 0, "told to stop while it loads, it stops"
    loading.ready()
    assert loading.stop() == 0, "a drained process ends with code 0"


def test_a_request_that_was_accepted_is_answered_after_the_signal_to_stop(serve, bundle, golden):
    service = serve({Env.MODEL_URI: bundle, Env.DRAIN_SECONDS: 20}).ready()
    row = b'{"features": ' + str(golden[0]["features"]).replace("'", '"').encode() + b"}"
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: {len(row)}\r\n\r\n".encode()
        connection.sendall(head + row[:10])
        service.until(lambda: in_flight(service) or None, "the request does not arrive")
        service.signal(signal.SIGTERM)
        service.until(lambda: closed(service) or None, "the port stays open")
        connection.sendall(row[10:])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b'"prediction":' in answer
    assert service.wait(30) == 0


def in_flight(service) -> bool:
    text = httpx.get(service.url + "/metrics", timeout=10).text
    return any(line.startswith("slipway_requests_in_flight{") and line.endswith(" 2.0") for line in text.splitlines())


def closed(service) -> bool:
    try:
        httpx.get(service.url + "/v2/health/live", timeout=5)
    except httpx.ConnectError:
        return True
    except httpx.ReadError:
        pass  # it was waiting at the port when that closed
    return False


def test_a_bundle_in_a_directory_is_served_without_a_digest_and_writes_only_to_the_cache(serve, bundle, golden):
    before = directory_digest(bundle)
    service = serve({Env.MODEL_URI: bundle, Env.MODEL_VERSION: "3"}).ready()
    with service.client() as client:
        answer = client.post("/predict", json={"features": golden[0]["features"]}).json()
        assert answer["probability"] == pytest.approx(golden[0]["probability"], abs=1e-6)
        assert answer["model_version"] == "3"
        assert client.get("/health").json()["digest"] == before
    assert directory_digest(bundle) == before
