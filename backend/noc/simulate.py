"""How long a set of messages takes on a network: one question, three fidelities.

`bound` is a lower bound (bound.py), `fluid` follows trains of flits from event to event
(fluid_kernel.py), `flit` every flit cycle by cycle (flit_kernel.py). The two simulators run only
those pieces of the traffic that differ (pieces.py); the others get the same times.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from time import process_time
from typing import Any, Literal, get_args

import numpy as np

from ...ir.errors import UserError, nearest
from . import flit_kernel, fluid_kernel
from .arrays import (
    COUNT,
    CROWDED,
    DONE,
    ENTRY_ROUTER,
    FINISH,
    FINISHED,
    NOTHING,
    READY,
    RUNNING,
    START,
    Ints,
    Timing,
)
from .bound import bound_of
from .flows import Flows, Order, check_flows, order_of
from .network import Network
from .pieces import Pieces, pieces_of
from .routes import Routes, routes_of
from .tables import Tables, tables_of
from .wheel import widened

Fidelity = Literal["bound", "fluid", "flit"]
FIDELITIES: tuple[Fidelity, ...] = get_args(Fidelity)

Progress = Callable[[int, int], None]
"""Called now and then with the messages that have arrived, and how many there are."""

BUDGET = 2_000_000_000
"""Steps of a simulation before it is refused: about a quarter of an hour."""

STEPS_PER_S = {"flit": 2.0e6, "fluid": 2.2e6}
"""Flits or trains through a router in a second, as `wscc noc --compare` prints them: 304 CPU
seconds of BookSim2 on the machine where these were measured took 17 and 1.6."""

_KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., int]]] = {
    "fluid": (fluid_kernel.initial_state, fluid_kernel.advance),
    "flit": (flit_kernel.initial_state, flit_kernel.advance),
}

_SLICE_S = (0.05, 0.5)
"""A simulation may be interrupted about so often; the cycles between are adapted to it."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of M messages; at `bound`, the earliest that could.

    ready, start, finish: the cycles at which each could be sent, was begun, and had arrived
    makespan: the cycle at which the last flit arrives
    pieces: independent parts of the traffic; distinct: those that were simulated, the others
        being copies of them in another place
    steps: flits (`flit`) or trains (`fluid`) times routers that were simulated
    """

    fidelity: Fidelity
    network: Network
    flows: Flows
    routes: Routes
    ready: Ints
    start: Ints
    finish: Ints
    makespan: int
    pieces: int
    distinct: int
    steps: int

    @cached_property
    def loads(self) -> tuple[Ints, Ints]:
        """The channels that any flit crosses, ascending, and how many do."""
        return self.routes.flits_by_channel(self.network, self.flows)

    def hottest(self, count: int) -> list[tuple[str, int, float]]:
        """The channels that are busy longest: name, flits, and the share of the makespan."""
        channels, flits = self.loads
        busy = flits * self.network.period_of(channels)
        first = np.argsort(-busy, kind="stable")[:count]
        return [
            (
                self.network.name_of(int(channels[at])),
                int(flits[at]),
                float(busy[at] / max(1, self.makespan)),
            )
            for at in first
        ]


def simulate(
    network: Network,
    flows: Flows,
    fidelity: Fidelity = "fluid",
    *,
    budget: int = BUDGET,
    progress: Progress | None = None,
) -> Outcome:
    """Send the messages over the network.

    Example:
        >>> from wscc.backend.noc.flows import flows_of
        >>> from wscc.backend.noc.network import mesh
        >>> simulate(mesh(4, 1), flows_of([0], [3], [16], packet_flits=16), "flit").makespan
        37

    Raises UserError for messages that the network cannot carry, that wait for each other in a
    circle or block each other for good, and for more steps than the budget has.
    """
    if fidelity not in FIDELITIES:
        raise UserError(f"there is no fidelity '{fidelity}'{nearest(fidelity, FIDELITIES)}")
    check_flows(network, flows)
    order = order_of(flows)
    routes = routes_of(network, flows)
    if flows.count == 0:
        none = np.zeros(0, np.int64)
        return Outcome(fidelity, network, flows, routes, none, none, none, 0, 0, 0, 0)
    if fidelity == "bound":
        ready, finish, makespan = bound_of(network, flows, routes, order)
        return Outcome(fidelity, network, flows, routes, ready, ready, finish, makespan, 1, 0, 0)
    pieces = pieces_of(network, flows, routes)
    part, part_routes = _only(flows, routes, pieces.simulated)
    steps = _steps(network.timing, part, part_routes, fidelity)
    if steps > budget:
        raise UserError(_too_much(steps, budget, fidelity))
    part_order = order if part is flows else order_of(part)
    messages = _run(network, part, part_routes, part_order, fidelity, pieces, progress)
    ready, start, finish = (messages[row, :-1][pieces.twin] for row in (READY, START, FINISH))
    return Outcome(
        fidelity, network, flows, routes, ready, start, finish, int(finish.max()),
        pieces.count, pieces.distinct, steps,
    )  # fmt: skip


def _only(flows: Flows, routes: Routes, kept: Ints) -> tuple[Flows, Routes]:
    """Some of the messages, which wait only for each other."""
    if len(kept) == flows.count:
        return flows, routes
    place = np.full(flows.count, NOTHING, np.int64)
    place[kept] = np.arange(len(kept))
    waits = place[flows.waiting] != NOTHING
    part = replace(
        flows,
        source=flows.source[kept],
        destination=flows.destination[kept],
        flits=flows.flits[kept],
        release=flows.release[kept],
        delay=flows.delay[kept],
        waiting=place[flows.waiting[waits]],
        awaited=place[flows.awaited[waits]],
    )
    hops = routes.hops[kept]
    first = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(hops, out=first[1:])
    along = np.repeat(routes.first[kept] - first[:-1], hops) + np.arange(first[-1])
    return part, Routes(first, routes.channels[along], routes.classes[along])


def _steps(timing: Timing, flows: Flows, routes: Routes, fidelity: Fidelity) -> int:
    """Flits or trains times routers that they pass."""
    if fidelity == "flit":
        return int(flows.flits @ routes.hops)
    full, left = np.divmod(flows.flits, flows.packet_flits)
    depth = timing.buffer_flits
    trains = full * -(-flows.packet_flits // depth) + -(-left // depth)
    return int(trains @ routes.hops)


def _too_much(steps: int, budget: int, fidelity: Fidelity) -> str:
    seconds = steps / STEPS_PER_S[fidelity]
    unit = "flits" if fidelity == "flit" else "trains of flits"
    instead = "'fluid' or 'bound'" if fidelity == "flit" else "'bound'"
    return (
        f"simulating {steps:.3g} {unit} through routers would take about "
        f"{duration(seconds)}, and the budget is {budget:.3g}: raise the budget, or use {instead}"
    )


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _run(
    network: Network,
    flows: Flows,
    routes: Routes,
    order: Order,
    fidelity: Fidelity,
    pieces: Pieces,
    progress: Progress | None,
) -> Ints:
    """Run a simulator to its end, in slices; its table of messages."""
    tables = tables_of(network, flows, routes, order)
    timing, traffic = network.timing, tables.traffic
    initial_state, advance = _KERNELS[fidelity]
    state = initial_state(tables.ports, timing, traffic)
    span, until, status = 1024, 0, RUNNING
    while status in (RUNNING, CROWDED):
        if status == CROWDED:
            state = state._replace(events=widened(state.events))
        else:
            until += span
        began = process_time()
        status = advance(state, timing, traffic, until)
        took = process_time() - began
        if took < _SLICE_S[0]:
            span *= 2
        elif took > _SLICE_S[1]:
            span = max(span // 2, 1)
        if progress is not None:
            progress(int(state.now[FINISHED]), flows.count)
    if status != DONE:
        raise UserError(_blocked(state.messages, state.in_vcs, tables, timing, pieces))
    return state.messages


def _blocked(messages: Ints, in_vcs: Ints, tables: Tables, timing: Timing, pieces: Pieces) -> str:
    """Which messages and routers a deadlock holds."""
    begun = (messages[START, :-1] != NOTHING) & (messages[FINISH, :-1] == NOTHING)
    full = np.flatnonzero(in_vcs[COUNT]) // timing.vcs
    routers = tables.routers[np.unique(tables.ports.entries[ENTRY_ROUTER, full])]
    return (
        f"deadlock: the messages {_some(pieces.simulated[begun])} hold buffers that others of "
        f"them wait for, at the routers {_some(routers)}; routes that turn in a circle do that"
    )


def _some(numbers: Ints) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown if len(numbers) <= 8 else f"{shown} and {len(numbers) - 8} more"
