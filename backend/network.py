"""Flows over a wafer's mesh of cores: loads of links, zero-load times, and a bound on all.

Routes are dimension-ordered: along the row first, then along the column. How flows share the
links event by event is in network_fluid.py; which flows a program has is not known here.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import Wafer

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Fabric:
    """The network of one wafer. Links join neighbouring cores, one each way.

    Routers of dead cores are taken to pass words on, as a statically routed fabric would be
    mended; the defects keep rectangles away, not routes.
    """

    rows: int
    columns: int
    """Cores."""
    die_rows: int
    die_columns: int
    word_bytes: float
    """What a link carries at a time."""
    link_bytes_per_s: float
    """Of a link inside a die, in each direction."""
    hop_s: float
    crossing_bytes_per_s: float
    """Of a link across the border of two dies."""
    crossing_s: float
    ramp_bytes_per_s: float
    """Of a core into its router, and of a router into its core."""
    ramp_s: float

    @property
    def head_s(self) -> tuple[float, float, float]:
        """What delays the first word at a ramp, at a hop and at a crossing.

        A word is not through a link before its last bit is.
        """
        return (
            max(self.ramp_s, self.word_bytes / self.ramp_bytes_per_s),
            max(self.hop_s, self.word_bytes / self.link_bytes_per_s),
            max(self.crossing_s, self.word_bytes / self.crossing_bytes_per_s),
        )

    def along_rows(self) -> Floats:
        """Bytes/s of the links from each column to the next: (columns - 1,)."""
        return self._bandwidths(self.columns, self.die_columns)

    def along_columns(self) -> Floats:
        """Bytes/s of the links from each row to the next: (rows - 1,)."""
        return self._bandwidths(self.rows, self.die_rows)

    def _bandwidths(self, cores: int, die: int) -> Floats:
        crosses = np.arange(1, cores) % die == 0
        return np.where(crosses, self.crossing_bytes_per_s, self.link_bytes_per_s)


def fabric_of(wafer: Wafer) -> Fabric:
    """The network of a wafer: a word a cycle on every link and ramp, less where dies are joined."""
    core = wafer.die.core
    bytes_per_s = core.router.width_bytes * core.clock_hz
    return Fabric(
        rows=wafer.core_rows,
        columns=wafer.core_columns,
        die_rows=wafer.die.rows,
        die_columns=wafer.die.columns,
        word_bytes=core.router.width_bytes,
        link_bytes_per_s=bytes_per_s,
        hop_s=core.router.hop_cycles / core.clock_hz,
        crossing_bytes_per_s=bytes_per_s * wafer.crossing_share,
        crossing_s=wafer.link.latency_s,
        ramp_bytes_per_s=bytes_per_s,
        ramp_s=core.router.ramp_cycles / core.clock_hz,
    )


@dataclass(frozen=True)
class Flows:
    """Transfers from core to core: six arrays of one length, integers for cores.

    A flow without bytes, or to its own core, uses no link and takes no time.
    """

    source_row: Integers
    source_column: Integers
    target_row: Integers
    target_column: Integers
    bytes: Floats
    release_s: Floats

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, which: NDArray[np.bool_] | Integers) -> "Flows":
        """The flows under a mask or an index."""
        return Flows(
            self.source_row[which],
            self.source_column[which],
            self.target_row[which],
            self.target_column[which],
            self.bytes[which],
            self.release_s[which],
        )

    @cached_property
    def travel(self) -> NDArray[np.bool_]:
        """Which flows use the network at all."""
        moved = (self.source_row != self.target_row) | (self.source_column != self.target_column)
        return moved & (self.bytes > 0)


@dataclass(frozen=True)
class LinkLoads:
    """Bytes over every link and ramp. The link [r, c] joins core [r, c] and its neighbour.

    `eastward` and `westward` are (rows, columns - 1), and [r, c] joins columns c and c + 1;
    `southward` and `northward` are (rows - 1, columns), and [r, c] joins rows r and r + 1;
    `injection` and `ejection` are (rows, columns).
    """

    eastward: Floats
    westward: Floats
    southward: Floats
    northward: Floats
    injection: Floats
    ejection: Floats

    def busy_s(self, fabric: Fabric) -> float:
        """How long the busiest link or ramp is busy."""
        return self.busy_at(fabric.along_rows(), fabric.along_columns(), fabric.ramp_bytes_per_s)

    def busy_at(self, along_rows: Floats, along_columns: Floats, ramp: float) -> float:
        """The same for bandwidths in bytes a second: of the links of any row, west to east, of
        those of any column, north to south, and of a ramp."""
        times = (
            self.eastward / along_rows,
            self.westward / along_rows,
            self.southward / along_columns[:, np.newaxis],
            self.northward / along_columns[:, np.newaxis],
            self.injection / ramp,
            self.ejection / ramp,
        )
        return max(float(time.max(initial=0.0)) for time in times)


def link_loads(fabric: Fabric, flows: Flows) -> LinkLoads:
    """Bytes over every link, by differences at both ends of a flow and a running sum between.

    O(flows + links); exact while sums of whole bytes stay below 2**53.
    """
    sent = flows[flows.travel]
    sources = sent.source_row, sent.source_column
    targets = sent.target_row, sent.target_column
    corners = sent.source_row, sent.target_column
    east, west = sent.target_column > sent.source_column, sent.target_column < sent.source_column
    south, north = sent.target_row > sent.source_row, sent.target_row < sent.source_row

    def gathered(where: tuple[Integers, Integers], bytes_: Floats) -> Floats:
        flat = np.zeros(fabric.rows * fabric.columns)
        flat += np.bincount(where[0] * fabric.columns + where[1], bytes_, len(flat))
        return flat.reshape(fabric.rows, fabric.columns)

    def passing(
        begin: tuple[Integers, Integers],
        end: tuple[Integers, Integers],
        which: NDArray[np.bool_],
        axis: int,
    ) -> Floats:
        bytes_ = sent.bytes * which
        return np.cumsum(gathered(begin, bytes_) - gathered(end, bytes_), axis=axis)

    return LinkLoads(
        eastward=passing(sources, corners, east, 1)[:, :-1],
        westward=passing(corners, sources, west, 1)[:, :-1],
        southward=passing(corners, targets, south, 0)[:-1],
        northward=passing(targets, corners, north, 0)[:-1],
        injection=gathered(sources, sent.bytes),
        ejection=gathered(targets, sent.bytes),
    )


@dataclass(frozen=True)
class Routes:
    """What each flow meets on its way: arrays of one length."""

    hops: Integers
    """Links, crossings included."""
    crossings: Integers
    """Links across the border of two dies."""
    slowest_bytes_per_s: Floats
    """Bandwidth of the slowest link or ramp."""


def routes(fabric: Fabric, flows: Flows) -> Routes:
    """Length and narrowest place of every flow's route."""
    wide = np.abs(flows.source_column - flows.target_column)
    high = np.abs(flows.source_row - flows.target_row)
    crossings = np.abs(
        flows.source_column // fabric.die_columns - flows.target_column // fabric.die_columns
    ) + np.abs(flows.source_row // fabric.die_rows - flows.target_row // fabric.die_rows)
    slowest = np.full(len(flows), fabric.ramp_bytes_per_s)
    inside, across = wide + high > crossings, crossings > 0
    slowest[inside] = np.minimum(slowest[inside], fabric.link_bytes_per_s)
    slowest[across] = np.minimum(slowest[across], fabric.crossing_bytes_per_s)
    return Routes(wide + high, crossings, slowest)


def whole_words(fabric: Fabric, flows: Flows) -> Floats:
    """Words of every flow."""
    return np.ceil(flows.bytes / fabric.word_bytes)


def latency_s(fabric: Fabric, flows: Flows) -> Floats:
    """What a flow takes beyond its words at the rate of the slowest link: (flows,).

    The head of the message passes a ramp, the links and a ramp; the last word follows words - 1
    later, so that one word's time is taken off. Never negative.
    """
    met = routes(fabric, flows)
    ramp_s, hop_s, crossing_s = fabric.head_s
    head_s = 2 * ramp_s + (met.hops - met.crossings) * hop_s + met.crossings * crossing_s
    return np.where(flows.travel, head_s - fabric.word_bytes / met.slowest_bytes_per_s, 0.0)


def zero_load_s(fabric: Fabric, flows: Flows) -> Floats:
    """Time of each flow alone on the network: (flows,).

    2 ramps + hops + crossings + (words - 1) at the slowest link: wormhole or circuit pipelining,
    head latency plus serialization (Dally and Towles, Principles and Practices of Interconnection
    Networks, 2004, section 3.3.2). For one word a cycle, D hops and B words that is the broadcast
    of arXiv 2404.15888, B + D + 2 T_R + 1, less the two cycles in which its receiver handles the
    last word.
    """
    met = routes(fabric, flows)
    words_s = whole_words(fabric, flows) * fabric.word_bytes / met.slowest_bytes_per_s
    return np.where(flows.travel, latency_s(fabric, flows) + words_s, 0.0)


def bound_s(fabric: Fabric, flows: Flows) -> float:
    """A time that the last flow cannot end before.

    The larger of what the busiest link or ramp needs from the first release on and the latest
    release plus zero-load time; never their sum.
    """
    if len(flows) == 0:
        return 0.0
    busy_s = _busiest_s(fabric, flows)
    alone_s = flows.release_s + zero_load_s(fabric, flows)
    return max(float(flows.release_s.min()) + busy_s, float(alone_s.max()))


def _busiest_s(fabric: Fabric, flows: Flows) -> float:
    """Busy time of the busiest link or ramp, on a fabric of only the rows and columns where a flow
    begins, ends or turns: between them loads do not change, and the slowest link counts."""
    rows, from_row, to_row = _squeezed(flows.source_row, flows.target_row)
    columns, from_column, to_column = _squeezed(flows.source_column, flows.target_column)
    small = replace(fabric, rows=len(rows), columns=len(columns))
    loads = link_loads(
        small,
        replace(
            flows,
            source_row=from_row,
            source_column=from_column,
            target_row=to_row,
            target_column=to_column,
        ),
    )
    along_rows = _slowest_between(fabric.along_rows(), columns)
    along_columns = _slowest_between(fabric.along_columns(), rows)
    return loads.busy_at(along_rows, along_columns, fabric.ramp_bytes_per_s)


def _squeezed(sources: Integers, targets: Integers) -> tuple[Integers, Integers, Integers]:
    """The coordinates that occur, and both arrays as places among them."""
    occurs = np.zeros(1 + max(int(sources.max()), int(targets.max())), np.bool_)
    occurs[sources] = occurs[targets] = True
    places = np.cumsum(occurs) - 1
    return np.flatnonzero(occurs), places[sources], places[targets]


def _slowest_between(bandwidths: Floats, places: Integers) -> Floats:
    """The least bandwidth of the links between each two neighbouring places."""
    if len(places) < 2:
        return np.empty(0)
    return np.minimum.reduceat(bandwidths[: places[-1]], places[:-1])
