"""`make chaos`: the long form, its report for `docs/chaos.json`, exit code 1 where anything was lost or done twice."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from tools import paths
from tools.chaos.page import page
from tools.chaos.run import Plan, run
from tools.steps import StepError

REPORT = paths.PROJECT / "docs" / "chaos.json"
PAGE = REPORT.with_suffix(".md")


def main() -> int:
    """Run it and write what was seen, good or bad."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=720, help="over which messages and kills are spread")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where logs and data stay")
    parser.add_argument("--no-report", action="store_true", help="leave docs/chaos.* as they are")
    asked = parser.parse_args()
    plan = Plan(
        messages=asked.messages, kills=asked.kills, seconds=asked.seconds, seed=asked.seed, directory=asked.directory
    )
    try:
        report = run(plan, lambda line: print(line, flush=True))
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    plain = {**report.plain(), "machine": f"{platform.machine()}, Linux {platform.release()}"}
    text = json.dumps(plain, indent=2) + "\n"
    print(text)
    if not asked.no_report:
        REPORT.write_text(text)
        PAGE.write_text(page(plain))
    return 0 if report.exact else 1


if __name__ == "__main__":
    sys.exit(main())
