"""What leaves a wafer for another one: hidden states of stages, gradients of replicas.

Wafers meet in a switch, or each is linked to two neighbours of a ring. A link is no faster than
the ports that it leaves by, which the neighbours of a wafer share. What stays on a wafer is in
handover.py, what comes from memory off the wafer in streaming.py, clusters of GPUs in switched.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import EdgeIO, Hardware, Wafer
from ..ir.program import Rectangle
from ..ir.technology import Link
from .extents import Number
from .network import fabric_of


@dataclass(frozen=True)
class Passage:
    """Seconds and joules of bytes that leave wafers for others."""

    seconds: Number
    energy_j: Number


def passing(
    hardware: Hardware,
    bytes_: Number,
    source: Number,
    target: Number,
    sharing: Number = 1,
    places: Sequence[Rectangle] = (),
) -> Passage:
    """Bytes from a wafer to another one, by their numbers, the shorter way round the ring or
    through the switch, while `sharing` such transfers use the busiest of their links.

    They stream: bytes go on over a link while others come by the one before. `places` are where
    they start and end; without these no way to the ports is counted. Raises ValueError for wafers
    without links.
    """
    rate = np.asarray(bytes_per_s(hardware) / np.asarray(sharing, dtype=float))
    latency_s = hops(hardware, source, target) * _step_s(hardware)
    for place in places:
        latency_s = latency_s + way_out_s(hardware, place)
        rate = np.minimum(rate, lines_bytes_per_s(hardware, place))
    between = np.asarray(source) != target
    energy_j = bytes_ * hops(hardware, source, target) * energy_j_per_byte(hardware)
    return Passage((latency_s + bytes_ / rate) * between, energy_j)


def all_reduce(hardware: Hardware, bytes_: Number, islands: Number, sharing: Number = 1) -> Passage:
    """The sum of `bytes_` of each of some neighbouring wafers in all of them: a ring of 2 (n - 1)
    steps with an n-th of the bytes each (Thakur et al., IJHPCA 2005, section 4.4), while `sharing`
    such sums use the links.

    Where the ring of wafers has others too, the last one sends to the first back over those
    between, or over the others. Raises ValueError for wafers without links.
    """
    n = np.asarray(islands, dtype=float)
    rate = bytes_per_s(hardware) / np.asarray(sharing, dtype=float)
    closing = hops(hardware, 0, n - 1)
    seconds = 2 * (n - 1) * (closing * _step_s(hardware) + bytes_ / n / rate)
    sent = 2 * (n - 1) / n * bytes_ * (n - 1 + closing)
    return Passage(seconds, sent * energy_j_per_byte(hardware))


def all_to_all(hardware: Hardware, leaving: Number, islands: Number) -> Passage:
    """What each of some neighbouring wafers sends to the others, to each as much and `leaving` in
    all: as long as the busiest link takes, that in the middle of the ring or of the part of it."""
    n, step_s = np.asarray(islands, dtype=float), _step_s(hardware)
    if hardware.switch is not None:
        busiest, far = leaving, 1.0 * (n > 1)
    else:
        closed = n == hardware.wafers
        to_each = leaving / np.maximum(n - 1, 1)
        busiest = to_each * np.where(closed, np.ceil(n * n / 8), np.floor(n * n / 4))
        far = np.where(closed, np.floor(n / 2), n - 1)
    mean_hops = np.where(far > 1, (far + 1) / 2, far)
    energy_j = n * leaving * mean_hops * energy_j_per_byte(hardware)
    return Passage(busiest / bytes_per_s(hardware) + far * step_s, energy_j)


def exchanged(hardware: Hardware, pairs: Sequence[tuple[int, int, float]]) -> Passage:
    """Bytes between pairs of wafers, all at once: as long as the busiest link takes. Raises
    ValueError for wafers without links."""
    between: dict[tuple[int, int], float] = {}
    for source, target, bytes_ in pairs:
        between[source, target] = between.get((source, target), 0.0) + bytes_
    carried: dict[tuple[str, int], float] = {}
    energy_j = far = 0.0
    for (source, target), bytes_ in between.items():
        used = _links(hardware, source, target)
        for link in used:
            carried[link] = carried.get(link, 0.0) + bytes_
        count = float(np.asarray(hops(hardware, source, target)))
        far = max(far, count)
        energy_j += bytes_ * count * energy_j_per_byte(hardware)
    busiest = max(carried.values(), default=0.0)
    return Passage(busiest / bytes_per_s(hardware) + far * _step_s(hardware), energy_j)


def hops(hardware: Hardware, source: Number, target: Number) -> Number:
    """Links between two wafers; through a switch there is one."""
    if hardware.switch is not None:
        return (np.asarray(source) != target) * 1.0
    there = (np.asarray(target, dtype=float) - source) % hardware.wafers
    return np.minimum(there, hardware.wafers - there)


def shared_by(
    hardware: Hardware, source: NDArray[np.int64], target: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each of some transfers between wafers how many of them use its busiest link."""
    used = [_links(hardware, int(a), int(b)) for a, b in zip(source, target, strict=True)]
    count: dict[tuple[str, int], int] = {}
    for links in used:
        for link in links:
            count[link] = count.get(link, 0) + 1
    return np.array([max((count[link] for link in links), default=1) for links in used])


