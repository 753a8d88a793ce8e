"""Collectives of devices that meet in switches: all of a node in a first one, nodes in a second.

Steps have a latency, bytes a bandwidth (Thakur et al., "Optimization of Collective Communication
Operations in MPICH", IJHPCA 2005, section 4). A ring passes each node once for every of its
devices there, so that all adapters are used; sums may also go over trees, whose latency grows with
the logarithm of the nodes, and the faster is taken (NVIDIA NCCL, `src/graph/tuning.cc`). Groups of
one kind work at the same time and share the adapters of their nodes.

Bytes are of the whole value that a device has or gets; figures may be arrays (extents.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.floor import floor_of
from ..ir.hardware import Hardware
from ..ir.technology import Link, Switch
from .extents import Number, ceil_div


@dataclass(frozen=True)
class Group:
    """Devices of a collective: `members`, each `stride` places from the next one in the row of all
    devices. The first one lies where a group of that kind may: a node is cut without a rest."""

    members: Number
    stride: Number = 1


@dataclass(frozen=True)
class Exchange:
    """What one collective takes: seconds of steps and of bytes, which follow each other, and what
    all members together send over links into their first switch and over those between nodes."""

    latency_s: Number = 0.0
    transfer_s: Number = 0.0
    link_bytes: Number = 0.0
    adapter_bytes: Number = 0.0

    @property
    def seconds(self) -> Number:
        return self.latency_s + self.transfer_s


@dataclass(frozen=True)
class _Switched:
    """A cluster as a group sees it: `near` of its members in each of `nodes` nodes."""

    near: Number
    nodes: Number
    step_s: float
    """From a device to another one of its node."""
    far_step_s: float
    bytes_per_s: float
    """Of a device into its node's switch."""
    far_bytes_per_s: Number
    """Of the group out of one node, while others of its kind share the node's adapters."""

    @property
    def members(self) -> Number:
        return self.near * self.nodes

    @property
    def slowest_bytes_per_s(self) -> Number:
        """Of a ring."""
        both = np.minimum(self.bytes_per_s, self.far_bytes_per_s)
        return np.where(np.asarray(self.nodes) > 1, both, self.bytes_per_s)


def all_reduce(hardware: Hardware, group: Group, bytes_: Number) -> Exchange:
    """The sum of all members' values in each: a ring's reduce-scatter and all-gather, 2 (n - 1)
    steps and 2 (n - 1) / n of the bytes, or a tree up and down, whichever is faster."""
    seen = _seen(hardware, group)
    n, nodes = seen.members, seen.nodes
    far = 2 * nodes * (np.asarray(nodes) > 1)
    ring_s = (2 * (n - 1) - far) * seen.step_s + far * seen.far_step_s
    ring_bytes_s = 2 * (n - 1) / n * bytes_ / seen.slowest_bytes_per_s
    deep = np.log2(np.maximum(nodes, 1))
    tree_s = 2 * ((seen.near - 1) * seen.step_s + deep * seen.far_step_s)
    tree_bytes_s = 2 * bytes_ / seen.slowest_bytes_per_s
    tree = np.asarray(tree_s + tree_bytes_s) < ring_s + ring_bytes_s
    return _shown(
        seen,
        np.where(tree, tree_s, ring_s),
        np.where(tree, tree_bytes_s, ring_bytes_s),
        2 * (n - 1) * bytes_,
    )


def reduce_scatter(hardware: Hardware, group: Group, bytes_: Number) -> Exchange:
    """The sum of all members' values, each keeping its part: a ring of n - 1 steps, each with an
    n-th of the bytes."""
    return _ring(_seen(hardware, group), bytes_)


def all_gather(hardware: Hardware, group: Group, bytes_: Number) -> Exchange:
    """All members' parts, `bytes_` together, in each: a ring as of a reduce-scatter."""
    return _ring(_seen(hardware, group), bytes_)


def all_to_all(hardware: Hardware, group: Group, bytes_: Number) -> Exchange:
    """Of each member's bytes an n-th to every other one, in n - 1 exchanges of pairs (Thakur et
    al., section 4.3); those of other nodes by the adapters, the rest by the node's switch."""
    seen = _seen(hardware, group)
    n, near = seen.members, seen.near
    inside = (near - 1) / n * bytes_
    outside = (n - near) / n * bytes_
    latency_s = (near - 1) * seen.step_s + (n - near) * seen.far_step_s
    transfer_s = inside / seen.bytes_per_s + near * outside / seen.far_bytes_per_s
    sent = n * (inside + outside)
    busy = np.asarray(n) > 1
    return Exchange(latency_s * busy, transfer_s * busy, sent * busy, n * outside * busy)


