"""A chain of pieces cut into stages: by memory first, then by the time of the longest."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.bound import GraphBound
from wscc.backend.memory import GraphMemory, Keeping
from wscc.ir.graph import Graph, Input, Op, Output, TensorType
from wscc.ir.program import Stage
from wscc.passes.cut import Cut
from wscc.passes.pieces import Chain


@dataclass(frozen=True)
class Piece:
    """What a cut looks at of a piece's costs."""

    cycles: float
    weights: float
    cache: float = 0.0
    activations: float = 0.0

    @property
    def bound(self) -> GraphBound:
        return GraphBound(self.cycles, {})

    @property
    def memory(self) -> GraphMemory:
        return GraphMemory(self.weights, self.cache, self.activations)


TYPE = TensorType("float16", (1, 8))


def call(body: str, before: str, after: str, first: int = 0, count: int = 1) -> Op:
    shared = ("cos",) if body.startswith("layer") else ()
    attributes = {"body": body, "first": first, "count": count}
    return Op("repeat", (before, *shared), (after,), (TYPE,), attributes)


SHARED = Op("repeat", ("angle",), ("cos",), (TYPE,), {"body": "shared", "first": 0, "count": 1})


LAYER = Graph(
    "layer",
    (Input("hidden", TYPE, "carried", "hidden"), Input("cos", TYPE, "shared", "cos")),
    (),
    (Output("hidden", "carried", "hidden"),),
)


PIECE = Graph("main.2", (Input("x", TYPE, "carried", "x"),), (), (Output("x", "carried", "x"),))


def chain(layers: int, shared: bool = True) -> Chain:
    """An embedding, some layers and a head."""
    calls = (
        call("main.0", "ids", "h0"),
        call("layer", "h0", "h1", 0, layers),
        call("main.2", "h1", "logits"),
    )
    graphs = {"layer": LAYER, "main.0": replace(PIECE, name="main.0"), "main.2": PIECE}
    return Chain(graphs, calls, SHARED if shared else None)


def cut(
    pieces: dict[str, Piece], stages: int, whole: Chain, usable: float = 1e9, microbatches: int = 1
) -> list[Stage]:
    """Stages of a chain."""
    keeping = Keeping(microbatches=microbatches)
    return Cut(pieces, usable, stages, 1, keeping).run(whole)  # type: ignore[arg-type]


def bodies(stage: Stage) -> list[str]:
    """Pieces of a stage one by one, shared values left out."""
    return [
        name
        for op in stage.calls
        for name in [op.text("body")] * op.integer("count")
        if name != "shared"
    ]


EVEN = {
    "main.0": Piece(1, 5),
    "layer": Piece(10, 20, cache=3, activations=4),
    "main.2": Piece(1, 5, activations=9),
    "shared": Piece(2, 1),
}


@pytest.mark.parametrize(("stages", "layers"), [(1, [8]), (2, [4, 4]), (4, [2] * 4), (8, [1] * 8)])
def test_equal_layers_are_dealt_out_evenly(stages: int, layers: list[int]) -> None:
    found = cut(EVEN, stages, chain(8))
    assert [bodies(stage).count("layer") for stage in found] == layers
    assert "main.0" in bodies(found[0])
    assert "main.2" in bodies(found[-1])


def test_a_slow_head_gets_fewer_layers() -> None:
    found = cut(EVEN | {"main.2": Piece(30, 5)}, 3, chain(6))
    assert [bodies(stage).count("layer") for stage in found] == [3, 3, 0]


def test_memory_comes_before_time() -> None:
    """Layers are quick but large: four do not fit beside the embedding."""
    pieces = EVEN | {"main.0": Piece(100, 60), "layer": Piece(1, 20)}
    found = cut(pieces, 2, chain(4), usable=105)
    assert [stage.memory.total_bytes <= 105 for stage in found if stage.memory] == [True, True]
    assert bodies(found[0]) == ["main.0", "layer"] or bodies(found[0]) == ["main.0"]


def test_the_memory_of_a_stage_is_what_its_pieces_hold_and_the_largest_activations() -> None:
    first, last = (stage.memory for stage in cut(EVEN, 2, chain(4)))
    assert first is not None
    assert last is not None
    assert (first.weights_bytes, first.cache_bytes, first.activation_bytes) == (5 + 40 + 1, 6, 4)
    assert (last.weights_bytes, last.cache_bytes, last.activation_bytes) == (40 + 5 + 1, 6, 9)
    assert first.total_bytes == 46 + 6 + 4


