"""The design bound: no legal mapping of a workload onto a design takes less time, at the levels
`bound` and `fluid`. Vectorized over designs: figures of the hardware may be arrays.

Let a strategy have replicas dp, stages s, micro-batches m of b sequences, and rectangles of r x c
cores, p = r c; then b m dp >= B sequences and s p dp <= T cores.

1. A micro-batch is a chain through all stages, of C(b) seconds. In inference a pipeline takes
   C + (m - 1) C / s at least, since its slowest stage has an average one's share; in training it
   takes C at least, and m C / s.
2. C(b) >= b V + N. V is what grows with the batch: multiply-adds over the rate of a core (unit and
   SRAM ports), element operations over its lanes, and words through links, each divided by no more
   than the sides of the mesh that cut it. N is what does not: launches, and the hops of
   collectives over whole sides. C >= K too: an instruction takes a cycle at least.
3. So inference takes max(1, B p / T) V + N: b (s + m - 1) / s is at least b, and at least b m / s,
   which is at least B p / T. In training the two do not add up, and the optimizer comes behind.
4. Where weights stay in SRAM, s p cores hold them: s is at least S = weights / (p of a core). As
   m is at least B s p / (b T), the same takes (b V + N) (a + x / b) at least, a = 1 - 1 / S and
   x = B p / T, which is least at b = sqrt(N x / (a V)), or at one sequence. Weights that are
   elsewhere come in once a step at least.
5. The best r and c are not known. The plane of both is cut into cells; in each, work is taken at
   its largest mesh and hops at its smallest, and the least over all cells is the bound.

Collectives are as in collectives.py with rounding left out, which level `flit` may differ from.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.graph import DTYPE_BYTES
from ..ir.hardware import Hardware
from .design_demand import Collective, Demand, Product, Sides, Tally
from .physics.capacity import dram_bandwidth, dram_bytes
from .physics.power import regulator_loss, standby

Floats = NDArray[np.float64]

STEP = 1.5
"""From the side of one cell to that of the next."""
AT_A_TIME = 128
"""Designs, for the arrays of all their cells to stay in a cache."""


def latency_s(demand: Demand, hardware: Hardware, count: int) -> Floats:
    """Seconds of a step at least on each of `count` designs; inf where it certainly cannot run."""
    found = np.empty(count)
    for first in range(0, count, AT_A_TIME):
        which = slice(first, min(first + AT_A_TIME, count))
        some = _taken(hardware, which, count)
        found[which] = _Bound(demand, some, which.stop - first).latency_s
    return found


def energy_j(demand: Demand, hardware: Hardware, latency: Floats) -> Floats:
    """Joules of a step at least, one that takes no less than `latency` seconds: arithmetic and its
    SRAM accesses, and what the system draws all the time."""
    technology = hardware.core.technology
    dynamic: Any = 0.0
    for dtype, (products, operations) in demand.energy.items():
        dynamic = dynamic + (products + operations) * technology.multiply_add_energy_j[dtype]
    read, written = demand.sram_bytes
    dynamic = dynamic + read * technology.sram_read_energy_j_per_byte
    dynamic = dynamic + written * technology.sram_write_energy_j_per_byte
    always: Any = sum(standby(hardware).values())
    return dynamic * (1 + regulator_loss(hardware.wafer)) + always * latency


@dataclass(frozen=True)
class _Rates:
    """A core's figures that times follow from; of many designs, (designs, 1, 1) arrays."""

    clock_hz: Any
    matrix: dict[str, Any]
    """Multiply-adds a cycle, by dtype: of the unit, and of the SRAM's ports."""
    vector: dict[str, Any]
    ports_bytes: Any
    """Of two reads and a write, a cycle."""
    issue: Any
    launch: Any
    hop: Any
    relay: Any
    """To receive in a core, add and send on."""
    width_bytes: Any
    crossing: Any
    """Cycles more of a hop to the next die."""
    die_rows: Any
    die_columns: Any
    rows: Any
    """Of an island that programs may use, as `columns`."""
    columns: Any
    cores: Any
    """Of the whole system."""
    core_bytes: Any
    off_sram_bytes_per_s: Any
    """Of all memories and ports."""
    switched: bool

    def coming_s(self, demand: Demand) -> Any:
        """Seconds to bring in once the weights that every sequence reads; inf from nowhere."""
        with np.errstate(divide="ignore"):
            return np.true_divide(demand.read_bytes, self.off_sram_bytes_per_s)


