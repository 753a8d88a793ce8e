"""Scans against Transformers' own loops and formulas, their gradients, FLOPs and letters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.models.kimi_linear import modeling_kimi_linear as kimi
from transformers.models.mamba import modeling_mamba as mamba
from transformers.models.mamba2 import modeling_mamba2 as mamba2
from transformers.models.qwen3_next import modeling_qwen3_next as qwen
from wscc.ir import dims
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Attribute, Graph, Input, Op, Output, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import graph_flops, indices_of, kind_of
from wscc.ir.text import parse_graph, print_graph

Recording = Callable[[Mapping[str, TensorType]], Any]


Parts = Mapping[str, tuple[str, Tensor]]
Function = Callable[..., Any]

BATCH, TOKENS, GROUPS, HEADS, WIDTH, STATE = 2, 11, 2, 3, 4, 5


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


def type_of(tensor: Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def scan_of(parts: Parts, output: str, state: str = "", **settings: Attribute) -> Op:
    """A scan with the types that follow from its letters."""
    sizes = {
        x: n for letters, value in parts.values() for x, n in zip(letters, value.shape, strict=True)
    }
    results = [output, *([state] if state else [])]
    types = tuple(TensorType("float32", tuple(sizes[x] for x in letters)) for letters in results)
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(letters for letters, _ in parts.values())}->{','.join(results)}",
        "parts": " ".join(parts),
        "sequence": "s" if "s" in output else "",
        **settings,
    }
    return Op("scan", tuple(parts), ("y", "last")[: len(types)], types, attributes)


def run(parts: Parts, output: str, state: str = "", **settings: Attribute) -> Sequence[Tensor]:
    op = scan_of(parts, output, state, **settings)
    graph = graph_of(op, [value for _, value in parts.values()])
    graph.verify()
    assert parse_graph(print_graph(graph)) == graph
    return run_op(op, [value for _, value in parts.values()])


def graph_of(op: Op, operands: Sequence[Tensor]) -> Graph:
    inputs = [
        Input(name, type_of(value), "data", name)
        for name, value in zip(op.operands, operands, strict=True)
    ]
    outputs = tuple(Output(name, "data", name) for name in op.results)
    return Graph("main", tuple(inputs), (op,), outputs)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def mamba2_parts() -> dict[str, tuple[str, Tensor]]:
    step = F.softplus(random(BATCH, TOKENS, GROUPS, HEADS))
    return {
        "query": ("bsgn", random(BATCH, TOKENS, GROUPS, STATE)),
        "key": ("bsgn", random(BATCH, TOKENS, GROUPS, STATE) + 0.1),
        "value": ("bsgrp", random(BATCH, TOKENS, GROUPS, HEADS, WIDTH)),
        "decay": ("bsgr", step),
        "rate": ("gr", -random(GROUPS, HEADS).exp()),
        "beta": ("bsgr", step),
        "initial": ("bgrpn", random(BATCH, GROUPS, HEADS, WIDTH, STATE)),
    }


def theirs_mamba2(parts: Parts) -> tuple[Tensor, Tensor]:
    given = {name: value for name, (_, value) in parts.items()}
    output, last = mamba2.mamba2_chunk_scan(
        given["value"].flatten(2, 3),
        given["decay"].flatten(2, 3),
        given["rate"].flatten(),
        given["key"],
        given["query"],
        chunk_size=4,
        initial_states=given["initial"].flatten(1, 2),
        return_final_states=True,
    )
    return output.reshape(given["value"].shape), last.reshape(given["initial"].shape)


def test_groups_of_heads_with_a_decay_each_are_mamba_2() -> None:
    parts = mamba2_parts()
    output, last = theirs_mamba2(parts)
    ours, kept = run(parts, "bsgrp", "bgrpn", chunk=4)
    close(ours, output)
    close(kept, last)


def test_a_step_times_a_rate_for_every_channel_is_mamba() -> None:
    x, step = random(BATCH, WIDTH, TOKENS), F.softplus(random(BATCH, WIDTH, TOKENS))
    rate = -random(WIDTH, STATE).exp()
    key, query = random(BATCH, STATE, TOKENS), random(BATCH, STATE, TOKENS) + 0.1
    theirs, last = mamba.mamba_selective_scan(x, step, rate, key, query, return_last_state=True)
    parts = {
        "query": ("bns", query),
        "key": ("bns", key),
        "value": ("bcs", x),
        "decay": ("bcs", step),
        "rate": ("cn", rate),
        "beta": ("bcs", step),
    }
    ours, kept = run(parts, "bcs", "bcn")
    close(ours, theirs)
    close(kept, last)


def delta_parts(decay: str) -> dict[str, tuple[str, Tensor]]:
    sizes = {"b": BATCH, "s": TOKENS, "g": GROUPS, "r": HEADS, "n": STATE, "p": WIDTH}
    letters = {"query": "bsgn", "key": "bsgn", "value": "bsgrp", "beta": "bsgr", "initial": "bgrnp"}
    if "n" in decay:
        letters = {part: own.replace("r", "") for part, own in letters.items()}
    made = {part: (own, random(*(sizes[x] for x in own))) for part, own in letters.items()}
    made["key"] = made["key"][0], F.normalize(made["key"][1], dim=-1)
    made["beta"] = made["beta"][0], made["beta"][1].sigmoid()
    made["decay"] = decay, -F.softplus(random(*(sizes[x] for x in decay)))
    return made


def theirs_delta(function: Function, parts: Parts) -> tuple[Tensor, Tensor]:
    given = {name: value for name, (_, value) in parts.items()}
    grouped = "r" in parts["value"][0]
    value, beta, decay = (
        given[name].flatten(2, 3) if grouped else given[name] for name in ("value", "beta", "decay")
    )
    output, last = function(
        given["query"],
        given["key"],
        value,
        g=decay,
        beta=beta,
        initial_state=given["initial"].flatten(1, 2) if grouped else given["initial"],
        output_final_state=True,
    )
    return output.reshape(given["value"].shape), last.reshape(given["initial"].shape)


@pytest.mark.parametrize(
    ("decay", "function"),
    [
        ("bsgr", qwen.torch_chunk_gated_delta_rule),
        ("bsgr", qwen.torch_recurrent_gated_delta_rule),
        ("bsgn", kimi.chunk_kimi_delta_attention),
        ("bsgn", kimi.recurrent_kimi_delta_attention),
    ],
)
def test_the_delta_rule_with_a_decay_for_heads_or_channels(decay: str, function: Function) -> None:
    parts = delta_parts(decay)
    output, last = theirs_delta(function, parts)
    letters = parts["value"][0], parts["initial"][0]
    ours, kept = run(parts, *letters, delta=True, scale=STATE**-0.5, chunk=64)
    close(ours, output)
    close(kept, last)


def test_a_constant_decay_is_lightning_attention() -> None:
    """q, k and v weighted by the decay to the power of their distance (arXiv 2401.04658)."""
    query, key, value = (random(BATCH, HEADS, TOKENS, size) for size in (STATE, STATE, WIDTH))
    slope = torch.tensor([0.1, 0.5, 0.9])
    behind = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)[None, :]
    weights = torch.where(behind >= 0, torch.exp(-slope[:, None, None] * behind), 0)
    theirs = (query @ key.transpose(-1, -2) * weights) @ value
    parts = {
        "query": ("bhsn", query),
        "key": ("bhsn", key),
        "value": ("bhsp", value),
        "decay": ("h", -slope),
    }
    (ours,) = run(parts, "bhsp")
    close(ours, theirs)


def test_a_state_of_values_alone_is_a_gated_linear_recurrence() -> None:
    """h_t = a_t h_(t-1) + x_t (arXiv 2402.19427, equation 4)."""
    x, factor = random(BATCH, TOKENS, WIDTH), random(BATCH, TOKENS, WIDTH).sigmoid()
    state = initial = random(BATCH, WIDTH)
    theirs: list[Tensor] = []
    for token in range(TOKENS):
        state = factor[:, token] * state + x[:, token]
        theirs.append(state)
    parts = {"value": ("bsc", x), "factor": ("bsc", factor), "initial": ("bc", initial)}
    ours, kept = run(parts, "bsc", "bc")
    close(ours, torch.stack(theirs, 1))
    close(kept, state)


@pytest.mark.parametrize("parts", [mamba2_parts(), delta_parts("bsgr"), delta_parts("bsgn")])
def test_steps_one_by_one_are_the_scan(parts: dict[str, tuple[str, Tensor]]) -> None:
    output, state = parts["value"][0], parts["initial"][0]
    delta = state.endswith("np")
    whole, last = run(parts, output, state, delta=delta)
    kept = parts["initial"][1]
    for token in range(TOKENS):
        now = {
            name: (letters.replace("s", ""), value.select(1, token) if "s" in letters else value)
            for name, (letters, value) in parts.items()
        }
        now["initial"] = state, kept
        step, kept = run(now, output.replace("s", ""), state, delta=delta)
        close(step, whole[:, token])
    close(kept, last)


def gradients(
    op: Op,
    operands: Sequence[Tensor],
    given: Sequence[Tensor | None],
    recording: Recording,
) -> Sequence[Tensor]:
    """The gradients of a scan's operands, from those of its results."""
    graph, kind = graph_of(op, operands), kind_of(op)
    tape = recording(graph.types)
    assert kind.gradient is not None
    names = [None if value is None else f"dy{at}" for at, value in enumerate(given)]
    found = kind.gradient(op, tape, names)
    (grad,) = tape.ops
    assert tuple(found) == grad.results
    known = [value for value in given if value is not None]
    whole = graph_of(grad, [*operands, *known])
    whole.verify()
    assert graph_flops(whole) == graph_flops(graph) * 2
    return run_op(grad, [*operands, *known])


