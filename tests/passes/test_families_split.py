"""Families beyond the simplest, traced, compiled and run on virtual devices: their mapped programs
compute what their graphs do. That the graphs compute what Hugging Face does is shown elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import load_model
from wscc.ir.graph import Phase
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Workload
from wscc.passes.compile import Compiler
from wscc.passes.verify import verify

TOKENS, BATCH = 6, 2

SHARED: dict[str, Any] = {
    "torch_dtype": "float32",
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}

FAMILIES: tuple[tuple[str, Phase, dict[str, Any]], ...] = (
    ("gpt_neox", "prefill", {"rotary_pct": 0.5, "hidden_size": 32}),
    ("gemma2", "decode", {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}),
    ("gpt_oss", "decode", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    (
        "deepseek_v3",
        "prefill",
        {
            "num_key_value_heads": 4,
            "q_lora_rank": 12,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 12,
            "first_k_dense_replace": 1,
        },
    ),
    (
        "mamba2",
        "decode",
        {
            "num_heads": 6,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 2,
            "expand": 2,
            "tie_word_embeddings": False,
        },
    ),
)


@pytest.mark.parametrize(("family", "phase", "more"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_a_mapped_family_computes_what_its_graph_computes(
    family: str, phase: Phase, more: dict[str, Any], wse2: Hardware, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHARED | {"model_type": family} | more))
    model = load_model(str(path), phase)[1]
    workload = Workload(phase, BATCH, TOKENS, TOKENS, "float32")
    pins = Pins(dp=1, pp=2, region=(2, 3), microbatch=BATCH)
    program = Compiler(wse2, workload, pins).compile(model)
    found = verify(model, program)
    assert found.equal, found
