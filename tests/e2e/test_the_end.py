"""After all others: everything goes, and leaves nothing."""

from __future__ import annotations

import time

import pytest

from tests.cluster.conftest import machine
from tests.e2e.conftest import CLUSTER
from tests.e2e.everything import take_away

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


@pytest.mark.long
def test_what_is_switched_off_takes_its_kinds_with_it(everything):
    everything.edit(take_away)
    everything.pulumi("up", "--yes", "--skip-preview")
    kinds = everything.kubectl("get", "customresourcedefinitions", "-o", "name")
    assert "serving.kserve.io" not in kinds
    everything.pulumi("preview", "--expect-no-changes")


def test_destroy_leaves_the_cluster_empty_and_down_leaves_nothing(site):
    started = time.monotonic()
    site.pulumi("destroy", "--yes", "--skip-preview")
    site.figure("pulumi destroy", time.monotonic() - started, "s")
    namespaces = set(site.kubectl("get", "namespaces", "-o", "name").split())
    assert namespaces == {f"namespace/{name}" for name in ("default", "kube-node-lease", "kube-public", "kube-system")}
    assert site.kubectl("get", "persistentvolumes", "-o", "name") == ""
    assert site.kubectl("get", "customresourcedefinitions", "-o", "name") == ""
    started = time.monotonic()
    site.slipway("down")
    site.figure("make down", time.monotonic() - started, "s")
    assert machine(CLUSTER) == site.before
