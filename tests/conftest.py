from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.steps import StepError
from tools.toolchain import build

REGISTRY = "tests/services/registry"
"""The tests of files in it share a trained model and an MLflow server, a minute to make."""


class ByFile(LoadScopeScheduling):
    """Each file's tests run on one process of xdist, those that share costly fixtures on the same."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return REGISTRY if PurePosixPath(file).is_relative_to(REGISTRY) else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.fixture(scope="session")
def toolchain_bin():
    """The directory with every program of the toolchain; `make test` builds it before pytest starts."""
    try:
        return build.binary("pulumi").parent
    except StepError as error:
        pytest.fail(f"{error}; the Makefile's targets do it before they run these tests", pytrace=False)
