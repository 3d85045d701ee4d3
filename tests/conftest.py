from __future__ import annotations

import pytest

from tools.steps import StepError
from tools.toolchain import build


@pytest.fixture(scope="session")
def toolchain_bin():
    """The directory with every program of the toolchain; `make test` builds it before pytest starts."""
    try:
        return build.binary("pulumi").parent
    except StepError as error:
        pytest.fail(f"{error}; the Makefile's targets do it before they run these tests", pytrace=False)
