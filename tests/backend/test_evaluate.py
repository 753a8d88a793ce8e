"""Programs evaluated: what sums up, what is defined how, and what is reported as short."""

from collections.abc import Callable
from dataclasses import replace
from math import isclose

import pytest
from wscc.backend.evaluate import Evaluation, evaluate
from wscc.backend.physics.cost import cost
from wscc.backend.physics.power import COMPONENTS, power, static_power
from wscc.backend.timing import Timing
from wscc.ir.hardware import DeadCore, Economy, Hardware
from wscc.ir.program import CoreMemory, Program
from wscc.ir.result import FIDELITIES, Fidelity, Result
from wscc.ir.technology import Memory

Compile = Callable[..., Program]
MakeHardware = Callable[..., Hardware]

CASES = {
    "decode": {},
    "decode-small-region": {"region": (12, 20)},
    "decode-batch": {"batch": 4, "microbatch": 4, "region": (16, 16)},
    "decode-pipelined": {"batch": 6, "dp": 1, "pp": 3, "microbatch": 1, "region": (24, 16)},
    "decode-replicas": {"batch": 6, "dp": 2, "pp": 2, "microbatch": 1, "region": (24, 16)},
    "decode-one-layer": {"layers": 1, "region": (16, 40)},
    "prefill": {"phase": "prefill"},
    "prefill-small-region": {"phase": "prefill", "region": (8, 8)},
    "prefill-oblong": {"phase": "prefill", "region": (6, 18), "sequence": 33},
    "prefill-pipelined": {"phase": "prefill", "batch": 3, "dp": 1, "pp": 4, "microbatch": 1,
                          "region": (12, 12)},
}  # fmt: skip


@pytest.fixture(scope="module")
def programs(compile_small: Compile) -> Callable[[str], Program]:
    made: dict[str, Program] = {}

    def make(name: str) -> Program:
        if name not in made:
            made[name] = compile_small(**CASES[name])
        return made[name]

    return make


@pytest.fixture(params=CASES)
def program(request: pytest.FixtureRequest, programs: Callable[[str], Program]) -> Program:
    return programs(request.param)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_times_and_energies_sum_up(program: Program, fidelity: Fidelity) -> None:
    result = evaluate(program, fidelity)
    assert isclose(sum(result.breakdown.values()), result.latency_s, rel_tol=1e-12)
    assert isclose(sum(result.energy.values()), result.energy_j, rel_tol=1e-12)
    assert set(result.energy) == set(COMPONENTS)
    assert min(result.breakdown.values()) >= 0
    assert min(result.energy.values()) >= 0
    assert result.power_w == pytest.approx(result.energy_j / result.latency_s)
    leakage_j = static_power(program.hardware) * result.latency_s
    assert result.energy["leakage"] == pytest.approx(leakage_j)


def test_the_bound_is_a_lower_bound(program: Program) -> None:
    bound, fluid = evaluate(program, "bound"), evaluate(program, "fluid")
    assert 0 < bound.latency_s <= fluid.latency_s * (1 + 1e-9)
    assert 0 < bound.cycles_per_layer <= fluid.cycles_per_layer * (1 + 1e-9)


def test_links_are_never_used_more_than_always(program: Program) -> None:
    for fidelity in FIDELITIES:
        noc = evaluate(program, fidelity).noc
        assert 0 < noc.mean_link_utilization <= noc.max_link_utilization <= 1
        assert noc.flows > 0


def test_power_lies_between_leakage_and_peak_and_nameplate(program: Program) -> None:
    result = evaluate(program, "fluid")
    assert static_power(program.hardware) < result.power_w <= result.power_peak_w
    assert result.power_peak_w <= result.power_nameplate_w


def test_regulators_and_memory_draw_beside_the_operators(
    compile_small: Compile, make_hardware: MakeHardware
) -> None:
    """A loss of a quarter on everything behind regulators, and 84 dies with 2 W of memory each."""
    dram = Memory("dram", "stacked", 1e9, 1e12, power_w=2.0)
    hardware = make_hardware(die={"memories": (dram,)}, wafer={"regulator_efficiency": 0.8})
    pins = {"dp": 1, "pp": 1, "region": (24, 16), "weights": "sram", "cache": "sram"}
    plain = evaluate(compile_small(hardware=make_hardware(), **pins))
    result = evaluate(compile_small(hardware=hardware, **pins))
    assert result.latency_s == pytest.approx(plain.latency_s)
    assert result.energy["memory"] == pytest.approx(168 * result.latency_s)
    assert result.energy["regulator_loss"] == pytest.approx(result.energy_j / 5)
    assert result.power_peak_w == pytest.approx((plain.power_peak_w + 168) / 0.8)
    assert result.power_nameplate_w == pytest.approx(float(power(hardware)))


