"""The `experts` kind: reference against plain torch, gradient against autograd, FLOPs."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from wscc.ir.dims import symbol
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Attribute, Op, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import indices_of, kind_of, verify_op
from wscc.ir.operators.experts import experts, saving
from wscc.ir.operators.load import busiest, choices, experts_touched

Recording = Callable[[Mapping[str, TensorType]], Any]


T, K, E, F, H, OUT = 7, 3, 5, 6, 4, 3
SIZES = {"t": T, "b": 2, "k": K, "e": E, "c": 2, "f": F, "h": H, "o": OUT}

GATED = "th,tk,tk,ecfh,eof->to"
INTERLEAVED = "th,tk,tk,ehfc,efo,efc,eo->to"
PLAIN = "th,tk,tk,efh,eof->to"
BATCHED = "bth,btk,btk,ecfh,eof->bto"

CLAMPED = "(minimum(a, 0.5) * sigmoid(1.7 * minimum(a, 0.5))) * (maximum(b, -0.5) + 1)"


def op_of(indices: str, expr: str, types: Sequence[TensorType], **more: Attribute) -> Op:
    result = indices.partition("->")[2]
    attributes: dict[str, Attribute] = {
        "indices": indices,
        "expr": expr,
        "expert": "e",
        "pair": "c" if "c" in indices else "",
        "total": E,
        "inner": F,
    }
    biased = len(types) == 7
    extras: Mapping[str, Attribute] = {"extras": ("up_bias", "down_bias")} if biased else {}
    shape = tuple(SIZES[letter] for letter in result)
    names = tuple(f"v{at}" for at in range(len(types)))
    type_ = TensorType("float32", shape)
    return Op("experts", names, ("y",), (type_,), {**attributes, **extras, **more})


def made(indices: str, expr: str, **more: Attribute) -> tuple[Op, list[Tensor]]:
    """An op and values for its operands; every token chooses different experts."""
    generator = torch.Generator().manual_seed(1)
    values: list[Tensor] = []
    for at, letters in enumerate(indices.partition("->")[0].split(",")):
        shape = [SIZES[letter] for letter in letters]
        if at == 1:
            scores = torch.rand([*shape[:-1], E], generator=generator)
            values.append(scores.topk(K).indices)
        else:
            values.append(torch.randn(shape, generator=generator))
    types = [
        TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape)) for value in values
    ]
    return op_of(indices, expr, types, **more), values


def dense(op: Op, values: Sequence[Tensor]) -> Tensor:
    """Every token through every expert, then the chosen ones added up: another way to the same."""
    x, index, weight, up, down, *biases = values
    letters = op.text("indices").partition("->")[0].split(",")
    up = up if op.text("pair") else up.unsqueeze(1)
    spelt = letters[3] if op.text("pair") else "ecfh"
    hidden = torch.einsum(f"...h,{spelt}->...ecf", x, up)
    if biases:
        hidden = hidden + torch.einsum(f"{letters[5]}->ecf", biases[0])
    a, b = hidden[..., 0, :], hidden[..., -1, :]
    match op.text("expr"):
        case "silu(a) * b":
            inner = torch.nn.functional.silu(a) * b
        case "square(relu(a))":
            inner = a.relu().square()
        case _:
            gate = a.clamp(max=0.5)
            inner = gate * torch.sigmoid(1.7 * gate) * (b.clamp(min=-0.5) + 1)
    out = torch.einsum(f"...ef,{letters[4]}->...eo", inner, down)
    if biases:
        out = out + biases[1]
    share = torch.zeros(*index.shape[:-1], E).scatter_add(-1, index, weight)
    return torch.einsum("...eo,...e->...o", out, share)


CASES = {
    "halves": (GATED, "silu(a) * b"),
    "interleaved, transposed, biased": (INTERLEAVED, CLAMPED),
    "no gate": (PLAIN, "square(relu(a))"),
    "batch and sequence": (BATCHED, "silu(a) * b"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_token_goes_through_the_experts_it_chose(case: str) -> None:
    op, values = made(*CASES[case])
    verify_op("g", op, types_of(values))
    torch.testing.assert_close(run_op(op, values)[0], dense(op, values))


def types_of(values: Sequence[Tensor]) -> tuple[TensorType, ...]:
    return tuple(
        TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape)) for value in values
    )


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd(case: str, kept: bool, recording: Recording) -> None:
    op, values = made(*CASES[case])
    op = saving(op, types_of(values)) if kept else op
    verify_op("g", op, types_of(values))
    results = run_op(op, values)
    state = dict(zip((*op.operands, *op.results), (*values, *results), strict=True))
    state["dy"] = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(2))
    tape = recording({name: types_of([value])[0] for name, value in state.items()})

    gradient = kind_of(op).gradient
    assert gradient is not None
    names = gradient(op, tape, ["dy"])
    (backward,) = tape.ops
    verify_op("g", backward, tuple(tape.types[name] for name in backward.operands))
    found = run_op(backward, [state[name] for name in backward.operands])

    leaves = [value.requires_grad_() if at != 1 else value for at, value in enumerate(values)]
    wanted = [value for at, value in enumerate(leaves) if at != 1]
    expected = torch.autograd.grad(dense(op, leaves), wanted, state["dy"])
    assert names[1] is None
    assert [name for name in names if name] == list(backward.results)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_gradient_costs_twice_the_forward_pass_and_more_where_the_hidden_layer_is_lost(
    recording: Recording,
) -> None:
    op, values = made(GATED, "silu(a) * b")
    up, down = 2 * T * K * 2 * F * H, 2 * T * K * F * OUT
    for kept, cost in ((True, 2 * (up + down)), (False, 2 * (up + down) + up)):
        forward = saving(op, types_of(values)) if kept else op
        tape = recording(dict(zip(op.operands, types_of(values), strict=True)))
        tape.types |= {"dy": op.type} | dict(zip(forward.results, forward.types, strict=True))
        gradient = kind_of(op).gradient
        assert gradient is not None
        gradient(forward, tape, ["dy"])
        (backward,) = tape.ops
        types = tuple(tape.types[name] for name in backward.operands)
        assert kind_of(backward).flops(backward, types) == cost


def test_flops_are_two_for_every_weight_of_the_chosen_experts() -> None:
    tokens = symbol("batch") * symbol("sequence")
    types = [
        TensorType("bfloat16", shape)
        for shape in ((tokens, 4096), (tokens, 8), (tokens, 8), (256, 2, 2048, 4096))
    ]
    types.append(TensorType("bfloat16", (256, 4096, 2048)))
    attributes: dict[str, Attribute] = {"indices": GATED, "expr": "silu(a) * b", "expert": "e"}
    attributes |= {"pair": "c", "total": 256, "inner": 2048}
    type_ = TensorType("bfloat16", (tokens, 4096))
    op = Op("experts", ("a", "b", "c", "d", "e"), ("y",), (type_,), attributes)
    assert kind_of(op).flops(op, tuple(types)) == tokens * (2 * 8 * 3 * 2048 * 4096)


def test_a_device_with_some_experts_does_its_share() -> None:
    op, values = made(GATED, "silu(a) * b")
    whole = kind_of(op).flops(op, types_of(values))
    x, index, weight, up, down = values
    held = types_of([x, index, weight, up[:2], down[:2]])
    products = (2 * T * K * 2 * F * H, 2 * T * K * F * OUT)
    assert kind_of(op).flops(op, held) == sum(ceil(n * 2 / E) for n in products)
    loaded, _ = made(GATED, "silu(a) * b", load=(2, 3, 2, 2, 1))
    assert kind_of(loaded).flops(loaded, types_of(values)) == whole
    assert kind_of(loaded).flops(loaded, held) == sum(ceil(n / 2) for n in products)


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any),
    st.integers(1, 8),
    st.integers(1, 20),
)
def test_choices_follow_the_load_but_no_token_takes_an_expert_twice(
    load: list[int], chosen: int, held: int
) -> None:
    parts = choices(tuple(load), chosen)
    most = Fraction(1, min(chosen, len(load)))
    assert sum(parts) == 1
    assert all(0 <= part <= most for part in parts)
    free = [(part, tokens) for part, tokens in zip(parts, load, strict=True) if part < most]
    assert all(a * y == b * x for a, x in free for b, y in free) or not any(y for _, y in free)
    here = busiest(tuple(load), chosen, held, len(load))
    assert here >= Fraction(min(held, len(load)), len(load))
    assert here <= min(1, held * most)


def test_the_busiest_device_is_that_whose_neighbours_have_most() -> None:
    load = (5, 1, 1, 1, 4, 4)
    assert busiest(load, 1, 1, 6) == Fraction(5, 16)
    assert busiest(load, 1, 2, 6) == Fraction(8, 16)
    assert busiest(load, 1, 2, 4) == Fraction(6, 16)
    assert choices((8, 1, 1, 0), 2) == (Fraction(1, 2), Fraction(1, 4), Fraction(1, 4), 0)
    assert choices((1, 0, 0, 0), 2) == (Fraction(1, 2), *[Fraction(1, 6)] * 3)


def test_parts_of_the_experts_and_of_their_width_add_up_to_the_whole() -> None:
    op, (x, index, weight, up, down, up_bias, down_bias) = made(INTERLEAVED, CLAMPED)
    whole = run_op(op, [x, index, weight, up, down, up_bias, down_bias])[0]
    total = torch.zeros_like(whole)
    for first, stop in ((0, 2), (2, E)):
        for left, right in ((0, 4), (4, F)):
            part = [
                up[first:stop, :, left:right],
                down[first:stop, left:right],
                up_bias[first:stop, left:right],
                down_bias[first:stop],
            ]
            total += experts(op, [x, index, weight, *part], first)[0]
    torch.testing.assert_close(total, whole)


def test_letters_say_what_may_be_cut() -> None:
    op, _ = made(GATED, "silu(a) * b")
    indices = indices_of(op)
    assert dict(indices.reduced) == {"e": "sum", "f": "sum"}
    assert indices.whole == {"h", "k", "c"}


def test_experts_may_be_counted_by_several_letters() -> None:
    op, (x, index, weight, up, down) = made(GATED, "silu(a) * b")
    whole = run_op(op, [x, index, weight, up, down])[0]
    indices = "th,tk,tk,zecfh,zeof->to"
    finer = Op(
        op.kind,
        op.operands,
        op.results,
        op.types,
        {**op.attributes, "indices": indices, "expert": "ze"},
    )
    values = [x, index, weight, up.unsqueeze(0), down.unsqueeze(0)]
    verify_op("g", finer, types_of(values))
    torch.testing.assert_close(run_op(finer, values)[0], whole)
    assert kind_of(finer).flops(finer, types_of(values)) == kind_of(op).flops(
        op, types_of([x, index, weight, up, down])
    )


def test_few_tokens_touch_few_experts_and_many_touch_all() -> None:
    assert experts_touched(1, 8, 256) == pytest.approx(8)
    assert experts_touched(2, 8, 256) == pytest.approx(8 + 8 * (1 - 8 / 256))
    assert experts_touched(1e6, 8, 256) == pytest.approx(256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expr": "a * b * c"}, "reads more than 2 values"),
        ({"load": (1, 2)}, "a load of 2 experts, not 5"),
        ({"load": (0, 0, 0, 0, 0)}, "no histogram"),
        ({"load": (1, 2, -1, 0, 0)}, "no histogram"),
        ({"expert": "h"}, "are not those of experts"),
        ({"extras": ("down_bias", "up_bias")}, "in this order"),
        ({"extras": ("down_bias",)}, "5 operands of experts, not 6"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Attribute], message: str) -> None:
    op, values = made(GATED, "silu(a) * b")
    broken = Op(op.kind, op.operands, op.results, op.types, {**op.attributes, **change})
    with pytest.raises(VerificationError, match=message):
        verify_op("g", broken, types_of(values))
