"""Collectives against the published formulas of a circuit-like network, and of packet routers
against the simulation of their messages.

"Near-Optimal Wafer-Scale Reduce", arXiv 2404.15888: B words, P cores in a row, a ramp of T_R = 2
cycles, a word a cycle a link, a cycle a hop.
"""

from collections.abc import Callable
from dataclasses import astuple
from math import ceil, floor, sqrt

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.backend import collectives
from wscc.backend.collectives import Line, Traffic, all_gather, all_reduce, reduce_scatter
from wscc.backend.flit_costs import Joined
from wscc.backend.flit_network import FlitNetwork
from wscc.ir.hardware import Hardware

RAMP = 2
RELAY = 2 * RAMP + 1
ALL = (all_reduce, reduce_scatter, all_gather)
WHOLE = 10**9
"""Cores of a die: no line crosses a boundary."""


@pytest.fixture(scope="module")
def hardware(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware()


def line(cores: int | np.ndarray, die: int = WHOLE) -> Line:
    return Line(cores, die)


@pytest.mark.parametrize("words", [1, 7, 500])
@pytest.mark.parametrize("cores", [2, 3, 20, 661])
def test_an_all_gather_is_the_published_broadcast(
    hardware: Hardware, words: int, cores: int
) -> None:
    assert all_gather(hardware, line(cores), words).cycles == words + cores + 2 * RAMP


@pytest.mark.parametrize("words", [1, 7, 500])
@pytest.mark.parametrize("cores", [2, 3, 20, 661])
def test_a_reduce_scatter_is_the_published_chain(
    hardware: Hardware, words: int, cores: int
) -> None:
    assert reduce_scatter(hardware, line(cores), words).cycles == (
        words + (2 * RAMP + 2) * (cores - 1)
    )


def two_phases(words: int, cores: int) -> int:
    """By hand: chains of half a group, then of half the groups, and a multicast of half a line."""
    group = ceil(sqrt(cores))
    inner, outer = floor(group / 2), floor(ceil(cores / group) / 2)
    inside = 2 * words + inner + RELAY * inner
    across = 2 * words + outer * group + RELAY * outer
    back = words + ceil(cores / 2) + RELAY
    return inside + across + back


@pytest.mark.parametrize("words", [1, 5, 50])
@pytest.mark.parametrize("cores", [144, 420, 660])
def test_a_long_line_is_reduced_in_two_phases_from_both_sides(
    hardware: Hardware, words: int, cores: int
) -> None:
    """The published two-phase reduce chains from one end: 2 B through a core, P - 1 hops and
    2 sqrt(P) - 2 cores that add. Ours has the roots in the middle, as WaferLLM's kernel has:
    half the hops and cores, but two chains meet in a root, which takes in 2 B each phase.
    """
    traffic = all_reduce(hardware, line(cores), words)
    assert traffic.cycles == two_phases(words, cores)
    assert traffic.launches == 3
    published = 2 * words + cores - 1 + RELAY * (2 * sqrt(cores) - 2) + words + cores + 2 * RAMP
    assert traffic.cycles <= published + 2 * words


def test_a_short_line_is_reduced_in_one_chain(hardware: Hardware) -> None:
    """Two launches instead of three are worth more than the chain's few cores more."""
    traffic = all_reduce(hardware, line(8), 3)
    assert traffic.launches == 2
    assert traffic.cycles == (2 * 3 + 4 * (1 + RELAY)) + (3 + 4 + RELAY)


@pytest.mark.parametrize(
    ("cores", "words", "published"),
    [
        (420, (1, 15, 5, 1, 1, 5, 5, 1, 35, 5), 5720),
        (660, (1, 11, 4, 1, 1, 4, 4, 1, 22, 4), 8365),
    ],
)
def test_ten_all_reduces_of_a_layer_take_what_the_measured_kernel_implies(
    hardware: Hardware, cores: int, words: tuple[int, ...], published: int
) -> None:
    """The collectives of WaferLLM's decode (arXiv 2502.04563), launches apart: two norms, fused
    query-key-value, scores, softmax's maximum and sum, values, output, fused up-gate, down."""
    cycles = sum(float(all_reduce(hardware, line(cores), n).cycles) for n in words)
    assert cycles == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("collective", ALL)
def test_one_core_has_nothing_to_do(
    hardware: Hardware, collective: Callable[[Hardware, Line, float], Traffic]
) -> None:
    assert not any(astuple(collective(hardware, line(1), 50)))


def total(hardware: Hardware, traffic: Traffic) -> np.ndarray:
    return np.asarray(traffic.cycles + hardware.core.software.launch_cycles * traffic.launches)


@pytest.mark.parametrize("collective", ALL)
@pytest.mark.parametrize("die", [WHOLE, 66])
def test_more_cores_or_words_are_never_faster(
    make_hardware: Callable[..., Hardware],
    collective: Callable[[Hardware, Line, float], Traffic],
    die: int,
) -> None:
    hardware = make_hardware(link={"share": 0.5, "latency_s": 20e-9})
    longer = collective(hardware, line(np.arange(1, 1000), die), 40)
    assert (np.diff(total(hardware, longer)) >= 0).all()
    for cores in (2, 30, 500):
        runs = [collective(hardware, line(cores, die), words) for words in range(1, 300, 7)]
        assert (np.diff([total(hardware, run) for run in runs]) >= 0).all()


@given(st.integers(2, 1000), st.integers(1, 10**6))
def test_no_collective_is_faster_than_its_words_over_a_link(
    hardware: Hardware, cores: int, words: int
) -> None:
    for collective in ALL:
        traffic = collective(hardware, line(cores), words)
        assert float(traffic.cycles) >= float(traffic.link_words)
        assert float(traffic.cycles) >= float(traffic.ramp_words)


def test_a_slow_die_boundary_slows_the_whole_stream(make_hardware: Callable[..., Hardware]) -> None:
    slow = make_hardware(link={"share": 0.25})
    inside, across = (all_gather(slow, line(n, die=10), 100).cycles for n in (10, 11))
    assert inside == 100 + 9 + RELAY
    assert across == 400 + 10 + RELAY


def test_a_long_die_boundary_delays_once_a_crossing(
    make_hardware: Callable[..., Hardware],
) -> None:
    hardware = make_hardware(link={"latency_s": 21 / 1.1e9})
    extra = collectives.crossing_cycles(hardware)
    assert extra == pytest.approx(20)
    assert all_gather(hardware, line(25, die=10), 3).cycles == pytest.approx(
        3 + 24 + RELAY + 2 * extra
    )


def test_without_multicast_every_core_passes_the_words_on(
    make_hardware: Callable[..., Hardware],
) -> None:
    hardware = make_hardware(router={"multicast": False})
    assert all_gather(hardware, line(20), 3).cycles == 3 + 19 * (1 + RELAY)


def test_a_core_gets_its_tiles_over_two_hops(hardware: Hardware) -> None:
    """MeshGEMM's interleaved ring (arXiv 2502.04563): neighbours are two hops apart."""
    step = collectives.shift_step(hardware, 30, 20)
    assert step.cycles == 30 + 20 + 2 + RELAY
    assert (step.launches, step.row_words, step.column_words) == (1, 30, 20)
    step = collectives.reduce_step(hardware, shifted=30, summed=20)
    assert step.cycles == 30 + 2 * 20 + 2 + RELAY
    assert (step.launches, step.row_words, step.column_words) == (2, 20, 30)


def test_the_farthest_tiles_go_half_way_round_before_the_first_step() -> None:
    """MeshGEMM's kernel aligns its left operand in P / 2 turns (arXiv 2502.04563)."""
    turns = np.asarray(collectives.aligning_turns(np.array([1, 2, 7, 480])))
    assert turns.tolist() == [0, 1, 3, 240]


# Packet routers.

DIE = 10
SLOW = {"share": 0.5, "latency_s": 50e-9}
SIMULATED = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow),
)


