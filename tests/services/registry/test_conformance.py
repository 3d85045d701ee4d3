"""The service, judged by schemathesis: by its own OpenAPI description, and by that of the Open Inference Protocol."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from services.contract import Env

pytestmark = pytest.mark.slow

MODEL = "breast-cancer"
TOKEN = "a-token-of-the-tests"
PROTOCOL = Path(__file__).with_name("open_inference.json")
"""Its `info` says where it is from, under which licence, and what we changed."""

EXAMPLES = 25
"""Requests of each operation in the fuzzing phase; examples and coverage of each schema's corners come on top."""
SEED = 7

# What a model takes is more than a schema of all models can say, so that its valid bodies are mostly refused.
LEFT_OUT = "positive_data_acceptance"


def judge(directory, described, url, *options):
    """Run schemathesis; the result is every request that it made: method, path, status. What it finds fails."""
    directory.mkdir(exist_ok=True)
    (directory / "openapi.json").write_text(json.dumps(described))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", url,
        "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", str(SEED),
        "--no-shrink", "--continue-on-failure", "--request-timeout", "20",
        "--report", "har", "--report-har-path", "requests.har", *options,
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "NO_COLOR": "1", "COLUMNS": "160"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    entries = json.loads((directory / "requests.har").read_text())["log"]["entries"]
    return [
        (each["request"]["method"], urlsplit(each["request"]["url"]).path, each["response"]["status"])
        for each in entries
    ]


def naming(described, **values):
    """The description with names of this process in paths: a random one would only be told that it is none."""
    for operations in described["paths"].values():
        for parameter in operations.get("parameters", []):
            parameter["schema"] = {"enum": values[parameter["name"]]}
        for method in operations.keys() - {"parameters"}:
            for parameter in operations[method].get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": values[parameter["name"]]}
    return described


def golden_bodies(row):
    """A body of each kind that the model answers, by the last part of its path."""
    values = list(row.values())
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP64", "data": values}
    return {
        "predict": {"features": row},
        "{model}:predict": {"instances": [row]},
        "infer": {"inputs": [tensor]},
        "invocations": {"dataframe_split": {"columns": list(row), "data": [values]}},
    }


def answered(requests, method, pattern):
    """Statuses of requests to a path."""
    return {status for asked, path, status in requests if asked == method and re.fullmatch(pattern, path)}


@pytest.fixture(scope="module")
def guarded(serve, bundle):
    """The example with the repository extension enabled; models come and go here, so nobody else asks it."""
    settings = {Env.MODEL_URI: bundle, Env.MODEL_VERSION: "1", Env.REPOSITORY_TOKEN: TOKEN}
    return serve(settings).ready()


def test_every_operation_does_what_our_own_description_says(service, golden, tmp_path):
    described = httpx.get(f"{service.url}/openapi.json").json()
    bodies = golden_bodies(golden[0]["features"])
    for path, operations in described["paths"].items():
        if (body := bodies.get(path.rpartition("/")[2])) is not None:
            operations["post"]["requestBody"]["content"]["application/json"]["example"] = body
            # Any length of a JSON part but the body's own is refused; test_fuzzed_bodies tries them.
            parameters = operations["post"].get("parameters", [])
            operations["post"]["parameters"] = [each for each in parameters if each["in"] == "path"]
    naming(described, model=[MODEL, "other"], version=["1", "9"])
    requests = judge(
        tmp_path, described, service.url, "--exclude-checks", LEFT_OUT, "--exclude-path-regex", "/v2/repository/"
    )
    for path, operations in described["paths"].items():
        pattern = re.sub(r"\\{.*?\\}", "[^/:]+", re.escape(path))
        for method in () if "/repository/" in path else operations:
            assert 200 in answered(requests, method.upper(), pattern), f"{method} {path} never went well"
    for path in (r"/predict", r"/invocations", r"/v1/models/[^/]+:predict", r"/v2/models/[^/]+/infer"):
        assert answered(requests, "POST", path) >= {200, 400}, f"{path} was never asked in a wrong way"


def test_the_repository_extension_does_what_its_description_says(guarded, tmp_path):
    described = naming(httpx.get(f"{guarded.url}/openapi.json").json(), model=[MODEL, "other"], version=["1", "9"])
    only = ("--include-path-regex", "/v2/repository/")
    given = judge(tmp_path / "token", described, guarded.url, *only, "-H", f"Authorization: Bearer {TOKEN}")
    for action in ("load", "unload"):
        assert answered(given, "POST", f"/v2/repository/models/.*/{action}") >= {200, 401, 404}
    assert answered(given, "POST", "/v2/repository/index") >= {200, 400, 401}


def test_the_v2_paths_do_what_the_open_inference_protocol_says(service, golden, tmp_path):
    described = naming(json.loads(PROTOCOL.read_text()), model_name=[MODEL], model_version=["1"])
    body = golden_bodies(golden[0]["features"])["infer"]
    for path in described["paths"]:
        if path.endswith("/infer"):
            described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"] = body
    # Valid requests only: what becomes of others the protocol leaves to the server, and our own description says it.
    requests = judge(tmp_path, described, service.url, "--exclude-checks", LEFT_OUT, "--mode", "positive")
    for path, operations in described["paths"].items():
        concrete = path.format(model_name=MODEL, model_version="1")
        for method in operations.keys() - {"parameters"}:
            assert 200 in answered(requests, method.upper(), re.escape(concrete)), f"{path} never went well"


def test_the_example_of_the_binary_extension_is_one(client, service):
    """Its length is right and the service reads its tensor: what is wrong with it is the example's model only."""
    operation = client.get("/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]
    body = operation["requestBody"]["content"]["application/octet-stream"]["example"].encode()
    header = next(each for each in operation["parameters"] if each["in"] == "header")
    length = header["examples"]["binary"]["value"]
    assert json.loads(body[:length])["inputs"][0]["parameters"]["binary_data_size"] == len(body) - length
    answer = client.post(f"/v2/models/{MODEL}/infer", content=body, headers={header["name"]: str(length)})
    assert (answer.status_code, "it is [rows, 30]" in answer.text) == (400, True), answer.text
