"""Whether weights and caches lie in SRAM or in DRAM is a choice of the search like any other."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import wscc
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.evaluate import evaluate
from wscc.ir.errors import UserError
from wscc.ir.graph import Phase
from wscc.ir.hardware import EdgeIO, Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Program, Workload
from wscc.ir.result import Result
from wscc.ir.technology import Memory
from wscc.passes.compile import Compiler
from wscc.passes.plans import Choices

MakeTiny = Callable[..., Any]
STACKED = Memory("dram", "stacked", 1e9, 1e12, latency_s=1e-8)
EXTERNAL = Memory("hbm", "external", 1e9, 1e11, via="west")
PLACES = ("on_die", "at_edge")
PORTS = EdgeIO("west", 4, 1e11)


def small_wafer(kib: float, on_die: bool = False, at_edge: bool = False) -> Hardware:
    """12 x 12 of the WSE-2's cores with so much SRAM each, and DRAM in a place or none."""
    spec = wscc.load_hardware("wse2").bind()
    sram = replace(spec.core.sram, capacity_bytes=kib * 1024, reserved_bytes=0.0)
    core = replace(spec.core, sram=sram)
    memories = (STACKED,) if on_die else ()
    die = replace(spec.wafer.die, core=core, memories=memories)
    wafer = replace(
        spec.wafer,
        die=die,
        usable_rows=12,
        usable_columns=12,
        io=(PORTS,) if at_edge else (),
        memories=(EXTERNAL,) if at_edge else (),
    )
    return replace(spec, wafer=wafer)


def program(make_tiny: MakeTiny, hardware: Hardware, phase: Phase, **pins: Any) -> Program:
    workload = Workload(phase, 4, 7, 7, "float32")
    return Compiler(hardware, workload, Pins(**pins)).compile(make_tiny("llama").unsplit(phase))


def mapped(make_tiny: MakeTiny, hardware: Hardware, phase: Phase, **pins: Any) -> Result:
    return evaluate(program(make_tiny, hardware, phase, **pins))


@settings(deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.integers(1, 12))
def test_dram_is_a_choice_where_there_is_some_and_for_caches_where_there_are_any(
    dram: bool, caches: bool, trains: bool, batch: int
) -> None:
    choices = Choices(batch, 12, 10, 1000, trains, False, Pins(), dram=dram, caches=caches)
    for plans in choices.plans().values():
        places = {*zip(plans.weights.tolist(), plans.cache.tolist(), strict=True)}
        assert places == {*product([0, 1] if dram else [0], [0, 1] if dram and caches else [0])}


@pytest.mark.parametrize("pins", [{"weights": "dram"}, {"cache": "dram"}, {"weights": "sram"}])
def test_a_pinned_place_is_the_only_one(pins: dict[str, Any]) -> None:
    choices = Choices(4, 12, 10, 1000, False, True, Pins(**pins), dram=True, caches=True)
    for plans in choices.plans().values():
        for name, place in pins.items():
            assert set(getattr(plans, name)) == {int(place == "dram")}


@pytest.mark.parametrize(("place", "phase"), [("on_die", "decode"), ("at_edge", "prefill")])
def test_the_search_is_never_worse_than_a_pin(
    make_tiny: MakeTiny, place: str, phase: Phase
) -> None:
    hardware = small_wafer(4.0, **{place: True})
    pins = {"dp": 1, "microbatch": 4}
    free = mapped(make_tiny, hardware, phase, **pins)
    for weights, cache in product(("sram", "dram"), repeat=2):
        pinned = mapped(make_tiny, hardware, phase, **pins, weights=weights, cache=cache)
        assert free.feasible
        assert not pinned.feasible or free.latency_s <= pinned.latency_s * (1 + 1e-9)
        assert (pinned.mapping.weights_in, pinned.mapping.cache_in) == (weights, cache)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("phase", ["decode", "train"])
def test_what_sram_cannot_hold_lies_in_dram(make_tiny: MakeTiny, place: str, phase: Phase) -> None:
    """With SRAM for what is used at a time, but not for everything."""
    pins = {"dp": 1, "pp": 1, "microbatch": 4, "region": (12, 12), "cache": "sram"}
    if phase == "train":
        pins |= {"zero": 0, "recompute": "none"}
    ample = small_wafer(64.0, **{place: True})
    most, least = (
        mapped(make_tiny, ample, phase, **pins, weights=weights).memory.peak_core_bytes
        for weights in ("sram", "dram")
    )
    assert least < most
    kib = (least + most) / 2048
    alone = mapped(make_tiny, small_wafer(kib), phase, **pins)
    behind = mapped(make_tiny, small_wafer(kib, **{place: True}), phase, **pins)
    assert not alone.feasible
    assert behind.feasible
    assert behind.mapping.weights_in in ("dram", "off-wafer")
    if behind.mapping.weights_in == "dram":
        assert behind.memory.weights_bytes <= behind.memory.dram_bytes
    assert behind.memory.dram_bytes <= behind.memory.dram_capacity_bytes


def test_what_sram_holds_at_no_cost_stays_there(make_tiny: MakeTiny) -> None:
    found = mapped(make_tiny, small_wafer(48.0, on_die=True), "decode", dp=1, region=(6, 6))
    assert (found.mapping.weights_in, found.mapping.cache_in) == ("sram", "sram")
    assert found.memory.dram_bytes == 0


@pytest.mark.parametrize("pins", [{"weights": "dram"}, {"cache": "dram"}])
def test_a_place_that_the_hardware_does_not_have_is_refused(
    make_tiny: MakeTiny, pins: dict[str, str]
) -> None:
    (named,) = (f"{name}={place}" for name, place in pins.items())
    with pytest.raises(UserError, match=f"{named}: wse2 leaves no DRAM to choose"):
        program(make_tiny, small_wafer(8.0), "decode", **pins)
    with pytest.raises(UserError, match="cannot be streamed onto wse2, which has no ports"):
        program(make_tiny, small_wafer(8.0), "decode", weights="off-wafer", streaming=True)


@pytest.mark.parametrize(("place", "phase"), [*product(PLACES, ("decode", "train"))])
def test_bounds_of_what_lies_in_dram_are_lower_bounds(
    make_tiny: MakeTiny, place: str, phase: Phase
) -> None:
    """Of memory so slow that it is all that counts, by several stages and replicas too."""
    hardware = small_wafer(64.0, **{place: True})
    die = replace(hardware.wafer.die, memories=(replace(STACKED, bandwidth_bytes_per_s=1e9),))
    ports = (replace(PORTS, bandwidth_bytes_per_s=1e7),)
    slow = {"die": die} if place == "on_die" else {"io": ports}
    hardware = replace(hardware, wafer=replace(hardware.wafer, **slow))
    pins = {"region": (4, 6), "weights": "dram", "microbatch": 1}
    pins |= {"cache": "dram"} if phase == "decode" else {"recompute": "none", "zero": 0}
    for split in ({"dp": 1}, {"dp": 2, "pp": 2}):
        found = program(make_tiny, hardware, phase, **pins, **split)
        result = evaluate(found)
        assert evaluate(found, "bound").latency_s <= result.latency_s * (1 + 1e-9)
        assert result.bottleneck.kind in ("memory", "pipeline bubble")
        for tried in found.tried:
            if "evaluated at" in tried.outcome:
                assert tried.bound_s <= float(tried.outcome.split()[-2]) * (1 + 1e-5)