def point_to_point(hardware: Hardware, bytes_: Number, far: Number) -> Exchange:
    """From one device to another one, while all of its node send too: `far` to another node."""
    seen = _seen(hardware, Group(1.0))
    far = np.asarray(far, dtype=bool)
    step_s = np.where(far, seen.far_step_s, seen.step_s)
    transfer_s = bytes_ / np.where(far, seen.far_bytes_per_s, seen.bytes_per_s)
    return Exchange(step_s, transfer_s, bytes_ * np.ones(far.shape), bytes_ * far)


def hand_over(hardware: Hardware, bytes_: Number, holders: Number, far: Number) -> Exchange:
    """From each device of a group to its like in another one. Where `holders` devices side by side
    all have the same, each may send a part, and those that get the parts gather the whole
    (Narayanan et al., arXiv 2104.04473, section 4.1), if that is faster."""
    whole = point_to_point(hardware, bytes_, far)
    parts = point_to_point(hardware, bytes_ / np.asarray(holders, dtype=float), far)
    gathered = all_gather(hardware, Group(holders), bytes_)
    own = gathered.link_bytes / holders, gathered.adapter_bytes / holders
    apart = np.asarray(parts.seconds + gathered.seconds) < whole.seconds
    return Exchange(
        np.where(apart, parts.latency_s + gathered.latency_s, whole.latency_s),
        np.where(apart, parts.transfer_s + gathered.transfer_s, whole.transfer_s),
        np.where(apart, parts.link_bytes + own[0], whole.link_bytes),
        np.where(apart, parts.adapter_bytes + own[1], whole.adapter_bytes),
    )


def _ring(seen: _Switched, bytes_: Number) -> Exchange:
    n, nodes = seen.members, seen.nodes
    far = nodes * (np.asarray(nodes) > 1)
    latency_s = (n - 1 - far) * seen.step_s + far * seen.far_step_s
    transfer_s = (n - 1) / n * bytes_ / seen.slowest_bytes_per_s
    return _shown(seen, latency_s, transfer_s, (n - 1) * bytes_)


def _shown(seen: _Switched, latency_s: Number, transfer_s: Number, sent: Number) -> Exchange:
    """A collective whose members send some bytes round a ring, or nothing where there is one."""
    busy = np.asarray(seen.members) > 1
    between = np.where(np.asarray(seen.nodes) > 1, sent / seen.near, 0.0)
    latency_s = np.maximum(latency_s, 0.0)
    return Exchange(latency_s * busy, transfer_s * busy, sent * busy, between * busy)


def _seen(hardware: Hardware, group: Group) -> _Switched:
    """The cluster as a group sees it; raises ValueError for dies that do not meet in a switch."""
    wafer, floor = hardware.wafer, floor_of(hardware)
    if floor.node is None or wafer.switch is None:
        raise ValueError(f"the dies of {wafer.name} do not meet in a switch")
    members = np.asarray(group.members, dtype=float)
    near = np.clip(floor.node / np.asarray(group.stride, dtype=float), 1.0, members)
    nodes = ceil_div(members, near)
    step_s = 2 * wafer.link.latency_s + wafer.switch.latency_s
    far_step_s, node_bytes_per_s = step_s, np.inf
    if hardware.link is not None:
        far_step_s = 2 * hardware.link.latency_s
        far_step_s += hardware.switch.latency_s if hardware.switch is not None else 0.0
        node_bytes_per_s = _reached(hardware.link)
    return _Switched(
        near=members / nodes,
        nodes=nodes,
        step_s=step_s,
        far_step_s=far_step_s,
        bytes_per_s=_reached(wafer.link),
        far_bytes_per_s=node_bytes_per_s * near / floor.node,
    )


def _reached(link: Link) -> float:
    """Bytes a second in one direction that collectives reach."""
    assert link.bandwidth_bytes_per_s is not None
    return link.sustained * link.bandwidth_bytes_per_s


def energy_j(hardware: Hardware, exchange: Exchange) -> Number:
    """Joules of all that the members of a collective send: over links into and out of the first
    switch and through it, and likewise between nodes."""
    inside = exchange.link_bytes * _joules_per_byte(hardware.wafer.link, hardware.wafer.switch)
    if hardware.link is None:
        return inside
    return inside + exchange.adapter_bytes * _joules_per_byte(hardware.link, hardware.switch)


def _joules_per_byte(link: Link, switch: Switch | None) -> float:
    return 2 * link.energy_j_per_byte + (0.0 if switch is None else switch.energy_j_per_byte)


SWITCHED: Mapping[str, Callable[[Hardware, Group, Number], Exchange]] = {
    "all_reduce": all_reduce,
    "reduce_scatter": reduce_scatter,
    "all_gather": all_gather,
}
"""Of a mapped graph, by the kind of operator."""
