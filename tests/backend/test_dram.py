"""Weights and caches in DRAM against closed forms: what is moved, how long it takes, what fits.

A core's share of a small Llama on 16 x 16 cores is exact: every size is a multiple of 16.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import wscc
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.dram import Mesh, Use, dram_of
from wscc.backend.dram_traffic import PIECE_BYTES, Moved, moved_of, weight_piece
from wscc.backend.evaluate import evaluate
from wscc.backend.timing import Timing
from wscc.ir.hardware import EdgeIO, Hardware
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.program import Program
from wscc.ir.technology import Memory

MakeHardware = Callable[..., Hardware]
MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]
Compile = Callable[..., Program]

ONE = {"region": (16, 16), "dp": 1, "pp": 1, "microbatch": 1}
LAYERS, HIDDEN, INNER, VOCABULARY, KEYS, CONTEXT = 6, 512, 1408, 2000, 256, 255
"""Of the small model; keys are as wide as 4 heads of 64."""
LAYER_WEIGHTS = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEYS + 3 * HIDDEN * INNER
NORM = HIDDEN / 16
"""Elements of a norm's weights in a core: each row of cores has them all."""
TOKEN = 2 * LAYERS * 2 * KEYS
"""Bytes of a token's keys and values."""
CORE_WEIGHTS = 2 * (
    LAYERS * (LAYER_WEIGHTS / 256 + 2 * NORM) + HIDDEN * VOCABULARY / 256 + NORM + HIDDEN / 16
)
"""Bytes that a core reads for a token: its parts of layers and head, and of a row of the table."""


def stacked(
    rate: float, latency_s: float = 0.0, capacity: float = 1e12, joules: float = 0.0
) -> Memory:
    return Memory("dram", "stacked", capacity, rate, joules, latency_s)


@pytest.fixture(scope="module")
def on_dies(make_hardware: MakeHardware) -> Callable[..., Hardware]:
    """The WSE-2 with DRAM on every die, and nothing off the wafer."""

    def make(memory: Memory) -> Hardware:
        return make_hardware(die={"memories": (memory,)}, wafer={"io": (), "memories": ()})

    return make


@pytest.fixture(scope="module")
def at_edges(make_hardware: MakeHardware) -> Callable[..., Hardware]:
    """With DRAM behind four ports of its western edge."""

    def make(rate: float, capacity: float = 1e12) -> Hardware:
        memory = Memory("hbm", "external", capacity, via="west")
        return make_hardware(
            wafer={"io": (EdgeIO("west", 4, rate / 4, 1e-12),), "memories": (memory,)}
        )

    return make


@pytest.fixture(scope="module")
def decode(
    compile_small: Compile, on_dies: Callable[..., Hardware]
) -> Callable[[str, str], Program]:
    """A step of one token with weights and cache in a place each."""
    made: dict[tuple[str, str], Program] = {}

    def make(weights: str, cache: str) -> Program:
        if (weights, cache) not in made:
            places = {"weights": weights, "cache": cache}
            made[weights, cache] = compile_small(hardware=on_dies(stacked(1e9)), **ONE, **places)
        return made[weights, cache]

    return make


def latency_s(program: Program, hardware: Hardware, fidelity: Any = "fluid") -> float:
    return Timing(replace(program, hardware=hardware), fidelity).latency_s


def core_rate(hardware: Hardware) -> float:
    """Bytes a second of a die's DRAM for each of its cores."""
    die = hardware.wafer.die
    rate = die.memories[0].bandwidth_bytes_per_s
    assert rate is not None
    return rate / (die.rows * die.columns)


# The memory.


def test_memory_on_the_dies_is_nearer_than_behind_the_ports() -> None:
    theseus = wscc.load_hardware("theseus")
    stack, edge = (dram_of(theseus.bind(memory_at=at)) for at in ("stack", "edge"))
    assert stack is not None
    assert edge is not None
    assert (stack.on_die, edge.on_die) == (True, False)
    assert edge.bytes_per_s == pytest.approx(2 * (7 + 8) * 900e9)
    beside = dram_of(wscc.load_hardware("wsc_llm").bind())
    assert beside is not None
    assert beside.bytes_per_s == pytest.approx(4 * 460e9)
    assert beside.where == "hbm2e on die compute"


