"""Builds the toolchain's recipes into a content-addressed cache and gathers them in one `bin` directory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools import paths
from tools.steps import Step, StepError, Steps
from tools.toolchain.recipes import RECIPES, Copy, Group, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parent / "go"
LANGUAGE_HOST = Path(__file__).parent / "language_host" / "pulumi-language-python"

PROVIDER = "pulumi-resource-kubernetes"

GO_MINIMUM = (1, 26)
"""The newest `go` line among the modules that are built."""

ROOMY_BYTES = 25 * 1024**3
"""Below this much free disk the caches are dropped after each tool; all of them together reach 33 GB."""

BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",  # static: the same binary runs on the host, on scratch images and under any libc
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


def root() -> Path:
    """The toolchain's part of the cache."""
    return paths.cache() / "toolchain"


def key(recipe: Recipe) -> str:
    """Digest of everything that decides what a build yields: sources, pins, flags and what is copied."""
    digest = hashlib.sha256()
    folder = SOURCES / recipe.name
    for name in sorted(path.name for path in folder.iterdir() if path.suffix in {".mod", ".sum", ".go"}):
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    digest.update(repr((recipe, sorted(BUILD_ENVIRONMENT.items()))).encode())
    digest.update(",".join(recipe.tags).encode())
    return digest.hexdigest()[:16]


def artifact(recipe: Recipe) -> Path:
    """Where the recipe's result is or will be; it exists only complete."""
    return root() / "artifacts" / f"{recipe.name}-{key(recipe)}"


def ensure(groups: set[Group], steps: Steps) -> Path:
    """Build what is missing of `groups` and return the `bin` directory that holds all of it.

    1. take the cache's lock, so that two commands never build the same thing at once
    2. build each missing artifact aside and move it into place whole; the compiler's cache is shared, as
       Kubernetes' tools share most of their packages
    3. link every binary into `bin`
    4. drop the compiler's and the modules' caches, which are twenty times what was built

    Raises `StepError` naming the tool, the log and the remedy.
    """
    wanted = [recipe for recipe in RECIPES if recipe.group in groups]
    with _lock():
        missing = [recipe for recipe in wanted if not artifact(recipe).exists()]
        if missing:
            _require_go()
        for number, recipe in enumerate(missing, 1):
            with steps.step(f"toolchain {number}/{len(missing)} {recipe.name}", estimate=recipe.estimate) as step:
                _build(recipe, step)
            if shutil.disk_usage(root()).free < ROOMY_BYTES:
                _drop_build_caches()
        bin_directory = _gather([recipe for recipe in RECIPES if artifact(recipe).exists()])
        if missing:
            _drop_build_caches()
    return bin_directory


def share(recipe_name: str) -> Path:
    """Files beside the binaries of a recipe's artifact."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == recipe_name)
    return artifact(recipe) / "share"


def provider() -> Path:
    """The Kubernetes provider's binary."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == "pulumi-kubernetes")
    return artifact(recipe) / "bin" / PROVIDER


def binary(name: str) -> Path:
    """A built binary by name; `StepError` where it has not been built."""
    path = root() / "bin" / name
    if not path.exists():
        raise StepError(f"{name}: not built → a program of the toolchain → run `slipway toolchain build`")
    return path


@contextmanager
def _lock() -> Iterator[None]:
    root().mkdir(parents=True, exist_ok=True)
    with (root() / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another slipway command builds the toolchain: waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _require_go() -> None:
    remedy = f"install Go {'.'.join(map(str, GO_MINIMUM))} or newer, or put `pulumi` and its plugins on PATH"
    if not shutil.which("go"):
        raise StepError(f"go: not found on PATH → the toolchain is built from Go modules → {remedy}")
    version = subprocess.run(
        ["go", "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout.strip()
    found = tuple(int(part) for part in version.removeprefix("go").split(".")[:2])
    if found < GO_MINIMUM:
        raise StepError(f"{version}: too old to build the toolchain → {remedy}")


def _build(recipe: Recipe, step: Step) -> None:
    staging = root() / "staging" / recipe.name
    shutil.rmtree(staging, ignore_errors=True)
    source = staging / "source"
    shutil.copytree(SOURCES / recipe.name, source)
    (staging / "artifact" / "bin").mkdir(parents=True)
    log = root() / "logs" / f"{recipe.name}.log"
    environment = {
        **BUILD_ENVIRONMENT,
        "GOCACHE": str(root() / "gocache"),
        "GOMODCACHE": str(root() / "gomodcache"),
    }
    remedy = "the next run resumes where the build stopped; if a download failed, check the Go proxy (`go env GOPROXY`)"
    step.run(["go", "mod", "download"], cwd=source, env=environment, log=log, remedy=remedy)
    for copy in recipe.copies:
        _copy(copy, source if copy.into_source else staging / "artifact", cwd=source, environment=environment)
    flags = ["-trimpath", f"-tags={','.join(recipe.tags)}", "-ldflags", " ".join(("-s -w", *recipe.ldflags))]
    target = staging / "artifact" / "bin"
    step.run(
        ["go", "build", *flags, "-o", f"{target}/", recipe.package], cwd=source, env=environment, log=log, remedy=remedy
    )
    for built, called in recipe.rename:
        (target / built).rename(target / called)
    absent = [name for name in recipe.binaries if not (target / name).exists()]
    if absent:
        raise StepError(
            f"{recipe.name}: go build left no {', '.join(absent)} → recipes.py promises them → mend the recipe"
        )
    final = artifact(recipe)
    final.parent.mkdir(parents=True, exist_ok=True)
    (staging / "artifact").rename(final)
    shutil.rmtree(staging)


def _copy(copy: Copy, target: Path, *, cwd: Path, environment: dict[str, str]) -> None:
    listing = subprocess.run(
        ["go", "list", "-m", "-json", copy.module],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    source = Path(json.loads(listing.stdout)["Dir"], copy.source)
    destination = target / copy.destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    # The module cache is read-only; a copy must not be, or the cache could not be cleaned.
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=shutil.copyfile)
        for path in (destination, *destination.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
    else:
        shutil.copyfile(source, destination)
        destination.chmod(0o755 if destination.parent.name == "bin" else 0o644)


def _gather(recipes: list[Recipe]) -> Path:
    """One directory for PATH. Hard links: the engine looks for the language host beside its own real path."""
    target = root() / "bin"
    target.mkdir(exist_ok=True)
    binaries = [path for recipe in recipes for path in sorted((artifact(recipe) / "bin").iterdir())]
    # A plugin on PATH is used whatever its version, and warned about; it is installed in PULUMI_HOME instead.
    binaries = [path for path in binaries if path.name != PROVIDER]
    for path in [*binaries, LANGUAGE_HOST]:
        link = target / path.name
        aside = target / f".{path.name}.new"
        aside.unlink(missing_ok=True)
        if path == LANGUAGE_HOST:
            shutil.copy2(path, aside)
        else:
            aside.hardlink_to(path)
        aside.replace(link)
    return target


def _drop_build_caches() -> None:
    for name in ("gocache", "gomodcache"):
        directory = root() / name
        for path in directory.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(directory, ignore_errors=True)
