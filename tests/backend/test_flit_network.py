"""Programs whose network is simulated cycle by cycle: what agrees with closed forms, what stands
for what, and that no bound is above it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.backend import collectives, flit_phases
from wscc.backend.bound import graph_bound
from wscc.backend.collectives import Line
from wscc.backend.cost import Costing
from wscc.backend.evaluate import Evaluation, evaluate
from wscc.backend.flit_costs import Joined, SimulatedCosting
from wscc.backend.flit_network import FlitNetwork, parts_of
from wscc.backend.flit_phases import LinePhase, Motion, Pattern, Phase, SentPhase, StepPhase
from wscc.backend.fluid import graph_run
from wscc.backend.network import Fabric, Flows, bound_s, fabric_of, zero_load_s
from wscc.backend.network_fluid import fluid
from wscc.backend.noc.values import first_mismatch
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.program import Program
from wscc.ir.result import FIDELITIES

MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]
PATTERNS: tuple[Pattern, ...] = ("reduce", "broadcast", "reduce_scatter", "all_gather")
FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow),
)


@pytest.fixture(scope="module")
def make_routed(make_hardware: Callable[..., Hardware]) -> Callable[..., Hardware]:
    """Wafers of packet routers without multicast, and fields of these changed."""

    def make(die: Mapping[str, Any] | None = None, link: Mapping[str, Any] | None = None,
             **router: Any) -> Hardware:  # fmt: skip
        given: dict[str, Any] = {
            "kind": "wormhole",
            "multicast": False,
            "virtual_channels": 4,
            "buffer_flits": 4,
            "hop_cycles": 2.0,
            "ramp_cycles": 1.0,
        }
        return make_hardware(router=given | router, die=die or {}, link=link or {})

    return make


@pytest.fixture(scope="module")
def routed(make_routed: Callable[..., Hardware]) -> Hardware:
    return make_routed()


def simulated(phase: Phase, hardware: Hardware) -> float:
    """Cycles of a phase by itself."""
    network = FlitNetwork.of(hardware)
    network.cycles(phase)
    network.simulate(60.0)
    return network.cycles(phase)


def flows(source: tuple[int, int], target: tuple[int, int], words: int, fabric: Fabric) -> Flows:
    places = (np.array([at]) for at in (*source, *target))
    return Flows(*places, bytes=np.array([words * fabric.word_bytes]), release_s=np.zeros(1))


PLACES = st.tuples(st.integers(0, 9), st.integers(0, 9))


@FEW
@given(
    source=PLACES,
    target=PLACES,
    words=st.integers(1, 40),
    hop=st.sampled_from((1.0, 1.5, 2.0, 3.0)),
    ramp=st.sampled_from((1.0, 1.25, 2.0)),
)
def test_a_message_alone_takes_its_zero_load_time(
    make_routed: Callable[..., Hardware],
    source: tuple[int, int],
    target: tuple[int, int],
    words: int,
    hop: float,
    ramp: float,
) -> None:
    """With buffers that cover the way of a credit; few flits of them would slow long messages."""
    hardware = make_routed(hop_cycles=hop, ramp_cycles=ramp, buffer_flits=32)
    fabric = fabric_of(hardware.wafer)
    sent, network = flows(source, target, words, fabric), FlitNetwork.of(hardware)
    network.finish_s(fabric, sent)
    network.simulate(60.0)
    assert network.finish_s(fabric, sent) == pytest.approx(zero_load_s(fabric, sent))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("members", [2, 3, 6])
def test_chains_leave_every_member_with_what_the_collective_says(
    pattern: Pattern, members: int
) -> None:
    phase = LinePhase(pattern, members, 1, 1, 2.0 * members, 0, 1.0)
    assert first_mismatch(phase.plan()) is None


@pytest.mark.parametrize("words", [1.0, 16.0, 200.0])
@pytest.mark.parametrize("cores", [8, 21])
def test_reducing_over_a_chain_takes_what_its_formula_says(
    routed: Hardware, cores: int, words: float
) -> None:
    """Two chains meet in the middle, which takes in both their words."""
    hops = cores // 2
    relay = 2 * routed.core.router.ramp_cycles + 1
    formula = 2 * words + hops * (routed.core.router.hop_cycles + relay)
    found = simulated(LinePhase("reduce", cores, 1, 1, words, 0, 1.0), routed)
    assert found == pytest.approx(formula, rel=0.02, abs=relay + 2)


@pytest.mark.parametrize("kind", ["reduce_scatter", "all_gather"])
@pytest.mark.parametrize("cores", [8, 16, 32])
def test_long_scatters_and_gathers_are_as_long_as_their_closed_forms(
    routed: Hardware, kind: str, cores: int
) -> None:
    """But that the ramp of a core between others takes n + 1 of n parts."""
    words, network = 64.0 * cores, FlitNetwork.of(routed)
    joined = Joined(routed, network, cores, 1, words, 10**6)
    joined.cycles(kind)
    network.simulate(60.0)
    closed = float(getattr(collectives, kind)(routed, Line(cores, 10**6), words).cycles)
    assert joined.cycles(kind) == pytest.approx(closed * (1 + 1 / cores), rel=0.06)


def test_without_multicast_the_middle_sends_everything_twice(routed: Hardware) -> None:
    words = 1000.0
    back = simulated(LinePhase("broadcast", 9, 1, 1, words, 0, 1.0), routed)
    assert 2 * words < back < 2.1 * words


def test_a_step_of_two_tiles_is_as_long_as_both(routed: Hardware) -> None:
    """They share a core's ramp."""
    step = StepPhase(40, 40, "ring", 30.0, "ring", 20.0, False, False, 1.0)
    closed = collectives.shift_step(routed, 30.0, 20.0)
    assert simulated(step, routed) == pytest.approx(float(closed.cycles), rel=0.1)


