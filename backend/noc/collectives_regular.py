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
from .collectives import Line, Reduce, all_reduce, broadcast, reduce, shift
from .collectives_cost import simulate_plan
from .collectives_plan import Plan
from .collectives_rings import Rectangle, ring_in
from .collectives_steps import repeated
from .network import Network
from .simulate import Fidelity, Outcome

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
    rows: int,
    columns: int,
    size: int,
    line: Line = "ring",
    *,
    folded: bool = True,
    multicast: bool = False,
) -> list[Phase]:
    """An all-reduce of `size` bytes over rows, columns and rows again.

    `ring`: reduce-scatter over rows, all-reduce of the parts over columns, all-gather over rows;
    the rings are folded onto the lines, or have a last hop back (`folded` False, for a torus). The
    others reduce every row into one core, all-reduce that column, and broadcast over the rows, by
    a `multicast` of the network or on the same way back.
    """
    if line != "ring":
        return _through_one_column(rows, columns, size, line, multicast)
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


def _through_one_column(
    rows: int, columns: int, size: int, line: Reduce, multicast: bool
) -> list[Phase]:
    row, column = np.arange(columns), np.arange(rows)
    into = reduce(row, size, line)
    if multicast:
        back = broadcast(row, size, "multicast", root=int(np.flatnonzero(into.ends)[0]))
    else:
        back = broadcast(row, size, line)
    return [
        Phase("rows", into, 1, rows),
        Phase("columns", all_reduce(column, size, line, multicast=multicast), 1, 1),
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

    The core in row r and column c may go on `along_row[c] + along_column[r]` cycles after the
    begin: phases along rows change only the first, phases along columns only the second. At
    `bound` the makespan is no less than what the busiest channel of a line needs.
    """
    networks: dict[Axis, Network] = {"rows": row, "columns": column}
    ready = {axis: np.zeros(network.routers, np.int64) for axis, network in networks.items()}
    busy = {axis: np.zeros(network.channels, np.int64) for axis, network in networks.items()}
    by_phase = []
    last: dict[int, Ints] = {}
    for phase in phases:
        network, begin = networks[phase.axis], ready[phase.axis]
        release = begin[phase.plan.members] if phase.repeats == 1 else None
        flows = phase.plan.flows(flit_bytes, packet_flits, delay=delay, release=release)
        outcome = simulate_plan(phase.plan, network, flows, fidelity)
        arrive = outcome.finish
        if phase.repeats > 1:
            other = int(ready["columns" if phase.axis == "rows" else "rows"].max())
            before = last[id(phase.plan)] - other if id(phase.plan) in last else None
            arrive = _arrivals(phase, outcome, begin, before)
            last[id(phase.plan)] = arrive + other
        np.maximum.at(begin, flows.destination, arrive + 1 + delay)
        channels, flits = outcome.loads
        busy[phase.axis][channels] += phase.repeats * flits * network.period_of(channels)
        done = int(sum(each.max() for each in ready.values())) - 1 - delay
        by_phase.append(max(0, done))
    least = max(int(each.max()) for each in busy.values()) if fidelity == "bound" else 0
    return RegularOutcome(
        fidelity=fidelity,
        makespan=max(by_phase[-1], least),
        by_phase=tuple(by_phase),
        simulated=sum(len(phase.plan) for phase in phases),
        messages=sum(len(phase.plan) * phase.repeats * phase.copies for phase in phases),
        copies=tuple(phase.copies for phase in phases),
        steps=tuple(phase.repeats for phase in phases),
    )


def _arrivals(phase: Phase, outcome: Outcome, begin: Ints, last: Ints | None) -> Ints:
    """(m,) when each message of a repeated step arrives for the last time.

    A message takes as long as in the simulated step, and comes no sooner after that of the step
    before than the slowest channel of its route lets it; `last` is that of an earlier phase.
    """
    flows, routes, network = outcome.flows, outcome.routes, outcome.network
    periods = network.period_of(routes.channels)
    return repeated(
        flows.source,
        flows.destination,
        begin,
        taken=outcome.finish - outcome.ready,
        service=flows.flits * np.maximum.reduceat(periods, routes.first[:-1]),
        wait=1 + flows.delay,
        repeats=phase.repeats,
        last=last,
    )