def test_money_is_in_the_result_where_the_spec_says_enough(
    compile_small: Compile, make_hardware: MakeHardware
) -> None:
    hardware, pins = make_hardware(), {"dp": 1, "pp": 1, "region": (24, 16)}
    silent = replace(hardware, economy=None)
    result = evaluate(compile_small(hardware=silent, **pins))
    assert result.cost_usd == pytest.approx(float(cost(hardware)))
    assert result.usd_per_million_tokens is None
    economy = Economy(lifetime_s=1e8, electricity_usd_per_j=2e-8, utilization=0.5)
    result = evaluate(compile_small(hardware=replace(hardware, economy=economy), **pins))
    assert result.cost_usd is not None
    usd_per_s = result.cost_usd / 5e7 + result.power_w * 2e-8
    assert result.usd_per_million_tokens == pytest.approx(1e6 * usd_per_s / result.tokens_per_s)


def test_throughput_and_utilization_are_what_they_are_defined_as(
    programs: Callable[[str], Program],
) -> None:
    decode, prefill = programs("decode-batch"), programs("prefill-pipelined")
    result = evaluate(decode)
    assert result.tokens_per_s == pytest.approx(4 / result.latency_s)
    peak = 850_000 * 8 * 1.1e9
    assert result.hardware.peak_flops == pytest.approx(peak)
    assert result.mfu == pytest.approx(decode.flops / result.latency_s / peak)
    result = evaluate(prefill)
    assert result.tokens_per_s == pytest.approx(3 * 64 / result.latency_s)


def test_flops_are_those_of_the_whole_batch(compile_small: Compile) -> None:
    """A multiply-add is two: 2 for each weight of a product, and attention over context + 1."""
    hidden, inner, vocabulary, heads, groups, width = 512, 1408, 2000, 8, 4, 64
    layer = hidden * width * (2 * heads + 2 * groups) + 3 * hidden * inner
    attention = 2 * heads * 256 * width
    by_hand = 2 * (6 * (layer + attention) + hidden * vocabulary)
    one = compile_small(region=(12, 20))
    assert one.flops == pytest.approx(by_hand, rel=1e-3)
    assert compile_small(batch=6, dp=2, microbatch=1, region=(24, 16)).flops == pytest.approx(
        6 * by_hand, rel=1e-3
    )


def test_cycles_per_layer_are_the_time_of_the_repeated_layer(
    programs: Callable[[str], Program],
) -> None:
    """One layer without embedding or head: its cycles and little else (the shared angles)."""
    result = evaluate(programs("decode-one-layer"))
    whole = result.latency_s * 1.1e9
    assert 0.8 * whole < result.cycles_per_layer <= whole
    pipelined = programs("decode-pipelined")
    run = Evaluation(pipelined, "fluid").runs["layer0"]
    assert evaluate(pipelined).cycles_per_layer == run.cycles


def test_what_every_stage_makes_anew_is_no_layer(compile_small: Compile) -> None:
    """Two layers in stages of their own: the angles are made as often as there are layers."""
    program = compile_small(layers=2, pp=2, batch=2, microbatch=1, region=(16, 16))
    calls = [call.text("body") for stage in program.stages for call in stage.calls]
    assert calls.count("shared") == 2
    assert Evaluation(program, "fluid").main_call.text("body") == "layer0"


def test_a_pipeline_takes_a_pass_and_the_slowest_stage_for_all_others(
    programs: Callable[[str], Program],
) -> None:
    for name in ("decode-pipelined", "prefill-pipelined"):
        program = programs(name)
        timing = Timing(program, "fluid")
        stages = [sum(stage.values()) for stage in timing.stage_breakdowns]
        passing = [handover.seconds for handover in timing.handovers]
        assert len(stages) == program.mapping.pp == len(passing) + 1
        by_hand = sum(stages) + sum(passing)
        by_hand += (program.microbatches - 1) * max(*stages, *passing)
        by_hand += 0.0 if timing.in_dram is None else timing.in_dram.first_s
        assert timing.latency_s == pytest.approx(by_hand)
        bubble = timing.breakdown["bubble_s"]
        assert bubble == pytest.approx(sum(stages) + sum(passing) - max(*stages, *passing))


def test_one_micro_batch_has_no_bubble(programs: Callable[[str], Program]) -> None:
    assert evaluate(programs("decode-batch")).breakdown["bubble_s"] == 0


def test_replicas_work_side_by_side(compile_small: Compile) -> None:
    """Twice the replicas on twice the batch: as fast, twice the tokens, twice the work."""
    pins = {"pp": 1, "microbatch": 1, "region": (24, 16), "streaming": False}
    one = evaluate(compile_small(batch=1, dp=1, **pins))
    two = evaluate(compile_small(batch=2, dp=2, **pins))
    assert two.latency_s == pytest.approx(one.latency_s)
    assert two.tokens_per_s == pytest.approx(2 * one.tokens_per_s)
    for name in set(COMPONENTS) - {"leakage"}:
        assert two.energy[name] == pytest.approx(2 * one.energy[name])
    assert two.energy["leakage"] == pytest.approx(one.energy["leakage"])
    assert two.memory.weights_bytes == 2 * one.memory.weights_bytes
    assert two.memory.peak_core_bytes == one.memory.peak_core_bytes


