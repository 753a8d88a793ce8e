"""The proof of the compiler: on virtual devices a mapped program computes what the model does."""

from collections.abc import Callable
from typing import Any

import pytest
from wscc.ir.graph import Model, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.interpreter import run_model
from wscc.ir.pins import Pins
from wscc.ir.program import Workload
from wscc.ir.virtual import run_program
from wscc.passes.compile import Compiler
from wscc.passes.verify import TOLERANCE, compare

TOKENS = 8

CASES = ((1, 1, 1, 1), (2, 2, 2, 3), (2, 3, 1, 1), (3, 2, 2, 1), (3, 2, 1, 3), (4, 6, 2, 3))
"""Rows, columns, head groups, batch."""

WAYS: tuple[tuple[Phase, str], ...] = (
    ("decode", "matvec"),
    ("prefill", "matvec"),
    ("prefill", "matmul"),
)


def worst(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest relative error over all outputs."""
    return max(output.relative_error for output in compare(theirs, ours))


def bound(model: Model, batch: int) -> Model:
    return model.bind({"batch": batch, "sequence": TOKENS, "context": TOKENS})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_neither_decomposing_nor_folding_changes_what_a_model_computes(
    tiny: Any, phase: Phase, batch: int
) -> None:
    state, expected = tiny.state_and_expected(phase, batch)
    assert worst(run_model(bound(tiny.unsplit(phase), batch), state), expected) < TOLERANCE
    assert worst(run_model(bound(tiny.folded(phase), batch), state), expected) < TOLERANCE


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_every_mesh_computes_what_hugging_face_computes(
    tiny: Any, make_split: Any, make_program: Any, phase: Phase, layout: str
) -> None:
    expected = {batch: tiny.state_and_expected(phase, batch) for batch in (1, 3)}
    for rows, columns, head_groups, batch in CASES:
        groups = min(head_groups, tiny.values["num_key_value_heads"])
        split = make_split(layout, rows, columns, groups)
        program = make_program(tiny.folded(phase), split, batch)
        state, wanted = expected[batch]
        assert worst(run_program(program, state), wanted) < TOLERANCE, split


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_stages_pass_on_what_the_layers_carry(
    make_tiny: Callable[[str], Any],
    make_split: Any,
    make_program: Any,
    phase: Phase,
    layout: str,
    stages: int,
) -> None:
    tiny = make_tiny("llama")
    program = make_program(tiny.folded(phase), make_split(layout, 2, 3, 2, stages), 3)
    assert len(program.stages) == stages
    assert len(program.transfers) == stages - 1
    state, expected = tiny.state_and_expected(phase, 3)
    assert worst(run_program(program, state), expected) < TOLERANCE


def test_more_devices_than_elements_leave_some_idle(
    make_tiny: Callable[[str], Any], make_split: Any, make_program: Any
) -> None:
    tiny = make_tiny("qwen3")
    for phase, layout in WAYS:
        program = make_program(tiny.folded(phase), make_split(layout, 9, 5, 1), 1)
        state, expected = tiny.state_and_expected(phase, 1)
        assert worst(run_program(program, state), expected) < TOLERANCE


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_compiled_program_computes_what_hugging_face_computes(
    make_tiny: Callable[[str], Any], wse2: Hardware, family: str, phase: Phase, stages: int
) -> None:
    tiny = make_tiny(family)
    workload = Workload(phase, 3, TOKENS, TOKENS, "float32")
    pins = Pins(dp=1, pp=stages, region=(2, 3), microbatch=3)
    program = Compiler(wse2, workload, pins).compile(tiny.unsplit(phase))
    program.verify()
    assert len(program.stages) == stages
    state, expected = tiny.state_and_expected(phase, 3)
    assert worst(run_program(program, state), expected) < TOLERANCE