@pytest.mark.parametrize("state_too", [False, True])
@pytest.mark.parametrize("decay", ["", "bsgr", "bsgn"])
def test_gradients_are_those_of_the_same_loop_in_transformers(
    decay: str, state_too: bool, recording: Recording
) -> None:
    """Without letters of a decay it is Mamba-2, in which decay and beta are one tensor."""
    parts = delta_parts(decay) if decay else mamba2_parts()
    function = (
        kimi.chunk_kimi_delta_attention if "n" in decay else qwen.torch_chunk_gated_delta_rule
    )
    tracked = {
        name: (letters, value.clone().requires_grad_()) for name, (letters, value) in parts.items()
    }
    results = theirs_delta(function, tracked) if decay else theirs_mamba2(tracked)
    given = [random(*results[0].shape), random(*results[1].shape) if state_too else None]
    kept = [(y, dy) for y, dy in zip(results, given, strict=True) if dy is not None]
    leaves = {name: value for name, (_, value) in tracked.items() if decay or name != "beta"}
    expected = torch.autograd.grad([y for y, _ in kept], [*leaves.values()], [dy for _, dy in kept])
    settings: dict[str, Attribute] = {"delta": True, "scale": STATE**-0.5} if decay else {}
    op = scan_of(parts, parts["value"][0], parts["initial"][0], chunk=4, **settings)
    made = gradients(op, [value for _, value in parts.values()], given, recording)
    found = dict(zip(parts, made, strict=True))
    if not decay:
        found["decay"] = found["decay"] + found.pop("beta")
    for name, theirs in zip(leaves, expected, strict=True):
        close(found[name], theirs)


