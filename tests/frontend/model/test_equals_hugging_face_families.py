"""Many families, tiny: prefill, and decode against the caches of our own prefill, yield the logits
of one pass of Hugging Face over all tokens."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from wscc.frontend.model import ModelConfig, SizesNeededError, lower_config
from wscc.frontend.model.lower import lower
from wscc.frontend.model.trace import trace
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model

TOKENS, BATCH, LAYERS = 11, 2, 4
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
    "first_k_dense_replace": 2,
    "n_group": 2,
    "topk_group": 1,
}
SMALL_HEADS = {**DENSE, "head_dim": 8}
MIXED = ["sliding_attention", "full_attention"] * 2

FAMILIES: dict[str, Mapping[str, Any]] = {
    "bloom": {"vocab_size": 61, "hidden_size": 32, "n_layer": LAYERS, "n_head": 4},
    "cohere": DENSE,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
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
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 3,
    },
    "llama4_text": {
        **SMALL_HEADS,
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
    "mixtral": {**DENSE, "num_local_experts": 4},
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
    "qwen3_moe": {**SPARSE, "head_dim": 8},
    "starcoder2": DENSE,
}

KINDS = {
    "deepseek_v3": (0, 0, 1, 1),
    "gemma3_text": (0, 1, 0, 1),
    "gpt_oss": (0, 1, 0, 1),
    "jamba": (0, 1, 0, 1),
}
"""Families with several kinds of layers, and which layer is of which."""

Values = dict[str, Tensor]


def config_of(family: str) -> ModelConfig:
    return ModelConfig("tiny", family, family, "float32", LAYERS, FAMILIES[family])


def hugging_face(family: str) -> Any:
    """The model of a family, every weight random."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.02)
    return model.eval()


def state_of(hf: Any) -> Values:
    return {name: x.detach() for name, x in (*hf.named_parameters(), *hf.named_buffers())}


def tokens() -> Tensor:
    return torch.randint(3, 61, (BATCH, TOKENS + 1), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def theirs(hf: Any) -> Tensor:
    return hf(input_ids=tokens()).logits


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
    prompt = run(lowered(family, "prefill"), state, 0, TOKENS)
    assert error(prompt.pop("logits"), expected[:, :TOKENS]) < TOLERANCE
    step = run(lowered(family, "decode"), {**state, **prompt}, TOKENS, TOKENS + 1)
    assert error(step["logits"], expected[:, TOKENS:]) < TOLERANCE


@pytest.mark.parametrize("family", KINDS)
def test_layers_of_one_kind_are_traced_once_and_that_changes_nothing(family: str) -> None:
    hf = hugging_face(family)
    state, config = state_of(hf), config_of(family)
    caches: Values = {}
    for phase, first, last in (("prefill", 0, TOKENS), ("decode", TOKENS, TOKENS + 1)):
        traced = trace(config, phase)
        assert traced.kinds == KINDS[family]
        stubbed = lower(traced, config, phase)
        whole = lower(trace(config, phase, whole=True), config, phase)
        assert len(whole.graphs) == 1 + LAYERS
        assert whole.parameters == stubbed.parameters
        ours = run(stubbed, {**state, **caches}, first, last)
        others = run(whole, {**state, **caches}, first, last)
        assert ours.keys() == others.keys()
        assert all(torch.equal(ours[name], others[name]) for name in ours)
        assert error(ours.pop("logits"), theirs(hf)[:, first:last]) < TOLERANCE
        caches = ours


def test_the_forward_pass_of_training_has_all_logits_and_no_caches() -> None:
    hf = hugging_face("gemma2")
    outputs = run(lowered("gemma2", "train"), state_of(hf), 0, TOKENS)
    assert outputs.keys() == {"logits"}
    assert error(outputs["logits"], theirs(hf)[:, :TOKENS]) < TOLERANCE
