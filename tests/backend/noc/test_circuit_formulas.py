"""Circuit-like networks: the closed forms for WSE-like chips come out of the simulator.

T_R = 2 cycles of ramp, one cycle a hop, one word of 4 bytes a cycle; "Near-Optimal Wafer-Scale
Reduce", arXiv 2404.15888.
"""

from math import log2, sqrt

import numpy as np
import pytest
from wscc.backend.noc.circuit import CircuitOutcome, simulate_circuits
from wscc.backend.noc.circuit_regular import simulate_phases_on_circuits
from wscc.backend.noc.collectives import all_gather, all_reduce, broadcast, reduce, shift
from wscc.backend.noc.collectives_plan import Plan
from wscc.backend.noc.collectives_regular import Phase, all_reduce_phases
from wscc.backend.noc.network import mesh

T_R = 2
CORES = (4, 16, 64, 256, 1000)
WORDS = (1, 16, 256, 4096)
CASES = [(cores, words) for cores in CORES for words in WORDS]


def on_row(plan: Plan, relays: bool = True) -> CircuitOutcome:
    return simulate_circuits(plan, mesh(len(plan.members), 1), relays=relays)


@pytest.mark.parametrize(("p", "b"), CASES)
def test_broadcast_in_a_row_takes_b_and_p_and_two_ramps(p: int, b: int) -> None:
    """B + P + 2 T_R."""
    outcome = on_row(broadcast(np.arange(p), 4 * b, "multicast"))
    assert outcome.makespan == b + p + 2 * T_R
    assert outcome.word_hops == b * (p - 1)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 30), (100, 60)])
def test_broadcast_over_a_rectangle_takes_both_sides_once(rows: int, columns: int) -> None:
    """B + M + N - 2 + 2 T_R + 1."""
    for b in (1, 256):
        plan = broadcast(np.arange(rows * columns), 4 * b, "multicast")
        outcome = simulate_circuits(plan, mesh(columns, rows))
        assert outcome.makespan == b + rows + columns - 2 + 2 * T_R + 1
        assert outcome.colours == 1


@pytest.mark.parametrize(("p", "b"), CASES)
def test_chain_reduce_takes_b_and_two_ramps_a_core(p: int, b: int) -> None:
    """B + (2 T_R + 2) (P - 1)."""
    outcome = on_row(reduce(np.arange(p), 4 * b, "chain"))
    assert outcome.makespan == b + (2 * T_R + 2) * (p - 1)
    assert outcome.colours == 2


@pytest.mark.parametrize(("p", "b"), CASES)
def test_star_reduce_takes_all_words_into_one_core(p: int, b: int) -> None:
    """B (P - 1) + 2 T_R + 1, which leaves out the hop to the nearest core."""
    outcome = on_row(reduce(np.arange(p), 4 * b, "star"))
    assert outcome.makespan == b * (p - 1) + 2 * T_R + 1 + 1
    assert outcome.busiest == b * (p - 1)


@pytest.mark.parametrize(("p", "b"), [case for case in CASES if case != (1000, 256)])
def test_tree_reduce_takes_a_message_a_level(p: int, b: int) -> None:
    """max(B log2 P, B P / (2 (P - 1)) log2 P + P - 1) + (2 T_R + 1) log2 P."""
    levels = log2(p)
    form = max(b * levels, b * p / (2 * (p - 1)) * levels + p - 1) + (2 * T_R + 1) * levels
    assert on_row(reduce(np.arange(p), 4 * b, "tree")).makespan == pytest.approx(form, rel=0.05)


def test_tree_reduce_takes_longer_than_its_form_where_words_and_hops_weigh_the_same() -> None:
    """The form takes the larger of two terms; the last level's 512 hops come after the others'
    words, so that neither hides the other: 10% more at 1000 cores and 256 words."""
    levels = log2(1000)
    form = max(256 * levels, 128 * 1000 / 999 * levels + 999) + (2 * T_R + 1) * levels
    found = on_row(reduce(np.arange(1000), 1024, "tree")).makespan
    assert found / form == pytest.approx(1.10, abs=0.01)


@pytest.mark.parametrize("p", [4, 16, 64])
def test_ring_all_reduce_takes_two_rounds(p: int) -> None:
    """2 (P - 1) B / P + 4 P - 6 + 2 (P - 1) (2 T_R + 1), B a multiple of P."""
    for b in (p, 16 * p, 64 * p):
        form = 2 * (p - 1) * b / p + 4 * p - 6 + 2 * (p - 1) * (2 * T_R + 1)
        assert on_row(all_reduce(np.arange(p), 4 * b, "ring"), relays=False).makespan == form


