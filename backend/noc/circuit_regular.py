"""An all-reduce over very many cores of a circuit-like network: one row and one column for all.

The same phases as on a wormhole network (collectives_regular.py), and the same reasons. Routes
of rows and of columns meet in the routers, so that each kind needs its own colours.
"""

from dataclasses import dataclass

import numpy as np

from .circuit import Circuits, simulate_circuits
from .collectives_regular import Axis, Phase
from .collectives_steps import repeated
from .network import Network


@dataclass(frozen=True)
class RegularCircuitOutcome:
    """Cycles until the last core is done with each phase, and colours in all.

    copies: equal lines that the simulated one stood for, by phase
    """

    by_phase: tuple[int, ...]
    copies: tuple[int, ...]
    colours: int
    colour_limit: int

    @property
    def makespan(self) -> int:
        """Cycles until the last core is done."""
        return self.by_phase[-1]

    @property
    def fits(self) -> bool:
        """Whether there are enough colours."""
        return self.colours <= self.colour_limit


def simulate_phases_on_circuits(
    phases: list[Phase],
    row: Network,
    column: Network,
    circuits: Circuits | None = None,
    relays: bool = True,
) -> RegularCircuitOutcome:
    """Run phases one after another; a core begins one with all its words of the one before.

    Colours are counted for each phase on its own and added up, but phases that are alike share.
    """
    circuits = circuits or Circuits()
    networks: dict[Axis, Network] = {"rows": row, "columns": column}
    ready = {axis: np.zeros(network.routers, np.int64) for axis, network in networks.items()}
    by_phase: list[int] = []
    colours: dict[int, int] = {}
    for phase in phases:
        begin, table, nodes = ready[phase.axis], phase.plan.messages, phase.plan.members
        source, destination = nodes[table.source], nodes[table.destination]
        release = begin[nodes] if phase.repeats == 1 else None
        outcome = simulate_circuits(phase.plan, networks[phase.axis], circuits, relays, release)
        arrive = outcome.finish
        if phase.repeats > 1:
            words = -(-phase.plan.bytes // circuits.word_bytes)
            taken = outcome.finish - outcome.begin
            arrive = repeated(source, destination, begin, taken, words, 0, phase.repeats)
        np.maximum.at(begin, destination, arrive)
        by_phase.append(int(sum(each.max() for each in ready.values())))
        colours[id(phase.plan)] = outcome.colours
    return RegularCircuitOutcome(
        by_phase=tuple(by_phase),
        copies=tuple(phase.copies for phase in phases),
        colours=sum(colours.values()),
        colour_limit=circuits.colours,
    )