def _taken(hardware: Hardware, which: slice, count: int) -> _Rates:
    """The figures of some of many designs."""

    def some(figure: Any) -> Any:
        array = np.asarray(figure, dtype=np.float64)
        return array[which, None, None] if array.shape == (count,) else array

    core, wafer = hardware.core, hardware.wafer
    switched = wafer.switch is not None
    ports = np.minimum(core.sram.read_bytes_per_cycle / 2, core.sram.write_bytes_per_cycle)
    ports = np.inf if core.multiprocessors is not None else ports
    rows, columns, islands = (
        some(wafer.usable_rows),
        some(wafer.usable_columns),
        some(hardware.wafers),
    )
    if switched:
        rows, columns = np.asarray(1.0), islands * some(wafer.rows * wafer.columns)
        islands = np.asarray(1.0)
    router, software = core.router, core.software
    crossing = some(wafer.link.latency_s) * some(core.clock_hz) - some(router.hop_cycles)
    return _Rates(
        clock_hz=some(core.clock_hz),
        matrix={
            dtype: np.minimum(some(flops) / 2, some(ports) / DTYPE_BYTES[dtype])
            for dtype, flops in core.matrix_flops_per_cycle.items()
        },
        vector={
            dtype: np.maximum(1.0, np.minimum(some(rate), some(ports) / DTYPE_BYTES[dtype]))
            for dtype, rate in core.vector_elements_per_cycle.items()
        },
        ports_bytes=some(ports),
        issue=some(software.issue_cycles),
        launch=some(software.launch_cycles),
        hop=some(router.hop_cycles),
        relay=2 * some(router.ramp_cycles) + 1,
        width_bytes=some(router.width_bytes),
        crossing=np.maximum(0.0, crossing),
        die_rows=some(wafer.die.rows),
        die_columns=some(wafer.die.columns),
        rows=rows,
        columns=columns,
        cores=islands * rows * columns,
        core_bytes=some(core.usable_bytes),
        off_sram_bytes_per_s=some(_off_sram(hardware)),
        switched=switched,
    )


