"""What a core, die, wafer or system holds and moves: cores, SRAM, memory, peak, bandwidths.

Cores of a wafer that are not in use are left out, the dead and spare ones taken to be spread
evenly over the kinds of core. Bytes, FLOP/s and bytes/s; figures are floats, or arrays of them.
"""

from functools import reduce
from typing import TypeAlias

import numpy as np

from ...ir.hardware import Core, Die, Hardware, Wafer
from .area import edge_bandwidths

Part: TypeAlias = Core | Die | Wafer | Hardware

PEAK_DTYPES: tuple[str, ...] = ("float16", "bfloat16")
"""A peak is quoted in the faster of these, dense; in the fastest dtype of parts without either."""


def core_counts(part: Part) -> tuple[tuple[Core, float], ...]:
    """Every kind of core of a part, and how many of it are in use."""
    match part:
        case Core():
            return ((part, 1.0),)
        case Die():
            return part.kinds
        case Wafer():
            made = [(core, n * dies) for die, dies in part.kinds for core, n in die.kinds]
            share = part.cores_in_use / sum(count for _, count in made)
            return tuple((core, count * share) for core, count in made)
        case Hardware():
            return part.cores_by_kind


def cores(part: Part) -> float:
    """Cores in use; of a die, those that are not spare."""
    return sum(count for _, count in core_counts(part))


def sram_bytes(part: Part) -> float:
    """Of all cores, what a runtime reserves included."""
    return sum(count * core.sram.capacity_bytes for core, count in core_counts(part))


def sram_bandwidth(part: Part) -> float:
    """Bytes/s read and written, every port of every core busy."""
    return sum(
        count * (core.sram.read_bytes_per_cycle + core.sram.write_bytes_per_cycle) * core.clock_hz
        for core, count in core_counts(part)
    )


def peak(part: Part) -> float:
    """Dense FLOP/s in the faster of PEAK_DTYPES; of parts without either, in their fastest."""
    counts = core_counts(part)
    dtypes = {dtype for core, _ in counts for dtype in core.matrix_flops_per_cycle}
    chosen = dtypes.intersection(PEAK_DTYPES) or dtypes

    def of(dtype: str) -> float:
        return sum(
            count * core.matrix_flops_per_cycle.get(dtype, 0.0) * core.clock_hz
            for core, count in counts
        )

    return reduce(np.maximum, (of(dtype) for dtype in chosen), 0.0)


def dram_bytes(part: Die | Wafer | Hardware) -> float:
    """Of all memory apart from the cores' SRAM: on the dies, beside them and external."""
    match part:
        case Die():
            return sum(memory.capacity_bytes for memory in part.memories)
        case Wafer():
            dies = sum(count * dram_bytes(die) for die, count in part.kinds)
            return dies + sum(memory.capacity_bytes for memory in part.memories)
        case Hardware():
            return part.wafers * dram_bytes(part.wafer)


def dram_bandwidth(part: Die | Wafer | Hardware) -> float:
    """Bytes/s of all that memory; behind the ports of an edge, no more than they carry."""
    match part:
        case Die():
            rates = (memory.bandwidth_bytes_per_s for memory in part.memories)
            return sum(rate for rate in rates if rate is not None)
        case Wafer():
            dies = sum(count * dram_bandwidth(die) for die, count in part.kinds)
            edges = dict.fromkeys(memory.via for memory in part.memories)
            return dies + sum(_behind(part, edge) for edge in edges)
        case Hardware():
            return part.wafers * dram_bandwidth(part.wafer)


def _behind(wafer: Wafer, edge: str | None) -> float:
    """Of the wafer's memories behind the ports of an edge together; of those behind none."""
    rates = [m.bandwidth_bytes_per_s for m in wafer.memories if m.via == edge]
    stated = sum(rate for rate in rates if rate is not None)
    if edge is None:
        return stated
    ports = sum(io.ports * io.bandwidth_bytes_per_s for io in wafer.io if io.edge == edge)
    unbound = any(rate is None for rate in rates)
    return ports if unbound else np.minimum(ports, stated)


def bisection(part: Die | Wafer) -> float:
    """Bytes/s in one direction through the middle of a die or wafer, the narrower way across.

    Of a mesh it is what crosses that cut, not the sum of all links: a row of cores is one link.
    Of a wafer, rows that programs use count, and a cut carries no more than the joints of the
    dies beside it. Where dies or cores are of several kinds, the narrowest counts everywhere.
    """
    if isinstance(part, Die):
        return np.minimum(*_mesh_cuts(part))
    if part.switch is not None:
        return _switched_cut(part)
    usable = part.usable_columns / part.core_columns, part.usable_rows / part.core_rows
    dies = part.columns * usable[0], part.rows * usable[1]
    joined = part.rows > 1, part.columns > 1
    cuts = (
        count * np.where(several, np.minimum(inside, joint), inside)
        for die, _ in part.kinds
        for count, several, inside, joint in zip(
            dies, joined, _mesh_cuts(die), edge_bandwidths(die, part.link), strict=True
        )
    )
    return reduce(np.minimum, cuts)


def _mesh_cuts(die: Die) -> tuple[float, float]:
    """Through a die's mesh, northwards over all its columns and eastwards over all its rows."""
    lanes = (core.router.width_bytes * core.clock_hz for core, _ in die.kinds)
    lane = reduce(np.minimum, lanes)
    return die.columns * lane, die.rows * lane


def _switched_cut(board: Wafer) -> float:
    """Half of the dies to the other half: through their own links, or a port of every switch."""
    assert board.switch is not None
    ports = board.switch.count * board.switch.bandwidth_bytes_per_s
    die = np.minimum(edge_bandwidths(board.die, board.link)[0], ports)
    return board.rows * board.columns / 2 * die
