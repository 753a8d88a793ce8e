"""Every activation that a config may name is traced and computes what Transformers computes."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from transformers.activations import ACT2CLS, ACT2FN
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.config.schema import schema
from wscc.ir.graph import Graph, Input, Model, Output
from wscc.ir.interpreter import run_model
from wscc.passes.fuse import Fuse

WriteConfig = Callable[[Mapping[str, Any]], str]

PLAIN = (
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "quick_gelu",
    "relu",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)
"""What models of today are built with."""


def test_the_names_known_to_transformers_are_known_here() -> None:
    assert set(ACT2CLS) == schema().activations


@pytest.mark.parametrize("name", PLAIN)
def test_an_activation_is_computed_as_transformers_does(
    name: str, write_config: WriteConfig
) -> None:
    config = read_config(write_config({"hidden_act": name, "num_hidden_layers": 1}))
    layer = lower_config(config, "decode").graphs["layer0"]
    ops = tuple(op for op in layer.ops if op.path.endswith("act_fn"))
    given = layer.types[ops[0].operands[0]]
    graph = Graph(
        "main",
        (Input(ops[0].operands[0], given, "data", "x"),),
        ops,
        (Output(ops[-1].result, "data", "y"),),
    )
    x = torch.randn(3, 1, 40, generator=torch.Generator().manual_seed(0))
    for form in (graph, Fuse().run(graph)):
        model = Model("m", "decode", "float32", {"main": form}).bind({"batch": 3})
        torch.testing.assert_close(run_model(model, {"x": x})["y"], ACT2FN[name](x))
    assert len(Fuse().run(graph).ops) == 1
