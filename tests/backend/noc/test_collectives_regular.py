"""One row and one column for all: against simulating everything, and a whole wafer's cores."""

from time import process_time

import numpy as np
import pytest
from wscc.backend.noc.collectives import Line, all_reduce
from wscc.backend.noc.collectives_cost import simulate_plan
from wscc.backend.noc.collectives_regular import all_reduce_phases, simulate_phases
from wscc.backend.noc.collectives_rings import Rectangle, ring_in
from wscc.backend.noc.network import Network, mesh, torus
from wscc.backend.noc.simulate import Fidelity


def everything(
    rows: int, columns: int, size: int, line: Line, network: Network, fidelity: Fidelity
) -> int:
    members = np.arange(rows * columns).reshape(rows, columns)
    if line == "ring" and not network.wraps:
        orders = (ring_in(Rectangle(1, n, n)).members for n in (rows, columns))
        members = members[np.ix_(*orders)]
    plan = all_reduce(members, size, "two_dimensional", line=line)
    return simulate_plan(plan, network, plan.flows(4, 16), fidelity).makespan


@pytest.mark.parametrize("fidelity", ["fluid", "flit"])
@pytest.mark.parametrize("line", ["ring", "tree", "chain", "two_phase"])
def test_one_row_and_one_column_take_as_long_as_the_whole_mesh(
    line: Line, fidelity: Fidelity
) -> None:
    for rows, columns, size in ((4, 4, 256), (5, 7, 1024), (3, 12, 300)):
        whole = everything(rows, columns, size, line, mesh(columns, rows), fidelity)
        phases = all_reduce_phases(rows, columns, size, line)
        one = simulate_phases(phases, mesh(columns, 1), mesh(1, rows), fidelity, 4, 16)
        assert one.makespan == pytest.approx(whole, rel=0.001)
        assert one.copies == (rows, columns if line == "ring" else 1, rows)


@pytest.mark.parametrize("line", ["ring", "tree", "two_phase"])
def test_the_bound_of_one_row_and_one_column_is_no_more_than_that_of_all(line: Line) -> None:
    for rows, columns, size in ((4, 4, 256), (5, 7, 1024)):
        whole = everything(rows, columns, size, line, mesh(columns, rows), "bound")
        phases = all_reduce_phases(rows, columns, size, line)
        one = simulate_phases(phases, mesh(columns, 1), mesh(1, rows), "bound", 4, 16)
        assert 0.6 * whole < one.makespan <= whole


def test_rings_on_a_torus_close_over_the_joint() -> None:
    whole = everything(4, 5, 800, "ring", torus(5, 4), "flit")
    phases = all_reduce_phases(4, 5, 800, folded=False)
    one = simulate_phases(phases, torus(5, 1), torus(1, 4), "flit", 4, 16)
    assert one.makespan == pytest.approx(whole, rel=0.001)


def slow(width: int, height: int, after: int) -> list[tuple[int, int, int, int]]:
    """Links between columns `after` - 1 and `after`: 12 cycles, a flit in 4."""
    west = [y * width + after - 1 for y in range(height)]
    return [link for a in west for link in ((a, a + 1, 12, 4), (a + 1, a, 12, 4))]


def test_slow_links_in_every_row_are_slow_in_the_one_that_is_simulated() -> None:
    network = mesh(8, 3, exceptions=slow(8, 3, 4))
    phases = all_reduce_phases(3, 8, 2400)
    fidelities: tuple[Fidelity, ...] = ("fluid", "flit")
    for fidelity in fidelities:
        whole = everything(3, 8, 2400, "ring", network, fidelity)
        row = mesh(8, 1, exceptions=slow(8, 1, 4))
        one = simulate_phases(phases, row, mesh(1, 3), fidelity, 4, 16)
        assert one.makespan == pytest.approx(whole, rel=0.05)


def test_an_all_reduce_over_a_wafer_of_cores_takes_no_tenth_of_a_second() -> None:
    row, column = mesh(994, 1), mesh(1, 750)
    fidelities: tuple[Fidelity, ...] = ("bound", "fluid")
    for fidelity in fidelities:
        simulate_phases(all_reduce_phases(3, 4, 64), mesh(4, 1), mesh(1, 3), fidelity, 4, 16)
        began = process_time()
        phases = all_reduce_phases(750, 994, 8192)
        outcome = simulate_phases(phases, row, column, fidelity, 4, 16)
        assert process_time() - began < 0.1
        assert outcome.copies == (750, 994, 750)
        assert outcome.messages == 750 * 994 * (2 * 993 + 2 * 749)
        assert "simulated (993 x 1 of 750 lines" in str(outcome)


def test_lines_of_one_core_have_nothing_to_do() -> None:
    for rows, columns in ((1, 1), (1, 6), (6, 1), (2, 2)):
        phases = all_reduce_phases(rows, columns, 480)
        one = simulate_phases(phases, mesh(columns, 1), mesh(1, rows), "flit", 4, 16)
        assert one.makespan == everything(rows, columns, 480, "ring", mesh(columns, rows), "flit")


def test_parts_are_smaller_but_steps_are_more_on_a_larger_rectangle() -> None:
    def cycles(rows: int, columns: int, size: int) -> int:
        phases = all_reduce_phases(rows, columns, size)
        return simulate_phases(phases, mesh(columns, 1), mesh(1, rows), "fluid", 4, 16).makespan

    assert cycles(100, 100, 256) > 5 * cycles(10, 10, 256)
    assert cycles(100, 100, 1 << 20) < 1.2 * cycles(10, 10, 1 << 20)