def test_every_micro_batch_has_caches_of_its_own() -> None:
    one, five = (cut(EVEN, 1, chain(4), microbatches=n)[0].memory for n in (1, 5))
    assert one is not None
    assert five is not None
    assert five.cache_bytes == 5 * one.cache_bytes == 5 * 4 * 3
    assert five.weights_bytes == one.weights_bytes


def test_caches_of_many_micro_batches_move_the_cut() -> None:
    pieces = {
        "main.0": Piece(1, 40),
        "layer": Piece(10, 1, cache=10, activations=4),
        "main.2": Piece(1, 1),
        "shared": Piece(2, 1),
    }
    few = cut(pieces, 2, chain(4), usable=105, microbatches=1)
    many = cut(pieces, 2, chain(4), usable=105, microbatches=3)
    assert [bodies(stage).count("layer") for stage in few] == [2, 2]
    assert [bodies(stage).count("layer") for stage in many] == [1, 3]


def test_stages_make_the_shared_values_that_they_read_under_names_of_their_own() -> None:
    found = cut(EVEN | {"main.0": Piece(20, 5)}, 3, chain(4))
    assert [bodies(stage) for stage in found] == [
        ["main.0"],
        ["layer"] * 2,
        ["layer"] * 2 + ["main.2"],
    ]
    assert [op.text("body") for op in found[0].calls] == ["main.0"]
    made = [stage.calls[0].results for stage in found[1:]]
    assert made == [("cos.stage1",), ("cos.stage2",)]
    for stage, names in zip(found[1:], made, strict=True):
        assert stage.calls[0].text("body") == "shared"
        assert stage.calls[1].operands[1:] == names


@given(st.integers(1, 9), st.integers(1, 11), st.booleans())
def test_layers_stay_in_order_and_pass_on_what_they_carry(
    layers: int, stages: int, shared: bool
) -> None:
    stages = min(stages, layers + 2)
    found = cut(EVEN, stages, chain(layers, shared))
    assert len(found) == stages
    assert all(stage.calls for stage in found)
    before, seen = "ids", []
    for op in (op for stage in found for op in stage.calls if op.text("body") != "shared"):
        assert op.operands[0] == before
        before = op.results[0]
        if op.text("body") == "layer":
            first = op.integer("first")
            seen += range(first, first + op.integer("count"))
    assert before == "logits"
    assert seen == [*range(layers)]


piece = st.builds(
    Piece,
    cycles=st.integers(1, 50),
    weights=st.integers(1, 50),
    cache=st.integers(0, 20),
    activations=st.integers(0, 30),
)


def quality(pieces: Sequence[Piece], ends: Sequence[int], usable: float) -> tuple[float, float]:
    """Excess of the worst stage, and cycles of the longest."""
    starts = (0, *ends[:-1])
    parts = [pieces[a:b] for a, b in zip(starts, ends, strict=True)]
    held = [sum(p.weights + p.cache for p in part) for part in parts]
    most = [h + max(p.activations for p in part) for h, part in zip(held, parts, strict=True)]
    times = [sum(p.cycles for p in part) for part in parts]
    return max(0.0, max(most) - usable), max(times)


@settings(max_examples=200, deadline=None)
@given(st.lists(piece, min_size=1, max_size=8), st.data())
def test_no_other_cut_is_better(pieces: list[Piece], data: st.DataObject) -> None:
    """Against every way to cut: none has less excess, and none with as little is shorter."""
    stages = data.draw(st.integers(1, len(pieces)))
    usable = data.draw(st.integers(20, 300))
    names = [f"main.{at}" for at in range(len(pieces))]
    calls = tuple(call(name, f"v{at}", f"v{at + 1}") for at, name in enumerate(names))
    graphs = {name: replace(PIECE, name=name) for name in names}
    whole = Chain(graphs, calls, None)
    found = cut(dict(zip(names, pieces, strict=True)), stages, whole, usable)
    ends = [int(end) for end in np.cumsum([len(bodies(stage)) for stage in found])]
    ways = itertools.combinations(range(1, len(pieces)), stages - 1)
    best = min(quality(pieces, (*way, len(pieces)), usable) for way in ways)
    excess, longest = quality(pieces, ends, usable)
    assert excess == best[0]
    if best[0] == 0:
        assert longest == best[1]
