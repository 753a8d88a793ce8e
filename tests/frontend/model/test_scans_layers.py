"""Layers that scan: with operators of ours in place of Transformers' loops, a tiny model of each
family yields what it yielded before, for a prompt and for the token after it; and so do graphs."""

import json
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.minimax.modeling_minimax import MiniMaxCache
from wscc.frontend.model import lower_config, read_config, scans
from wscc.frontend.model.aten import UnsupportedError
from wscc.ir.graph import Attribute, Op, TensorType
from wscc.ir.interpreter import run_model, run_op

PROMPT = 7
TOKENS = torch.arange(1, 2 * PROMPT + 3).reshape(2, PROMPT + 1)
POSITIONS = torch.arange(PROMPT + 1).expand(2, -1)

BASE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 5,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}
MAMBA2 = {
    "mamba_n_heads": 6,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 5,
    "mamba_chunk_size": 4,
    "mamba_expand": 2,
}
HYBRID = {"layers_block_type": ["mamba", "hybrid", "mamba"], "mamba_d_state": 5}
FAMILIES: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 5},
    "falcon_mamba": {"state_size": 5},
    "mamba2": {"num_heads": 6, "head_dim": 8, "n_groups": 2, "state_size": 5, "chunk_size": 4},
    "bamba": {**MAMBA2, "attn_layer_indices": [1]},
    "falcon_h1": {**MAMBA2, "mamba_d_ssm": 48},
    "granitemoehybrid": {
        **MAMBA2,
        "layer_types": ["mamba", "attention", "mamba"],
        "shared_intermediate_size": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "moe"],
        "mamba_num_heads": 6,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "ssm_state_size": 5,
        "chunk_size": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
    "zamba2": {
        **HYBRID,
        "n_mamba_heads": 6,
        "mamba_ngroups": 2,
        "chunk_size": 4,
        "num_mem_blocks": 1,
    },
    "zamba": {**HYBRID, "n_mamba_heads": 2},
    "jamba": {
        "mamba_d_state": 5,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "num_experts": 1,
        "num_experts_per_tok": 1,
    },
    "qwen3_next": {**DELTA, **EXPERTS},
    "qwen3_5_text": DELTA,
    "qwen3_5_moe_text": {**DELTA, **EXPERTS},
    "olmo_hybrid": DELTA,
    "kimi_linear": {
        **EXPERTS,
        "num_key_value_heads": 4,
        "layer_types": DELTA["layer_types"],
        "linear_num_heads": 2,
        "linear_head_dim": 6,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
}
OWN_CACHES: dict[str, dict[str, Any]] = {
    "minimax": {
        "layer_types": DELTA["layer_types"],
        "block_size": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "recurrent_gemma": {
        "lru_width": 24,
        "block_types": ["recurrent", "recurrent", "attention"],
        "attention_window_size": 16,
    },
}
TRACED = ("mamba", "nemotron_h", "qwen3_5_text")
"""The families whose graphs are run here: one for each way to scan."""


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[None]:
    """Operators of scans get values, those of the graph operators' references."""
    library = torch.library.Library("wscc", "IMPL", "CPU")
    library.impl("scan", lambda *arguments: run_scan(*arguments)[0])
    library.impl("scan_kept", run_scan)
    library.impl("convolve", lambda x, weight: run_convolve(x, weight, None, 0)[0])
    library.impl("convolve_kept", run_convolve)
    yield
    library._destroy()


def run_scan(
    operands: Sequence[Tensor],
    parts: str,
    indices: str,
    sequence: str,
    delta: bool,
    scale: float | None,
    chunk: int | None,
    dtype: torch.dtype,
) -> Sequence[Tensor]:
    attributes: dict[str, Attribute] = {"indices": indices, "parts": parts, "sequence": sequence}
    attributes |= {"delta": delta, "scale": 1.0 if scale is None else scale}
    count = indices.count(",", indices.index("->")) + 1
    types = [TensorType(str(dtype).removeprefix("torch."), ()), TensorType("float32", ())][:count]
    names = ("y", "state")[:count]
    return run_op(Op("scan", (), names, tuple(types), attributes), operands)


def run_convolve(
    x: Tensor, weight: Tensor, initial: Tensor | None, window: int
) -> Sequence[Tensor]:
    operands = [x, weight] if initial is None else [x, weight, initial]
    left, right = ["bcs", "ck", "bcw"][: len(operands)], ["bcs", "bcw"][: 1 + (window > 0)]
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(left)}->{','.join(right)}",
        "positions": "s",
        "kernel": "k",
        "outputs": "s",
        "stride": (1,),
        "dilation": (1,),
        "before": (weight.shape[1] - 1,),
        "after": (0,),
        "window": window,
    }
    type_ = TensorType("float32", ())
    return run_op(
        Op("convolve", (), ("y", "w")[: len(right)], (type_,) * len(right), attributes), operands
    )


