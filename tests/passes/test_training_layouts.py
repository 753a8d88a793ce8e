"""Training steps sharded as on a row of devices: Megatron's tensor and sequence parallelism."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pytest
import torch
from wscc.frontend.model import load_model
from wscc.ir.dims import size
from wscc.ir.graph import Model, Op
from wscc.ir.interpreter import run_model
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Program
from wscc.ir.virtual import run_program
from wscc.passes.canonical import canonical_training_form, training_form
from wscc.passes.manager import PassManager
from wscc.passes.recompute import Recompute

State = dict[str, Any]

TOLERANCE = 1e-5
TOKENS, BATCH, HIDDEN = 8, 3, 28
SIZES = {"batch": BATCH, "sequence": TOKENS}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "torch_dtype": "float32",
    "vocab_size": 53,
    "hidden_size": HIDDEN,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "torch_dtype": "float32",
        "vocab_size": 53,
        "n_embd": HIDDEN,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "n_inner": 37,
    },
    "llama": LLAMA,
    "mixtral": {
        **LLAMA, "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2,
    },
    "deepseek_v3": {
        **{name: value for name, value in LLAMA.items() if name != "head_dim"},
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "q_lora_rank": 12,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 12,
        "first_k_dense_replace": 0,
        "num_hidden_layers": 1,
    },
}  # fmt: skip

ROWS = ((1, 1), (2, 2), (3, 1), (4, 2))
"""Devices in a row, head groups."""


@dataclass(frozen=True)
class Trained:
    """A training step without views, what it reads, and what the unsplit one yields."""

    traced: Model
    folded: Model
    state: State
    expected: State

    @cached_property
    def again(self) -> Model:
        """The step with layers that are run forward once more, without views."""
        return canonical_training_form(Recompute().run(self.traced), PassManager())


def state_of(model: Model) -> State:
    """Random values of all that a bound training step reads."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}
    for role in ("weight", "buffer", "state", "data"):
        for source, type_ in model.sources(role).items():
            shape = [size(dim) for dim in type_.shape]
            if "position" in source:
                state[source] = torch.arange(shape[-1]).expand(shape)
            elif type_.dtype == "int64":
                state[source] = torch.randint(0, 53, shape, generator=generator)
            else:
                value = torch.randn(shape, generator=generator) * 0.3
                state[source] = value.abs() if role == "state" else value
    return state


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A tiny model by its family, traced once."""

    @cache
    def make(name: str) -> Trained:
        path = tmp_path_factory.mktemp("trained") / "config.json"
        path.write_text(json.dumps(MODELS[name]))
        manager = PassManager()
        traced = training_form(load_model(str(path), "train")[1], manager)
        bound = traced.bind(SIZES)
        state = state_of(bound)
        folded = canonical_training_form(traced, manager)
        return Trained(traced, folded, state, run_model(bound, state))

    return make


def worst(ours: State, theirs: State) -> float:
    """The largest relative error over all outputs, which may differ in shape by a view."""
    assert ours.keys() == theirs.keys()
    errors = [
        float((ours[name].reshape(theirs[name].shape) - theirs[name]).abs().max())
        / max(float(theirs[name].abs().max()), 1e-9)
        for name in theirs
    ]
    return float(torch.tensor(errors).max())


@pytest.mark.parametrize("layout", ["matvec", "sequence"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_row_of_devices_gives_the_loss_every_gradient_and_every_new_weight(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any, name: str, layout: str
) -> None:
    """Two key-value heads, of which one or two devices more have none of their own."""
    step = trained(name)
    assert len([output for output in step.expected if output.endswith(".gradient")]) > 10
    for devices, groups in ROWS:
        program = make_program(step.folded, make_split(layout, 1, devices, groups), BATCH)
        assert worst(run_program(program, step.state), step.expected) < TOLERANCE, devices


@pytest.mark.parametrize("layout", ["matvec", "sequence"])
def test_several_rows_of_devices_give_the_same(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any, layout: str
) -> None:
    step = trained("llama")
    program = make_program(step.folded, make_split(layout, 2, 2, 1), BATCH)
    assert worst(run_program(program, step.state), step.expected) < TOLERANCE


@pytest.mark.parametrize("layout", ["matvec", "sequence"])
def test_layers_that_are_run_once_more_give_the_same(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any, layout: str
) -> None:
    step = trained("gpt2")
    program = make_program(step.again, make_split(layout, 1, 4, 4), BATCH)
    assert worst(run_program(program, step.state), step.expected) < TOLERANCE


@pytest.mark.parametrize(
    ("layout", "rows", "columns"), [("matvec", 1, 3), ("sequence", 1, 3), ("matmul", 2, 2)]
)
@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3"])
def test_mixtures_of_experts_are_trained_in_every_layout(
    trained: Callable[[str], Trained],
    make_split: Any,
    make_program: Any,
    name: str,
    layout: str,
    rows: int,
    columns: int,
) -> None:
    """Experts, shared and routed, and routers that choose among groups of them."""
    step = trained(name)
    experts = [source for source in step.expected if "experts" in source]
    assert len([source for source in experts if source.endswith(".gradient")]) > 1
    program = make_program(step.folded, make_split(layout, rows, columns, 1), BATCH)
    assert worst(run_program(program, step.state), step.expected) < TOLERANCE


# What is sent


def sent(program: Program, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The collectives of a graph over more than one device, each with the shape of a value."""
    sizes = program.mesh.sizes
    for op in program.graphs[name].graph.ops:
        axes = op.attributes.get("axes", ())
        assert isinstance(axes, tuple)
        assert op.kind != "grid_matmul"
        if any(sizes[str(axis)] > 1 for axis in axes):
            for type_ in op.types:
                yield op.kind, tuple(size(dim) for dim in type_.shape)


