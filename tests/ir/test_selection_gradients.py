"""Gradients of choosing, indexing, padding and running sums are what torch differentiates."""

import pytest
import torch
from torch import Tensor
from wscc.ir.graph import Graph
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import verify_op
from wscc.ir.text import parse_graph
from wscc.passes.backward import Sweep

INPUTS = {
    "x": "float64[2, 3, 4]",
    "into": "float64[2, 6, 4]",
    "row": "float64[3]",
    "index": "int64[2, 3]",
    "rows": "int64[2, 3, 5]",
}

OPERATORS = {
    "softmax": '%z: float64[4, 2, 3] = softmax(%x) {indices = "bse->ebs", over = "s"}',
    "log softmax": (
        '%z: float64[2, 3, 4] = softmax(%x) {indices = "bse->bse", over = "e", log = true}'
    ),
    "cumsum": '%z: float64[2, 4, 3] = cumsum(%x) {indices = "bse->bes", over = "s"}',
    "cumsum from the end": (
        '%z: float64[2, 3, 4] = cumsum(%x) {indices = "bse->bse", over = "e", reverse = true}'
    ),
    "flip": '%z: float64[2, 4, 3] = flip(%x) {indices = "bse->bes", along = "s"}',
    "pad": (
        "%z: float64[2, 4, 6] = pad(%x) "
        '{indices = "bse->bes", along = "s", before = 2, after = 1, value = 1.0}'
    ),
    "topk": (
        "%z: float64[2, 2, 4], %i: int64[4, 2, 2] = topk(%x) "
        '{indices = "bse->bke,ekb", over = "s", largest = true, sorted = true}'
    ),
    "gather": ('%z: float64[2, 3, 5] = gather(%x, %rows) {indices = "bse,bsk->bsk", along = "e"}'),
    "gather of slices": (
        '%z: float64[4, 2, 3] = gather(%x, %index) {indices = "bse,bk->ebk", along = "s"}'
    ),
    "scatter adds": (
        "%z: float64[2, 6, 4] = scatter(%into, %index, %x) "
        '{indices = "bse,bk,bke->bse", along = "s", function = "add"}'
    ),
    "scatter adds a row to all": (
        "%z: float64[2, 6, 4] = scatter(%into, %index, %row) "
        '{indices = "bse,bk,k->bse", along = "s", function = "add"}'
    ),
    "scatter sets": (
        "%z: float64[2, 6, 4] = scatter(%into, %index, %x) "
        '{indices = "bse,bk,bke->bse", along = "s", function = "set"}'
    ),
    "scatter of selected parts": (
        "%z: float64[6, 2, 4] = scatter(%into, %index, %row) "
        '{indices = "bse,bk,k->sbe", along = "s", function = "add"}'
    ),
}


def graph_of(line: str) -> Graph:
    inputs = [f"input %{name}: {type_} = data {name}" for name, type_ in INPUTS.items()]
    graph = parse_graph("\n".join(("graph g {", *inputs, line, "}")))
    graph.verify()
    return graph


def values() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)
    floats = {
        name: torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()
        for name, shape in (("x", (2, 3, 4)), ("into", (2, 6, 4)), ("row", (3,)))
    }
    index = torch.tensor([[2, 0, 1], [1, 2, 0]])
    return {**floats, "index": index, "rows": torch.randint(0, 4, (2, 3, 5), generator=random)}


@pytest.mark.parametrize("line", OPERATORS.values(), ids=OPERATORS)
def test_a_gradient_is_what_torch_differentiates(line: str) -> None:
    graph = graph_of(line)
    (op,), every = graph.ops, values()
    results = run_op(op, [every[name] for name in op.operands])
    given = torch.linspace(-1, 2, results[0].numel(), dtype=torch.float64).reshape(results[0].shape)
    floats = [name for name in op.operands if every[name].is_floating_point()]
    expected = torch.autograd.grad(results[0], [every[name] for name in floats], given)
    sweep = Sweep(graph, {*floats, op.result})
    sweep.give(op.result, sweep.declare("given", op.type))
    sweep.run(lambda op, given: ())
    every |= {"given": given, **dict(zip(op.results, results, strict=True))}
    for made in sweep.ops:
        verify_op("g", made, tuple(sweep.type_of(name) for name in made.operands))
        found = run_op(made, [every[name] for name in made.operands])
        every |= dict(zip(made.results, found, strict=True))
    for name, gradient in zip(floats, expected, strict=True):
        ours = sweep.gradient(name)
        assert ours is not None
        torch.testing.assert_close(every[ours].detach(), gradient)
