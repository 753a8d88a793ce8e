"""Quantized experts, and the bytes of a published checkpoint."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from torch import Tensor
from wscc.frontend.model import lower_config, read_config
from wscc.ir.graph import Graph, Input, Model
from wscc.ir.interpreter import run_model
from wscc.ir.summary import summarize

Fixed = dict[str, Tensor]

_SHARED = run_path(str(Path(__file__).with_name("quantized_models.py")))
TINY: dict[str, Any] = _SHARED["TINY"]
FP8: dict[str, Any] = _SHARED["FP8"]
NVFP4: dict[str, Any] = _SHARED["NVFP4"]
INT8: dict[str, Any] = _SHARED["INT8"]
SIZES: dict[str, int] = _SHARED["SIZES"]
quantized: Callable[[Model, dict[str, Any]], Model] = _SHARED["quantized"]
sources: Callable[[Model], Iterator[tuple[Graph, Input, str]]] = _SHARED["sources"]
random_values: Callable[[Input], Tensor] = _SHARED["random_values"]
prompt: Callable[[], Fixed] = _SHARED["prompt"]


EXPERTS = {
    "gpt_oss": {
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "hidden_size": 64,
        "intermediate_size": 32,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "sliding_window": 4,
        "rope_scaling": None,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    },
}


@pytest.fixture(scope="module")
def with_experts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A tiny model of a family with experts, traced once."""

    @cache
    def make(family: str) -> Model:
        path = tmp_path_factory.mktemp(family) / "config.json"
        path.write_text(json.dumps(TINY | EXPERTS[family]))
        return lower_config(read_config(str(path)), "prefill")

    return make


def random_state(*models: Model) -> Fixed:
    """Random values for every input of some models."""
    torch.manual_seed(2)
    found: Fixed = {}
    for model in models:
        for _, value, source in sources(model):
            if value.role in ("weight", "buffer") and source not in found:
                found[source] = random_values(value)
    return found


def test_experts_in_mxfp4_are_those_that_transformers_unpacks(
    with_experts: Callable[[str], Model],
) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    plain = with_experts("gpt_oss")
    raw = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    model = quantized(plain, raw)
    state = random_state(plain.bind(SIZES))
    stored = dict(state)
    for layer in range(2):
        for name, outputs, inputs in (("gate_up_proj", 64, 64), ("down_proj", 64, 32)):
            source = f"model.layers.{layer}.mlp.experts.{name}"
            blocks = torch.randint(0, 256, (4, outputs, inputs // 32, 16), dtype=torch.uint8)
            scales = torch.randint(120, 126, blocks.shape[:3], dtype=torch.uint8)
            state[source] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
            codes = torch.stack((blocks & 15, blocks >> 4), -1).reshape(4, outputs, inputs)
            stored[source] = codes.transpose(1, 2)
            turned = scales.transpose(1, 2).contiguous().view(torch.float8_e8m0fnu)
            stored[f"{source}_scales"] = turned
    ours = run_model(model.bind(SIZES), {**stored, **prompt()})["logits"]
    expected = run_model(plain.bind(SIZES), {**state, **prompt()})["logits"]
    assert torch.equal(ours, expected)


def test_experts_in_fp8_take_activations_in_fp8_and_routers_stay(
    with_experts: Callable[[str], Model],
) -> None:
    plain = with_experts("qwen3_moe")
    model = quantized(plain, FP8)
    (body, _, _), *_ = model.runs()
    (experts,) = (op for op in body.ops if op.kind == "experts")
    assert experts.attributes["compute"] == "float8_e4m3fn"
    assert body.producers[experts.operands[0]].kind == "dequantize"
    types = {value.source: str(value.type) for value in body.inputs}
    inside = "model.layers.*.mlp.experts"
    assert types["model.layers.*.mlp.gate.weight"] == "float32[4, 32]"
    assert types[f"{inside}.gate_up_proj"] == "float8_e4m3fn[4, 48, 32]"
    assert types[f"{inside}.gate_up_proj_scale_inv"] == "float32[4, 3, 4]"
    assert types[f"{inside}.down_proj_scale_inv"] == "float32[4, 2, 3]"
    state = random_state(model.bind(SIZES))
    logits = run_model(model.bind(SIZES), {**state, **prompt()})["logits"]
    assert logits.isfinite().all()


def test_experts_are_kept_where_their_linear_layers_in_the_checkpoint_are(
    with_experts: Callable[[str], Model],
) -> None:
    plain = with_experts("qwen3_moe")
    kept = NVFP4 | {"modules_to_not_convert": ["lm_head", "experts.0.down_proj"]}
    (body, _, _), *_ = quantized(plain, INT8 | {"ignore": ["re:.*experts.0.down_proj"]}).runs()
    assert not any("compute" in op.attributes for op in body.ops if op.kind == "experts")
    (body, _, _), *_ = quantized(plain, kept).runs()
    types = {value.source: value.type.dtype for value in body.inputs}
    assert types["model.layers.*.mlp.experts.down_proj"] == "float32"
    assert types["model.layers.*.mlp.experts.gate_up_proj"] == "float4_e2m1"


def test_bytes_of_a_published_checkpoint_are_counted(tmp_path: Path) -> None:
    """Qwen3-32B-FP8: a byte for each weight of a linear layer and four for each block of them."""
    values = {
        "model_type": "qwen3",
        "dtype": "bfloat16",
        "vocab_size": 151936,
        "hidden_size": 5120,
        "intermediate_size": 25600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "hidden_act": "silu",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    raw = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    model = quantized(lower_config(read_config(str(path)), "decode"), raw)
    linear = 64 * (5120 * (64 + 2 * 8) * 128 + 64 * 128 * 5120 + 3 * 5120 * 25600)
    stored = dict(summarize(model.bind({"batch": 1, "context": 1})).stored_bytes)
    assert stored["float8_e4m3fn"] == linear
    assert stored["float32"] == linear // 128**2 * 4
    assert stored["bfloat16"] == 2 * (model.parameters - linear)
    assert sum(stored.values()) == 34_326_243_328
