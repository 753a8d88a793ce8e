"""A model with a prediction layer and a load of its experts, mapped on virtual devices."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import lower_config, read_config
from wscc.ir.expert_load import expert_load_of, with_expert_load
from wscc.ir.graph import Phase
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Workload
from wscc.ir.program_text import parse_program, print_program
from wscc.passes.compile import Compiler
from wscc.passes.verify import verify

TOKENS, BATCH = 6, 2

CONFIG: dict[str, Any] = {
    "model_type": "glm4_moe",
    "torch_dtype": "float32",
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 20,
    "moe_intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_nextn_predict_layers": 1,
}
LOAD = (3, 1, 1, 1)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_mapped_model_with_a_prediction_layer_computes_what_its_graph_computes(
    phase: Phase, wse2: Hardware, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    config = replace(read_config(str(path)), prediction_layers=1)
    model = with_expert_load(lower_config(config, phase), LOAD)
    workload = Workload(phase, BATCH, TOKENS, TOKENS, "float32")
    pins = Pins(dp=1, pp=2, region=(2, 3), microbatch=BATCH)
    program = Compiler(wse2, workload, pins).compile(model)
    program.verify()
    assert parse_program(print_program(program)) == program
    loads = {
        op.attributes.get("load")
        for mapped in program.graphs.values()
        for op in mapped.graph.ops
        if op.kind == "chosen_matmul"
    }
    assert loads == {LOAD} == {expert_load_of(model)}
    found = verify(model, program)
    assert {"logits", "logits.prediction.0", "cache.2.key"} <= {o.output for o in found.outputs}
    assert found.equal, found
