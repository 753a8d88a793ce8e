"""Blocks that several layers share, each with adapters of its own (Zamba2)."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wscc.benchmarks.small_configs import small_values
from wscc.frontend.model import lower_config
from wscc.ir.graph import Model

SWEEP = Path(__file__).parents[3] / "benchmarks" / "sweep_families.py"
FAMILY = "zamba2"
ADAPTED = {
    "use_shared_mlp_adapter": True,
    "use_shared_attention_adapter": True,
    "adapter_rank": 4,
    "num_key_value_heads": 4,
}
CHANGES: dict[str, dict[str, Any]] = {
    "in some layers": {"num_mem_blocks": 1},
    "in layers that follow each other": {"num_mem_blocks": 1, "hybrid_layer_ids": [1, 2, 3]},
}


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    """The names of the script."""
    return runpy.run_path(str(SWEEP))


def weights(model: Model) -> list[str]:
    """The names of all weights of a graph, as a checkpoint has them."""
    runs = [(model.main, 0, 1), *model.runs()]
    return [
        value.source.replace("*", str(layer))
        for graph, first, count in runs
        for value in graph.inputs
        if value.role == "weight"
        for layer in range(first, first + count)
    ]


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_layers_that_share_a_block_use_their_own_adapters(
    changes: dict[str, Any], sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = small_values(FAMILY) | ADAPTED | changes
    compared: Callable[..., Any] = sweep["_compared"]
    monkeypatch.setitem(compared.__globals__, "small_values", lambda family: values)
    words = list(compared(FAMILY, ("prefill", "decode")))
    assert [word.partition(" ")[0] for word in words] == ["ok", "ok"], words


def test_a_shared_block_is_counted_once_and_every_adapter_by_itself(sweep: dict[str, Any]) -> None:
    values = small_values(FAMILY) | ADAPTED | CHANGES["in some layers"]
    hf = sweep["_reference"](FAMILY, values)
    model = lower_config(sweep["_read"](FAMILY, values), "decode")
    assert model.parameters == sum(parameter.numel() for parameter in hf.parameters())
    assert {*weights(model)} == {name for name, _ in hf.named_parameters()}