@pytest.fixture(scope="module")
def routed(make_hardware: Callable[..., Hardware]) -> Hardware:
    """Without multicast, over dies that are joined by slow links."""
    router = {"kind": "wormhole", "multicast": False, "hop_cycles": 2.0, "ramp_cycles": 1.0}
    buffers = {"virtual_channels": 4, "buffer_flits": 4}
    return make_hardware(router=router | buffers, link=SLOW)


HOP, PASS = 2, 3
"""Cycles of a hop, and of a core of the routers above that passes words on."""


def simulated(hardware: Hardware, kind: str, at: Line, words: float) -> float:
    """Cycles of a collective whose messages are simulated cycle by cycle."""
    network = FlitNetwork.of(hardware)
    sharing = int(at.sharing)
    joined = Joined(hardware, network, int(at.members), sharing, words / sharing, at.die_cores)
    joined.cycles(kind)
    network.simulate(60.0)
    return joined.cycles(kind)


@SIMULATED
@given(cores=st.integers(5, 45), words=st.integers(1, 150), die=st.sampled_from((DIE, 24, WHOLE)))
def test_an_all_reduce_of_packets_takes_what_its_simulated_chains_do(
    routed: Hardware, cores: int, words: int, die: int
) -> None:
    """Within 3%, or the few cycles in which packets begin and end."""
    closed = float(all_reduce(routed, line(cores, die), words).cycles)
    found = simulated(routed, "all_reduce", line(cores, die), words)
    assert closed == pytest.approx(found, rel=0.03, abs=2 * (HOP + PASS))


@pytest.mark.parametrize("collective", [reduce_scatter, all_gather])
@pytest.mark.parametrize(("cores", "words"), [(15, 30), (15, 600), (33, 66), (33, 660)])
def test_parts_over_borders_take_about_what_their_simulated_chains_do(
    routed: Hardware,
    collective: Callable[[Hardware, Line, float], Traffic],
    cores: int,
    words: int,
) -> None:
    """The closed form has the last word's way after the stream, where chains overlap them."""
    closed = float(collective(routed, line(cores, DIE), words).cycles)
    found = simulated(routed, collective.__name__, line(cores, DIE), words)
    assert 0.9 * found <= closed <= 1.35 * found


