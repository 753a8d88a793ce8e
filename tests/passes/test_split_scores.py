"""Attention over joined queries and keys takes the parts; latent attention is split by heads."""

import json

import pytest
import torch
from wscc.frontend.model import load_model
from wscc.ir.dims import symbol
from wscc.ir.graph import Graph, Model
from wscc.ir.interpreter import run_model
from wscc.ir.operators.attention import extras_of
from wscc.ir.text import parse_graph
from wscc.passes.axes import ROWS
from wscc.passes.canonical import canonical_form
from wscc.passes.dimensions import roles_of
from wscc.passes.lay_out import LayOut
from wscc.passes.manager import PassManager
from wscc.passes.pieces import chain_of
from wscc.passes.split_scores import SplitScores

JOINED = """graph main {
  input %q0: float32[batch, 3, 4, 6] = data q0
  input %q1: float32[batch, 4, 3, 2] = data q1
  input %k0: float32[batch, 3, 4, 6] = data k0
  input %k1: float32[batch, 1, 3, 2] = data k1
  input %v: float32[batch, 4, 3, 5] = data v
  %q: float32[batch, 4, 3, 8] = concat(%q0, %q1) {indices = "bshd,bhsd->bhsd", along = "d"}
  %each: float32[batch, 4, 3, 2] = elementwise(%k1) {indices = "bzsd->bhsd", expr = "a"}
  %k: float32[batch, 4, 3, 8] = concat(%k0, KEY) {indices = "bshd,bhsd->bhsd", along = "d"}
  %y: float32[batch, 3, 4, 5] = attention(%q, %k, %v) {scale = 0.25, causal = true}
  output %y = data y
}"""


def graph_of(key: str = "%each") -> Graph:
    graph = parse_graph(JOINED.replace("KEY", key))
    graph.verify()
    return graph


def run(graph: Graph) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    bound = graph.bind({"batch": 2})
    shapes = {i.source: [int(str(d)) for d in i.type.shape] for i in bound.inputs}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return run_model(Model("m", "prefill", "float32", {"main": bound}), state)["y"]


def test_joined_queries_and_keys_are_taken_apart() -> None:
    graph = graph_of()
    split = SplitScores().run(graph)
    split.verify()
    (attention,) = (op for op in split.ops if op.kind == "attention")
    assert extras_of(attention) == ("more_query", "more_key")
    assert attention.operands[3:] == ("q1", "k1")
    assert not any(op.kind in ("concat", "elementwise") for op in split.ops)
    torch.testing.assert_close(run(split), run(graph))


def test_keys_that_every_head_has_of_its_own_stay_joined() -> None:
    graph = graph_of("%q1")
    assert SplitScores().run(graph) == graph.with_ops(
        [op for op in graph.ops if op.result != "each"]
    )


QUANTIZED = """graph main {
  input %x: float32[batch, sequence, 12] = carried x
  input %w: float8_e4m3fn[4, 8, 12] = weight w
  input %s: float32[4, 1, 1] = buffer s
  input %k: float32[batch, 4, sequence, 8] = carried k
  %whole: float32[4, 8, 12] = dequantize(%w, %s) {indices = "gde,GDE->gde", BLOCKS}
  %q: float32[batch, 4, sequence, 8] = matmul(%x, %whole) {indices = "bse,gde->bgsd"}
  %y: float32[batch, 4, sequence, sequence] = matmul(%q, %k) {indices = "bgsd,bgtd->bgst"}
  output %y = carried y
}"""
BLOCKS = 'stored = "float8_e4m3fn", blocks = ["G = 1 g", "D = 8 d", "E = 12 e"]'


def test_a_product_with_a_quantized_weight_is_no_attention() -> None:
    """Heads that it makes stay heads, and what it sums is no head's width."""
    roles = roles_of(parse_graph(QUANTIZED.replace("BLOCKS", BLOCKS)))
    assert [roles.part("q", at) for at in (1, 3)] == ["head", "width"]
    assert roles.part("x", 2) != "width"


LATENT = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "dtype": "float32",
    "vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "moe_intermediate_size": 12,
    "num_hidden_layers": 2, "first_k_dense_replace": 1, "num_attention_heads": 4,
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Prefill of a tiny model of latent attention and experts."""
    path = tmp_path_factory.mktemp("latent") / "config.json"
    path.write_text(json.dumps(LATENT))
    return load_model(str(path), "prefill")[1]


def test_no_core_has_all_tokens_of_a_prompt(latent: Model) -> None:
    """Where tiles travel, tokens stay over the rows in latent attention and in experts."""
    chain = chain_of(canonical_form(latent, PassManager()))
    for name, mapped in LayOut("matmul").run(chain).items():
        if name.startswith("layer"):
            for value, type_ in mapped.graph.types.items():
                cut = zip(type_.shape, mapped.shardings[value].axes, strict=True)
                tokens = [axes for dim, axes in cut if dim == symbol("sequence")]
                assert not tokens or any(set(axes) & set(ROWS) for axes in tokens), value


def test_sums_of_experts_are_scattered_over_the_columns(latent: Model) -> None:
    chain = chain_of(canonical_form(latent, PassManager()))
    mapped = LayOut("matmul").run(chain)["layer1"]
    (summed,) = (op for op in mapped.graph.ops if op.result.startswith("experts.reduce"))
    assert summed.kind == "reduce_scatter"
