from __future__ import annotations

from ipaddress import IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.platforms.aws.subnets import subnets

ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")

vpcs = st.builds(
    lambda second, prefix: str(IPv4Network((f"10.{second}.0.0", prefix), strict=False)),
    st.integers(0, 255),
    st.integers(16, 20),
)


@given(vpcs, st.integers(2, 3))
def test_subnets_lie_in_the_vpc_and_never_overlap(cidr, zones):
    found = [
        IPv4Network(each) for zone in subnets(cidr, ZONES[:zones]) for each in (zone.public, zone.private, zone.data)
    ]
    assert all(each.subnet_of(IPv4Network(cidr)) for each in found)
    assert not [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])]


@given(vpcs)
def test_a_zone_that_is_appended_moves_none_that_was_there(cidr):
    assert subnets(cidr, ZONES)[:2] == subnets(cidr, ZONES[:2]), "another address is another subnet, and its nodes go"


@pytest.mark.parametrize(("prefix", "pods"), [(16, 16379), (20, 1019)])
def test_nodes_and_pods_get_three_quarters_of_the_addresses(prefix, pods):
    for zone in subnets(f"10.0.0.0/{prefix}", ZONES):
        assert IPv4Network(zone.private).num_addresses - 5 == pods, "AWS keeps five of each subnet"
