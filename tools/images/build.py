"""Builds the images of `images/` and keeps them, by digest, in the cache.

An image's key is the digest of everything that goes into it: a second checkout, or the same
one after a change elsewhere, builds nothing. What an image has of this project's code is its
last layer and is added without the builder, so that a change of code takes no time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tools import paths
from tools.images import store
from tools.kafka.jars import jars
from tools.steps import Step, StepError, Steps
from tools.toolchain.build import binary, share
from tools.toolchain.recipes import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = "slipway.local"
"""Registry name of images that no registry holds."""

RECORD = paths.BUILD / "images.json"
"""Image name → reference by digest: what the Pulumi program deploys."""

PUBLIC_BASE = "docker.io/library/python:3.11-slim-bookworm"
LOCAL_BASE = f"{REPOSITORY}/python-base"

CERTIFICATES = "/etc/ssl/certs"

KEY_DIGITS = 16
KNOWN = re.compile(rf"[a-z-]+-[0-9a-f]{{{KEY_DIGITS}}}")
"""Names of the files that say which image was built for a key."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One folder of `images/`: what its build context holds besides its own files."""

    name: str
    estimate: int
    """Seconds for a first build on two cores."""
    folder: str = field(default="", repr=False)
    """Folder of `images/`, where it is not the name: one Dockerfile may have several targets."""
    target: str | None = None
    extra: str | None = None
    """Extra of pyproject.toml whose locked packages it installs: its context gets them as `requirements.txt`."""
    more: str | None = field(default=None, repr=False)
    """Extra whose packages a further layer installs, `more.txt`: those of `extra` are shared with another image."""
    code: tuple[str, str] | None = None
    """Folder of the checkout and where it goes in the image: the last layer."""
    jars: bool = False
    """Whether it has Kafka's jars, as `jars/`."""
    binaries: tuple[str, ...] = ()
    """Programs of the toolchain."""
    shared: tuple[tuple[str, str], ...] = ()
    """(recipe, file below its artifact's `share`)."""
    uses_base: bool = True
    group: Group = field(default=Group.IMAGES, repr=False)
    """Which part of the product it is for; only what a stack wants is built."""


INFERENCE = Image(
    name="inference",
    target="cpu-dependencies",
    extra="inference",
    code=("services", "/opt/slipway/services"),
    estimate=180,
)
# Built after it, whose layers it shares.
BATCH = replace(
    INFERENCE,
    name="batch",
    folder="inference",
    target="batch-dependencies",
    more="batch",
    estimate=60,
    group=Group.BATCH,
)

IMAGES: tuple[Image, ...] = (
    Image(name="object-store", binaries=("versitygw",), uses_base=False, estimate=5),
    Image(name="istiod", binaries=("pilot-discovery",), estimate=5),
    Image(
        name="istio-proxy",
        extra="mesh",
        binaries=("pilot-agent",),
        shared=(("istio", "istio/envoy_bootstrap.json"),),
        estimate=20,
    ),
    Image(name="istio-cni", binaries=("install-cni", "istio-cni"), estimate=15, group=Group.MTLS),
    Image(name="mlflow", extra="mlflow-server", estimate=60),
    Image(name="prometheus", binaries=("prometheus",), uses_base=False, estimate=5, group=Group.MONITORING),
    Image(
        name="prometheus-adapter",
        binaries=("prometheus-adapter",),
        uses_base=False,
        estimate=5,
        group=Group.MONITORING,
    ),
    Image(name="kserve", binaries=("kserve",), uses_base=False, estimate=5, group=Group.KSERVE),
    Image(name="keda", binaries=("keda", "keda-adapter"), estimate=5, group=Group.KEDA),
    Image(name="kuberay", binaries=("kuberay",), uses_base=False, estimate=5, group=Group.KUBERAY),
    Image(name="kafka", jars=True, estimate=60, group=Group.KAFKA),
    INFERENCE,
    BATCH,
    # Jobs that need no Ray are spared its layer.
    replace(BATCH, name="ray", more="ray", estimate=80, group=Group.RAY),
)


