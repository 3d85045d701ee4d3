"""What an environment costs a month, from what is declared: nodes, brokers, database, gateways.

Traffic, requests and stored objects depend on use and are left out; spot nodes are counted at the on-demand price.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra.config.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PRICES = Path(__file__).with_name("prices.yaml")


@dataclass(slots=True)
class Cost:
    """Of a month: what runs always, and what may run at most."""

    least: float = 0.0
    most: float = 0.0
    unpriced: set[str] = field(default_factory=set)
    """What the prices do not know."""

    def add(self, least: float, most: float | None = None) -> None:
        """Count something, in the prices' currency."""
        self.least += least
        self.most += least if most is None else most


@cache
def prices() -> dict[str, Any]:
    """The data file."""
    found: dict[str, Any] = yaml.safe_load(PRICES.read_text())
    return found


def monthly(resources: Iterable[tuple[str, Mapping[str, Any]]]) -> Cost:
    """The cost of resources, each a type (`aws:eks/cluster:Cluster`) and its inputs."""
    cost = Cost()
    for type_, inputs in resources:
        if type_ in PRICED:
            PRICED[type_](inputs, cost)
    return cost


def _hourly(kind: str, name: str, cost: Cost) -> float:
    """Of a month; 0 and a name among the unpriced where the prices do not know it."""
    found = prices()["hour"][kind]
    each = found.get(name) if isinstance(found, dict) else found
    if each is None:
        cost.unpriced.add(name)
        return 0.0
    return float(each) * float(prices()["hoursPerMonth"])


def _nodes(inputs: Mapping[str, Any], cost: Cost) -> None:
    each = _hourly("instance", inputs["instanceTypes"][0], cost)
    scaling = inputs["scalingConfig"]
    cost.add(each * scaling["minSize"], each * scaling["maxSize"])


def _node_pool(inputs: Mapping[str, Any], cost: Cost) -> None:
    """Karpenter's: no node is there for sure; at most as many as its GPUs or its CPUs take."""
    listed = inputs["spec"]["template"]["spec"]["requirements"]
    requirements = {each["key"].rpartition("/")[2]: each["values"] for each in listed}
    most = int(next(iter(inputs["spec"]["limits"].values())))
    if "instance-family" in requirements:
        cost.add(0.0, _hourly("cpu", requirements["instance-family"][0], cost) * most)
        return
    type_ = requirements["instance-type"][0]
    of_one = next((each.gpus for known in ACCELERATORS.values() for each in known.instances if each.type == type_), 1)
    cost.add(0.0, _hourly("instance", type_, cost) * most / of_one)


def _database(inputs: Mapping[str, Any], cost: Cost) -> None:
    copies = 2 if inputs.get("multiAz") else 1
    disk = float(prices()["month"]["databaseDiskGb"]) * inputs["allocatedStorage"]
    cost.add(copies * (_hourly("database", inputs["instanceClass"], cost) + disk))


def _brokers(inputs: Mapping[str, Any], cost: Cost) -> None:
    group = inputs["brokerNodeGroupInfo"]
    disk = float(prices()["month"]["brokerDiskGb"]) * group["storageInfo"]["ebsStorageInfo"]["volumeSize"]
    cost.add(inputs["numberOfBrokerNodes"] * (_hourly("broker", group["instanceType"], cost) + disk))


def _endpoint(inputs: Mapping[str, Any], cost: Cost) -> None:
    if inputs.get("vpcEndpointType") == "Interface":
        cost.add(len(inputs["subnetIds"]) * _hourly("interfaceEndpoint", "", cost))


def _hours_of(kind: str) -> Callable[[Mapping[str, Any], Cost], None]:
    return lambda _, cost: cost.add(_hourly(kind, "", cost))


PRICED: Mapping[str, Callable[[Mapping[str, Any], Cost], None]] = {
    "aws:eks/nodeGroup:NodeGroup": _nodes,
    "kubernetes:karpenter.sh/v1:NodePool": _node_pool,
    "aws:rds/instance:Instance": _database,
    "aws:msk/cluster:Cluster": _brokers,
    "aws:msk/serverlessCluster:ServerlessCluster": _hours_of("serverlessKafka"),
    "aws:eks/cluster:Cluster": _hours_of("cluster"),
    "aws:ec2/natGateway:NatGateway": _hours_of("natGateway"),
    "aws:lb/loadBalancer:LoadBalancer": _hours_of("loadBalancer"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:kms/key:Key": lambda _, cost: cost.add(float(prices()["month"]["key"])),
}
