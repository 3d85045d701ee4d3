"""The broker's jars: resolved by Maven from `images/kafka/pom.xml`, each checked against `images/kafka/jars.lock`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools import paths
from tools.steps import StepError

POM = paths.PROJECT / "images" / "kafka" / "pom.xml"
LOCK = POM.with_name("jars.lock")
"""`<sha256>  <file>` for each jar, as `sha256sum` writes it."""

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
MAVEN_SECONDS = 600


def jars() -> Path:
    """Directory with exactly the locked jars; resolved once and kept. Raises `StepError`."""
    locked = LOCK.read_text()
    kept = paths.cache() / "kafka" / hashlib.sha256(locked.encode()).hexdigest()[:16]
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".resolving-") as scratch:
        resolved = Path(scratch, "jars")
        resolve(resolved)
        check(resolved, locked)
        if not kept.is_dir():  # another process may have been quicker
            shutil.move(resolved, kept)
    return kept


def resolve(target: Path) -> None:
    """Let Maven copy every jar of the broker's class path into a directory."""
    if not shutil.which("mvn"):
        raise StepError("mvn: not found on PATH → it resolves the broker's jars → `apt-get install maven`")
    command = ["mvn", "-q", "-B", "-f", str(POM), COPY, "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAVEN_SECONDS)
    if done.returncode != 0:
        raise StepError(f"mvn: {done.stdout.strip()[-500:]} → it resolves {POM} → check that Maven reaches its mirror")


def check(directory: Path, locked: str) -> None:
    """Raise `StepError` where the jars are not the locked ones, every one of them and no other."""
    found = listing(directory)
    if found != locked:
        wrong = sorted(set(found.splitlines()) ^ set(locked.splitlines()))
        raise StepError(
            f"{wrong[0].split()[-1]}: not the locked jar → {LOCK.name} names the digest of every jar → where pom.xml "
            "changed on purpose run `python -m tools.kafka.jars` and commit the lock, else distrust the mirror"
        )


def listing(directory: Path) -> str:
    """The lock of a directory of jars."""
    digests = [(hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in sorted(directory.glob("*.jar"))]
    return "".join(f"{digest}  {name}\n" for digest, name in digests)


def main() -> None:
    """Write the lock of what Maven resolves now."""
    with tempfile.TemporaryDirectory() as scratch:
        resolve(Path(scratch))
        LOCK.write_text(listing(Path(scratch)))


if __name__ == "__main__":
    main()
