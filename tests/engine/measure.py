"""How long a preview takes on AWS, beside programs that do nothing: `python -m tests.engine.measure`.

Three programs, each previewed with all of it there: the environment of the tests; as many resources without a word of
ours, which is what engine, SDK and gRPC cost for so many; and nothing at all.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engine.aws_provider import RememberingAccount
from tests.engine.conftest import Project, Registry, engine_env, new_project
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.lives import ONE
from tests.engine.remembering_provider import Serving
from tests.infra.aws.environment import platform
from tools.toolchain import build

ROUNDS = 5

NOTHING = "import pulumi\n"

AS_MANY = """
import pulumi

for number in range({count}):
    pulumi.CustomResource("aws:s3/bucket:Bucket", f"b{{number}}", {{"bucket": f"b{{number}}"}})
"""


def seconds(project: Project) -> float:
    started = time.perf_counter()
    done = project.preview("--expect-no-changes")
    assert done, done.output
    return time.perf_counter() - started


def import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import infra.config.loader, infra.deploy"], check=True)
    return time.perf_counter() - started


def main() -> None:
    root = Path(tempfile.mkdtemp())
    with Registry() as registry, Serving(RememberingCluster()) as inside, Serving(RememberingAccount()) as outside:
        env = engine_env(root, build.binary("pulumi").parent, f"{inside.attached},{outside.attached}")
        ours = new_project(root, env, registry.url, "ours")
        ours.configure(platform=platform(), models={"fraud": ONE}, production=True)
        assert ours.up()
        count = len(json.loads(ours.exported())["deployment"]["resources"])
        projects = {"ours": ours}
        for name, program in (("as many", AS_MANY.format(count=count)), ("nothing", NOTHING)):
            projects[name] = new_project(root, env, registry.url, name.replace(" ", "-"))
            (projects[name].directory / "stacks" / "__main__.py").write_text(program)
            assert projects[name].up()
        # In turns, so that a slow minute of the machine is everybody's.
        taken = {name: [] for name in (*projects, "import")}
        for _ in range(ROUNDS):
            for name, project in projects.items():
                taken[name].append(seconds(project))
            taken["import"].append(import_seconds())
    print(f"{count} resources, medians of {ROUNDS}")
    for name, each in taken.items():
        print(f"{name:8} {statistics.median(each):5.2f} s  ({min(each):.2f} to {max(each):.2f})")


if __name__ == "__main__":
    main()