def _links(hardware: Hardware, source: int, target: int) -> list[tuple[str, int]]:
    """The links, each in one direction, from a wafer to another: of a switch, into it and out; of a
    ring, by the wafer that they leave."""
    if source == target:
        return []
    if hardware.switch is not None:
        return [("in", source), ("out", target)]
    there = (target - source) % hardware.wafers
    if 2 * there <= hardware.wafers:
        return [("up", (source + at) % hardware.wafers) for at in range(there)]
    return [("down", (source - at) % hardware.wafers) for at in range(hardware.wafers - there)]


def bytes_per_s(hardware: Hardware) -> float:
    """Of the link of a wafer to a neighbour or to the switch, in one direction: no more than the
    ports behind it, of which each of two neighbours has half, or than the switch's."""
    link = _link(hardware)
    assert link.bandwidth_bytes_per_s is not None
    rate = link.sustained * link.bandwidth_bytes_per_s
    ports = sum(io.ports * io.bandwidth_bytes_per_s for io in hardware.wafer.io)
    if hardware.switch is not None:
        rate = min(rate, hardware.switch.count * hardware.switch.bandwidth_bytes_per_s)
        return min(rate, ports or rate)
    return min(rate, ports / min(2, max(1, hardware.wafers - 1)) or rate)


def energy_j_per_byte(hardware: Hardware) -> float:
    """From a wafer to the next one: out by its ports, over the link and in; through a switch, over
    two links."""
    link, switch, wafer = _link(hardware), hardware.switch, hardware.wafer
    energy = link.energy_j_per_byte
    if switch is not None:
        energy = 2 * energy + switch.energy_j_per_byte
    ports = sum(io.ports * io.bandwidth_bytes_per_s for io in wafer.io)
    if not ports:
        return energy
    each = (io.ports * io.bandwidth_bytes_per_s * io.energy_j_per_byte for io in wafer.io)
    return energy + 2 * sum(each) / ports


def way_out_s(hardware: Hardware, place: Rectangle) -> float:
    """Seconds at zero load from the middle of a rectangle to the nearest ports: a hop a core, in
    place of which a border of dies has its own latency, and the ramp. 0 on a wafer without ports.
    """
    fabric = fabric_of(hardware.wafer)
    ramp_s, hop_s, crossing_s = fabric.head_s
    ways: list[float] = []
    for io in hardware.wafer.io:
        die = fabric.die_columns if _along_row(io) else fabric.die_rows
        cores = _distance(hardware.wafer, place, io)
        crossings = cores // die
        ways.append(ramp_s + (cores - crossings) * hop_s + crossings * max(hop_s, crossing_s))
    return min(ways, default=0.0)


def lines_bytes_per_s(hardware: Hardware, place: Rectangle) -> float:
    """What the rows or columns of a rectangle carry to the nearest ports, a link each."""
    if not hardware.wafer.io:
        return np.inf
    nearest = min(hardware.wafer.io, key=lambda io: _distance(hardware.wafer, place, io))
    lines = place.rows if _along_row(nearest) else place.columns
    return lines * fabric_of(hardware.wafer).link_bytes_per_s


def _along_row(io: EdgeIO) -> bool:
    return io.edge in ("east", "west")


def _distance(wafer: Wafer, place: Rectangle, io: EdgeIO) -> float:
    """Cores between the middle of a rectangle and an edge of the usable ones."""
    row, column = place.centre
    match io.edge:
        case "north":
            return row
        case "south":
            return wafer.usable_rows - 1 - row
        case "west":
            return column
        case "east":
            return wafer.usable_columns - 1 - column


def _step_s(hardware: Hardware) -> float:
    """Of the first byte from a wafer to the next one."""
    link, switch = _link(hardware), hardware.switch
    return link.latency_s if switch is None else 2 * link.latency_s + switch.latency_s


def _link(hardware: Hardware) -> Link:
    if hardware.link is None:
        raise ValueError(f"the wafers of {hardware.name} have no links")
    return hardware.link