def build(steps: Steps, groups: set[Group], *, base: str | None = None, only: set[str] | None = None) -> dict[str, str]:
    """Build what is missing of `groups` and return name → `slipway.local/<name>@sha256:…`, also written to `RECORD`.

    `base` stands for the Python base image; without it the machine's own `debootstrap` makes one, and
    where there is none the public image is used.
    """
    record = {}
    with _lock(), tempfile.TemporaryDirectory(prefix="slipway-image-") as scratch:
        for image in IMAGES:
            if image.group not in groups or (only and image.name not in only):
                continue
            context = Path(scratch, image.name)
            _context(image, context)
            chosen = (base or _base_name()) if image.uses_base else None
            key = _key(image, context, chosen)
            known = paths.cache() / "images" / f"{image.name}-{key}"
            digest = known.read_text().strip() if known.exists() else ""
            if digest and store.has(digest):
                known.touch()  # `prune` goes by it
            else:
                if chosen == LOCAL_BASE:
                    _make_base(steps)
                with steps.step(f"image {image.name}", estimate=image.estimate) as step:
                    digest = _build(image, context, chosen, key, step)
                    known.write_text(digest)
            if image.code:
                digest = _add_code(digest, *image.code, Path(scratch, "code", image.name))
            record[image.name] = f"{REPOSITORY}/{image.name}@{digest}"
    if only and RECORD.exists():
        record = {**json.loads(RECORD.read_text()), **record}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    return record


def prune(days: float) -> int:
    """Delete images that no build of any checkout has asked for in so many days; the bytes that the store had of them.

    The builder's own copies go, too. Those that this checkout has built last stay.
    """
    with _lock():
        before = time.time() - days * 86_400
        known = [path for path in (paths.cache() / "images").iterdir() if KNOWN.fullmatch(path.name)]
        old = [path for path in known if path.stat().st_mtime < before]
        if old and (tool := builder()) != "docker":  # Docker keeps the layers of builds by its own rules
            tags = [f"{REPOSITORY}/{path.name[: -KEY_DIGITS - 1]}:{path.name[-KEY_DIGITS:]}" for path in old]
            subprocess.run([tool, "rmi", *tags], capture_output=True, check=False)  # some may be gone already
        for path in old:
            path.unlink()
        recorded = json.loads(RECORD.read_text()).values() if RECORD.exists() else ()
        kept = [path.read_text().strip() for path in known if path not in old]
        return store.prune([*kept, *(reference.partition("@")[2] for reference in recorded)])