@pytest.mark.parametrize("period", [1.0, 2.0])
@pytest.mark.parametrize("motion", ["ring", "owner"])
def test_a_small_patch_stands_for_a_large_one(
    routed: Hardware, monkeypatch: pytest.MonkeyPatch, motion: Motion, period: float
) -> None:
    border = period > 1
    step = StepPhase(12, 12, motion, 24.0, "ring", 16.0, border, border, period)
    small = simulated(step, routed)
    monkeypatch.setattr(flit_phases, "PATCH", 12)
    assert simulated(step, routed) == pytest.approx(small, rel=0.05)


def test_links_between_dies_slow_the_steps_that_cross_them(
    make_routed: Callable[..., Hardware],
) -> None:
    words = 100.0
    hardware = make_routed(link={"share": 0.5})
    inside = StepPhase(12, 12, "ring", words, "ring", 0.0, False, False, 1.0)
    across = replace(inside, row_border=True, period=2.0)
    assert simulated(across, hardware) - simulated(inside, hardware) == pytest.approx(
        words, rel=0.1
    )


# What stands for what.


def extrapolated(phase: Phase, hardware: Hardware, most: float) -> float:
    network = FlitNetwork.of(hardware)
    parts = parts_of(phase, most)
    assert all(part.phase.steps <= 1.5 * most for part in parts)
    assert sum(part.weight for part in parts) == pytest.approx(1.0)
    found = (part.weight * part.phase.arrivals(network.routers).max() for part in parts)
    return float(sum(found))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_long_messages_are_judged_by_shorter_ones(routed: Hardware, pattern: Pattern) -> None:
    phase = LinePhase(pattern, 12, 1, 1, 2400.0, 0, 1.0)
    whole = float(phase.arrivals(FlitNetwork.of(routed).routers).max())
    assert extrapolated(phase, routed, phase.steps / 5) == pytest.approx(whole, rel=0.03)


@pytest.mark.parametrize("pattern", ["reduce_scatter", "all_gather"])
def test_long_lines_are_judged_by_shorter_ones(routed: Hardware, pattern: Pattern) -> None:
    phase = LinePhase(pattern, 96, 1, 1, 96.0 * 4, 0, 1.0)
    whole = float(phase.arrivals(FlitNetwork.of(routed).routers).max())
    assert extrapolated(phase, routed, phase.steps / 6) == pytest.approx(whole, rel=0.05)


def handed_over(columns: int, words: int, fabric: Fabric) -> Flows:
    """From every core of a row of a rectangle to its like in the next one."""
    at, zero = np.arange(columns), np.zeros(columns, np.int64)
    bytes_ = np.full(columns, words * fabric.word_bytes)
    return Flows(zero, at, zero, at + columns, bytes_, np.zeros(columns))