def flops_of(
    parts: Mapping[str, tuple[str, str]], results: str, sequence: str, **settings: Attribute
) -> dims.Dim:
    """FLOPs of a scan of parts with letters and sizes."""
    types = tuple(
        TensorType("float32", tuple(dims.parse_dim(size) for size in sizes.split()))
        for _, sizes in parts.values()
    )
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(letters for letters, _ in parts.values())}->{results}",
        "parts": " ".join(parts),
        "sequence": sequence,
        **settings,
    }
    op = Op("scan", tuple(parts), ("y",), (), attributes)
    return kind_of(op).flops(op, types)


def test_chunks_of_mamba_2_take_products_of_matrices() -> None:
    """arXiv 2405.21060, section 6: for each head and chunk C B' and its product with x, and the
    states in and out; C B' once for a group."""
    chunk, groups, heads, width, state = 128, 8, 8, 64, 128
    parts = {
        "query": ("bsgn", "batch sequence 8 128"),
        "key": ("bsgn", "batch sequence 8 128"),
        "value": ("bsgrp", "batch sequence 8 8 64"),
        "decay": ("bsgr", "batch sequence 8 8"),
    }
    each = groups * chunk * state + groups * heads * width * (chunk + 2 * state)
    tokens = dims.parse_dim("batch * sequence")
    assert flops_of(parts, "bsgrp", "s", chunk=chunk) == tokens * each * 2
    recurrent = groups * heads * width * state * 4
    assert flops_of(parts, "bsgrp", "s") == tokens * recurrent


