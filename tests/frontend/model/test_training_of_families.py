"""Families that train in ways of their own: loss and every gradient are those of Hugging Face."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from wscc.frontend.model import ModelConfig, lower_config
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model, print_model
from wscc.passes.differentiate import Differentiate
from wscc.passes.fuse import Fuse

BATCH, TOKENS, LAYERS = 2, 9, 3
TOLERANCE, TOLERANCE_OF_SCANS = 1e-5, 1e-4

DENSE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 6,
}
SPARSE = {"num_local_experts": 4, "num_experts_per_tok": 2}

FAMILIES: dict[str, Mapping[str, Any]] = {
    # Fused projections, positions from a table, layer norms, tied embeddings.
    "gpt2": {"vocab_size": 61, "n_embd": 24, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
    # Attention and perceptron side by side, a part of each head turned.
    "gpt_neox": {**DENSE, "rotary_pct": 0.5},
    # Soft caps, windows in every other layer, scaled embeddings, a padding row.
    "gemma2": {**DENSE, "sliding_window": 4, "pad_token_id": 0},
    # Experts; all the same, and behind a latent attention in later layers only.
    "mixtral": {**DENSE, **SPARSE},
    "deepseek_v3": {
        **DENSE,
        "num_key_value_heads": 4,
        "head_dim": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "n_group": 2,
        "topk_group": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 12,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 6,
        "first_k_dense_replace": 1,
    },
    # Sinks.
    "gpt_oss": {**DENSE, **SPARSE, "sliding_window": 4},
    # A scan.
    "mamba2": {
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": LAYERS,
        "num_heads": 4,
        "head_dim": 12,
        "n_groups": 2,
        "state_size": 8,
        "chunk_size": 4,
    },
}

Values = dict[str, Tensor]


def hugging_face(family: str) -> Any:
    """The model of a family, every weight random."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.02)
    return model.eval()


def inputs() -> Values:
    """Tokens, the padding among them, and labels, some of which do not count."""
    ids = torch.randint(0, 61, (BATCH, TOKENS), generator=torch.Generator().manual_seed(0))
    ids[1, 4] = 0
    labels = ids.clone()
    labels[0, :3] = labels[1, -2] = -100
    return {"input_ids": ids, "labels": labels}


def theirs(hf: Any) -> Values:
    loss = hf(**inputs(), use_cache=False).loss
    loss.backward()
    named = {name: parameter.grad for name, parameter in hf.named_parameters()}
    return {"loss": loss.detach()} | {
        f"{name}.gradient": gradient for name, gradient in named.items() if gradient is not None
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_every_gradient_of_a_family_are_those_of_hugging_face(family: str) -> None:
    hf = hugging_face(family)
    expected = theirs(hf)
    config = ModelConfig("tiny", family, family, "float32", LAYERS, FAMILIES[family])
    model = lower_config(config, "train").map(Fuse().run)
    trained = Differentiate().run(model)
    trained.verify()
    assert parse_model(print_model(trained)) == trained
    sizes = {"batch": BATCH, "sequence": TOKENS}
    assert trained.bind(sizes).flops == 3 * model.bind(sizes).flops
    state = {name: x.detach() for name, x in (*hf.named_parameters(), *hf.named_buffers())}
    state |= {f"computed.{name}": buffer for name, buffer in hf.named_buffers()}
    positions = {"position_ids": torch.arange(TOKENS).expand(BATCH, TOKENS)}
    found = run_model(trained.bind(sizes), {**state, **inputs(), **positions})
    assert found.keys() == expected.keys()
    tolerance = TOLERANCE_OF_SCANS if family == "mamba2" else TOLERANCE
    for name, gradient in expected.items():
        error = (found[name].reshape(gradient.shape) - gradient).norm() / gradient.norm()
        assert error < tolerance, name