def test_long_hand_overs_are_judged_by_shorter_ones(routed: Hardware) -> None:
    fabric = fabric_of(routed.wafer)
    sent = handed_over(12, 200, fabric)
    phase = SentPhase.of(sent, fabric.word_bytes, (10**6, 10**6), 1.0)
    whole = float(phase.arrivals(FlitNetwork.of(routed).routers).max())
    assert extrapolated(phase, routed, phase.steps / 8) == pytest.approx(whole, rel=0.02)


def test_a_broken_period_lies_between_whole_ones(make_routed: Callable[..., Hardware]) -> None:
    phase = LinePhase("broadcast", 8, 1, 1, 100.0, 4, 1.25)
    hardware = make_routed(link={"share": 0.8})
    fast, slow = (simulated(replace(phase, period=p), hardware) for p in (1.0, 2.0))
    assert simulated(phase, hardware) == pytest.approx(0.75 * fast + 0.25 * slow)


def test_equal_phases_are_one_wherever_they_are(routed: Hardware) -> None:
    fabric = fabric_of(routed.wafer)
    sent = handed_over(5, 10, fabric)
    moved = replace(sent, source_row=sent.source_row + 3, target_row=sent.target_row + 3)
    network = FlitNetwork.of(routed)
    for each in (sent, moved):
        network.finish_s(fabric, each)
    assert len(network.asked) == 1


def test_the_notes_say_what_was_extrapolated(routed: Hardware) -> None:
    network = FlitNetwork.of(routed)
    network.cycles(LinePhase("reduce", 12, 1, 1, 4000.0, 0, 1.0))
    network.simulate(0.3)
    assert "network: 1 of 1 phases judged by shorter messages" in network.notes


def test_what_would_take_too_long_is_refused_with_an_estimate(routed: Hardware) -> None:
    network = FlitNetwork.of(routed)
    network.cycles(LinePhase("reduce", 500, 1, 1, 4000.0, 0, 1.0))
    with pytest.raises(UserError, match=r"would take about \d+ s, and the budget is 0.001 s"):
        network.simulate(0.001)


# Against the other fidelities.


@FEW
@given(
    drawn=st.lists(st.tuples(PLACES, PLACES, st.integers(1, 30)), min_size=1, max_size=8),
    share=st.sampled_from((1.0, 0.5)),
)
def test_no_flows_are_faster_than_their_bound(
    make_routed: Callable[..., Hardware],
    drawn: list[tuple[tuple[int, int], tuple[int, int], int]],
    share: float,
) -> None:
    hardware = make_routed(link={"share": share}, die={"rows": 4, "columns": 5})
    fabric, network = fabric_of(hardware.wafer), FlitNetwork.of(hardware)
    columns = np.array([(*a, *b, words) for a, b, words in drawn]).T
    bytes_ = columns[4] * fabric.word_bytes
    sent = Flows(columns[0], columns[1], columns[2], columns[3], bytes_, np.zeros(len(drawn)))
    network.finish_s(fabric, sent)
    network.simulate(60.0)
    finish = network.finish_s(fabric, sent)
    assert finish.max() >= bound_s(fabric, sent) * (1 - 1e-9)
    assert finish.max() <= 3 * fluid(fabric, sent).max()


LINES = (
    "%a: float16[{n}, {n}] = grid_matmul(%x, %y) {{indices = \"ab,bc->ac\", form = \"rotate\"}}",
    "%b: float16[{n}, {n}] = grid_matmul(%a, %y) {{indices = \"ab,bc->ac\", form = \"reduce\"}}",
    "%c: float16[{n}, {n}] = all_reduce(%b) {{axes = [{axes}], function = \"sum\"}}",
    "%d: float16[{n}, {n}] = reduce_scatter(%c) {{axes = [{axes}]}}",
    "%e: float16[{n}, {n}] = all_gather(%d) {{axes = [{axes}]}}",
)  # fmt: skip
ROWS, COLUMNS = ("yh", "yd"), ("xh", "xd")