def hidden_states(program: Program, name: str) -> list[str]:
    """The collectives of hidden states; all others must be smaller."""
    whole = (BATCH, TOKENS, HIDDEN)
    found = [*sent(program, name)]
    assert all(shape == whole or torch.Size(shape).numel() < HIDDEN * 2 for _, shape in found)
    return sorted(kind for kind, shape in found if shape == whole)


def test_a_layer_sums_hidden_states_twice_forward_and_twice_backward(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    """Megatron-LM, arXiv 1909.08053, figure 4; the last sum need not be computed once more."""
    split = make_split("matvec", 1, 4, 4)
    program = make_program(trained("gpt2").folded, split, BATCH)
    assert [*sent(program, "layer0")] == [("all_reduce", (BATCH, TOKENS, HIDDEN))] * 2
    assert [*sent(program, "layer0.backward")] == [("all_reduce", (BATCH, TOKENS, HIDDEN))] * 2
    again = make_program(trained("gpt2").again, split, BATCH)
    assert [*sent(again, "layer0.backward")] == [("all_reduce", (BATCH, TOKENS, HIDDEN))] * 3


def test_gradients_of_several_products_are_summed_before_they_are_sent(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    """Queries, keys and values, and gate and up, have weights of their own."""
    program = make_program(trained("llama").folded, make_split("matvec", 1, 2, 2), BATCH)
    for name in ("layer0", "layer0.backward"):
        assert [*sent(program, name)] == [("all_reduce", (BATCH, TOKENS, HIDDEN))] * 2


@pytest.mark.parametrize("layout", ["matvec", "sequence"])
def test_logits_stay_where_their_part_of_the_vocabulary_is(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any, layout: str
) -> None:
    """Their maximum, their sum and the one that was said are of one number a token."""
    program = make_program(trained("gpt2").folded, make_split(layout, 1, 4, 4), BATCH)
    (head,) = (name for name, mapped in program.graphs.items() if _makes(mapped, "loss"))
    assert [*sent(program, head)].count(("all_reduce", (BATCH, TOKENS))) == 3
    kinds = ["all_gather", "reduce_scatter"] if layout == "sequence" else ["all_reduce"]
    assert hidden_states(program, head) == kinds


def _makes(mapped: MappedGraph, source: str) -> bool:
    return any(output.source == source for output in mapped.graph.outputs)


def test_with_tokens_cut_every_sum_is_scattered_and_every_product_gathers(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    """Korthikanti et al., arXiv 2205.05198, figure 5; backward, what was saved is gathered too."""
    program = make_program(trained("gpt2").folded, make_split("sequence", 1, 4, 4), BATCH)
    forward = hidden_states(program, "layer0")
    assert forward == ["all_gather"] * 2 + ["reduce_scatter"] * 2
    backward = hidden_states(program, "layer0.backward")
    assert backward == ["all_gather"] * 4 + ["reduce_scatter"] * 2


def test_with_tokens_cut_a_device_keeps_its_part_of_what_norms_read_and_make(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    for layout, tokens in (("matvec", ()), ("sequence", ("xh", "xd"))):
        program = make_program(trained("gpt2").folded, make_split(layout, 1, 4, 4), BATCH)
        layer = program.graphs["layer0"]
        places = {
            layer.shardings[output.name].axes[1]
            for output in layer.graph.outputs
            if output.role in ("saved", "carried")
            and layer.graph.types[output.name].shape == (BATCH, TOKENS, HIDDEN)
        }
        assert places == {tokens}


def test_only_sums_read_partial_results(
    trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    program = make_program(trained("llama").folded, make_split("matvec", 1, 2, 2), BATCH)
    mapped = program.graphs["layer0.backward"]
    readers = [op for op in mapped.graph.ops if _reads_parts(mapped, op)]
    assert {op.attributes.get("expr", "") for op in readers} == {"", "a + b", "a + b + c"}


def _reads_parts(mapped: MappedGraph, op: Op) -> bool:
    return any(mapped.shardings[name].partial for name in op.operands)
