"""A graph, run, yields what the model of Hugging Face yields: logits and caches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from wscc.frontend.model import lower_config
from wscc.ir.graph import Graph, Model
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model, print_model
from wscc.passes.fuse import Fuse

TOLERANCE = 1e-5
TOKENS = 9
BATCHES = (1, 2, 3)

Values = dict[str, Tensor]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def tokens(batch: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 61, (batch, count), generator=generator)


def caches_of(cache: DynamicCache) -> Values:
    layers: list[Any] = cache.layers
    return {
        f"cache.{at}.{name}": tensor.clone()
        for at, layer in enumerate(layers)
        for name, tensor in (("key", layer.keys), ("value", layer.values))
    }


@torch.no_grad()
def theirs_after(hf: Any, inputs: Values, cache: DynamicCache) -> Values:
    """Logits and the caches of a forward pass of Hugging Face."""
    out = hf(**inputs, past_key_values=cache, use_cache=True)
    return {"logits": out.logits, **caches_of(cache)}


def prefill_inputs(batch: int) -> Values:
    return {
        "input_ids": tokens(batch, TOKENS),
        "position_ids": torch.arange(TOKENS).expand(batch, TOKENS),
    }


def decode_inputs(batch: int) -> Values:
    return {"input_ids": tokens(batch, 1), "position_ids": torch.full((batch, 1), TOKENS)}


def prefill_error(case: Any, model: Model, batch: int) -> float:
    """The worst relative error over the outputs of a prefill."""
    inputs = prefill_inputs(batch)
    theirs = theirs_after(case.hf, inputs, DynamicCache())
    ours = run_model(model.bind({"batch": batch, "sequence": TOKENS}), {**case.state, **inputs})
    assert ours.keys() == theirs.keys()
    return max(relative_error(ours[name], theirs[name]) for name in theirs)


def decode_error(case: Any, model: Model, batch: int) -> float:
    """The worst relative error over the outputs of one token after a prompt."""
    cache = DynamicCache()
    filled = theirs_after(case.hf, prefill_inputs(batch), cache)
    inputs = decode_inputs(batch)
    theirs = theirs_after(case.hf, inputs, cache)
    state = {**case.state, **filled, **inputs}
    ours = run_model(model.bind({"batch": batch, "context": TOKENS}), state)
    assert ours.keys() == theirs.keys()
    return max(relative_error(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("batch", BATCHES)
def test_prefill_yields_the_logits_and_caches_of_hugging_face(case: Any, batch: int) -> None:
    assert prefill_error(case, case.graph("prefill"), batch) < TOLERANCE


@pytest.mark.parametrize("batch", BATCHES)
def test_decode_against_a_filled_cache_yields_what_hugging_face_yields(
    case: Any, batch: int
) -> None:
    assert decode_error(case, case.graph("decode"), batch) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 2])
def test_fused_graphs_yield_what_hugging_face_yields(case: Any, batch: int) -> None:
    prefill, decode = (case.graph(phase).map(Fuse().run) for phase in ("prefill", "decode"))
    prefill.verify()
    decode.verify()
    assert prefill_error(case, prefill, batch) < TOLERANCE
    assert decode_error(case, decode, batch) < TOLERANCE


def test_a_graph_survives_being_printed_and_read_back(case: Any) -> None:
    for phase in ("prefill", "decode"):
        model = case.graph(phase)
        assert parse_model(print_model(model)) == model


def without_windows(graph: Graph) -> Graph:
    return graph.with_ops(
        [
            dataclasses.replace(
                op, attributes={k: v for k, v in op.attributes.items() if k != "window"}
            )
            for op in graph.ops
        ]
    )


@pytest.mark.parametrize("name", ["mistral", "qwen2-sliding", "qwen3-mixed"])
def test_a_sliding_window_hides_tokens_in_both_phases(
    name: str, make_case: Callable[[str], Any]
) -> None:
    case = make_case(name)
    assert prefill_error(case, case.graph("prefill").map(without_windows), 2) > 1e-3
    assert decode_error(case, case.graph("decode").map(without_windows), 2) > 1e-3


def test_in_bfloat16_the_graph_is_as_near_as_rounding_allows(
    make_case: Callable[[str], Any],
) -> None:
    case = make_case("llama")
    model = lower_config(dataclasses.replace(case.config, dtype="bfloat16"), "prefill")
    state = {
        name: tensor if name.endswith("inv_freq") else tensor.bfloat16()
        for name, tensor in case.state.items()
    }
    inputs = prefill_inputs(2)
    theirs = theirs_after(case.hf, inputs, DynamicCache())["logits"]
    for graph in (model, model.map(Fuse().run)):
        bound = graph.bind({"batch": 2, "sequence": TOKENS})
        logits = run_model(bound, {**state, **inputs})["logits"]
        assert logits.dtype == torch.bfloat16
        assert relative_error(logits.float(), theirs) < 0.05