@dataclass(frozen=True)
class _Bound:
    """The bound of one demand on a few designs; arrays are (designs, cells, cells)."""

    demand: Demand
    rates: _Rates
    count: int
    known: "dict[Product, _Cycles]" = field(default_factory=dict[Product, "_Cycles"])
    """Of products, what was found before."""

    @cached_property
    def latency_s(self) -> Floats:
        """Seconds of each design."""
        least = np.maximum(self._path, self._busy)
        if not (self.demand.trains or self.rates.switched):
            away = np.maximum(least, self.rates.coming_s(self.demand) * self.rates.clock_hz)
            least = np.minimum(np.maximum(least, self._in_stages), away)
        seconds = (least + self._update) / self.rates.clock_hz
        return np.broadcast_to(seconds.min(axis=(1, 2)), (self.count,))

    # Cells of the plane of rows and columns.

    @staticmethod
    def _ends(extent: Any) -> tuple[Floats, Floats]:
        """The greatest and the least side of each cell: (designs, cells)."""
        most = np.atleast_1d(np.ravel(extent))
        count = int(np.ceil(np.log(max(2.0, most.max())) / np.log(STEP)))
        high = np.maximum(1.0, most[:, None] / STEP ** np.arange(count))
        low = np.concatenate([high[:, 1:], np.ones((len(high), 1))], axis=1)
        return high, low

    @cached_property
    def _sides(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Most rows and columns of each cell, and least; the last cell reaches down to one core."""
        (rows, few_rows), (columns, few_columns) = map(
            self._ends, (self.rates.rows, self.rates.columns)
        )
        return rows[:, :, None], columns[:, None, :], few_rows[:, :, None], few_columns[:, None, :]

    def _most(self, sides: Sides) -> Any:
        """Into how many parts the largest mesh of a cell divides something."""
        rows, columns, _, _ = self._sides
        return (rows if sides[0] else 1.0) * (columns if sides[1] else 1.0)

    def _share(self, sides: Sides) -> Any:
        """B p / T over the parts that something is divided into: cores that do not share the work
        of a part are no faster for it."""
        _, _, rows, columns = self._sides
        together = (1.0 if sides[0] else rows) * (1.0 if sides[1] else columns)
        return self.demand.sequences * together / self.rates.cores

    # Work.

    def _linear(self, tally: Tally) -> "_Cycles":
        """Cycles of work that grows with the batch."""
        one: Any = 0.0
        every: Any = 0.0
        for (unit, dtype, sides), amount in tally.linear.items():
            rate = self.rates.matrix[dtype] if unit == "matrix" else self.rates.vector[dtype]
            one = one + amount / rate / self._most(sides)
            every = every + amount / rate * self._share(sides)
        return _Cycles(one, one, every)

    def _issued(self, product: Product) -> "_Cycles":
        """Cycles of a product's instructions, each of one at least, where vectors are shorter than
        the unit is wide: k m of length n, or k n of length m."""
        parts = [self._most(s) for s in (product.m_sides, product.n_sides, product.k_sides)]
        m, n, k = (
            np.maximum(1.0, whole / part)
            for whole, part in zip((product.m, product.n, product.k), parts, strict=True)
        )
        issue = k * (1.0 + self.rates.issue)
        each = issue * np.minimum(m, n / self.demand.sequences)
        _, _, rows, columns = self._sides
        return _Cycles(
            issue * np.minimum(m, n),
            each,
            each * self.demand.sequences * rows * columns / self.rates.cores,
        )

    def _work(self, tally: Tally) -> "_Cycles":
        """Cycles of all work of a tally."""
        linear = self._linear(tally)
        if self.rates.switched:
            return linear
        issued = _Cycles(tally.instructions * (1.0 + self.rates.issue), 0.0, 0.0)
        for product, count in tally.products:
            if product not in self.known:
                self.known[product] = self._issued(product)
            issued = issued.plus(self.known[product], count)
        return linear.most(issued)

    # Collectives.

    def _words(self, tally: Tally) -> "_Cycles":
        """Cycles of words through the links of lines of more than one core."""
        found = _Cycles(0.0, 0.0, 0.0)
        for each, count in tally.collectives:
            passes = 3.0 if each.kind == "all_reduce" else 1.0
            cycles = passes * each.bytes_ / self.rates.width_bytes * self._long(each)
            one, every = cycles / self._most(each.sides), cycles * self._share(each.sides)
            found = found.plus(_Cycles(one, one, every), count)
        return found

    def _line(self, each: Collective) -> tuple[Any, Any]:
        """The least cores of a collective's line, and cores of a die along it."""
        _, _, rows, columns = self._sides
        return (rows, self.rates.die_rows) if each.rows else (columns, self.rates.die_columns)

    def _long(self, each: Collective) -> Any:
        """Whether a line has more than one core, on every mesh of a cell."""
        return self._line(each)[0] >= 2

    def _hops(self, tally: Tally) -> Any:
        """Cycles of the hops and launches of collectives."""
        total: Any = 0.0
        known: dict[tuple[str, bool], Any] = {}
        for each, count in tally.collectives:
            key = each.kind, each.rows
            if key not in known:
                known[key] = self._latency(each) * self._long(each)
            total = total + count * known[key]
        return total

    def _latency(self, each: Collective) -> Any:
        """Cycles of a collective's launches and hops on a line of n cores at least."""
        n, die = self._line(each)
        rates = self.rates

        def path(hops: Any) -> Any:
            hops = np.maximum(0.0, hops)
            return hops * rates.hop + np.floor(hops / die) * rates.crossing

        if each.kind != "all_reduce":
            return rates.launch + path(n - 1) + rates.relay
        # floor(n / 2) >= (n - 1) / 2, ceil(n / 2) >= n / 2; groups of ceil(sqrt(n)) cores.
        root = np.sqrt(n)
        back = path(n / 2) + rates.relay
        chain = path((n - 1) / 2) + rates.relay * (n - 1) / 2
        inner, outer = np.maximum(0.0, root - 1) / 2, np.maximum(0.0, root - 2) / 2
        phased = path(inner) + path(outer * root) + rates.relay * (inner + outer)
        return 2 * rates.launch + back + np.minimum(chain, phased)

    # Time.

    @cached_property
    def _busy(self) -> Any:
        """Cycles that a core works."""
        tally = self.demand.busy
        return self._work(tally).all + tally.launches * self.rates.launch

    @cached_property
    def _chain(self) -> "tuple[_Cycles, Any]":
        """Cycles of the chain that grow with the batch, and others."""
        tally = self.demand.chain
        fixed = tally.launches * self.rates.launch
        if self.rates.switched:
            return self._work(tally), fixed
        return self._work(tally).plus(self._words(tally)), fixed + self._hops(tally)

    @cached_property
    def _path(self) -> Any:
        """Cycles of the chain, with weights anywhere."""
        growing, fixed = self._chain
        if self.demand.trains:
            return np.maximum(growing.first + fixed, growing.every)
        return growing.all + fixed

    @cached_property
    def _in_stages(self) -> Any:
        """Cycles of the chain, cut into as many stages as hold in SRAM the weights that every
        sequence reads; experts may be divided among replicas."""
        growing, fixed = self._chain
        rows, columns, few_rows, few_columns = self._sides
        held = rows * columns * self.rates.core_bytes
        waits = 1.0 - 1.0 / np.maximum(1.0, np.ceil(self.demand.read_bytes / held))
        share = self.demand.sequences * few_rows * few_columns / self.rates.cores
        each = growing.each
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.sqrt(fixed * share / (waits * each))
        sequences = np.clip(np.nan_to_num(best, nan=1.0), 1.0, self.demand.sequences)
        return (sequences * each + fixed) * (waits + share / sequences)

    @property
    def _update(self) -> Any:
        """Cycles of the optimizer, all cores at work: what streams weights may leave it to others,
        so that it counts on switched systems only."""
        if not self.rates.switched:
            return 0.0
        cycles: Any = 0.0
        for (unit, dtype, _), amount in self.demand.update.linear.items():
            rate = self.rates.matrix[dtype] if unit == "matrix" else self.rates.vector[dtype]
            cycles = cycles + amount / rate / self.rates.cores
        return cycles


@dataclass(frozen=True)
class _Cycles:
    """What some work takes of one core: `first` with one sequence, `each` for a sequence more, and
    `every` for all of them where all cores of the system share in it."""

    first: Any
    each: Any
    every: Any

    @property
    def all(self) -> Any:
        """One sequence at least, and all at least."""
        return np.maximum(self.first, self.every)

    def plus(self, other: "_Cycles", times: float = 1.0) -> "_Cycles":
        """Both, the other one so many times."""
        return _Cycles(
            self.first + times * other.first,
            self.each + times * other.each,
            self.every + times * other.every,
        )

    def most(self, other: "_Cycles") -> "_Cycles":
        """Whichever is longer."""
        return _Cycles(
            np.maximum(self.first, other.first),
            np.maximum(self.each, other.each),
            np.maximum(self.every, other.every),
        )


def memory_s(demand: Demand, hardware: Hardware) -> Any:
    """Seconds at least to bring in once what SRAM cannot hold as a whole; inf where nothing else is
    there to hold it."""
    core, wafer = hardware.core, hardware.wafer
    weights, cache = demand.weight_bytes + demand.state_bytes, demand.cache_bytes
    ports, rate = _ports(hardware), _off_sram(hardware)
    if core.multiprocessors is not None:
        return np.where(weights + cache <= dram_bytes(hardware), 0.0, np.inf)
    cores = hardware.wafers * wafer.usable_rows * wafer.usable_columns
    sram = cores * core.usable_bytes
    behind = np.where(np.asarray(ports) > 0, np.inf, dram_bytes(hardware))
    with np.errstate(divide="ignore", invalid="ignore"):
        read, kept = (np.true_divide(bytes_, rate) for bytes_ in (demand.read_bytes, cache))
    without_weights = np.where(cache <= sram, read, np.inf)
    without_cache = np.where(weights <= sram, kept, np.inf)
    least = np.minimum(np.minimum(without_weights, without_cache), read + kept)
    least = 0.0 if demand.trains else least
    away = np.where(weights + cache <= sram + behind, least, np.inf)
    away = np.where(np.asarray(rate) > 0, away, np.inf)
    return np.where(weights + cache <= sram, 0.0, away)


def _ports(hardware: Hardware) -> Any:
    """Bytes/s through the ports of all wafers."""
    each = sum(io.ports * io.bandwidth_bytes_per_s for io in hardware.wafer.io)
    return hardware.wafers * np.asarray(each)


def _off_sram(hardware: Hardware) -> Any:
    """Bytes/s of all memories but SRAM and of all ports."""
    return dram_bandwidth(hardware) + _ports(hardware)