@FEW
@given(
    side=st.integers(1, 200),
    axes=st.sampled_from(('"yh", "yd"', '"xh", "xd"', '"xd"', '"xh"', '"yd"')),
    sizes=st.fixed_dictionaries({name: st.integers(1, 6) for name in (*ROWS, *COLUMNS)}),
    launch=st.sampled_from((0.0, 100.0)),
)
def test_no_graph_is_faster_than_its_bound(
    make_graph: MakeGraph,
    make_routed: Callable[..., Hardware],
    side: int,
    axes: str,
    sizes: dict[str, int],
    launch: float,
) -> None:
    inputs = "".join(f"input %{x}: float16[{side}, {side}] = data {x}\n" for x in "xy")
    body = "\n".join(line.format(n=side, axes=axes) for line in LINES)
    lying = {name: Sharding((ROWS, COLUMNS)) for name in "xyabcde"}
    mapped = make_graph(f"{inputs}{body}\noutput %e = data out", lying)
    hardware = make_routed(die={"rows": 5, "columns": 7}, link={"share": 0.5, "latency_s": 5e-8})
    software = replace(hardware.core.software, launch_cycles=launch)
    core = replace(hardware.core, software=software)
    die = replace(hardware.wafer.die, core=core)
    hardware = replace(hardware, wafer=replace(hardware.wafer, die=die))
    closed, network = Costing(hardware, mapped, sizes).costs(), FlitNetwork.of(hardware)
    SimulatedCosting(hardware, mapped, sizes, network=network).costs()
    network.simulate(60.0)
    costs = SimulatedCosting(hardware, mapped, sizes, network=network).costs()
    assert all(ours.cycles >= least.cycles for ours, least in zip(costs, closed, strict=True))
    least = float(graph_bound(mapped, closed).cycles)
    assert graph_run(mapped, costs).cycles >= least * (1 - 1e-9)


@pytest.mark.parametrize("layout", ["matmul", "matvec"])
@pytest.mark.parametrize("batch", [1, 4])
def test_hand_overs_take_no_less_than_their_bound(
    routed: Hardware, make_stages: Callable[..., Program], layout: str, batch: int
) -> None:
    places = [[(0, 0)], [(0, 4)], [(5, 6)]]
    program = make_stages(routed, layout, (4, 4), places, features=512, tokens=64, batch=batch)
    latency = {f: Evaluation(program, f).latency_s for f in FIDELITIES}
    assert latency["bound"] <= latency["fluid"] * (1 + 1e-9)
    assert latency["bound"] <= latency["flit"] * (1 + 1e-9)
    assert latency["flit"] < 2.5 * latency["fluid"]


def test_a_program_is_not_faster_than_its_bound_and_says_what_was_simulated(
    routed: Hardware, compile_small: Callable[..., Program]
) -> None:
    """Of training, with gradients that replicas exchange."""
    program = compile_small(
        "train", routed, batch=2, layers=1, region=(4, 6), dp=2, pp=1, microbatch=1, zero=0
    )
    found = {fidelity: evaluate(program, fidelity) for fidelity in FIDELITIES}
    for fidelity, result in found.items():
        assert result.fidelity == fidelity
        assert result.latency_s >= found["bound"].latency_s * (1 - 1e-9)
        assert sum(result.breakdown.values()) == pytest.approx(result.latency_s)
    assert any("cycle by cycle" in limit for limit in found["flit"].limits)


def test_circuits_are_the_same_at_flit(wse2: Hardware, make_stages: Callable[..., Program]) -> None:
    program = make_stages(wse2, "matmul", (4, 4), [[(0, 0)], [(0, 4)]], features=512, tokens=64)
    flit, other = Evaluation(program, "flit"), Evaluation(program, "fluid")
    assert flit.latency_s == other.latency_s
    assert [limit for limit in flit.limits if limit not in other.limits] == [
        "network: static circuits follow closed forms, at flit as at fluid"
    ]


def test_routers_that_copy_words_keep_closed_forms(
    make_routed: Callable[..., Hardware],
) -> None:
    hardware = make_routed(multicast=True)
    network = FlitNetwork.of(hardware)
    assert Joined(hardware, network, 8, 1, 10.0, 10**6).cycles("all_gather") == 0.0
    assert not network.asked
    assert any("closed forms" in note for note in network.notes)
