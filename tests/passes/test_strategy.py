"""Strategies: which are looked at, what is said of them, which are kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.evaluate import evaluate
from wscc.frontend.hardware import load_hardware
from wscc.ir.floor import floor_of
from wscc.ir.graph import Model
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Program, Workload
from wscc.passes.canonical import canonical_form
from wscc.passes.compile import LAYOUTS, Compiler
from wscc.passes.dimensions import head_groups
from wscc.passes.lay_out import LayOut, mesh_of
from wscc.passes.manager import PassManager
from wscc.passes.pieces import Chain, chain_of
from wscc.passes.plans import MAX_MICROBATCHES, Choices
from wscc.passes.regions import divisors, regions, sides
from wscc.passes.strategy import Candidate, Search


def small_wafer(rows: int = 24, columns: int = 36, kib: float = 8) -> Hardware:
    """A few of the WSE-2's cores, with little memory."""
    spec = load_hardware("wse2").bind()
    core = spec.core
    sram = replace(core.sram, capacity_bytes=kib * 1024, reserved_bytes=0.0)
    die = replace(spec.wafer.die, core=replace(core, sram=sram))
    wafer = replace(spec.wafer, die=die, usable_rows=rows, usable_columns=columns)
    return replace(spec, wafer=wafer)


def test_sides_go_from_a_few_cores_to_the_whole_and_hold_its_equal_shares() -> None:
    found = sides(750, ())
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (4, 750)
    assert {750 // n for n in range(1, 9)} <= set(found)


@given(st.integers(1, 2000), st.lists(st.integers(1, 20000), max_size=3))
def test_no_side_is_empty_or_longer_than_the_wafer(extent: int, sizes: list[int]) -> None:
    found = sides(extent, sizes)
    assert all(0 < side <= extent for side in found)
    assert extent in found


def test_a_side_is_the_shortest_that_cuts_a_size_into_blocks_as_small() -> None:
    """4096 over 750 is blocks of 6, which 683 devices make as well."""
    shares = {750 // n for n in range(1, 9)}
    for side in set(sides(750, [4096])) - shares:
        block = -(-4096 // side)
        assert -(-4096 // (side - 1)) > block
    assert 683 in sides(750, [4096])


def test_divisors_are_all_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]


def choices(batch: int, pins: Pins | None = None, trains: bool = False) -> Choices:
    """What may be chosen on a thousand devices for a model of twelve pieces."""
    return Choices(batch, 12, 10, 1000, trains, False, pins or Pins())


@given(st.integers(1, 300))
def test_a_batch_is_split_evenly(batch: int) -> None:
    for size, plans in choices(batch).plans().items():
        assert (plans.dp * size * plans.microbatches == batch).all()


@given(st.integers(1, 3000))
def test_few_sizes_of_micro_batches_are_tried_and_the_extremes_among_them(batch: int) -> None:
    sizes = sorted(choices(batch, Pins(dp=1)).plans())
    assert len(sizes) <= MAX_MICROBATCHES
    assert (sizes[0], sizes[-1]) == (1, batch)


def test_pinned_splits_are_the_only_ones() -> None:
    found = choices(12, Pins(dp=2, microbatch=3, pp=1)).plans()
    assert list(found) == [3]
    assert (found[3].dp.tolist(), found[3].microbatches.tolist()) == ([2], [2])


@given(st.integers(1, 64))
def test_chunks_go_round_stages_in_training_alone(batch: int) -> None:
    """Micro-batches go in groups of as many as stages, and no stage is left without a piece."""
    for plans in choices(batch, trains=True).plans().values():
        many = plans.chunks > 1
        assert (plans.stages[many] > 1).all()
        assert (plans.microbatches[many] % plans.stages[many] == 0).all()
        assert (10 % (plans.stages * plans.chunks)[many] == 0).all()
    assert all((plans.chunks == 1).all() for plans in choices(batch).plans().values())


def test_replicas_divide_what_they_hold_in_training_alone() -> None:
    for trains, levels in ((False, {0}), (True, {0, 1, 2, 3})):
        found = choices(8, trains=trains).plans().values()
        assert {int(zero) for plans in found for zero in plans.zero} == levels
        assert all((plans.zero[plans.dp == 1] == 0).all() for plans in found)


def test_regions_lie_on_the_wafer_and_no_side_is_less_than_its_heads() -> None:
    table = regions(floor_of(small_wafer()), None, [1, 2, 4], ((), ()))
    assert (table.rows <= 24).all()
    assert (table.columns <= 36).all()
    assert (table.head_groups <= np.minimum(table.rows, table.columns)).all()
    assert {1, 2, 4} == set(table.head_groups.tolist())


def test_a_pinned_region_is_the_only_one() -> None:
    table = regions(floor_of(small_wafer()), (5, 7), [1, 2], ((), ()))
    assert {*zip(table.rows.tolist(), table.columns.tolist(), strict=True)} == {(5, 7)}


@pytest.mark.parametrize("layout", ["matvec", "matmul"])
def test_the_axes_of_many_regions_are_those_of_each_mesh(layout: Any) -> None:
    table = regions(floor_of(small_wafer()), None, [1, 2, 4], ((), ()))
    sizes = table.sizes(layout)
    for at in range(0, len(table.rows), 97):
        groups = int(table.head_groups[at])
        mesh = mesh_of(int(table.rows[at]), int(table.columns[at]), groups, layout)
        assert {name: int(side[at]) for name, side in sizes.items()} == mesh.sizes


MakeTiny = Callable[[str], Any]


def searched(model: Model, hardware: Hardware, batch: int, pins: Pins) -> list[Candidate]:
    """What the search keeps of every layout."""
    chain: Chain = chain_of(canonical_form(model, PassManager()))
    groups = divisors(head_groups(chain.graphs.values()))
    found: list[Candidate] = []
    for layout in LAYOUTS[model.phase]:
        sizes = {"sequence": 7, "context": 7}
        graphs = {
            name: replace(mapped, graph=mapped.graph.bind(sizes))
            for name, mapped in LayOut(layout).run(chain).items()
        }
        ranking = Search(hardware, chain, graphs, layout, pins).ranked(batch, groups, 60)
        found.extend(ranking.candidates)
    return found


def pinned_to(candidate: Candidate, model: Model, hardware: Hardware, batch: int) -> Program:
    """The program of a candidate's split, stages and region."""
    strategy = candidate.strategy
    pins = Pins(
        *(strategy.dp, strategy.pp, strategy.region, strategy.microbatch),
        weights="off-wafer" if strategy.streaming else strategy.weights,
        cache=strategy.cache,
    )
    return Compiler(hardware, Workload(model.phase, batch, 7, 7, "float32"), pins).compile(model)


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_what_fits_has_room_and_is_no_slower_than_estimated(
    make_tiny: MakeTiny, phase: Any
) -> None:
    """Estimates are lower bounds; a strategy that is said to fit fits."""
    model, hardware, batch = make_tiny("llama").unsplit(phase), small_wafer(), 4
    candidates = [c for c in searched(model, hardware, batch, Pins()) if c.fits]
    assert candidates
    for candidate in candidates[::3]:
        program = pinned_to(candidate, model, hardware, batch)
        chosen = program.mapping
        result = evaluate(program, "bound")
        assert result.feasible, candidate
        if (chosen.layout, chosen.head_groups) == (
            candidate.strategy.layout,
            candidate.strategy.head_groups,
        ):
            assert candidate.bound_s <= result.latency_s * (1 + 1e-9), candidate


def test_pins_hold_for_every_candidate(make_tiny: MakeTiny) -> None:
    model, hardware = make_tiny("llama").unsplit("decode"), small_wafer()
    for pins in (Pins(dp=2), Pins(pp=2), Pins(region=(6, 8)), Pins(microbatch=2)):
        for candidate in searched(model, hardware, 4, pins):
            strategy = candidate.strategy
            assert pins.dp in (None, strategy.dp)
            assert pins.pp in (None, strategy.pp)
            assert pins.region in (None, strategy.region)
            assert pins.microbatch in (None, strategy.microbatch)


def test_less_memory_needs_more_stages(make_tiny: MakeTiny) -> None:
    model = make_tiny("llama").unsplit("decode")
    counts = []
    for kib in (64, 3, 2):
        found = searched(model, small_wafer(kib=kib), 1, Pins(region=(4, 4), streaming=False))
        counts.append(min(c.strategy.pp for c in found if c.fits))
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] > 1


def test_caches_of_micro_batches_need_room_too(make_tiny: MakeTiny) -> None:
    """A split into many micro-batches holds as many tokens as one of the whole batch."""
    model = make_tiny("llama").unsplit("decode")
    hardware = small_wafer(kib=64)
    pins = Pins(dp=1, pp=1, region=(4, 4), cache="sram")
    by_size = {
        candidate.strategy.microbatch: candidate.core_bytes
        for candidate in searched(model, hardware, 256, pins)
    }
    caches = 2 * 2 * 256 * 8 * 2 * 6 * 4 / 16
    """Bytes a core: keys and values, layers, sequences, tokens, heads, width, bytes."""
    assert len(by_size) > 2
    assert min(by_size.values()) > caches
