"""The commands on the whole environment: up, down, env, pulumi, endpoints, predict."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from policies.rules.models import REALTIME_MODEL
from tools import bringup, environment, paths, prediction
from tools.cluster import layout as names
from tools.cluster import lifecycle
from tools.steps import StepError, Steps

Context = Annotated[
    str | None,
    typer.Option(envvar="SLIPWAY_KUBE_CONTEXT", help="Context of a cluster of yours, instead of the embedded one."),
]
Cluster = Annotated[str, typer.Option("--cluster", envvar="SLIPWAY_CLUSTER", help="Which embedded cluster.")]
Stack = Annotated[str, typer.Option("-s", "--stack", help="Which stack.")]
Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]


def up(cluster: Cluster = names.DEFAULT_NAME, context: Context = None) -> None:
    """Bring everything up: toolchain, cluster, images, platform, example model; end with a prediction."""
    found = bringup.up(context, cluster, Steps(record=paths.BUILD / "steps.json"))
    endpoints = found.outputs()["endpoints"]
    for model, endpoint in endpoints.items():
        body = _example_body(found, environment.STACK, model)
        answer = prediction.predict(endpoint, body)
        print(f"\n{model} answers at {endpoint}\n  {json.dumps(answer)}\n\nAsk it yourself:\n")
        print(
            f"  curl -s {endpoint}/predict -H 'content-type: application/json' \\\n    -d "
            f"{shlex.quote(json.dumps(body))}"
        )
    print('\nWork with the stack: eval "$(slipway env)"; pulumi preview -s local')


def down(cluster: Cluster = names.DEFAULT_NAME, context: Context = None) -> None:
    """Destroy the stack, and with the embedded cluster everything of it."""
    if context:
        found = environment.resolve(context, cluster)
        found.pulumi("destroy", "--yes", "--skip-preview")
        return
    existed = lifecycle.down(cluster)
    print(f"cluster {cluster}: " + ("down, nothing of it is left" if existed else "there was none"))


def env(cluster: Cluster = names.DEFAULT_NAME, context: Context = None) -> None:
    """Print the variables that `pulumi` and `kubectl` need: `eval "$(slipway env)"`."""
    for name, value in environment.resolve(context, cluster).variables.items():
        print(f"export {name}={shlex.quote(value)}")


def pulumi(arguments: typer.Context, cluster: Cluster = names.DEFAULT_NAME, context: Context = None) -> None:
    """Run `pulumi` with that environment, previews and updates with our policies: `slipway pulumi preview -s local`."""
    raise typer.Exit(environment.resolve(context, cluster).run(arguments.args))


def endpoints(
    stack: Stack = environment.STACK,
    output: Output = "table",
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Base URL of each deployed model."""
    found = environment.resolve(context, cluster).outputs(stack)["endpoints"]
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found), default=0)
    for model, url in found.items():
        print(f"{model:{width}}  {url}")


def predict(
    model: str,
    data: Annotated[
        str | None, typer.Option(help="JSON file, or - for standard input: a row, or a list of rows, by feature name.")
    ] = None,
    stack: Stack = environment.STACK,
    output: Output = "table",
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Send rows, or the model's registered input example, and print the answer."""
    found = environment.resolve(context, cluster)
    known = found.outputs(stack)["endpoints"]
    if model not in known:
        raise StepError(
            f"{model}: not deployed in stack {stack} → one of: {', '.join(known) or 'none'} → `slipway endpoints`"
        )
    body = _given_body(data) if data else _example_body(found, stack, model)
    answer = prediction.predict(known[model], body)
    if output == "json":
        print(json.dumps(answer))
        return
    scores = answer["probability"] if isinstance(answer["probability"], list) else [answer["probability"]]
    values = answer["prediction"] if isinstance(answer["prediction"], list) else [answer["prediction"]]
    print(f"{model} version {answer['model_version']}, {answer['latency_ms']:.1f} ms, request {answer['request_id']}")
    for number, (value, score) in enumerate(zip(values, scores, strict=True), 1):
        print(f"  row {number}: prediction {value}" + ("" if score is None else f", probability {score:.6f}"))


def _given_body(data: str) -> dict[str, Any]:
    try:
        content = json.loads(sys.stdin.read() if data == "-" else Path(data).read_text())
    except (OSError, ValueError) as error:
        raise StepError(
            f"--data {data}: {error} → JSON: a row by feature name, or a list of them → correct it"
        ) from error
    return content if isinstance(content, dict) and "features" in content else {"features": content}


def _example_body(found: environment.Environment, stack: str, model: str) -> dict[str, Any]:
    rows = prediction.input_example(found.outputs(stack)["mlflow"], _live_uri(found, stack, model))
    return {"features": rows[0] if len(rows) == 1 else rows}


def _live_uri(found: environment.Environment, stack: str, model: str) -> str:
    """`models:/<name>/<version>` of the release with the most traffic, which need not be registered as the model."""
    declared = next(
        resource["inputs"]
        for resource in found.state(stack)
        if resource["type"] == REALTIME_MODEL and resource["inputs"]["model"] == model
    )
    traffic: dict[str, float] = declared["traffic"]
    return str(declared["releases"][max(sorted(traffic), key=lambda release: traffic[release])]["uri"])
