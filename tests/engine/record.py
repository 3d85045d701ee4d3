"""`python -m tests.engine.record` keeps what the engine says of an environment on AWS; read the diff before a commit.

- `aws_state.json`, which an upgrade has to preview without replacing what holds data. Record it with a release, not
  with the change that it is to judge: it is the past.
- `pull_request.json` and the comment made of it, which `make check` compares without an engine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from policies.cost import PRICED
from policies.rules.aws.environment import PLATFORM, PROTECTED
from tests.engine.lives import live
from tools.previews.comment import MODELS, comment
from tools.previews.plan import SAME, read
from tools.toolchain import build

STATE = Path(__file__).parent / "aws_state.json"
PREVIEW = Path(__file__).parents[1] / "tools" / "previews" / "pull_request.json"
COMMENT = PREVIEW.with_suffix(".md")

OUTSIDE = ("aws:", "slipway:", "pulumi:")
"""Beginnings of the types that are kept: what Kubernetes has is made anew in minutes."""


def state_of(exported: str) -> str:
    """A stack's state without what is inside the cluster."""
    document = json.loads(exported)
    resources = [
        resource
        for resource in document["deployment"]["resources"]
        if resource["type"].startswith(OUTSIDE) and resource["type"] != "pulumi:providers:kubernetes"
    ]
    kept = {resource["urn"] for resource in resources}
    for resource in resources:
        # Times of the recording would be all that differs from one to the next.
        for key in ("created", "modified"):
            resource.pop(key, None)
        for key, urns in (resource.get("propertyDependencies") or {}).items():
            resource["propertyDependencies"][key] = [urn for urn in urns if urn in kept]
        resource["dependencies"] = [urn for urn in resource.get("dependencies", []) if urn in kept]
    document["deployment"]["resources"] = resources
    return _dumped(document)


def abridged(previewed: str) -> str:
    """A preview without what the comment does not read: unchanged resources that it is not about, outputs."""
    document = json.loads(previewed)
    steps = [
        {
            "op": step["op"],
            "urn": step["urn"],
            **{
                key: {"inputs": step[key].get("inputs") or {}}
                for key in ("oldState", "newState")
                if step.get(key) is not None
            },
            **{key: step[key] for key in ("diffReasons", "detailedDiff") if step.get(key)},
        }
        for step in document["steps"]
        if step["op"] not in SAME
        or step["urn"].split("::")[2].rpartition("$")[2] in {*PRICED, *MODELS, *PROTECTED, PLATFORM}
    ]
    config = {"slipway:platform": document["config"]["slipway:platform"]}
    same = sum(step["op"] == "same" for step in steps)
    found = {"config": config, "steps": sorted(steps, key=lambda step: (step["urn"], step["op"]))}
    return _dumped({**found, "changeSummary": {**document["changeSummary"], "same": same}})


def _dumped(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        seen = live(Path(directory), build.binary("pulumi").parent)
    STATE.write_text(state_of(seen.state))
    preview = abridged(seen.previews["pull request"])
    PREVIEW.write_text(preview)
    COMMENT.write_text(comment(read(preview)))


if __name__ == "__main__":
    main()
