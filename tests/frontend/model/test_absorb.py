"""Latent attention in decode: the absorbed graph against the expanded one and closed formulas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.absorb import absorb
from wscc.ir import dims
from wscc.ir.dims import size
from wscc.ir.graph import Graph
from wscc.ir.interpreter import run_model, run_op
from wscc.ir.kinds import graph_flops
from wscc.ir.text import parse_graph

HEADS, LATENT, NOPE, ROPE, VALUE = 4, 16, 8, 6, 10

EXPANDED = """
graph layer0 {{
  input %query: float32[batch, 4, {queries}, 14] = data query
  input %latent: float32[batch, 1, context, 16] = cache cache.*.key
  input %rope: float32[batch, 1, context, 6] = cache cache.*.value
  input %weight: float32[{weight}] = weight expand
{body}
  %attention: float32[batch, {queries}, 4, 10] = attention(%query, %key, %value{extras}
  output %attention = data out
}}
"""

TOGETHER = (
    '  %kv: float32[batch, 1, context, 72] = matmul(%latent, %weight) {indices = "bhse,fe->bhsf"}\n'
    "  %heads: float32[batch, context, 4, 18] = reshape(%kv)\n"
    "  %nope: float32[batch, context, 4, 8] = slice(%heads)"
    ' {indices = "bthd->bthd", along = "d", start = 0, stop = 8}\n'
    "  %values: float32[batch, context, 4, 10] = slice(%heads)"
    ' {indices = "bthd->bthd", along = "d", start = 8, stop = 18}\n'
    "  %value: float32[batch, 4, context, 10] = transpose(%values) {order = [0, 2, 1, 3]}\n"
    "  %turned: float32[batch, 4, context, 6] = elementwise(%rope)"
    ' {indices = "bzsd->bhsd", expr = "a"}\n'
    "  %key: float32[batch, 4, context, 14] = concat(%nope, %turned)"
    ' {indices = "bshd,bhsd->bhsd", along = "d"}\n'
)

ROPE_FIRST = TOGETHER.replace(
    'concat(%nope, %turned) {indices = "bshd,bhsd->bhsd"',
    'concat(%turned, %nope) {indices = "bhsd,bshd->bhsd"',
)

TRANSPOSED = TOGETHER.replace('"bhse,fe->bhsf"', '"bhse,ef->bhsf"')

CHOSEN = '  %chosen: int64[batch, 1, 2] = elementwise() {indices = "->bsk", expr = "1"}\n'

HEADS_IN_TURNS = (
    TOGETHER.replace("context, 4, 18] = reshape", "context, 18, 4] = reshape")
    .replace("slice(%heads)", "slice(%turns)")
    .replace(
        "  %nope",
        "  %turns: float32[batch, context, 4, 18] = transpose(%heads) {order = [0, 1, 3, 2]}\n"
        "  %nope",
    )
)

KEYS_CHANGED = TOGETHER.replace("%key: ", "%raw: ") + (
    "  %key: float32[batch, 4, context, 14] = elementwise(%raw)"
    ' {indices = "bhsd->bhsd", expr = "tanh(a)"}\n'
)

PLAIN = ") {scale = 0.3, causal = true}"

CASES = {
    "keys and values by one weight": (TOGETHER, "72, 16", PLAIN),
    "rotary part first": (ROPE_FIRST, "72, 16", PLAIN),
    "weight transposed": (TRANSPOSED, "16, 72", PLAIN),
    "a selection of tokens": (
        CHOSEN + TOGETHER,
        "72, 16",
        ', %chosen) {scale = 0.3, causal = true, extras = ["indices"]}',
    ),
}


def graph_of(body: str, weight: str, extras: str, queries: str = "1") -> Graph:
    text = EXPANDED.format(body=body.rstrip("\n"), weight=weight, extras=extras, queries=queries)
    return parse_graph(text.strip())


def value_of(graph: Graph, given: dict[str, Tensor]) -> Tensor:
    values = dict(given)
    for op in graph.ops:
        results = run_op(op, [values[name] for name in op.operands])
        values.update(zip(op.results, results, strict=True))
    return values[graph.output_names[0]]


def inputs_of(graph: Graph) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        value.name: torch.randn([size(dim) for dim in value.type.shape], generator=generator)
        for value in graph.inputs
    }


@pytest.mark.parametrize("case", CASES)
def test_attention_over_latents_equals_attention_over_expanded_keys(case: str) -> None:
    graph = graph_of(*CASES[case])
    absorbed = absorb(graph)
    absorbed.verify()
    assert [op.kind for op in absorbed.ops].count("matmul") == 2
    keys = next(op for op in absorbed.ops if op.kind == "attention").operands[1]
    assert absorbed.types[keys].shape[1] == 1
    before, after = (g.bind({"batch": 2, "context": 7}) for g in (graph, absorbed))
    given = inputs_of(before)
    torch.testing.assert_close(value_of(after, given), value_of(before, given))


def test_absorbed_flops_are_those_of_attention_over_latents_and_of_the_weight_once() -> None:
    absorbed = absorb(graph_of(*CASES["keys and values by one weight"]))
    batch, context = dims.symbol("batch"), dims.symbol("context")
    attention = batch * context * (2 * HEADS * (2 * LATENT + ROPE))
    assert graph_flops(absorbed) == attention + batch * (2 * HEADS * (NOPE + VALUE) * LATENT)


LEFT_ALONE = {
    "many queries make expanding cheaper": graph_of(TOGETHER, "72, 16", PLAIN, "context"),
    "no block of rows is a head's": graph_of(HEADS_IN_TURNS, "72, 16", PLAIN),
    "keys change after they are expanded": graph_of(KEYS_CHANGED, "72, 16", PLAIN),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_is_no_cheaper_or_no_latent_attention_is_left_alone(case: str) -> None:
    LEFT_ALONE[case].verify()
    assert absorb(LEFT_ALONE[case]) is LEFT_ALONE[case]


TINY: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "dtype": "float32",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
}

DEEPSEEK_V3: dict[str, Any] = {
    **TINY,
    "dtype": "bfloat16",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
}


def written(folder: Path, values: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_decode_of_a_tiny_deepseek_v3_equals_hugging_face(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model(**TINY), attn_implementation="eager")
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    state = {name: t.detach() for name, t in (*hf.named_parameters(), *hf.named_buffers())}
    state |= {f"computed.{name}": tensor for name, tensor in hf.named_buffers()}
    ids, positions = torch.randint(0, 61, (2, 8)), torch.arange(8).expand(2, -1)
    with torch.no_grad():
        cache = hf(input_ids=ids[:, :7], use_cache=True).past_key_values
        for at, layer in enumerate(cache.layers):
            state |= {f"cache.{at}.key": layer.keys, f"cache.{at}.value": layer.values}
        expected = hf(input_ids=ids[:, 7:], past_key_values=cache).logits
    model = lower_config(read_config(written(tmp_path, TINY)), "decode").map(absorb)
    bound = model.bind({"batch": 2, "sequence": 1, "context": 7})
    given = {**state, "input_ids": ids[:, 7:], "position_ids": positions[:, 7:]}
    logits = run_model(bound, given)["logits"]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    for body, _, _ in model.runs():
        attention = next(op for op in body.ops if op.kind == "attention")
        assert body.types[attention.operands[2]].shape[1:] == (1, dims.symbol("context") + 1, 16)


def test_decode_of_deepseek_v3_costs_what_the_closed_formula_says(tmp_path: Path) -> None:
    path = written(tmp_path, DEEPSEEK_V3)
    model = lower_config(read_config(path), "decode").map(absorb)
    hidden, heads, latent, rope = 7168, 128, 512, 64
    attention = hidden * 1536 + 1536 * heads * 192 + hidden * (latent + rope)
    attention += latent * heads * 256 + heads * 128 * hidden
    dense, expert = 3 * hidden * 18432, 3 * hidden * 2048
    weights = 61 * attention + 3 * dense + 58 * (9 * expert + 256 * hidden) + 129280 * hidden
    for batch, context in ((1, 2048), (8, 4096), (64, 32768)):
        scores = 61 * 2 * heads * (2 * latent + rope) * (context + 1)
        expected = batch * (2 * weights + scores)
        found = model.bind({"batch": batch, "sequence": 1, "context": context}).flops
        assert isinstance(found, int)
        assert found == pytest.approx(expected, rel=1e-3)
