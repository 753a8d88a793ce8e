"""Many families, tiny: prefill, and decode against the caches of our own prefill, yield the logits
of one pass of Hugging Face over all tokens, and hold the parameters that it counts."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM
from wscc.frontend.model import ModelConfig, SizesNeededError, lower_config
from wscc.frontend.model.lower import lower
from wscc.frontend.model.trace import trace
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model

TOKENS, BATCH, LAYERS = 11, 2, 2
TOLERANCE = 1e-5
SIZES = {"batch": BATCH, "sequence": TOKENS, "context": TOKENS}

DENSE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
SPARSE = {**DENSE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    **DENSE,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
SELECTED = {**LATENT, "index_topk": 4, "index_head_dim": 8, "index_n_heads": 16}
"""With few heads many scores of the indexer are zero, and which of them are taken is open."""

SMALL_HEADS = {**DENSE, "head_dim": 8}
MIXED = ["sliding_attention", "full_attention"]
MULTIMODAL_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
INTERLEAVED_ROPE = {**MULTIMODAL_ROPE, "mrope_interleaved": True}
DELTA = {
    **SMALL_HEADS,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "rope_parameters": {**INTERLEAVED_ROPE, "partial_rotary_factor": 1.0},
}

FAMILIES: dict[str, Mapping[str, Any]] = {
    "bloom": {"vocab_size": 61, "hidden_size": 32, "n_layer": LAYERS, "n_head": 4},
    "cohere": DENSE,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "deepseek_v32": SELECTED,
    "falcon": {**DENSE, "num_key_value_heads": 1, "multi_query": True},
    "falcon_h1": {
        **SMALL_HEADS,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 2,
        "mamba_d_state": 8,
        "mamba_chunk_size": 4,
    },
    "gemma": SMALL_HEADS,
    "gemma2": {**SMALL_HEADS, "sliding_window": 6},
    "gemma3_text": {**SMALL_HEADS, "sliding_window": 6, "layer_types": MIXED},
    "gemma4_text": {
        **SMALL_HEADS,
        "num_global_key_value_heads": 1,
        "global_head_dim": 16,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 24,
        "sliding_window": 6,
        "layer_types": MIXED,
    },
    "glm_moe_dsa": {
        **SELECTED,
        "num_hidden_layers": 4,
        "indexer_types": ["full", "shared", "full", "shared"],
    },
    "gpt2": {"vocab_size": 61, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
    "gpt_neox": DENSE,
    "gpt_oss": {
        **SMALL_HEADS,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 6,
        "layer_types": MIXED,
    },
    "gptj": {
        "vocab_size": 61,
        "n_embd": 32,
        "n_layer": LAYERS,
        "n_head": 4,
        "n_positions": 64,
        "rotary_dim": 4,
    },
    "granite": DENSE,
    "jamba": {
        **DENSE,
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 3,
    },
    "llama4_text": {
        **SMALL_HEADS,
        "num_hidden_layers": 4,
        "intermediate_size_mlp": 40,
        "num_local_experts": 4,
        "attention_chunk_size": 4,
    },
    "mamba": {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": LAYERS, "state_size": 8},
    "mamba2": {
        "vocab_size": 61,
        "hidden_size": 32,
        "num_hidden_layers": LAYERS,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 2,
        "state_size": 8,
        "chunk_size": 4,
    },
    "minimax_m2": {
        **SMALL_HEADS,
        "num_local_experts": 4,
        "rotary_dim": 4,
        "num_experts_per_tok": 2,
    },
    "mixtral": {**DENSE, "num_local_experts": 4},
    "nemotron_h": {
        **SMALL_HEADS,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "ssm_state_size": 8,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "chunk_size": 4,
        "n_routed_experts": 4,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 24,
    },
    "olmo2": DENSE,
    "olmoe": {**DENSE, "num_experts": 4, "num_experts_per_tok": 2},
    "opt": {
        "vocab_size": 61,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "phi": DENSE,
    "phi3": DENSE,
    "qwen2_vl": {
        "text_config": {**DENSE, "rope_parameters": MULTIMODAL_ROPE},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2},
    },
    "qwen3_5_text": DELTA,
    "qwen3_moe": {**SPARSE, "head_dim": 8},
    "qwen3_vl": {
        "text_config": {**SMALL_HEADS, "rope_parameters": INTERLEAVED_ROPE},
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
        },
    },
    "starcoder2": DENSE,
    "step3p7": {
        "text_config": {
            **SMALL_HEADS,
            "pad_token_id": 0,
            "num_sliding_attention_heads": 6,
            "sliding_window": 6,
            "layer_types": MIXED,
            "mlp_layer_types": ["dense", "sparse"],
            "n_routed_experts": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "share_expert_dim": 24,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
        },
    },
}

KINDS = {
    "deepseek_v3": (0, 1),
    "gemma3_text": (0, 1),
    "jamba": (0, 1, 0, 1),
    "olmo2": (0, 0),
}
"""Families with one and several kinds of layers, and which layer is of which."""

TOWERS = ("visual", "vision", "projector")
"""What modules are called that are no part of the language model."""

Values = dict[str, Tensor]


def config_of(family: str) -> ModelConfig:
    return ModelConfig("tiny", family, family, "float32", LAYERS, FAMILIES[family])


@cache
def hugging_face(family: str) -> Any:
    """The model of a family, every weight random."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    kind: Any = AutoModelForCausalLM
    if "text_config" in FAMILIES[family]:
        kind = AutoModelForMultimodalLM
    model = kind.from_config(config, attn_implementation="eager")
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.02)
    return model.eval()


