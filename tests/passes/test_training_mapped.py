"""A training step on virtual devices: loss, every gradient and what parameters become."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from wscc.backend.evaluate import evaluate
from wscc.frontend.model import load_model
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Model, Op
from wscc.ir.hardware import Hardware
from wscc.ir.interpreter import run_model
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.pins import Pins
from wscc.ir.program import Program, Workload
from wscc.ir.program_text import parse_program, print_program
from wscc.ir.virtual import run_program
from wscc.ir.virtual_training import run_training
from wscc.passes.canonical import canonical_training_form, training_form
from wscc.passes.compile import Compiler
from wscc.passes.manager import PassManager
from wscc.passes.recompute import Recompute

State = dict[str, Any]

TOLERANCE = 1e-5
WRONG = 1e-3
TOKENS, BATCH = 8, 3
SIZES = {"batch": BATCH, "sequence": TOKENS}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "torch_dtype": "float32",
    "vocab_size": 53,
    "hidden_size": 28,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}

MODELS: dict[str, dict[str, Any]] = {
    "grouped heads": LLAMA,
    "tied weights, biases and learned positions": {
        "model_type": "gpt2",
        "torch_dtype": "float32",
        "vocab_size": 53,
        "n_embd": 28,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "n_inner": 37,
    },
    "windows, caps and norms behind": {
        **LLAMA,
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 6,
        "sliding_window": 4,
        "tie_word_embeddings": True,
    },
}
"""Sizes that hardly any mesh divides."""

SCANNED: dict[str, Any] = {
    "model_type": "mamba2",
    "torch_dtype": "float32",
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_heads": 8,
    "head_dim": 8,
    "state_size": 8,
    "n_groups": 2,
    "chunk_size": 4,
}

MESHES = ((1, 1, 1), (1, 4, 1), (2, 2, 2), (3, 2, 1))
"""Rows, columns, head groups."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model, its training step as traced and without views, and what the former yields."""

    model: Model
    traced: Model
    folded: Model
    state: State
    expected: State


def state_of(model: Model) -> State:
    """Random values of all that a bound training step reads; one label does not count."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}
    for role in ("weight", "buffer", "state", "data"):
        for source, type_ in model.sources(role).items():
            shape = [int(str(dim)) for dim in type_.shape]
            if "position" in source:
                state[source] = torch.arange(shape[-1]).expand(shape)
            elif type_.dtype == "int64":
                state[source] = torch.randint(0, 53, shape, generator=generator)
            else:
                value = torch.randn(shape, generator=generator) * 0.3
                state[source] = value.abs() if role == "state" else value
    state["labels"][0, 2] = -100
    return state


@pytest.fixture(scope="session")
def make_trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A tiny model by what is odd about it, traced once."""

    @cache
    def make(name: str) -> Trained:
        path = tmp_path_factory.mktemp("trained") / "config.json"
        path.write_text(json.dumps(SCANNED if name == "scanned" else MODELS[name]))
        manager = PassManager()
        model = load_model(str(path), "train")[1]
        traced = training_form(model, manager)
        bound = traced.bind(SIZES)
        state = state_of(bound)
        folded = canonical_training_form(traced, manager)
        return Trained(model, traced, folded, state, run_model(bound, state))

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


@pytest.mark.parametrize("name", MODELS)
def test_every_mesh_gives_the_loss_every_gradient_and_every_new_weight(
    make_trained: Callable[[str], Trained], make_split: Any, make_program: Any, name: str
) -> None:
    trained = make_trained(name)
    gradients = [output for output in trained.expected if output.endswith(".gradient")]
    weights = trained.traced.bind(SIZES).sources("weight")
    assert {output.removesuffix(".gradient") for output in gradients} == set(weights)
    assert set(weights) < set(trained.expected)
    assert worst(run_model(trained.folded.bind(SIZES), trained.state), trained.expected) < TOLERANCE
    for rows, columns, groups in MESHES:
        split = make_split("matmul", rows, columns, groups)
        program = make_program(trained.folded, split, BATCH)
        assert worst(run_program(program, trained.state), trained.expected) < TOLERANCE, split