@pytest.mark.parametrize("words", [4, 256])
def test_collectives_between_each_other_share_links_but_no_ramps(
    routed: Hardware, words: int
) -> None:
    """Eight members each: links take the words of both, a middle's ramp its own both ways. Within
    10%: packets of the two wait for each other."""
    both = Line(16, WHOLE, sharing=2)
    closed = float(all_reduce(routed, both, words).cycles)
    assert closed == pytest.approx(simulated(routed, "all_reduce", both, words), rel=0.1)


def test_without_multicast_a_middle_sends_what_it_takes_in(routed: Hardware) -> None:
    """Both ways through one ramp, over half a line of nine."""
    traffic = all_reduce(routed, line(9), 100)
    assert traffic.launches == 2
    assert traffic.cycles == 2 * (2 * 100 + 4 * (HOP + PASS))


def test_a_line_that_is_longer_than_a_die_meets_a_border(routed: Hardware) -> None:
    """There and back; between sums it waits for the border's bandwidth no longer than for the ramp
    that takes in both sides."""
    inside, across = (all_reduce(routed, line(9, die), 100).cycles for die in (9, 8))
    assert across - inside == pytest.approx(2 * collectives.crossing_cycles(routed))


def test_a_border_is_crossed_by_the_parts_of_one_side(routed: Hardware) -> None:
    """30 of 40 members send across the last border, each word over two cycles."""
    inside, across = (all_gather(routed, line(40, die), 400).cycles for die in (WHOLE, DIE))
    late = 3 * collectives.crossing_cycles(routed)
    assert across - inside == pytest.approx(2 * 400 * 30 / 40 - 400 + late)


@pytest.mark.parametrize("die", [WHOLE, 24])
def test_more_members_or_words_of_packets_are_never_faster(routed: Hardware, die: int) -> None:
    """Of scatters and gathers with as much a member."""
    cores = np.arange(2, 400)
    assert (np.diff(total(routed, all_reduce(routed, line(cores, die), 40))) >= 0).all()
    for collective in (reduce_scatter, all_gather):
        assert (np.diff(total(routed, collective(routed, line(cores, die), 2 * cores))) >= 0).all()
    for collective in ALL:
        for some in (2, 30, 300):
            runs = [collective(routed, line(some, die), words) for words in range(1, 300, 7)]
            assert (np.diff([total(routed, run) for run in runs]) >= 0).all()


@pytest.mark.parametrize("collective", ALL)
@pytest.mark.parametrize("multicast", [False, True])
def test_many_lines_of_packets_cost_what_each_does_alone(
    make_hardware: Callable[..., Hardware],
    collective: Callable[[Hardware, Line, float], Traffic],
    multicast: bool,
) -> None:
    hardware = make_hardware(router={"kind": "wormhole", "multicast": multicast}, link=SLOW)
    cores, sharing = np.array([1, 2, 9, 24, 96]), np.array([1, 1, 3, 2, 4])
    many = astuple(collective(hardware, Line(cores, DIE, sharing), 24))
    for at, (n, between) in enumerate(zip(cores.tolist(), sharing.tolist(), strict=True)):
        alone = astuple(collective(hardware, Line(n, DIE, between), 24))
        assert [float(np.broadcast_to(x, 5)[at]) for x in many] == pytest.approx(alone)


@pytest.mark.parametrize("collective", ALL)
def test_circuits_do_not_tell_collectives_that_share_a_line(
    hardware: Hardware, collective: Callable[[Hardware, Line, float], Traffic]
) -> None:
    alone, shared = (collective(hardware, Line(60, WHOLE, n), 50) for n in (1, 4))
    assert astuple(alone) == astuple(shared)


def test_tiles_wait_for_the_bandwidth_of_borders_or_for_the_ramp(routed: Hardware) -> None:
    die = routed.wafer.die
    inside = collectives.step_periods(routed, die.rows, die.columns)
    across = collectives.step_periods(routed, die.rows, die.columns + 1)
    assert [float(x) for x in (*inside, *across)] == [1, 1, 2, 1]
    for along_row, along_column, words in ((30, 20, 60), (20, 30, 50)):
        step = collectives.shift_step(routed, along_row, along_column, across)
        assert step.cycles == words + 2 * HOP + PASS
    step = collectives.reduce_step(routed, shifted=30, summed=20, periods=(2.0, 3.0))
    assert step.cycles == 90 + 2 * HOP + PASS


def test_borders_do_not_slow_the_steps_of_circuits(make_hardware: Callable[..., Hardware]) -> None:
    slow = make_hardware(link=SLOW)
    assert collectives.step_periods(slow, 10**4, 10**4) == (1.0, 1.0)