def state_of(hf: Any) -> Values:
    """Parameters, and buffers under the names of those in a checkpoint and of those not."""
    buffers = dict(hf.named_buffers())
    computed = {f"computed.{name}": tensor for name, tensor in buffers.items()}
    return {name: x.detach() for name, x in hf.named_parameters()} | buffers | computed


def parameters_of(hf: Any) -> int:
    """The parameters of the language model."""
    named = hf.named_parameters()
    return sum(x.numel() for name, x in named if not any(tower in name for tower in TOWERS))


def tokens() -> Tensor:
    return torch.randint(3, 61, (BATCH, TOKENS + 1), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def theirs(hf: Any) -> Tensor:
    return hf(input_ids=tokens()).logits


@cache
def lowered(family: str, phase: Phase) -> Model:
    try:
        return lower_config(config_of(family), phase)
    except SizesNeededError:
        return lower_config(config_of(family), phase, SIZES)


def run(model: Model, state: Values, first: int, last: int) -> Values:
    inputs = {
        "input_ids": tokens()[:, first:last],
        "position_ids": torch.arange(first, last).expand(BATCH, last - first),
    }
    return run_model(model.bind(SIZES), {**state, **inputs})


def error(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode_of_a_family_yield_the_logits_of_hugging_face(family: str) -> None:
    hf = hugging_face(family)
    expected, state = theirs(hf), state_of(hf)
    model = lowered(family, "prefill")
    assert model.parameters == parameters_of(hf)
    prompt = run(model, state, 0, TOKENS)
    assert error(prompt.pop("logits"), expected[:, :TOKENS]) < TOLERANCE
    model = lowered(family, "decode")
    assert model.parameters == parameters_of(hf)
    step = run(model, {**state, **prompt}, TOKENS, TOKENS + 1)
    assert error(step["logits"], expected[:, TOKENS:]) < TOLERANCE


@pytest.mark.parametrize("family", KINDS)
def test_layers_of_one_kind_are_traced_once_and_that_changes_nothing(family: str) -> None:
    config = config_of(family)
    for phase in ("prefill", "decode") if family == "jamba" else ("prefill",):
        traced, whole = trace(config, phase), trace(config, phase, whole=True)
        assert traced.stacks[0].kinds == KINDS[family]
        kinds = whole.stacks[0].kinds
        assert kinds == (*range(len(kinds)),)
        assert lower(whole, config, phase) == lower(traced, config, phase)


def test_the_forward_pass_of_training_has_all_logits_and_no_caches() -> None:
    hf = hugging_face("gemma2")
    outputs = run(lowered("gemma2", "train"), state_of(hf), 0, TOKENS)
    assert outputs.keys() == {"logits"}
    assert error(outputs["logits"], theirs(hf)[:, :TOKENS]) < TOLERANCE


def test_a_layer_that_is_given_another_dtype_is_a_kind_of_its_own() -> None:
    plain = config_of("mamba")
    config = replace(plain, dtype="bfloat16", values={**plain.values, "residual_in_fp32": True})
    model = lower_config(config, "prefill")
    runs = [op for op in model.main.ops if op.kind == "repeat"]
    assert [op.text("body") for op in runs] == ["layer0", "layer1"]
    assert {op.type.dtype for op in runs} == {"float32"}
