"""The node's images: containerd's store, through its own client."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
import tempfile
import uuid
from typing import IO, TYPE_CHECKING

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.cluster.layout import Layout


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
def import_image(layout: Layout, *, unpack: bool = True) -> Iterator[IO[bytes]]:
    """A stream that takes an OCI or Docker image archive; the node has the image when the block ends.

    Without `unpack` it is only noted down: what it consists of may come later and is kept from being collected.
    """
    argv = _argv(layout, "images", "import", "--all-platforms", *([] if unpack else ["--no-unpack"]), "-")
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


def lend(layout: Layout, contents: dict[str, Path]) -> set[str]:
    """Put files (by digest) into the node's store without copying them; an image that is noted down has to name them.

    1. let a collection that is due run now: it takes away files that the store has not noted down
    2. link the file to where the store keeps content of that digest
    3. ingest it: the store finds all bytes there and only notes them down; where a collection came between, it copies

    The digests it holds now: none where the state directory is on another file system. What is lent is checked when it
    is unpacked.
    """
    lease = f"lend-{uuid.uuid4().hex}"
    ctr(layout, "leases", "create", "--id", lease)
    ctr(layout, "leases", "delete", "--sync", lease)  # 1
    store = layout.file("containerd", "io.containerd.content.v1.content", "blobs", "sha256")
    held: set[str] = set()
    for digest, path in contents.items():
        try:
            (store / digest.removeprefix("sha256:")).hardlink_to(path)  # 2
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno == errno.EXDEV:
                break
            raise
        with path.open("rb") as content:  # the client moves to the end of it and reads nothing
            arguments = [f"--expected-digest={digest}", f"--expected-size={path.stat().st_size}", f"lent-{digest}"]
            ctr(layout, "content", "ingest", *arguments, stdin=content)  # 3
        held.add(digest)
    return held


def ctr(layout: Layout, *arguments: str, stdin: IO[bytes] | None = None) -> str:
    """Run containerd's own client on the node's images and return its output."""
    done = subprocess.run(_argv(layout, *arguments), stdin=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepError(f"ctr {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _argv(layout: Layout, *arguments: str) -> list[str]:
    return ["ctr", f"--address={layout.containerd_socket}", "--namespace=k8s.io", *arguments]
