from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.environments import requirements_of
from bench.servers import SERVERS

README = Path(__file__).resolve().parents[2] / "bench" / "README.md"
PEERS = [server for server in SERVERS.values() if server.environment]


def test_the_list_names_every_server_and_workload(capsys):
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in (*SERVERS, "transformer encoder"))


@pytest.mark.parametrize("arguments", [["--only", "tritn"], ["--workloads", "Z"], ["--rows", "7"]])
def test_a_wrong_name_is_answered_with_the_known_ones(arguments, capsys):
    assert main(arguments) == 1
    assert "known are" in capsys.readouterr().err


@pytest.mark.parametrize("server", SERVERS.values(), ids=lambda server: server.name)
def test_the_readme_publishes_every_servers_configuration(server):
    assert f"| {server.title} | {', '.join(server.protocols)} | {server.settings} |" in README.read_text()


@pytest.mark.parametrize("server", PEERS, ids=lambda server: server.name)
def test_every_peer_is_pinned_to_the_last_package_and_runs_the_same_torch(server):
    lines = requirements_of(server.environment).read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+( ;.*)?", line) for line in lines), lines
    assert any(line.startswith(f"{server.package}==") for line in lines)
    assert "torch==2.15.0" in lines
