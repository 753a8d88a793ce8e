"""All-reduce over a rectangle of very many cores: one row and one column stand for all.

Rows run at the same time and share no link, and so do columns; a phase is simulated on one line
and holds for its `copies`. A ring does the same step again and again: the step is simulated once,
with all its messages at the same time, and the steps follow each other through the members' own
dependencies. Every core enters a phase when it has finished the one before.

This is exact where messages of successive steps and phases do not meet in the network, as in
rings without shared links. Parts of a vector are rounded up to one size.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .arrays import Ints
from .collectives import Line, all_reduce, broadcast, reduce, shift
from .collectives_cost import simulate_plan
from .collectives_lines import groups_of, two_phase_broadcast
from .collectives_plan import Plan
from .collectives_rings import Rectangle, ring_in
from .network import Network
from .simulate import Fidelity

Axis = Literal["rows", "columns"]


@dataclass(frozen=True)
class Phase:
    """What every one of `copies` equal lines does.

    plan: of one line, whose cores are numbered from 0
    repeats: how often; each time a message waits for the one that came to its source the time
        before
    """

    axis: Axis
    plan: Plan
    repeats: int
    copies: int


@dataclass(frozen=True)
class RegularOutcome:
    """Cycles of a regular collective.

    makespan: until the last core is done; by_phase: until the last core is done with each phase
    simulated, messages: how many messages were simulated, and how many there are
    copies: equal lines that the simulated one stood for, by phase; steps: its repetitions
    """

    fidelity: Fidelity
    makespan: int
    by_phase: tuple[int, ...]
    simulated: int
    messages: int
    copies: tuple[int, ...]
    steps: tuple[int, ...]

    def __str__(self) -> str:
        lines = ", ".join(
            f"{steps} x 1 of {copies} lines" if steps > 1 else f"1 of {copies} lines"
            for steps, copies in zip(self.steps, self.copies, strict=True)
        )
        return (
            f"{self.makespan} cycles at {self.fidelity}; {self.simulated} of {self.messages} "
            f"messages simulated ({lines})"
        )


def all_reduce_phases(
    rows: int, columns: int, size: int, line: Line = "ring", folded: bool = True
) -> list[Phase]:
    """An all-reduce of `size` bytes over rows, columns and rows again.

    `ring`: reduce-scatter over rows, all-reduce of the parts over columns, all-gather over rows;
    the rings are folded onto the lines, or have a last hop back (`folded` False, for a torus). The
    others reduce every row into one core, all-reduce that column, and broadcast over the rows.
    """
    if line != "ring":
        return _through_one_column(rows, columns, size, line)
    part = -(-size // columns)
    across = shift(_ring(columns, folded), part)
    down = shift(_ring(rows, folded), -(-part // rows))
    return [
        Phase("rows", across, columns - 1, rows),
        Phase("columns", down, 2 * (rows - 1), columns),
        Phase("rows", across, columns - 1, rows),
    ]


def _ring(cores: int, folded: bool) -> Ints:
    if not folded:
        return np.arange(cores)
    return ring_in(Rectangle(1, cores, cores)).members


def _through_one_column(rows: int, columns: int, size: int, line: Line) -> list[Phase]:
    row, column = np.arange(columns), np.arange(rows)
    if line == "ring":
        raise ValueError("a ring leaves no sum in a single column")
    into = reduce(row, size, line)
    back = _way_back_plan(row, size, line, into)
    return [
        Phase("rows", into, 1, rows),
        Phase("columns", all_reduce(column, size, line), 1, 1),
        Phase("rows", back, 1, rows),
    ]


def simulate_phases(
    phases: list[Phase],
    row: Network,
    column: Network,
    fidelity: Fidelity,
    flit_bytes: int,
    packet_flits: int,
    delay: int = 0,
) -> RegularOutcome:
    """Run phases one after another on a row (n x 1) and a column (1 x n) of a mesh or torus.

    The core in row r and column c is done with a phase `by_column[c] + by_row[r]` cycles after the
    begin: phases along rows change only the first, phases along columns only the second.
    """
    ready = {"rows": np.zeros(row.routers, np.int64), "columns": np.zeros(column.routers, np.int64)}
    busiest = {"rows": np.zeros(row.channels), "columns": np.zeros(column.channels)}
    by_phase = []
    for phase in phases:
        network = row if phase.axis == "rows" else column
        begin = ready[phase.axis][phase.plan.members]
        repeated = phase.repeats > 1
        release = None if repeated else begin
        flows = phase.plan.flows(flit_bytes, packet_flits, delay=delay, release=release)
        outcome = simulate_plan(phase.plan, network, flows, fidelity)
    raise NotImplementedError
