from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra import names

MODELS = st.from_regex(r"\A[a-z]([a-z0-9-]{0,38}[a-z0-9])?\Z")
RELEASES = st.from_regex(r"\A[a-z0-9]{1,20}\Z")


@given(MODELS, RELEASES)
def test_every_name_that_the_configuration_admits_fits_a_dns_label(model, release):
    assert len(names.workload(model, release)) <= names.LONGEST_NAME


@given(MODELS, RELEASES, MODELS, RELEASES)
def test_two_releases_never_share_a_workload(model, release, other_model, other_release):
    if (model, release) != (other_model, other_release):
        assert names.workload(model, release) != names.workload(other_model, other_release), (
            "one release would overwrite the other's Deployment"
        )