@pytest.mark.parametrize("p", [4, 64, 1000])
def test_one_step_of_a_ring_stands_for_all(p: int) -> None:
    """The same form, with a step simulated once."""
    for b in (p, 64 * p):
        phase = Phase("rows", shift(np.arange(p), 4 * b // p), 2 * (p - 1), 1)
        form = 2 * (p - 1) * b / p + 4 * p - 6 + 2 * (p - 1) * (2 * T_R + 1)
        assert simulate_phases_on_circuits([phase], mesh(p, 1), mesh(1, 1)).makespan == form


@pytest.mark.parametrize("p", [4, 25, 100, 400, 900])
def test_two_phase_reduce_takes_its_words_twice(p: int) -> None:
    """T = C + L + (2 T_R + 1) D with contention C = 2 B, P - 1 hops, depth D = 2 sqrt(P) - 2."""
    for b in WORDS:
        outcome = on_row(reduce(np.arange(p), 4 * b, "two_phase_first"))
        form = 2 * b + p - 1 + (2 * T_R + 1) * (2 * sqrt(p) - 2)
        assert outcome.makespan == pytest.approx(form, rel=0.05, abs=5)
        assert outcome.colours <= 4


def decode_all_reduces(cores: int, group: int, hidden: int, inner: int, context: int) -> int:
    """Cycles of the ten all-reduces of a layer of WaferLLM's decode kernel, two FP16 a word."""
    h, f, c = hidden // cores, inner // cores, context // cores
    elements = [1, 1, 3 * h, c, 1, 1, h, h, 2 * f, h]
    plans = [
        all_reduce(np.arange(cores), 4 * -(-n // 2), "two_phase", multicast=True, group=group)
        for n in elements
    ]
    return sum(on_row(plan).makespan for plan in plans)


def test_the_ten_all_reduces_of_a_decode_layer_take_the_cycles_worked_out_by_hand() -> None:
    """5,720 cycles on 420 x 420 cores, 8,365 on 660 x 660."""
    assert decode_all_reduces(420, 21, 4200, 14_700, 4200) == pytest.approx(5720, rel=0.05)
    for group in (22, 30):
        assert decode_all_reduces(660, group, 4620, 14_520, 4620) == pytest.approx(8365, rel=0.05)


def test_an_all_reduce_over_a_rectangle_is_that_of_a_row_and_of_a_column() -> None:
    """Where cores begin a phase with all words of the one before, one line of each is exact."""
    for rows, columns in ((4, 6), (9, 9)):
        members = np.arange(rows * columns).reshape(rows, columns)
        plan = all_reduce(members, 64, "two_dimensional", line="two_phase")
        whole = simulate_circuits(plan, mesh(columns, rows), relays=False)
        phases = all_reduce_phases(rows, columns, 64, "two_phase")
        lines = mesh(columns, 1), mesh(1, rows)
        one = simulate_phases_on_circuits(phases, *lines, relays=False)
        assert one.makespan == whole.makespan
        assert one.copies == (rows, 1, rows)
        relayed = simulate_phases_on_circuits(phases, *lines)
        assert relayed.makespan == pytest.approx(
            simulate_circuits(plan, mesh(columns, rows)).makespan, rel=0.06
        )


def test_a_whole_wafer_reduces_in_time_and_colours() -> None:
    phases = all_reduce_phases(750, 994, 4096, "two_phase", multicast=True)
    outcome = simulate_phases_on_circuits(phases, mesh(994, 1), mesh(1, 750))
    assert outcome.fits
    assert outcome.copies == (750, 1, 750)
    ring = simulate_phases_on_circuits(
        all_reduce_phases(750, 994, 4096), mesh(994, 1), mesh(1, 750)
    )
    assert ring.makespan > 2 * outcome.makespan


def test_a_multicast_of_every_core_needs_more_colours_than_there_are() -> None:
    few, many = (on_row(all_gather(np.arange(n), 4 * n, "multicast")) for n in (24, 25))
    assert few.colours == 24
    assert few.fits
    assert many.colours == 25
    assert not many.fits


def test_a_slow_link_stretches_the_stream_that_crosses_it() -> None:
    network = mesh(8, 1, exceptions=[(3, 4, 10, 4)])
    outcome = simulate_circuits(broadcast(np.arange(8), 400, "multicast"), network)
    assert outcome.makespan == 4 * 100 + 8 + 9 + 2 * T_R