def test_gpus_and_wafers_without_memory_have_none_to_choose(make_hardware: MakeHardware) -> None:
    assert dram_of(wscc.load_hardware("a100").bind()) is None
    bare = make_hardware(wafer={"memories": ()})
    assert bare.wafer.io
    assert dram_of(bare) is None


def test_links_bring_bytes_over_the_border_and_from_die_to_die() -> None:
    """Four dies of 2 x 2 cores in a row, with ports in the west: behind the first joint, of a
    quarter of the rate, three quarters of the bytes are to come."""
    west = Mesh(2, 8, 2, 2, 10.0, 0.25, frozenset({"west"}))
    assert west.into(2, 8) == pytest.approx(10 * min(2.0, 2 * 0.25 / 0.75))
    all_round = replace(west, edges=frozenset({"north", "south", "west", "east"}))
    assert all_round.into(2, 8) == pytest.approx(10 * (2 * 8 + 2 * 2))
    assert west.into(1, 1) == pytest.approx(10 * 0.25 * 4)


# What graphs move.


GRAPH = """
  input %ids: int64[6] = data ids
  input %table: float16[1000, 64] = weight table
  input %w: float16[64, 128] = weight w
  input %v: float16[128, 64] = weight v
  %x: float16[6, 64] = embedding(%ids, %table) {indices = "t,vk->tk", rows = "v"}
  %y: float16[6, 128] = matmul(%x, %w) {indices = "tk,kn->tn"}
  %z: float16[6, 64] = grid_matmul(%y, %v) {indices = "tn,nk->tk", form = "rotate"}
  output %z = data z
"""
SIZES = {"yh": 1, "yd": 2, "xh": 1, "xd": 4}


def test_of_a_table_only_the_rows_of_tokens_are_read(make_graph: MakeGraph, wse2: Hardware) -> None:
    mapped = make_graph(GRAPH, {})
    moved = moved_of(wse2.core, mapped, SIZES)
    assert moved.read == 2 * (6 * 64 + 2 * 64 * 128)
    assert (moved.written, moved.gradients, moved.cache_read) == (0, 0, 0)
    cut = make_graph(GRAPH, {"table": Sharding((("xd",), ()))})
    assert moved_of(wse2.core, cut, SIZES).read == 2 * (2 * 64 + 2 * 64 * 128)


def test_a_core_holds_a_tile_of_what_lies_still_and_all_of_what_travels(
    make_graph: MakeGraph,
) -> None:
    still = GRAPH.replace('grid_matmul(%y, %v) {indices = "tn,nk->tk", form = "rotate"}',
                          'matmul(%y, %v) {indices = "tn,nk->tk"}')  # fmt: skip
    assert weight_piece(make_graph(still, {}), SIZES) == PIECE_BYTES
    assert weight_piece(make_graph(GRAPH, {}), SIZES) == 2 * 128 * 64


def test_gradients_are_added_to_those_of_micro_batches_before() -> None:
    """The first of four only writes."""
    moved = Moved(read=10.0, written=0.0, gradients=8.0, cache_read=0.0, cache_written=0.0)
    read, written = Use(weights=1, microbatches=4).bytes_of(moved)
    assert 4 * read == pytest.approx(4 * 10 + 3 * 8)
    assert 4 * written == pytest.approx(4 * 8)
    assert Use(weights=0, cache=1).bytes_of(moved) == (0, 0)


# Time.


@pytest.mark.parametrize("fidelity", ["bound", "fluid"])
def test_a_token_takes_as_long_as_its_weights_take_from_a_slow_memory(
    decode: Callable[[str, str], Program], on_dies: Callable[..., Hardware], fidelity: Any
) -> None:
    """And the first piece, before anything can begin."""
    hardware = on_dies(stacked(1e9, latency_s=1e-6))
    by_hand = (CORE_WEIGHTS + PIECE_BYTES) / core_rate(hardware) + 1e-6
    found = latency_s(decode("dram", "sram"), hardware, fidelity)
    assert found == pytest.approx(by_hand, rel=1e-3)


