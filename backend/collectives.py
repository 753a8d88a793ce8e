"""Collectives on a circuit-like network: launches, time at zero load, and words over links.

The network routes statically, a word a cycle a link, one cycle a hop, and a ramp of T_R cycles
between core and router. A message takes T = C + L + (2 T_R + 1) D: C words through the busiest
core or link, L hops, D cores that receive and send on ("Near-Optimal Wafer-Scale Reduce", arXiv
2404.15888). Every step that the software starts on its own costs a launch.
"""

from dataclasses import dataclass

import numpy as np

from ..ir.hardware import Hardware
from .extents import Number, ceil_div, either


@dataclass(frozen=True)
class Line:
    """Neighbouring cores of a row or column over which a collective runs."""

    cores: Number
    die_cores: int
    """Cores between two die boundaries along this line."""


@dataclass(frozen=True)
class Traffic:
    """What one collective makes of the network and of the cores that start it.

    `cycles` is from the start to the last word at zero load, launches left out. Words are of the
    router's width: through the busiest link of the line, through the busiest ramp in its busier
    direction, and in all over all links of one line (for energy).
    """

    launches: Number = 0.0
    cycles: Number = 0.0
    link_words: Number = 0.0
    ramp_words: Number = 0.0
    word_hops: Number = 0.0


def crossing_cycles(hardware: Hardware) -> float:
    """Extra cycles of a hop across a die boundary."""
    core = hardware.core
    return max(0.0, hardware.wafer.link.latency_s * core.clock_hz - core.router.hop_cycles)


def _path(hardware: Hardware, line: Line, hops: Number) -> Number:
    """Cycles of a path of some hops along the line, die boundaries included."""
    crossings = hops // line.die_cores
    return hops * hardware.core.router.hop_cycles + crossings * crossing_cycles(hardware)


def _stream(hardware: Hardware, line: Line, words: Number) -> Number:
    """Cycles for words through the slowest link of the line, which may cross a die boundary."""
    crosses = line.cores > line.die_cores
    return either(crosses, words / min(1.0, hardware.wafer.crossing_share), words)


def _relay(hardware: Hardware) -> float:
    """Cycles to receive in a core, add and send on: 2 T_R + 1."""
    return 2 * hardware.core.router.ramp_cycles + 1


def all_reduce(hardware: Hardware, line: Line, words: Number) -> Traffic:
    """Sum or maximum over a line, whichever is faster of one chain and two phases.

    Two phases: chains from both ends of each group of about sqrt(P) cores meet in its middle, then
    chains of the groups' middles meet in the line's middle. The result is multicast back.
    """
    chain, phased, better = _options(hardware, line, words)
    busy = line.cores > 1

    def pick(of_phased: Number, of_chain: Number) -> Number:
        return either(better, of_phased, of_chain) * busy

    return Traffic(
        pick(phased.launches, chain.launches),
        pick(phased.cycles, chain.cycles),
        pick(phased.link_words, chain.link_words),
        pick(phased.ramp_words, chain.ramp_words),
        pick(phased.word_hops, chain.word_hops),
    )


def takes_two_phases(hardware: Hardware, line: Line, words: Number) -> Number:
    """Whether an all-reduce is faster in two phases than over one chain, launches included."""
    return _options(hardware, line, words)[2]


def _options(hardware: Hardware, line: Line, words: Number) -> tuple[Traffic, Traffic, Number]:
    """Over one chain, in two phases, and whether the latter is faster."""
    chain = _chained_reduce(hardware, line, words, line.cores)
    phased = _chained_reduce(hardware, line, words, np.ceil(np.sqrt(line.cores)))
    launch = hardware.core.software.launch_cycles
    of_chain, of_phased = (each.cycles + launch * each.launches for each in (chain, phased))
    return chain, phased, of_phased < of_chain


def _chained_reduce(hardware: Hardware, line: Line, words: Number, group: Number) -> Traffic:
    """Chains inside groups, chains over the groups' middles, then a multicast from the middle."""
    groups = ceil_div(line.cores, group)
    inner, outer = group // 2, groups // 2
    relay = _relay(hardware)
    into_root = _stream(hardware, line, 2 * words)

    def phase(depth: Number, hops: Number) -> Number:
        return (into_root + _path(hardware, line, hops) + relay * depth) * (depth > 0)

    back = _multicast(hardware, line, words, ceil_div(line.cores, 2))
    cycles = phase(inner, inner) + phase(outer, outer * group) + back
    phases = (inner > 0) * 1.0 + (outer > 0)
    return Traffic(
        launches=phases + 1,
        cycles=cycles,
        link_words=words * (phases + 1),
        ramp_words=2 * words * phases,
        word_hops=words * (line.cores - 1) * (phases + 1),
    )


def _multicast(hardware: Hardware, line: Line, words: Number, reach: Number) -> Number:
    """One core's words to all others of the line, the farthest `reach` cores away."""
    path = _stream(hardware, line, words) + _path(hardware, line, reach)
    depth = 1 if hardware.core.router.multicast else reach
    return path + _relay(hardware) * depth


def reduce_scatter(hardware: Hardware, line: Line, words: Number) -> Traffic:
    """Sums stream along the line both ways, every core adding its part on the way."""
    busy = line.cores > 1
    cycles = _stream(hardware, line, words) + _path(hardware, line, line.cores - 1)
    return Traffic(
        launches=1.0 * busy,
        cycles=(cycles + _relay(hardware) * (line.cores - 1)) * busy,
        link_words=words * busy,
        ramp_words=words * busy,
        word_hops=words * (line.cores - 1),
    )


def all_gather(hardware: Hardware, line: Line, words: Number) -> Traffic:
    """Every core multicasts its part; `words` is the whole."""
    busy = line.cores > 1
    return Traffic(
        launches=1.0 * busy,
        cycles=_multicast(hardware, line, words, line.cores - 1) * busy,
        link_words=words * busy,
        ramp_words=words * busy,
        word_hops=words * (line.cores - 1),
    )


def aligning_turns(steps: Number) -> Number:
    """Turns of the left operand's tiles before the first step of a product in which both operands'
    tiles travel: the farthest go half-way round the ring to meet those of the right operand."""
    return np.floor(np.asarray(steps) / 2)


@dataclass(frozen=True)
class Rotation:
    """One step of a product whose tiles travel: words that each core sends at each step."""

    launches: float
    cycles: Number
    row_words: Number
    column_words: Number


def shift_step(hardware: Hardware, along_row: Number, along_column: Number) -> Rotation:
    """Tiles go to the next core of a ring folded onto the line: two hops, each link used once a
    direction (MeshGEMM's interleaving, arXiv 2502.04563). Both share the core's ramp."""
    router = hardware.core.router
    cycles = along_row + along_column + 2 * router.hop_cycles + _relay(hardware)
    return Rotation(1.0, cycles, along_row, along_column)


def reduce_step(hardware: Hardware, shifted: Number, summed: Number) -> Rotation:
    """A tile goes down the column while the last partial sums run along the row to their owner;
    the sums start after the product, so they are launched apart."""
    router = hardware.core.router
    cycles = shifted + 2 * summed + 2 * router.hop_cycles + _relay(hardware)
    return Rotation(2.0, cycles, summed, shifted)
