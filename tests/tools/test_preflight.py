from __future__ import annotations

import os
import shutil
import socket
from typing import NamedTuple

import pytest

from tools.cluster import preflight
from tools.steps import StepError


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def lines(port: int = 1) -> str:
    with pytest.raises(StepError) as raised:
        preflight.check(port)
    return str(raised.value)


@pytest.fixture
def taken_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_user_that_is_not_root_is_told_so_and_what_to_do_instead(monkeypatch, taken_port):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "user id 1000: not root" in lines(taken_port)
    assert "--context NAME" in lines(taken_port)


def test_a_full_disk_is_named_with_its_room_and_the_remedy(monkeypatch, taken_port):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1024**3))
    assert "1.0 GiB free, less than 15 GiB" in lines(taken_port)
    assert "SLIPWAY_STATE" in lines(taken_port)


def test_missing_programs_are_named_with_their_packages(monkeypatch, taken_port):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"runc", "conntrack"} else f"/usr/bin/{name}")
    assert "apt-get install --no-install-recommends conntrack runc" in lines(taken_port)


def test_a_taken_port_is_named_with_the_key_that_changes_it(taken_port):
    assert f"port {taken_port} on 127.0.0.1: Address already in use" in lines(taken_port)
    assert "slipway:platform.gatewayPort" in lines(taken_port)


def test_everything_that_is_missing_is_said_at_once(monkeypatch, taken_port):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1024**3))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert lines(taken_port).count("\n- ") == 3
