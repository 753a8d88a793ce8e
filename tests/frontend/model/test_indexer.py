"""Sparse attention with an indexer: a tiny DeepSeek V3.2 against Hugging Face."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.absorb import absorb
from wscc.frontend.model.indexer import install
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model

BATCH, TOKENS, SELECTED = 2, 9, 4

TINY: dict[str, Any] = {
    "model_type": "deepseek_v32",
    "dtype": "float32",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 1,
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
    "index_n_heads": 2,
    "index_head_dim": 8,
    "index_topk": SELECTED,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
}


@pytest.fixture(scope="module")
def hf() -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**TINY)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Phase], Model]:
    path = tmp_path_factory.mktemp("tiny") / "config.json"
    path.write_text(json.dumps(TINY))
    made: dict[Phase, Model] = {}

    def make(phase: Phase) -> Model:
        if phase not in made:
            made[phase] = lower_config(read_config(str(path)), phase)
        return made[phase]

    return make


def state_of(hf: Any, ids: Tensor, first: int) -> dict[str, Tensor]:
    tensors = {name: t.detach() for name, t in (*hf.named_parameters(), *hf.named_buffers())}
    computed = {f"computed.{name}": tensor for name, tensor in hf.named_buffers()}
    positions = torch.arange(first, first + ids.shape[1]).expand(BATCH, -1)
    return {**tensors, **computed, "input_ids": ids, "position_ids": positions}


@pytest.mark.parametrize("tokens", [TOKENS, SELECTED - 1])
def test_a_prompt_equals_hugging_face_with_more_and_with_fewer_keys_than_are_selected(
    hf: Any, graph: Callable[[Phase], Model], tokens: int
) -> None:
    ids = torch.randint(0, 61, (BATCH, tokens), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = hf(input_ids=ids).logits
    bound = graph("prefill").bind({"batch": BATCH, "sequence": tokens, "context": 0})
    logits = run_model(bound, state_of(hf, ids, 0))["logits"]
    assert logits.shape[1] in (1, tokens)
    torch.testing.assert_close(logits, expected[:, -logits.shape[1] :], rtol=1e-4, atol=1e-4)


def test_a_step_equals_hugging_face_absorbed_and_over_selected_tokens(
    hf: Any, graph: Callable[[Phase], Model]
) -> None:
    ids = torch.randint(0, 61, (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))
    state = state_of(hf, ids[:, -1:], TOKENS - 1)
    with torch.no_grad():
        cache = hf(input_ids=ids[:, :-1], use_cache=True).past_key_values
        for at, layer in enumerate(cache.layers):
            state |= {f"cache.{at}.key": layer.keys, f"cache.{at}.value": layer.values}
            state |= {f"cache.{at}.index": layer.indexer_keys}
        expected = hf(input_ids=ids[:, -1:], past_key_values=cache).logits
    model = graph("decode").map(absorb)
    bound = model.bind({"batch": BATCH, "sequence": 1, "context": TOKENS - 1})
    torch.testing.assert_close(run_model(bound, state)["logits"], expected, rtol=1e-4, atol=1e-4)


def test_attention_costs_no_more_than_the_selected_tokens(graph: Callable[[Phase], Model]) -> None:
    model = graph("decode").map(absorb)

    def flops(context: int) -> int:
        found = model.bind({"batch": 1, "sequence": 1, "context": context}).flops
        assert isinstance(found, int)
        return found

    heads, latent, rope = 4, 16, 4
    index = 2 * 2 * 8 + 2 * 2  # scores of every index head, and their weighted sum
    attention = 2 * heads * (2 * latent + rope)
    assert flops(1001) - flops(1000) == index
    assert flops(SELECTED - 2) - flops(SELECTED - 3) == index + attention


def test_an_indexer_selects_by_the_constant_where_the_number_of_keys_is_a_symbol() -> None:
    class Indexer(nn.Module):
        index_topk = 64

        def forward(self, scores: Tensor) -> Tensor:
            return scores.topk(min(self.index_topk, scores.shape[-1]), dim=-1).indices

    holder = nn.Sequential(Indexer())
    plain = holder(torch.rand(3, 5))
    install(holder)
    assert holder(torch.rand(3, 5)).shape == plain.shape == (3, 5)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("keys")}
    program = torch.export.export(holder, (torch.rand(3, 5),), dynamic_shapes=(sizes,))
    (chosen,) = [n for n in program.graph.nodes if str(n.target) == "wscc.topk.default"]
    assert [place.shape[1] for place in chosen.meta["val"]] == [64, 64]
