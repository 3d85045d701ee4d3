"""Which addresses of the VPC go where. Pure arithmetic.

    a quarter each for the private subnets of up to three zones: pods have addresses of them
    of the last quarter, sixteen equal parts: 0-2 public, 4-6 data, the rest is free

A zone that is appended takes what was free: nothing that is there is numbered anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

QUARTER, SIXTEENTH = 2, 4
"""Bits that a network loses when it is cut into so many."""

FIRST_DATA = 4
"""Part of the last quarter that the data subnets begin at; a fourth zone would still be in order."""


@dataclass(frozen=True, slots=True)
class ZoneSubnets:
    """Addresses in one zone."""

    zone: str
    public: str
    """For NAT gateways and the load balancer."""
    private: str
    """For nodes and pods."""
    data: str
    """For databases and brokers, which have no way out."""

    @property
    def suffix(self) -> str:
        """The zone's letter, which names its resources."""
        return self.zone[-1]


def subnets(cidr: str, zones: Sequence[str]) -> tuple[ZoneSubnets, ...]:
    """Subnets of each zone, in the zones' order; up to three zones, a VPC of /16 to /20."""
    *private, last = IPv4Network(cidr).subnets(prefixlen_diff=QUARTER)
    parts = list(last.subnets(prefixlen_diff=SIXTEENTH))
    return tuple(
        ZoneSubnets(zone, public=str(parts[at]), private=str(private[at]), data=str(parts[FIRST_DATA + at]))
        for at, zone in enumerate(zones)
    )