def test_scans_and_convolutions_are_trained_over_cores_too(
    make_trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    trained = make_trained("scanned")
    assert worst(run_model(trained.folded.bind(SIZES), trained.state), trained.expected) < TOLERANCE
    program = make_program(trained.folded, make_split("matmul", 2, 3, 1), BATCH)
    assert worst(run_program(program, trained.state), trained.expected) < TOLERANCE


def test_a_layers_backward_pass_moves_nothing_but_tiles_and_sums(
    make_trained: Callable[[str], Trained], make_split: Any, make_program: Any
) -> None:
    """Weights, gradients and what was saved are read where they lie."""
    for name in MODELS:
        program = make_program(make_trained(name).folded, make_split("matmul", 2, 2, 2), BATCH)
        ops = program.graphs["layer0.backward"].graph.ops
        moves = {op.kind for op in ops} & {"all_gather", "reduce_scatter", "shard", "all_reduce"}
        assert moves == {"all_reduce"}


# Broken programs


@pytest.fixture(scope="module")
def sound(make_trained: Callable[[str], Trained], make_split: Any, make_program: Any) -> Program:
    return make_program(
        make_trained("tied weights, biases and learned positions").folded,
        make_split("matmul", 2, 2, 1),
        BATCH,
    )


def without(program: Program, name: str, dropped: Op) -> Program:
    """The program in which readers of a collective's results read its operands."""
    graph = program.graphs[name].graph
    before = dict(zip(dropped.results, dropped.operands, strict=True))
    ops = tuple(
        dataclasses.replace(op, operands=tuple(before.get(n, n) for n in op.operands))
        for op in graph.ops
        if op is not dropped
    )
    outputs = tuple(dataclasses.replace(o, name=before.get(o.name, o.name)) for o in graph.outputs)
    changed = dataclasses.replace(graph, ops=ops, outputs=outputs)
    mapped = MappedGraph(changed, _unpartial(program.graphs[name], before))
    return dataclasses.replace(program, graphs={**program.graphs, name: mapped})


def _unpartial(mapped: MappedGraph, names: dict[str, str]) -> dict[str, Sharding]:
    """Shardings that hide from the verifier that some values are partial."""
    found = dict(mapped.shardings)
    for operand in names.values():
        found[operand] = dataclasses.replace(found[operand], partial=(), function="sum")
    return found


def sums(program: Program) -> Iterator[tuple[str, Op]]:
    for name, mapped in program.graphs.items():
        ops = [op for op in mapped.graph.ops if op.kind in ("all_reduce", "reduce_scatter")]
        yield from ((name, op) for op in ops if "grad" in op.result)


def test_every_sum_of_gradients_that_is_left_out_is_caught(
    make_trained: Callable[[str], Trained], sound: Program
) -> None:
    trained = make_trained("tied weights, biases and learned positions")
    assert len([*sums(sound)]) > 10
    for name, op in sums(sound):
        broken = without(sound, name, op)
        with pytest.raises(VerificationError, match="the result is partial over"):
            broken.verify()
        try:
            error = worst(run_program(broken, trained.state), trained.expected)
        except VerificationError:
            continue
        assert not error <= WRONG, f"{name} {op.result}"


def test_a_gradient_that_lies_elsewhere_than_its_weight_is_caught(sound: Program) -> None:
    mapped = sound.graphs["layer0.update"]
    for role in ("gradient", "weight"):
        value = next(i for i in mapped.graph.inputs if i.role == role and len(i.type.shape) == 2)
        axes = mapped.shardings[value.name].axes[::-1]
        moved = {**mapped.shardings, value.name: Sharding(axes)}
        graphs = {**sound.graphs, "layer0.update": MappedGraph(mapped.graph, moved)}
        with pytest.raises(VerificationError):
            dataclasses.replace(sound, graphs=graphs).verify()


# Compiled and evaluated


def compiled(model: Model, hardware: Hardware, batch: int = BATCH, **pins: Any) -> Program:
    """A program of one replica and stage that holds all that it needs, unless pinned otherwise."""
    alone = Pins(dp=1, pp=1, interleave=1, zero=0, streaming=False, recompute="none")
    workload = Workload("train", batch, TOKENS, TOKENS, "float32")
    return Compiler(hardware, workload, dataclasses.replace(alone, **pins)).compile(model)


def test_a_compiled_training_step_computes_what_the_unsplit_one_does(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    trained = make_trained("grouped heads")
    program = compiled(trained.model, wse2, region=(3, 4), microbatch=BATCH)
    program.verify()
    assert parse_program(print_program(program)) == program
    assert worst(run_program(program, trained.state), trained.expected) < TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_memory_is_told_by_kind(
    make_trained: Callable[[str], Trained], wse2: Hardware, name: str
) -> None:
    """On one core everything is held once: Adam keeps two states of every parameter, and a
    number."""
    trained = make_trained(name)
    program = compiled(trained.model, wse2, region=(1, 1), microbatch=BATCH)
    result, memory = evaluate(program), program.stages[0].memory
    parameters = 4 * trained.traced.parameters
    assert result.model.parameters == trained.traced.parameters
    assert result.memory.weights_bytes == result.memory.gradient_bytes == parameters
    assert result.memory.optimizer_bytes == 2 * parameters + 8
    saved = trained.traced.bind(SIZES).saved_bytes - trained.traced.bind(SIZES).main.saved_bytes
    assert memory is not None
    assert memory.saved_bytes == saved
    assert memory.weights_bytes >= parameters
    assert (memory.gradient_bytes, memory.optimizer_bytes) == (parameters, 2 * parameters + 8)
    assert result.memory.activation_bytes == memory.saved_bytes + memory.activation_bytes


def test_work_is_three_times_that_of_the_forward_pass(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    """The scores of attention, which are computed once more, do not count."""
    trained = make_trained("grouped heads")
    result = evaluate(compiled(trained.model, wse2, region=(4, 4)))
    assert result.model.flops == 3 * trained.model.bind(SIZES).flops
    assert result.tokens_per_s == pytest.approx(BATCH * TOKENS / result.latency_s)
    peak = result.hardware.peak_flops
    assert result.mfu == pytest.approx(result.model.flops / (result.latency_s * peak))


@pytest.mark.parametrize("fidelity", ["bound", "fluid"])
def test_micro_batches_run_one_after_the_other_and_the_optimizer_once(
    make_trained: Callable[[str], Trained], wse2: Hardware, fidelity: Any
) -> None:
    model = make_trained("grouped heads").model
    steps = {
        batch: evaluate(compiled(model, wse2, batch, dp=1, region=(4, 4), microbatch=1), fidelity)
        for batch in (1, 2, 4)
    }
    for result in steps.values():
        assert sum(result.breakdown.values()) == pytest.approx(result.latency_s)
    one, two, four = (steps[batch].latency_s for batch in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one))
    assert two < 2 * one
    assert steps[1].memory == steps[4].memory


def test_the_bound_is_below_what_fluid_says(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    for name in MODELS:
        program = compiled(make_trained(name).model, wse2, region=(5, 7), dp=1, microbatch=1)
        assert evaluate(program, "bound").latency_s <= evaluate(program, "fluid").latency_s


def test_a_step_that_does_not_fit_says_what_is_short(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    core = wse2.core
    sram = dataclasses.replace(core.sram, capacity_bytes=1024.0, reserved_bytes=0.0)
    die = dataclasses.replace(wse2.wafer.die, core=dataclasses.replace(core, sram=sram))
    wafer = dataclasses.replace(wse2.wafer, die=die, usable_rows=6, usable_columns=6)
    small = dataclasses.replace(wse2, wafer=wafer)
    result = evaluate(compiled(make_trained("grouped heads").model, small))
    assert not result.feasible
    (short,) = result.infeasible
    assert short.resource == "core memory"
    assert "embedding, layers 0-1, head" in short.where
    assert "gradients" in short.where
    assert "saved activations" in short.where
    assert short.gap == short.demand - short.limit > 0
    assert result.latency_s > 0


# Replicas


def test_replicas_that_take_the_mean_of_their_gradients_do_the_step_of_the_whole_batch(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    """Two replicas of two micro-batches each; every sequence has as many labels that count."""
    trained = make_trained("grouped heads")
    whole = trained.traced.bind({**SIZES, "batch": 4})
    state = state_of(whole)
    state["labels"][:, 2] = -100
    expected = run_model(whole, state)
    program = compiled(trained.model, wse2, 4, dp=2, region=(2, 3), microbatch=1)
    assert (program.mapping.dp, program.microbatches) == (2, 2)
    batched = {value.source for value in whole.main.inputs if value.role == "data"}
    states = [
        {name: v[at : at + 1] if name in batched else v for name, v in state.items()}
        for at in range(4)
    ]
    step = run_training(program, states)
    loss = torch.stack([found["loss"] for found in step.microbatches]).mean()
    assert worst({**step.outputs, "loss": loss}, expected) < TOLERANCE


@pytest.mark.parametrize("fidelity", ["bound", "fluid"])
def test_the_sum_over_replicas_is_told_apart_as_far_as_nothing_hides_it(
    make_trained: Callable[[str], Trained], wse2: Hardware, fidelity: Any
) -> None:
    model = make_trained("grouped heads").model
    results = {
        dp: evaluate(compiled(model, wse2, 4, dp=dp, region=(4, 4), microbatch=1), fidelity)
        for dp in (1, 2, 4)
    }
    assert "gradients_s" not in results[1].breakdown
    for dp, result in results.items():
        assert sum(result.breakdown.values()) == pytest.approx(result.latency_s)
        assert result.memory.gradient_bytes == dp * results[1].memory.gradient_bytes
    alone = {dp: r.latency_s - r.breakdown.get("gradients_s", 0.0) for dp, r in results.items()}
    assert alone[4] < alone[2] < alone[1]


def test_the_search_bounds_what_replicas_take(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    model = make_trained("grouped heads").model
    for dp in (1, 4):
        program = compiled(model, wse2, 4, dp=dp, region=(5, 7))
        chosen = next(tried for tried in program.tried if tried.outcome.startswith("chosen"))
        assert chosen.bound_s <= evaluate(program, "bound").latency_s * (1 + 1e-9)


# Recomputation


@pytest.mark.parametrize("name", MODELS)
def test_layers_that_are_run_once_more_give_the_same_step(
    make_trained: Callable[[str], Trained], make_split: Any, make_program: Any, name: str
) -> None:
    trained, manager = make_trained(name), PassManager()
    again = manager.apply(Recompute(), trained.traced)
    assert worst(run_model(again.bind(SIZES), trained.state), trained.expected) < TOLERANCE
    folded = canonical_training_form(again, manager)
    program = make_program(folded, make_split("matmul", 2, 2, 2), BATCH)
    assert worst(run_program(program, trained.state), trained.expected) < TOLERANCE


def test_only_the_inputs_of_layers_are_kept_where_they_are_run_once_more(
    make_trained: Callable[[str], Trained], wse2: Hardware
) -> None:
    model = make_trained("grouped heads").model
    pins: dict[str, Any] = {"region": (1, 1), "microbatch": BATCH}
    kept = compiled(model, wse2, **pins)
    again = compiled(model, wse2, recompute="full", **pins)
    hidden = 4 * BATCH * TOKENS * LLAMA["hidden_size"]
    before, after = kept.stages[0].memory, again.stages[0].memory
    assert before is not None
    assert after is not None
    assert after.saved_bytes == LLAMA["num_hidden_layers"] * hidden < before.saved_bytes
    assert after.activation_bytes >= before.activation_bytes
    one, two = evaluate(kept), evaluate(again)
    assert (one.mapping.recompute, two.mapping.recompute) == ("none", "full")
    assert one.latency_s < two.latency_s < 1.5 * one.latency_s
    assert one.model.flops == two.model.flops
