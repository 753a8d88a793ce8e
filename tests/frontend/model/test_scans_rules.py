"""ATen's convolutions in a graph yield what torch yields."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from wscc.frontend.model.aten import RULES, Call, Shown, UnsupportedError
from wscc.frontend.model.builder import GraphBuilder
from wscc.ir.graph import Model, Output, TensorType
from wscc.ir.interpreter import run_model


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


def type_of(tensor: Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def lowered(rule: str, function: Callable[..., Tensor], *arguments: Any) -> None:
    """Lower one call, run the graph, and compare."""
    graph, state = GraphBuilder("main"), dict[str, Tensor]()
    expected = function(*arguments)
    given: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            name = f"x{len(state)}"
            state[name] = argument
            view = graph.add_input(name, type_of(argument), "data", name)
            given.append(Shown(view, type_of(argument)))
        else:
            given.append(argument)
    view = RULES[rule](Call(graph, given, {}, type_of(expected), "convolution"))
    graph.outputs.append(Output(graph.real(view, tuple(expected.shape)), "data", "y"))
    model = Model("m", "prefill", "float32", {"main": graph.graph()})
    model.verify()
    found = run_model(model, state)["y"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    ("rank", "stride", "padding", "dilation"),
    [(1, 1, 3, 1), (1, 2, 0, 2), (2, 2, 1, 1), (3, [1, 2, 1], [1, 0, 1], 1)],
)
def test_convolutions_of_groups_with_strides_and_zeros_around(
    groups: int, rank: int, stride: Any, padding: Any, dilation: Any
) -> None:
    x, weight = random(2, 6, *(9, 8, 7)[:rank]), random(6, 6 // groups, *(3, 2, 3)[:rank])
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    arguments = (x, weight, random(6), stride, padding, dilation, groups)
    lowered(f"conv{rank}d.default", function, *arguments)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_zeros_around_by_name(padding: str) -> None:
    x, weight = random(2, 3, 9), random(4, 3, 4)
    lowered("conv1d.padding", F.conv1d, x, weight, random(4), 1, padding, 2)


def test_a_sample_without_a_batch() -> None:
    lowered("conv2d.default", F.conv2d, random(3, 9, 8), random(4, 3, 2, 2))


def test_the_general_convolution_and_that_it_is_not_transposed() -> None:
    x, weight = random(2, 6, 9), random(6, 3, 3)
    rest = (None, [1], [1], [1], False, [0], 2)
    lowered("convolution.default", torch.convolution, x, weight, *rest)
    with pytest.raises(UnsupportedError, match="a transposed convolution"):
        lowered("convolution.default", torch.convolution, x, weight, *rest[:4], True, [0], 2)
