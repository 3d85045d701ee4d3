"""The node's images: containerd's store, through its own client."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.cluster.layout import Layout

KEEP_LABEL = "containerd.io/gc.root"
"""Content with it is not collected although no image names it yet."""


def ready_images(layout: Layout) -> set[str]:
    """Names of the images that containers can start from: an import that was cut short is not among them."""
    rows = [row.split() for row in ctr(layout, "images", "check").splitlines()[1:]]
    return {row[0] for row in rows if row[-1] == "true"}


def blobs(layout: Layout) -> set[str]:
    """Digests of the content that the node holds."""
    return set(ctr(layout, "content", "list", "--quiet").split())


def load_image(layout: Layout, archive: Path) -> None:
    """Import an OCI or Docker image archive into the node, with the names it carries."""
    try:
        with import_image(layout) as stream, archive.open("rb") as content:
            shutil.copyfileobj(content, stream)
    except StepError as error:
        raise StepError(
            f"{error} → the node could not import {archive} → "
            "it has to be an OCI or Docker image archive (`buildah push IMAGE oci-archive:FILE`)"
        ) from None


@contextlib.contextmanager
def import_image(layout: Layout) -> Iterator[IO[bytes]]:
    """A stream that takes an OCI or Docker image archive; the node has the image when the block ends."""
    argv = _argv(layout, "images", "import", "--all-platforms", "-")
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT)
        stream = process.stdin
        try:
            if stream is not None:
                # Where the client ends early, its exit status says why.
                with contextlib.suppress(BrokenPipeError), stream:
                    yield stream
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        if process.returncode != 0:
            said.seek(0)
            raise StepError(f"ctr images import: {said.read().decode(errors='replace').strip()}")


@contextlib.contextmanager
def lent(layout: Layout, contents: dict[str, Path]) -> Iterator[set[str]]:
    """Put files (by digest) into the node's store without copying them, for as long as an import takes.

    1. link the file to where the store keeps content of that digest
    2. ingest it: the store finds all bytes there and only notes them down
    3. keep it from being collected until the block ends; then the images that name it do

    Yields the digests it holds: none where the state directory is on another file system. What is lent is checked
    when it is unpacked.
    """
    store = layout.file("containerd", "io.containerd.content.v1.content", "blobs", "sha256")
    held: set[str] = set()
    try:
        for digest, path in contents.items():
            try:
                (store / digest.removeprefix("sha256:")).hardlink_to(path)  # 1
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno == errno.EXDEV:
                    break
                raise
            size = f"--expected-size={path.stat().st_size}"
            with path.open("rb") as content:  # the client moves to the end of it and reads nothing
                ctr(
                    layout, "content", "ingest", f"--expected-digest={digest}", size, f"lent-{digest}", stdin=content
                )  # 2
            ctr(layout, "content", "label", digest, f"{KEEP_LABEL}=lent")  # 3
            held.add(digest)
        yield held
    finally:
        for digest in held:
            ctr(layout, "content", "label", digest, f"{KEEP_LABEL}=")


def ctr(layout: Layout, *arguments: str, stdin: IO[bytes] | None = None) -> str:
    """Run containerd's own client on the node's images and return its output."""
    done = subprocess.run(_argv(layout, *arguments), stdin=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepError(f"ctr {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _argv(layout: Layout, *arguments: str) -> list[str]:
    return ["ctr", f"--address={layout.containerd_socket}", "--namespace=k8s.io", *arguments]
