"""Collectives along a line of cores: launches, time at zero load, and words over links.

A circuit-like network routes statically, a word a cycle a link, one cycle a hop, and a ramp of T_R
cycles between core and router. A message takes T = C + L + (2 T_R + 1) D: C words through the
busiest core or link, L hops, D cores that receive and send on ("Near-Optimal Wafer-Scale Reduce",
arXiv 2404.15888). Every step that the software starts on its own costs a launch.

On packet routers (wormhole) C is what the busiest of ramps, links and borders of dies takes, each
ramp a word a cycle each way and a border its share of that, and L counts every border on the way.
Lines begin at a border. Levels bound and fluid take these forms; flit simulates the same messages.
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
    sharing: Number = 1
    """Equal collectives in between each other; words are those of all of them."""

    @property
    def members(self) -> Number:
        """Cores that one of the collectives joins."""
        return self.cores / self.sharing


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
    routed = _is_routed(hardware)
    reduced, cores = (_routed_reduce, line.members) if routed else (_chained_reduce, line.cores)
    chain = reduced(hardware, line, words, cores)
    phased = reduced(hardware, line, words, np.ceil(np.sqrt(cores)))
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
    if _is_routed(hardware):
        return _routed_parts(hardware, line, words, line.members - 1)
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
    if _is_routed(hardware):
        copied = hardware.core.router.multicast
        return _routed_parts(hardware, line, words, 1 if copied else line.members - 1)
    return Traffic(
        launches=1.0 * busy,
        cycles=_multicast(hardware, line, words, line.cores - 1) * busy,
        link_words=words * busy,
        ramp_words=words * busy,
        word_hops=words * (line.cores - 1),
    )


# Packet routers.


def _is_routed(hardware: Hardware) -> bool:
    return hardware.core.router.kind == "wormhole"


def _border_period(hardware: Hardware, crosses: Number) -> Number:
    """Cycles of a word over the slowest link of a line; `crosses` where it leaves a die."""
    return either(crosses, 1.0 / min(1.0, hardware.wafer.crossing_share), 1.0)


def _chains(
    hardware: Hardware, line: Line, members: Number, stride: Number, offset: Number = 0
) -> Number:
    """Cycles of a word from the farther end of a line to its middle or back, handed on by every
    core; the line begins some cores behind a border."""
    root, die, each = members // 2, line.die_cores, stride * hardware.core.router.hop_cycles
    beyond = crossing_cycles(hardware) * (line.cores > die)
    middle, end = offset + root * stride, offset + (members - 1) * stride
    before = root * (each + _relay(hardware)) + beyond * (middle // die - offset // die)
    behind = (members - 1 - root) * (each + _relay(hardware)) + beyond * (
        end // die - middle // die
    )
    return np.maximum(before, behind)


def _routed_reduce(hardware: Hardware, line: Line, words: Number, group: Number) -> Traffic:
    """Chains inside groups, chains over the groups' middles, and back from the line's middle.

    A middle's ramp takes in the words of both sides. Without multicast it sends them to both sides
    too, and every core hands them on. Of the groups, one has a border beside its middle.
    """
    members, sharing, die = line.members, line.sharing, line.die_cores
    groups = ceil_div(members, group)
    period = _border_period(hardware, line.cores > die)
    both = words * np.maximum(2 / sharing, period)
    middle = group // 2 * sharing

    def phase(count: Number, stride: Number, offset: Number) -> Number:
        chains = _chains(hardware, line, count, stride, offset)
        return (both + chains) * (count > 1)

    cut = either(groups > 1, -middle % die, 0)
    inward = phase(group, sharing, cut) + phase(groups, group * sharing, middle % die)
    chains = _chains(hardware, line, members, sharing)
    if hardware.core.router.multicast:
        relays = _relay(hardware) * (members // 2 - 1)
        back = words * period + chains - relays
    else:
        back = either(members > 2, both, words * period) + chains
    phases = (group > 1) * 1.0 + (groups > 1)
    return Traffic(
        launches=phases + 1,
        cycles=inward + back,
        link_words=words * (phases + 1),
        ramp_words=2 * words / sharing * phases,
        word_hops=words * (line.cores - 1) * (phases + 1),
    )


def _routed_parts(hardware: Hardware, line: Line, words: Number, relays: Number) -> Traffic:
    """Every core's part to or from all others, handed on by some cores in a row. A border is
    crossed by the parts of one side of it at a time, at most of all but the shorter side."""
    cores, die = line.cores, line.die_cores
    busy, borders = cores > 1, (cores - 1) // die
    crossed = np.maximum(borders * die, cores - die) / cores
    slow = _border_period(hardware, cores > die) * crossed
    cycles = words * np.maximum(1.0, slow) + _path(hardware, line, cores - line.sharing)
    return Traffic(
        launches=1.0 * busy,
        cycles=(cycles + _relay(hardware) * relays) * busy,
        link_words=words * busy,
        ramp_words=words / line.sharing * busy,
        word_hops=words * (cores - 1),
    )


# Products whose tiles travel.


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


Periods = tuple[Number, Number]
"""Cycles of a word over the slowest link of a row and of a column."""


def step_periods(hardware: Hardware, rows: Number, columns: Number) -> Periods:
    """Of a mesh's rows and columns; circuits are taken to have no slow borders."""
    if not _is_routed(hardware):
        return 1.0, 1.0
    die = hardware.wafer.die
    crosses = np.asarray(columns) > die.columns, np.asarray(rows) > die.rows
    return _border_period(hardware, crosses[0]), _border_period(hardware, crosses[1])


def shift_step(
    hardware: Hardware, along_row: Number, along_column: Number, periods: Periods = (1.0, 1.0)
) -> Rotation:
    """Tiles go to the next core of a ring folded onto the line: two hops, each link used once a
    direction (MeshGEMM's interleaving, arXiv 2502.04563). Both share the core's ramp."""
    router = hardware.core.router
    words = _slowest(along_row + along_column, along_row, along_column, periods)
    cycles = words + 2 * router.hop_cycles + _relay(hardware)
    return Rotation(1.0, cycles, along_row, along_column)


def reduce_step(
    hardware: Hardware, shifted: Number, summed: Number, periods: Periods = (1.0, 1.0)
) -> Rotation:
    """A tile goes down the column while the last partial sums run along the row to their owner;
    the sums start after the product, so they are launched apart."""
    router = hardware.core.router
    words = _slowest(shifted + 2 * summed, summed, shifted, periods)
    cycles = words + 2 * router.hop_cycles + _relay(hardware)
    return Rotation(2.0, cycles, summed, shifted)


def _slowest(in_core: Number, along_row: Number, along_column: Number, periods: Periods) -> Number:
    """Cycles of a step's words through a core's ramp, or over the borders of dies beside it. The
    latency of borders is not in here: it delays a whole product, not each of its steps."""
    borders = np.maximum(along_row * periods[0], along_column * periods[1])
    return np.maximum(in_core, borders)