@contextmanager
def _lock() -> Iterator[None]:
    (paths.cache() / "images").mkdir(parents=True, exist_ok=True)
    with (paths.cache() / "images" / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _context(image: Image, target: Path) -> None:
    """A directory with exactly what the image is made of: nothing else can end up in it."""
    shutil.copytree(paths.PROJECT / "images" / (image.folder or image.name), target)
    for name in image.binaries:
        shutil.copy(binary(name), target / name)
    for recipe_name, file in image.shared:
        shutil.copy(share(recipe_name) / file, target / Path(file).name)
    if image.jars:
        shutil.copytree(jars(), target / "jars")
    if image.extra:
        shutil.copy(_uv(), target / "uv")
        (target / "requirements.txt").write_text(_requirements(image.extra))
    if image.more:
        (target / "more.txt").write_text(_requirements(image.more))


def _uv() -> str:
    installed = sorted(map(str, paths.cache().glob("uv-*/bin/uv")))  # by tools/bootstrap
    uv = shutil.which("uv") or (installed[-1] if installed else None)
    if uv is None:
        raise StepError(
            "uv: not found on PATH → images install their locked dependencies with it → `make setup` installs it"
        )
    return uv


def _requirements(extra: str) -> str:
    """The lock file's packages of an extra with their hashes: what the image's dependency layer depends on, no more."""
    command = [
        _uv(),
        "export",
        "--frozen",
        "--no-dev",
        "--extra",
        extra,
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
    ]
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepError(
            f"uv export --extra {extra}: {done.stderr.strip()} → the lock file has to fit pyproject.toml → `uv lock`"
        )
    return done.stdout


def _base_name() -> str:
    return LOCAL_BASE if shutil.which("debootstrap") and os.geteuid() == 0 else PUBLIC_BASE


def _key(image: Image, context: Path, base: str | None) -> str:
    digest = hashlib.sha256(repr((image, base)).encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        if path.name == "uv":
            continue  # the installer does not change what the lock file says is installed
        digest.update(str(path.relative_to(context)).encode() + b"\0")
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:KEY_DIGITS]


def docker_answers() -> bool:
    """Whether Docker's client is here and finds its engine."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def builder() -> str:
    """The program that builds images on this machine; `StepError` where there is none."""
    for candidate in ("buildah", "podman"):
        if shutil.which(candidate):
            return candidate
    if docker_answers():
        return "docker"
    raise StepError(
        "buildah, podman, docker: none found that works → images are built with one of them → "
        "`apt-get install --no-install-recommends buildah` (`make up` does it), or start the Docker engine"
    )


def _make_base(steps: Steps) -> None:
    """A Debian with Python and certificates, in the builder's storage, where the public image cannot be had."""
    tool = builder()
    if subprocess.run([tool, "inspect", "--type=image", LOCAL_BASE], capture_output=True, check=False).returncode == 0:
        return
    with steps.step("image base", estimate=80) as step, tempfile.TemporaryDirectory(prefix="slipway-base-") as scratch:
        log = paths.cache() / "images" / "logs" / "base.log"
        tree = Path(scratch, "root")
        step.run(
            ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", "bookworm", tree],
            log=log,
            remedy="check that apt-get can reach Debian's packages, or name a base image with --base",
        )
        for leftover in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "var/log",
            "usr/share/doc",
            "usr/share/locale",
            "usr/share/man",
        ):
            shutil.rmtree(tree / leftover, ignore_errors=True)
            (tree / leftover).mkdir(parents=True)
        (Path(scratch) / "Dockerfile").write_text("FROM scratch\nCOPY root /\n")
        step.run([tool, *_build_arguments(tool), "--tag", LOCAL_BASE, scratch], log=log)


def _build_arguments(tool: str) -> list[str]:
    if tool == "docker":
        return ["build"]
    # chroot: builds need no namespaces of their own and run wherever root does. The docker format keeps HEALTHCHECK.
    return ["build", "--isolation", "chroot", "--network", "host", "--format", "docker", "--layers"]


def _build(image: Image, context: Path, base: str | None, key: str, step: Step) -> str:
    """Build, add to the layout, return the manifest's digest."""
    tool = builder()
    log = paths.cache() / "images" / "logs" / f"{image.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    tag = f"{REPOSITORY}/{image.name}:{key}"
    arguments = [*_build_arguments(tool), "--tag", tag]
    if image.target:
        arguments += ["--target", image.target]
    if base:
        arguments += ["--build-arg", f"BASE={base}"]
    if tool == "docker":
        output = context.parent / f"{image.name}.oci"
        step.run(
            [tool, *arguments, "--output", f"type=oci,tar=false,compression=uncompressed,dest={output}", context],
            log=log,
        )
        return store.add_layout(output)
    if Path(CERTIFICATES).is_dir():
        arguments += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    step.run([tool, *arguments, context], log=log)
    pushed = context.parent / f"{image.name}.pushed"
    # A plain directory, because it alone is written uncompressed: compressing torch takes longer than building it, and
    # every load would undo it.
    step.run([tool, "push", "--disable-compression", "--format", "oci", tag, f"dir:{pushed}"], log=log)
    return store.add_directory(pushed)


def _add_code(base: str, source: str, target: str, scratch: Path) -> str:
    folder = scratch / source
    shutil.copytree(paths.PROJECT / source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return store.add_layer(base, folder, target)