def test_every_micro_batch_keeps_its_cache(compile_small: Compile) -> None:
    pins = {"dp": 1, "pp": 1, "microbatch": 1, "region": (24, 16)}
    one, four = (evaluate(compile_small(batch=n, **pins)).memory for n in (1, 4))
    assert four.kv_bytes == 4 * one.kv_bytes == 4 * 6 * 2 * 256 * 4 * 64 * 2
    grown = four.peak_core_bytes - one.peak_core_bytes
    assert grown >= 3 * one.kv_bytes / (24 * 16)


def test_decode_slows_down_when_the_region_grows_beyond_the_best(compile_small: Compile) -> None:
    sides = (8, 16, 24, 48, 96, 192, 384, 700)
    times = [evaluate(compile_small(region=(s, s), layers=1)).latency_s for s in sides]
    best = times.index(min(times))
    assert 0 < best < len(sides) - 1
    assert times[:best] == sorted(times[:best], reverse=True)
    assert times[best:] == sorted(times[best:])


def test_a_longer_context_and_a_larger_batch_take_longer(compile_small: Compile) -> None:
    pins = {"dp": 1, "pp": 1, "region": (16, 16)}
    contexts = [evaluate(compile_small(context=n, **pins)).latency_s for n in (100, 500, 4000)]
    assert contexts == sorted(contexts)
    batches = [evaluate(compile_small(batch=n, microbatch=n, **pins)) for n in (1, 4, 16)]
    latencies = [result.latency_s for result in batches]
    rates = [result.tokens_per_s for result in batches]
    assert latencies == sorted(latencies)
    assert rates == sorted(rates)


def timed(result: Result) -> bool:
    return result.latency_s > 0 and result.energy_j > 0 and result.tokens_per_s > 0


def test_too_little_memory_is_reported_and_timed_all_the_same(
    compile_small: Compile, make_hardware: Callable[..., Hardware]
) -> None:
    tight = make_hardware(sram={"capacity_bytes": 8 * 1024.0})
    result = evaluate(compile_small(hardware=tight, region=(16, 16), pp=1))
    assert not result.feasible
    (short,) = result.infeasible
    assert (short.resource, short.unit, short.limit) == ("core memory", "B", 6 * 1024)
    assert short.demand == result.memory.peak_core_bytes
    assert short.gap == short.demand - short.limit > 0
    assert short.where == "fullest core of stage 0 (embedding, layers 0-5, head)"
    assert short.changes
    assert short.changes[0].startswith("--region ")
    assert timed(result)


def test_the_stage_with_the_fullest_core_is_named(programs: Callable[[str], Program]) -> None:
    program = programs("decode-pipelined")
    most = CoreMemory(10**6, 0, 0)
    stages = list(program.stages)
    stages[1] = replace(stages[1], memory=most)
    result = evaluate(program.with_stages(stages))
    assert result.infeasible[0].where.startswith("fullest core of stage 1 (layer")
    assert result.infeasible[0].demand == 10**6


def test_rectangles_that_do_not_fit_side_by_side_are_reported_and_timed_all_the_same(
    compile_small: Compile,
) -> None:
    result = evaluate(compile_small(region=(700, 900), dp=1, pp=2))
    short = next(entry for entry in result.infeasible if entry.resource == "cores")
    assert (short.demand, short.limit) == (2 * 700 * 900, 750 * 994)
    assert short.gap == short.demand - short.limit
    assert short.where.endswith("2 rectangles of 700x900 cores do not fit side by side")
    assert timed(result)


def test_what_is_dead_is_not_room(compile_small: Compile, make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    dead = DeadCore((0, 0), (0, 0))
    hardware = replace(hardware, wafer=replace(hardware.wafer, dead_cores=(dead,)))
    whole = evaluate(compile_small(hardware=hardware, region=(750, 994), dp=1, pp=1))
    short = next(entry for entry in whole.infeasible if entry.resource == "cores")
    assert (short.demand, short.limit, short.gap) == (750 * 994, 750 * 994 - 1, 1)

    centre = DeadCore((5, 3), (40, 30))
    hardware = replace(hardware, wafer=replace(hardware.wafer, dead_cores=(centre,)))
    part = evaluate(compile_small(hardware=hardware, region=(500, 700), dp=1, pp=1))
    short = next(entry for entry in part.infeasible if entry.resource == "cores")
    assert short.gap == 0
    assert "1 rectangle of 500x700 cores does not fit between the edges" in short.where


def test_what_limits_is_the_largest_part_of_the_time(program: Program) -> None:
    result = evaluate(program)
    share = max(result.breakdown.values()) / result.latency_s
    assert result.bottleneck.utilization == pytest.approx(share)
    assert result.bottleneck.where


def test_operators_are_listed_by_their_part_of_the_layer(program: Program) -> None:
    result = evaluate(program)
    cycles = [op.cycles for op in result.operators]
    assert cycles == sorted(cycles, reverse=True)
    assert sum(cycles) == pytest.approx(result.cycles_per_layer)


def test_a_fidelity_that_does_not_exist_is_refused(programs: Callable[[str], Program]) -> None:
    with pytest.raises(ValueError, match="no fidelity 'exact'"):
        evaluate(programs("decode"), "exact")  # type: ignore[arg-type]