def test_the_cache_is_read_once_a_token_and_appended_to(
    decode: Callable[[str, str], Program], on_dies: Callable[..., Hardware]
) -> None:
    """256 tokens fill 16 tokens of each row of cores, the new one lies in one of them."""
    hardware = on_dies(stacked(1e9))
    cached = TOKEN * (CONTEXT + 1) / 256 + TOKEN / 16
    weights, both = (latency_s(decode("dram", at), hardware) for at in ("sram", "dram"))
    assert (both - weights) * core_rate(hardware) == pytest.approx(cached, rel=1e-3)


@pytest.mark.parametrize("places", [("dram", "sram"), ("sram", "dram"), ("dram", "dram")])
def test_a_memory_without_limits_is_as_good_as_sram(
    decode: Callable[[str, str], Program], on_dies: Callable[..., Hardware], places: tuple[str, str]
) -> None:
    boundless = on_dies(stacked(1e30))
    found = latency_s(decode(*places), boundless)
    assert found == pytest.approx(latency_s(decode("sram", "sram"), boundless), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e8, 1e15), st.floats(1.0, 1e3))
def test_more_bandwidth_never_takes_longer_and_the_bound_stays_below(
    decode: Callable[[str, str], Program],
    on_dies: Callable[..., Hardware],
    rate: float,
    factor: float,
) -> None:
    program = decode("dram", "dram")
    slow, fast = (on_dies(stacked(r, latency_s=1e-7)) for r in (rate, rate * factor))
    assert latency_s(program, fast) <= latency_s(program, slow) * (1 + 1e-12)
    assert latency_s(program, slow, "bound") <= latency_s(program, slow) * (1 + 1e-12)


def test_memory_at_the_edge_is_shared_by_the_wafer(
    compile_small: Compile, at_edges: Callable[..., Hardware]
) -> None:
    """Each byte comes once through the ports, whatever the region; replicas take the same
    weights, and bring caches of their own."""
    places = {"weights": "dram", "cache": "dram"}
    one = compile_small(hardware=at_edges(1e9), **ONE, **places)
    two = compile_small(hardware=at_edges(1e9), batch=2, **ONE | {"dp": 2}, **places)
    whole = 2 * (LAYERS * (LAYER_WEIGHTS + 2 * HIDDEN) + HIDDEN * (VOCABULARY + 2))
    first = PIECE_BYTES * 256
    found = Timing(one, "fluid").latency_s
    cached = TOKEN * (CONTEXT + 1)
    assert found * 1e9 == pytest.approx(whole + cached + first, rel=2e-3)
    more = Timing(two, "fluid").latency_s - found
    assert more * 1e9 == pytest.approx(cached, rel=2e-3)


def test_a_training_step_moves_weights_twice_a_pass_and_states_once(
    compile_small: Compile, on_dies: Callable[..., Hardware]
) -> None:
    """In each of 4 micro-batches weights of layers come forward and backward, those of the head
    once for both, of the table a few rows; gradients are added to. Then the optimizer reads
    gradients and states, and writes states and weights."""
    hardware = on_dies(stacked(1e9))
    pins = {**ONE, "zero": 0, "interleave": 1, "recompute": "none", "weights": "dram"}
    program = compile_small("train", hardware, batch=4, **pins)
    memory = evaluate(program).memory
    weights, gradients, states = (
        memory.weights_bytes,
        memory.gradient_bytes,
        memory.optimizer_bytes,
    )
    table = weights * VOCABULARY * HIDDEN / (LAYERS * LAYER_WEIGHTS + 2 * VOCABULARY * HIDDEN)
    passes = 4 * (2 * (weights - 2 * table) + table) + (2 * 4 - 1) * gradients
    updating = gradients + states + states + weights
    by_hand = (passes + updating) / 256 / core_rate(hardware)
    assert Timing(program, "fluid").latency_s == pytest.approx(by_hand, rel=0.01)


# What else is said.


