"""The proof of the compiler: on virtual devices a mapped program computes what the model does."""

from collections.abc import Callable
from typing import Any

import pytest
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model
from wscc.ir.virtual import run_program

TOLERANCE = 1e-5
TOKENS = 7

MESHES = ((1, 1), (2, 2), (2, 3), (3, 2), (4, 6))
WAYS: tuple[tuple[Phase, str], ...] = (
    ("decode", "matvec"),
    ("prefill", "matvec"),
    ("prefill", "matmul"),
)


def worst(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest relative error over all outputs, which may differ in shape by a view."""
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[name].reshape(theirs[name].shape) - theirs[name]).abs().max())
        / float(theirs[name].abs().max())
        for name in theirs
    )


def bound(model: Model, batch: int) -> Model:
    return model.bind({"batch": batch, "sequence": TOKENS, "context": TOKENS})


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("phase", ("prefill", "decode"))
def test_neither_decomposing_nor_folding_changes_what_a_model_computes(
    tiny: Any, phase: Phase, batch: int
) -> None:
    state, expected = tiny.state_and_expected(phase, batch)
    assert worst(run_model(bound(tiny.unsplit(phase), batch), state), expected) < TOLERANCE
    assert worst(run_model(bound(tiny.folded(phase), batch), state), expected) < TOLERANCE


def fits(tiny: Any, mesh: tuple[int, int], head_groups: int) -> bool:
    return head_groups <= min(*mesh, tiny.values["num_key_value_heads"])


@pytest.mark.parametrize("head_groups", (1, 2))
@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_every_mesh_computes_what_hugging_face_computes(
    tiny: Any, make_split: Any, make_program: Any, phase: Phase, layout: str, head_groups: int
) -> None:
    meshes = [mesh for mesh in MESHES if fits(tiny, mesh, head_groups)]
    if not meshes:
        pytest.skip("more head groups than heads")
    model = tiny.folded(phase)
    for at, (rows, columns) in enumerate(meshes):
        batch = (1, 3)[at % 2]
        state, expected = tiny.state_and_expected(phase, batch)
        program = make_program(model, make_split(layout, rows, columns, head_groups), batch)
        assert worst(run_program(program, state), expected) < TOLERANCE, (rows, columns)


@pytest.mark.parametrize("stages", (2, 3))
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
