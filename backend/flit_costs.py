"""Costs of operators whose messages are simulated cycle by cycle; the rest is as in cost.py.

A collective goes the way that its closed form describes (collectives.py): chains, or chains of
groups and of their middles, and back by a chain where no router copies words. What has no such
pattern here keeps its closed form and is named.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from math import ceil, sqrt

import numpy as np

from ..ir.graph import Op
from ..ir.hardware import Hardware
from ..ir.kinds import indices_of
from ..ir.mapped import Direction
from .blocks import MESH_AXES, axes_of
from .collectives import (
    Line,
    Rotation,
    Traffic,
    crossing_cycles,
    shift_step,
    takes_two_phases,
)
from .core import CoreWork
from .cost import Costing, OpCost
from .extents import Number, extent
from .flit_network import FlitNetwork
from .flit_phases import PATCH, LinePhase, StepPhase
from .workload import PieceCosts

SIMULATED = ("all_reduce", "reduce_scatter", "all_gather")
EXCHANGES = ("dispatch", "collect")


@dataclass(frozen=True)
class Joined:
    """A collective along a line: of `members` cores, with `sharing` equal ones in between each
    other, over `words` of its whole vector; dies meet every `die_cores` cores."""

    hardware: Hardware
    network: FlitNetwork
    members: int
    sharing: int
    words: float
    die_cores: int

    def cycles(self, kind: str) -> float:
        """From the start to the last word, launches left out; 0 before it was simulated."""
        if self.members < 2 or self.words == 0:
            return 0.0
        if kind == "reduce_scatter":
            return self.network.cycles(self._line)
        if self.hardware.core.router.multicast:
            self.network.keep("collectives whose words routers copy keep their closed forms")
            return 0.0
        if kind == "all_gather":
            return self.network.cycles(replace(self._line, pattern="all_gather"))
        back = self.network.cycles(replace(self._line, pattern="broadcast"))
        return sum((self.network.cycles(phase) for phase in self._inward), start=back)

    @property
    def _line(self) -> LinePhase:
        crosses = self.members * self.sharing > self.die_cores
        return LinePhase(
            pattern="reduce_scatter",
            members=self.members,
            stride=self.sharing,
            sharing=self.sharing,
            words=self.words,
            die_cores=self.die_cores if crosses else 0,
            period=self.network.routers.border_period if crosses else 1.0,
        )

    @property
    def _inward(self) -> list[LinePhase]:
        """All sums to the middle: over one chain, or over those of groups, where one has a border
        of dies beside its middle, and then of the middles."""
        chain = replace(self._line, pattern="reduce")
        line = Line(self.members * self.sharing, self.die_cores, self.sharing)
        if not takes_two_phases(self.hardware, line, self.words * self.sharing):
            return [chain]
        group = ceil(sqrt(self.members))
        middle = group // 2 * self.sharing
        inner = replace(chain, members=group)
        outer = replace(chain, members=-(-self.members // group), stride=group * self.sharing)
        if not chain.die_cores:
            return [inner, outer]
        return [
            replace(inner, offset=-middle % self.die_cores),
            replace(outer, offset=middle % self.die_cores),
        ]


def gathered_cycles(hardware: Hardware, network: FlitNetwork, words: float, cores: int) -> float:
    """Of an all-gather of some words along a row; 0 before it was simulated."""
    return Joined(hardware, network, cores, 1, words, hardware.wafer.die.columns).cycles(
        "all_gather"
    )


@dataclass(frozen=True)
class SimulatedCosting(Costing):
    """The costs of one mapped graph's operators for one mesh, none less than by closed forms."""

    network: FlitNetwork | None = None

    @staticmethod
    def of(piece: PieceCosts, network: FlitNetwork) -> "SimulatedCosting":
        """Of a piece of a program."""
        costing = piece.costing
        known = {field.name: getattr(costing, field.name) for field in fields(costing)}
        return SimulatedCosting(**known, network=network)

    def _collective(
        self,
        op: Op,
        collective: Callable[[Hardware, Line, Number], Traffic],
        values: Iterable[str],
    ) -> OpCost:
        values = tuple(values)
        cost = super()._collective(op, collective, values)
        assert self.network is not None
        if op.kind not in SIMULATED:
            self.network.keep(f"{op.kind} keeps its closed form")
            return cost
        line, sharing = self.line(axes_of(op))
        members, between = round(float(line.cores / sharing)), round(float(sharing))
        words = float(self._words(values))
        joined = Joined(self.hardware, self.network, members, between, words, line.die_cores)
        network_cycles = max(float(cost.network_cycles), joined.cycles(op.kind))
        cycles = float(cost.launch_cycles) + network_cycles
        return replace(cost, network_cycles=network_cycles, cycles=cycles)

    def _on_core(self, op: Op) -> OpCost:
        assert self.network is not None
        if op.kind in EXCHANGES:
            self.network.keep("tokens on their way to experts and back keep their closed forms")
        return super()._on_core(op)

    def _streamed(self, op: Op) -> OpCost:
        assert self.network is not None
        self.network.keep("products of streamed weights keep their closed form")
        return super()._streamed(op)

    def _stepped(
        self,
        op: Op,
        steps: Number,
        product: CoreWork,
        step: Rotation,
        last: Number,
        sends: Number,
        turns: Number = 0.0,
    ) -> OpCost:
        sums = self._summing(op)
        taken = max(float(step.cycles), self._step_cycles(step, sums))
        longer = replace(step, cycles=taken)
        late = last + self._late(float(product.cycles) - taken)
        cost = super()._stepped(op, steps, product, longer, late, sends, turns)
        if not np.any(turns):
            return cost
        turn = shift_step(self.hardware, step.row_words, 0.0, self._periods)
        more = max(0.0, self._step_cycles(turn, None) - float(turn.cycles)) * turns * sends
        return replace(cost, network_cycles=cost.network_cycles + more, cycles=cost.cycles + more)

    def _summing(self, op: Op) -> Direction | None:
        """Along which direction of the mesh a product sums up at every step; otherwise the tiles
        of both operands go round."""
        if op.text("form") == "rotate":
            return None
        indices = indices_of(op)
        axes = self._axes(op, 0, indices, frozenset(indices.reduced))
        return "rows" if set(axes) & set(MESH_AXES["rows"]) else "columns"

    def _step_cycles(self, step: Rotation, sums: Direction | None) -> float:
        assert self.network is not None
        rows, columns = self._sides
        die = self.hardware.wafer.die
        borders = columns > die.columns, rows > die.rows
        phase = StepPhase(
            rows=min(rows, PATCH),
            columns=min(columns, PATCH),
            row_motion="owner" if sums == "columns" else "ring",
            row_words=float(step.row_words),
            column_motion="owner" if sums == "rows" else "ring",
            column_words=float(step.column_words),
            row_border=borders[0],
            column_border=borders[1],
            period=self.network.routers.border_period if any(borders) else 1.0,
        )
        return self.network.cycles(phase)

    @property
    def _sides(self) -> tuple[int, int]:
        """Rows and columns of the mesh."""
        rows, columns = (round(float(extent(axes, self.sizes))) for axes in MESH_AXES.values())
        return rows, columns

    def _late(self, slack: float) -> float:
        """Cycles that the latency of links between dies adds to all steps; `slack` is what a core
        works at a step while the next tiles are there already.

        A tile meets every border of its ring once there and once back. Who waits for one border
        waits for the next one too, less the slack of the steps between them.
        """
        die, slack = self.hardware.wafer.die, max(0.0, slack)
        found = [0.0]
        for cores, of_die in zip(self._sides, (die.rows, die.columns), strict=True):
            met = 2 * ((cores - 1) // of_die)
            if met:
                all_met = met * self._border - (met - 1) * cores / met * slack
                found.append(max(self._border, all_met))
        return max(found)

    @property
    def _border(self) -> float:
        return crossing_cycles(self.hardware)
