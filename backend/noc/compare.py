"""The error of a fidelity on cases with a measured result, and its speed beside the reference's."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import process_time

import numpy as np

from .case import Case, Measured
from .flows import flows_of
from .network import mesh
from .simulate import BUDGET, Fidelity, simulate

CONTENDED = 1.1
"""A case is contended where it takes so many times what its messages take each alone."""


@dataclass(frozen=True)
class Row:
    """One case beside its reference.

    makespan, reference: cycles; error: of the makespan, signed, as a part of the reference's
    finish_error: mean over messages of the unsigned error of its finish, as a part of the
        time from when it was ready to its finish in the reference
    seconds, reference_seconds: CPU time; steps: flits or trains through a router
    """

    id: str
    family: str
    kind: str
    makespan: int
    reference: int
    error: float
    finish_error: float
    contended: bool
    seconds: float
    reference_seconds: float
    steps: int


@dataclass(frozen=True)
class Errors:
    """Of the makespans of some cases, unsigned, and the mean error of finishes."""

    cases: int
    mean: float
    median: float
    p95: float
    finish: float


def warm_up(fidelity: Fidelity) -> float:
    """Load or compile what a fidelity needs; the CPU seconds that it took."""
    began = process_time()
    flows = flows_of([0, 1], [1, 0], 4, packet_flits=4, waiting=[1], awaited=[0])
    for network in (mesh(2, 1), mesh(2, 1, detours={(0, 1): (0, 1)})):
        simulate(network, flows, fidelity)
        simulate(network, flows, "bound")
    return process_time() - began


def compared(case: Case, measured: Measured, fidelity: Fidelity, budget: int = BUDGET) -> Row:
    """Run a case and set it beside what was measured."""
    began = process_time()
    outcome = simulate(case.network, case.flows, fidelity, budget=budget)
    seconds = process_time() - began
    alone = int(simulate(case.network, case.flows, "bound").finish.max())
    waited = np.maximum(measured.finish - measured.ready, 1)
    return Row(
        case.id,
        case.family,
        case.kind,
        outcome.makespan,
        measured.makespan,
        outcome.makespan / measured.makespan - 1,
        float(np.mean(np.abs(outcome.finish - measured.finish) / waited)),
        measured.makespan >= CONTENDED * alone,
        seconds,
        measured.seconds,
        outcome.steps,
    )


def errors_of(rows: Iterable[Row]) -> Errors:
    """The errors of at least one case."""
    rows = list(rows)
    errors = np.abs([row.error for row in rows])
    return Errors(
        len(rows),
        float(errors.mean()),
        float(np.median(errors)),
        float(np.percentile(errors, 95)),
        float(np.mean([row.finish_error for row in rows])),
    )
