"""`slipway cluster`: the embedded single-node Kubernetes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from tools.cluster import containerd, lifecycle
from tools.cluster import layout as names
from tools.cluster.gpus import Gpus
from tools.steps import StepError, Steps

app = typer.Typer(help="A real single-node Kubernetes on this machine.", no_args_is_help=True)

Name = Annotated[
    str, typer.Option("--name", envvar="SLIPWAY_CLUSTER", help="Which cluster; several can run side by side.")
]
Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]


@app.command()
def up(
    name: Name = names.DEFAULT_NAME,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 at which the gateway answers.")
    ] = (names.DEFAULT_GATEWAY_PORT),
    gpus: Annotated[
        str | None,
        typer.Option(help="GPUs that the node says it has, to try scheduling: N or N:ACCELERATOR. There are none."),
    ] = None,
) -> None:
    """Start the cluster, repair it after a crash, or find it running."""
    layout = lifecycle.up(name, gateway_port, Steps(), Gpus.parse(gpus) if gpus else None)
    print(f"export KUBECONFIG={layout.kubeconfig}")


@app.command()
def down(name: Name = names.DEFAULT_NAME) -> None:
    """Stop the cluster and remove everything of it from this machine."""
    print(f"cluster {name}: " + ("down, nothing of it is left" if lifecycle.down(name) else "there was none"))


@app.command()
def status(name: Name = names.DEFAULT_NAME, output: Output = "table") -> None:
    """Each component with its state; exit code 1 where the cluster is not ready."""
    found = lifecycle.status(name)
    if output == "json":
        print(json.dumps(found, indent=2))
    else:
        state = "ready" if found["ready"] else "running, not ready" if found["running"] else "stopped"
        print(f"cluster {name}: {state}\n  API server  {found['server']}\n  gateway     {found['gateway']}")
        print(f"  kubeconfig  {found['kubeconfig']}\n  state       {found['state']}")
        for component, entry in found["components"].items():
            last = f", last ended with {entry['last_exit']}" if entry["last_exit"] else ""
            print(
                f"  {component:24} {entry['state']:10} pid {entry['pid'] or '-':<8} {entry['restarts']} restarts{last}"
            )
    if not found["ready"]:
        raise typer.Exit(1)


@app.command()
def kubeconfig(name: Name = names.DEFAULT_NAME) -> None:
    """Path of the administrator's kubeconfig: `export KUBECONFIG=$(slipway cluster kubeconfig)`."""
    print(lifecycle.load(name).kubeconfig)


@app.command("load-image")
def load_image(archive: Path, name: Name = names.DEFAULT_NAME) -> None:
    """Import an OCI or Docker image archive into the node."""
    if not archive.is_file():
        raise StepError(
            f"{archive}: no such file → an image archive → `buildah push IMAGE oci-archive:{archive}` writes one"
        )
    containerd.load_image(lifecycle.load(name), archive)


@app.command()
def logs(
    component: Annotated[
        str | None, typer.Argument(help="A component of `slipway cluster status`; all without.")
    ] = None,
    name: Name = names.DEFAULT_NAME,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the log grows.")] = False,
) -> None:
    """What a component wrote."""
    directory = lifecycle.load(name).file("logs")
    files = sorted(directory.glob(f"{component or '*'}.log"))
    if not files:
        known = ", ".join(path.stem for path in sorted(directory.glob("*.log")))
        raise StepError(f"{component}: no log of that name → one of {known} → `slipway cluster logs NAME`")
    subprocess.run(["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), *map(str, files)], check=True)