def test_a_step_counts_writing_reading_and_comparing() -> None:
    parts = {
        "query": ("bsgn", "batch 1 16 128"),
        "key": ("bsgn", "batch 1 16 128"),
        "value": ("bsgrp", "batch 1 16 2 128"),
        "beta": ("bsgr", "batch 1 16 2"),
    }
    batch = dims.parse_dim("batch")
    assert flops_of(parts, "bsgrp", "s", delta=True, chunk=64) == batch * 32 * 128 * 128 * 6
    assert flops_of(parts, "bsgrp", "s", chunk=64) == batch * 32 * 128 * 128 * 4


def test_chunks_of_the_delta_rule_also_solve_for_keys_and_values() -> None:
    """arXiv 2412.06464, section 3.3, with heads that share keys in pairs."""
    parts = {
        "query": ("bsgn", "batch sequence 16 128"),
        "key": ("bsgn", "batch sequence 16 128"),
        "value": ("bsgrp", "batch sequence 16 2 64"),
        "beta": ("bsgr", "batch sequence 16 2"),
    }
    chunk, groups, heads, n, p = 64, 16, 32, 128, 64
    shared = groups * chunk * n * 2
    within = heads * chunk * (n + p + p)
    each = shared + within + heads * n * p * 3
    tokens = dims.parse_dim("batch * sequence")
    assert flops_of(parts, "bsgrp", "s", delta=True, chunk=chunk) == tokens * each * 2


def test_heads_and_values_may_be_split_and_keys_are_summed_unless_compared() -> None:
    indices = indices_of(scan_of(mamba2_parts(), "bsgrp", "bgrpn"))
    assert (indices.whole, dict(indices.reduced)) == ({"s"}, {"n": "sum"})
    indices = indices_of(scan_of(delta_parts("bsgr"), "bsgrp", "bgrnp", delta=True))
    assert (indices.whole, dict(indices.reduced)) == ({"s", "n"}, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": "query key value pace"}, "no part 'pace', only query"),
        ({"parts": "query key value"}, "parts 'query key value' for 'bsn,bsn,bsp,bs->bsp'"),
        ({"parts": "query key beta decay"}, "a scan without value"),
        ({"parts": "query decay value rate"}, "a scan without key"),
        ({"parts": "query key value rate"}, "a scan without decay"),
        ({"delta": True}, "a scan without beta"),
        ({"indices": "bsn,bsn,bsp,bt->bsp"}, "index t is in neither keys nor values"),
        ({"indices": "bsn,bsn,bsp,bs->bsn"}, "an output 'bsn' of a state 'bpn'"),
        ({"indices": "bsn,bsn,bsp,bs->bsp,bp"}, "a state 'bp', not 'bpn'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Mapping[str, Attribute], message: str) -> None:
    attributes: dict[str, Attribute] = {
        "indices": "bsn,bsn,bsp,bs->bsp",
        "parts": "query key value decay",
        "sequence": "s",
    }
    op = Op("scan", ("q", "k", "v", "a"), ("y",), (), {**attributes, **change})
    with pytest.raises(VerificationError) as caught:
        indices_of(op)
    assert message in str(caught.value)
