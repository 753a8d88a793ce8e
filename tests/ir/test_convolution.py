"""Convolutions against torch's, with windows of kept inputs, and their gradients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from wscc.ir import dims
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Attribute, Graph, Input, Op, Output, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import graph_flops, indices_of, kind_of
from wscc.ir.text import parse_graph, print_graph

Recording = Callable[[Mapping[str, TensorType]], Any]


CAUSAL: dict[str, Attribute] = {
    "positions": "s",
    "kernel": "k",
    "outputs": "s",
    "stride": (1,),
    "dilation": (1,),
    "before": (3,),
    "after": (0,),
}


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


def type_of(tensor: Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def graph_of(op: Op, operands: Sequence[Tensor]) -> Graph:
    inputs = tuple(
        Input(name, type_of(value), "data", name)
        for name, value in zip(op.operands, operands, strict=True)
    )
    outputs = tuple(Output(name, "data", name) for name in op.results)
    return Graph("main", inputs, (op,), outputs)


def convolve(
    operands: Sequence[Tensor], results: Sequence[Tensor], attributes: dict[str, Attribute]
) -> Op:
    """A verified convolution that yields tensors of the shapes of `results`."""
    names = ("x", "weight", "initial")[: len(operands)]
    types = tuple(type_of(value) for value in results)
    op = Op("convolve", names, ("y", "window")[: len(types)], types, attributes)
    graph = graph_of(op, operands)
    graph.verify()
    assert parse_graph(print_graph(graph)) == graph
    return op


def settings(rank: int, stride: int, dilation: int, padding: int) -> dict[str, Attribute]:
    return {
        "positions": "xyz"[:rank],
        "outputs": "uvw"[:rank],
        "kernel": "klm"[:rank],
        "stride": (stride,) * rank,
        "dilation": (dilation,) * rank,
        "before": (padding,) * rank,
        "after": (padding,) * rank,
    }


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (1, 2, 3)])
def test_a_convolution_of_any_rank_is_that_of_torch(
    rank: int, stride: int, dilation: int, padding: int
) -> None:
    x, weight = random(2, 3, *(9, 8, 7)[:rank]), random(4, 3, *(3, 2, 3)[:rank])
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    theirs = function(x, weight, stride=stride, dilation=dilation, padding=padding)
    made = settings(rank, stride, dilation, padding)
    equation = f"bi{made['positions']},oi{made['kernel']}->bo{made['outputs']}"
    op = convolve([x, weight], [theirs], {**made, "indices": equation})
    (ours,) = run_op(op, [x, weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert kind_of(op).flops(op, (type_of(x), type_of(weight))) == theirs.numel() * (
        2 * weight[0].numel()
    )


def test_groups_have_a_letter_of_their_own_and_dimensions_any_order() -> None:
    x, weight = random(2, 6, 9), random(4, 3, 5)
    theirs = F.conv1d(x, weight, groups=2)
    made = settings(1, 1, 1, 0) | {"indices": "xbgi,goik->ubgo"}
    operands = [x.reshape(2, 2, 3, 9).permute(3, 0, 1, 2), weight.reshape(2, 2, 3, 5)]
    expected = theirs.reshape(2, 2, 2, 5).permute(3, 0, 1, 2)
    op = convolve(operands, [expected], made)
    torch.testing.assert_close(run_op(op, operands)[0], expected)
    assert dict(indices_of(op).reduced) == {"i": "sum"}
    assert indices_of(op).whole == {"x", "u", "k"}


@pytest.mark.parametrize("tokens", [2, 3, 7])
def test_what_is_kept_of_a_prompt_goes_before_the_next_tokens(tokens: int) -> None:
    x, weight = random(2, 10, 5), random(5, 4)
    theirs = F.conv1d(x.mT, weight[:, None], padding=3, groups=5)[..., :10].mT
    first, rest = x[:, :tokens], x[:, tokens:]
    attributes = CAUSAL | {"indices": "bsc,ck->bsc,bcw", "window": 4}
    op = convolve([first, weight], [first, random(2, 5, 4)], attributes)
    ours, window = run_op(op, [first, weight])
    torch.testing.assert_close(ours, theirs[:, :tokens])
    torch.testing.assert_close(window, F.pad(first.mT, (4, 0))[..., -4:])

    attributes = CAUSAL | {"indices": "bsc,ck,bcw->bsc,bcw", "window": 4}
    op = convolve([rest, weight, window], [rest, window], attributes)
    ours, last = run_op(op, [rest, weight, window])
    torch.testing.assert_close(ours, theirs[:, tokens:])
    torch.testing.assert_close(last, x.mT[..., -4:])


def test_flops_of_a_convolution_of_channels() -> None:
    shape = ("batch", "sequence", "48")
    x = TensorType("float32", tuple(dims.parse_dim(size) for size in shape))
    op = Op("convolve", ("x", "w"), ("y",), (x,), CAUSAL | {"indices": "bsc,ck->bsc"})
    expected = dims.parse_dim("batch * sequence") * 48 * 4 * 2
    assert kind_of(op).flops(op, (x, TensorType("float32", (48, 4)))) == expected


@pytest.mark.parametrize("kept", [False, True])
def test_gradients_are_those_of_torch(kept: bool, recording: Recording) -> None:
    x, weight, initial = random(2, 10, 5), random(5, 4), random(2, 5, 3)
    operands = [x, weight, initial][: 2 + kept]
    leaves = [value.clone().requires_grad_() for value in operands]
    before = leaves[2] if kept else torch.zeros_like(initial)
    seen = torch.cat([before, leaves[0].mT], -1)
    theirs = F.conv1d(seen, leaves[1][:, None], groups=5).mT
    dy = random(*theirs.shape)
    expected = torch.autograd.grad(theirs, leaves, dy)

    indices = "bsc,ck,bcw->bsc" if kept else "bsc,ck->bsc"
    op = convolve(operands, [theirs], CAUSAL | {"indices": indices})
    graph, kind = graph_of(op, operands), kind_of(op)
    tape = recording(graph.types)
    assert kind.gradient is not None
    assert tuple(kind.gradient(op, tape, ["dy"])) == tape.ops[0].results
    whole = graph_of(tape.ops[0], [*operands, dy])
    whole.verify()
    assert graph_flops(whole) == graph_flops(graph) * 2
    for ours, other in zip(run_op(tape.ops[0], [*operands, dy]), expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": "bsc->bsc"}, "no convolution 'bsc->bsc'"),
        ({"stride": (1, 1)}, "1 positions, but"),
        ({"indices": "bsc,ckz->bsc"}, "index z has no part in a convolution"),
        ({"indices": "bsc,ck->bsc,bcw"}, "no integer attribute 'window'"),
        ({"indices": "bsc,ck,bwvc->bsc"}, "windows of"),
    ],
)
def test_letters_that_do_not_fit_are_refused(change: dict[str, Attribute], message: str) -> None:
    attributes = CAUSAL | {"indices": "bsc,ck->bsc"} | change
    op = Op("convolve", ("x", "w"), ("y",), (), attributes)
    with pytest.raises(VerificationError) as caught:
        indices_of(op)
    assert message in str(caught.value)