def tiny(family: str) -> Any:
    torch.manual_seed(0)
    values = BASE | (FAMILIES | OWN_CACHES)[family]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def run(model: Any, cache: Any = None) -> list[dict[str, Tensor]]:
    """The logits of a prompt and of one more token, and what is kept after each."""
    cache = DynamicCache(config=model.config) if cache is None else cache
    taken = signature(model.forward).parameters
    name = "past_key_values" if "past_key_values" in taken else "cache_params"
    found: list[dict[str, Tensor]] = []
    for part in (slice(PROMPT), slice(PROMPT, None)):
        given = {"input_ids": TOKENS[:, part], name: cache, "use_cache": True}
        if "position_ids" in taken:
            given["position_ids"] = POSITIONS[:, part]
        with torch.no_grad():
            out = model(**given)
        found.append({"logits": out.logits, **kept(cache)})
    return found


def kept(cache: Any) -> dict[str, Tensor]:
    """What a cache holds, by source."""
    names = {"key": "keys", "value": "values", "conv": "conv_states", "state": "recurrent_states"}
    found: dict[str, Tensor] = {}
    for at, layer in enumerate(cache.layers):
        for source, attribute in names.items():
            value = getattr(layer, attribute, None)
            value = value[0] if isinstance(value, dict) else value
            if value is not None:
                found[f"cache.{at}.{source}"] = value.clone()
    return found


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert float((found[name] - value).abs().max() / value.abs().max()) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_yields_the_same_with_our_operators(family: str) -> None:
    model = tiny(family)
    expected = run(model)
    scans.install(model)
    assert any("forward" in vars(module) for module in model.modules())
    assert any(".conv" in name for name in expected[1])
    for own, theirs in zip(run(model), expected, strict=True):
        check(own, theirs)


@pytest.mark.parametrize("family", OWN_CACHES)
def test_a_model_with_states_of_its_own_keeps_them_in_the_cache_of_all_others(family: str) -> None:
    model = tiny(family)
    expected = run(model, MiniMaxCache() if family == "minimax" else None)
    scans.install(model)
    found = run(model)
    assert "cache.0.state" in found[0]
    for own, theirs in zip(found, expected, strict=True):
        check({"logits": own["logits"]}, {"logits": theirs["logits"]})


def test_no_other_model_changes() -> None:
    before = dict(vars(modeling_mamba2))
    scans.install(tiny("mamba2"))
    assert vars(modeling_mamba2) == before
    assert not any("forward" in vars(module) for module in tiny("mamba2").modules())


def test_a_function_with_other_parameters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(hidden_states: Tensor, dt: Tensor, A: Tensor, reverse: bool) -> None:  # noqa: N803
        del hidden_states, dt, A, reverse

    monkeypatch.setattr(modeling_mamba2, "mamba2_chunk_scan", changed)
    with pytest.raises(UnsupportedError, match="parameters of mamba2_chunk_scan in Mamba2Mixer"):
        scans.install(tiny("mamba2"))


def test_a_function_with_a_kernel_that_is_not_known_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = modeling_mamba2.mamba2_chunk_scan
    monkeypatch.setattr(modeling_mamba2, "apply_mask_to_padding_states", known)
    with pytest.raises(UnsupportedError, match="function apply_mask_to_padding_states in Mamba2"):
        scans.install(tiny("mamba2"))


@pytest.mark.parametrize("family", TRACED)
def test_a_graph_yields_the_same(family: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    values = {"model_type": family, "dtype": "float32", **BASE, **(FAMILIES | OWN_CACHES)[family]}
    path.write_text(json.dumps(values))
    config = read_config(str(path))
    model = tiny(family)
    after_prompt, after_token = run(model)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: value.detach() for name, value in state.items()}
    state |= {f"computed.{name}": buffer for name, buffer in model.named_buffers()}

    prefill = lower_config(config, "prefill").bind({"batch": len(TOKENS), "sequence": PROMPT})
    inputs = {"input_ids": TOKENS[:, :PROMPT], "position_ids": POSITIONS[:, :PROMPT]}
    check(run_model(prefill, {**state, **inputs}), after_prompt)

    decode = lower_config(config, "decode").bind({"batch": len(TOKENS), "context": PROMPT})
    inputs = {"input_ids": TOKENS[:, PROMPT:], "position_ids": POSITIONS[:, PROMPT:]}
    check(run_model(decode, {**state, **after_prompt, **inputs}), after_token)