def test_what_limits_is_the_memory_and_its_energy_counts(
    decode: Callable[[str, str], Program], on_dies: Callable[..., Hardware]
) -> None:
    program = decode("dram", "dram")
    free, dear = (
        evaluate(replace(program, hardware=on_dies(stacked(1e9, joules=j)))) for j in (0.0, 1e-11)
    )
    moved = 256 * (CORE_WEIGHTS + TOKEN * (CONTEXT + 1) / 256 + TOKEN / 16)
    assert dear.energy["memory"] - free.energy["memory"] == pytest.approx(moved * 1e-11, rel=1e-3)
    assert free.bottleneck.kind == "memory"
    assert free.bottleneck.where == "dram on die tile"
    assert free.breakdown["memory_s"] == max(free.breakdown.values())
    assert (free.mapping.weights_in, free.mapping.cache_in) == ("dram", "dram")
    held = free.memory.weights_bytes + free.memory.kv_bytes
    assert free.memory.dram_bytes == pytest.approx(held, rel=0.01)
    assert free.memory.dram_capacity_bytes == 84 * 1e12


def test_from_the_edge_ports_and_hops_take_energy_too(
    compile_small: Compile, at_edges: Callable[..., Hardware]
) -> None:
    far = evaluate(compile_small(hardware=at_edges(1e9), **ONE, weights="dram", cache="sram"))
    near = evaluate(compile_small(hardware=at_edges(1e9), **ONE, weights="sram", cache="sram"))
    whole = 2 * (LAYERS * (LAYER_WEIGHTS + 2 * HIDDEN) + HIDDEN * (VOCABULARY + 2))
    assert far.energy["io"] - near.energy["io"] == pytest.approx(whole * 1e-12, rel=1e-3)
    assert far.energy["wire"] > near.energy["wire"]


@pytest.mark.parametrize("where", ["dies", "edges"])
def test_a_memory_that_is_too_small_is_named_with_what_would_fit(
    compile_small: Compile,
    on_dies: Callable[..., Hardware],
    at_edges: Callable[..., Hardware],
    where: str,
) -> None:
    few = 20e6
    hardware = on_dies(stacked(1e9, capacity=few)) if where == "dies" else at_edges(1e9, few)
    result = evaluate(compile_small(hardware=hardware, **ONE, weights="dram", cache="sram"))
    (short,) = (short for short in result.infeasible if short.resource == "memory")
    assert not result.feasible
    name = "dram on die tile" if where == "dies" else "hbm at the edge of wafer wse"
    assert short.where.startswith(name)
    assert "weights" in short.where
    assert (short.limit, short.unit) == (few, "B")
    assert short.gap == short.demand - few > 0
    assert short.changes[0].startswith("1 GiB of " if where == "edges" else "2 GiB of ")


def test_sram_holds_pieces_of_what_lies_in_dram(decode: Callable[[str, str], Program]) -> None:
    inside, outside = (decode(at, at).stages[0].memory for at in ("sram", "dram"))
    assert inside is not None
    assert outside is not None
    assert (outside.weights_bytes, outside.cache_bytes) == (0, 0)
    assert outside.dram_bytes == pytest.approx(inside.weights_bytes + inside.cache_bytes, abs=2)
    pieces = outside.activation_bytes - inside.activation_bytes
    assert 0 < pieces <= 2 * 2 * PIECE_BYTES
    assert np.isclose(outside.total_bytes, outside.activation_bytes)


@pytest.mark.parametrize("tokens", [1, 3])
def test_replicas_read_between_them_the_experts_that_all_their_tokens_take(tokens: int) -> None:
    def of(tokens: int) -> Moved:
        """A token takes 2 of 8 experts of 100 bytes each."""
        taken = 800.0 * (1 - (1 - 2 / 8) ** tokens)
        return Moved(50.0 + taken, 0.0, 0.0, 0.0, 0.0, chosen=taken, experts=800.0)

    for replicas in (1, 2, 7):
        together = of(tokens).read_by(replicas)
        assert together == pytest.approx(of(replicas * tokens).read)
        assert together <= min(850.0, 50.0 + replicas * of(tokens).chosen) + 1e-9


def test_weights_that_are_no_experts_come_once_for_all_replicas() -> None:
    moved = Moved(50.0, 0.0, 0.0, 0.0, 0.0)
    assert Use(weights=1, copies=8).bytes_of(moved, 8)[0] == 50.0
