"""Prediction layers behind a model, run, yield what Transformers' own yield: logits, caches, and in
training the loss and every gradient."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import MtpCache
from transformers.core_model_loading import WeightRenaming, rename_source_key
from transformers.modeling_layers import MtpModel
from wscc.frontend.model import ModelConfig, lower_config, read_config, trace_key
from wscc.ir.errors import UserError
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model, print_model
from wscc.passes.differentiate import Differentiate
from wscc.passes.fuse import Fuse

TOLERANCE = 1e-5
BATCH, TOKENS = 2, 9

TINY: dict[str, Any] = {
    "dtype": "float32",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "moe_intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
GROUPED = {"n_routed_experts": 8, "n_shared_experts": 1, "n_group": 2, "topk_group": 1}
LATENT = {"kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 6}

FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        **GROUPED,
        **LATENT,
        "q_lora_rank": 10,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 2,
    },
    "glm4_moe": {
        **GROUPED,
        "head_dim": 6,
        "partial_rotary_factor": 0.5,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
    },
    "mellum": {
        "head_dim": 6,
        "num_experts": 8,
        "num_mtp_layers": 1,
        "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "bailing_hybrid": {
        **GROUPED,
        **LATENT,
        "head_dim": 6,
        "num_hidden_layers": 4,
        "layer_group_size": 2,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
        "mtp_layer_types": ["full_attention"],
        "mtp_mlp_layer_types": ["sparse"],
        "mtp_loss_scaling_factor": 0.2,
    },
}

PUBLISHED = {
    "deepseek_v3": ["model.layers.4.eh_proj.weight", "model.layers.3.shared_head.norm.weight"],
    "glm4_moe": ["model.layers.3.enorm.weight", "model.layers.3.mlp.experts.down_proj"],
    "mellum": ["mtp.pre_fc_norm_hidden.weight", "mtp.fc.weight", "mtp.layers.0.mlp.gate.weight"],
    "bailing_hybrid": ["model.layers.4.hnorm.weight", "model.layers.4.self_attn.o_proj.weight"],
}

Values = dict[str, Tensor]


@dataclass
class Case:
    """A tiny model with prediction layers, ours and Transformers'."""

    config: ModelConfig
    hf: Any
    mtp: Any
    ids: Tensor
    _graphs: dict[Phase, Model] = field(default_factory=dict[Phase, Model])

    def graph(self, phase: Phase) -> Model:
        if phase not in self._graphs:
            self._graphs[phase] = lower_config(self.config, phase)
        return self._graphs[phase]

    @property
    def layers(self) -> int:
        return self.config.prediction_layers

    @property
    def own(self) -> list[str]:
        """The parameters that only the prediction layers have, as Transformers names them."""
        return [name for name, _ in self.mtp.named_parameters() if name.startswith("layers.")]

    def published(self, name: str) -> str:
        """The name in our graphs of what Transformers calls `layers.0.enorm.weight`."""
        return self.names[name]

    @cached_property
    def names(self) -> dict[str, str]:
        """Our names of weights and buffers by the names that Transformers' own conversions of
        published checkpoints make of them."""
        renames = [
            conversion
            for conversion in self.mtp.get_weight_conversions(self.hf)
            if isinstance(conversion, WeightRenaming)
        ]
        model = self.graph("prefill")
        ours = (*model.sources("weight"), *model.sources("buffer"))
        return {rename_source_key(name, renames, [])[0]: name for name in ours}

    @property
    def state(self) -> Values:
        tensors = (*self.hf.named_parameters(), *self.hf.named_buffers())
        found = {name: tensor.detach() for name, tensor in tensors}
        mine = (*self.mtp.named_parameters(), *self.mtp.named_buffers())
        found |= {self.names[n]: t.detach() for n, t in mine if n.startswith("layers.")}
        return found | {f"computed.{name}": tensor for name, tensor in found.items()}

    def inputs(self, first: int, stop: int) -> Values:
        positions = torch.arange(first, stop).expand(BATCH, stop - first)
        found = {"input_ids": self.ids[:, first:stop], "position_ids": positions}
        for k in range(self.layers):
            found[f"next_ids_{k}"] = self.ids[:, first + k + 1 : stop + k + 1]
        return found

    def theirs(self, inputs: Values, cache: Any, own: Any) -> list[Tensor]:
        """The logits of the model and of every prediction layer."""
        given = {name: inputs[name] for name in ("input_ids", "position_ids")}
        hidden = self.hf.get_decoder()(**given, past_key_values=cache).last_hidden_state
        logits = [self.hf.lm_head(hidden)]
        for k in range(self.layers):
            positions, ids = inputs["position_ids"] + k + 1, inputs[f"next_ids_{k}"]
            hidden = self.mtp.forward_layer(k, hidden, positions, own, input_ids=ids)
            logits.append(self.mtp._project_to_logits(hidden))
        return logits

    def ours(self, model: Model, inputs: Values, **more: int) -> Values:
        bound = model.bind({"batch": BATCH, **more})
        return run_model(bound, {**self.state, **inputs})

    def caches(self) -> tuple[Any, Any]:
        return DynamicCache(config=self.hf.config), MtpCache(config=self.mtp.config)


def values_of(family: str) -> dict[str, Any]:
    return {**TINY, "model_type": family, **FAMILIES[family]}


@pytest.fixture(scope="module")
def make_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def make(family: str) -> Case:
        if family not in made:
            values = values_of(family)
            count = values.get("num_nextn_predict_layers") or values["num_mtp_layers"]
            path = tmp_path_factory.mktemp(family) / "config.json"
            path.write_text(json.dumps(values))
            config = replace(read_config(str(path)), prediction_layers=count)
            made[family] = Case(config, *their_models(config, count), their_ids(count))
        return made[family]

    return make


def their_models(config: ModelConfig, count: int) -> tuple[Any, Any]:
    values = {key: value for key, value in config.values.items() if key != "model_type"}
    stated = AutoConfig.for_model(config.family, **values)
    generator = torch.Generator().manual_seed(0)
    hf = AutoModelForCausalLM.from_config(stated, attn_implementation="eager").float().eval()
    mtp = MtpModel(hf, count).float().eval()
    with torch.no_grad():
        for name, tensor in (*mtp.named_parameters(), *hf.named_parameters()):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + ("norm" in name))
        for name, tensor in (*mtp.named_buffers(), *hf.named_buffers()):
            if name.endswith("bias"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return hf, mtp


def their_ids(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, TINY["vocab_size"], (BATCH, TOKENS + count + 1), generator=generator)


def worst(found: Values, expected: list[Tensor]) -> float:
    names = ["logits", *(f"logits.prediction.{k}" for k in range(len(expected) - 1))]
    return max(relative_error(found[n], theirs) for n, theirs in zip(names, expected, strict=True))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.abs().max()) > 0
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode_yield_the_logits_of_model_and_prediction_layers(
    family: str, make_case: Callable[[str], Case]
) -> None:
    case = make_case(family)
    prefill, decode = case.graph("prefill"), case.graph("decode")
    caches = case.caches()
    prompt, step = case.inputs(0, TOKENS), case.inputs(TOKENS, TOKENS + 1)
    with torch.no_grad():
        expected = case.theirs(prompt, *caches)
        found = case.ours(prefill, prompt, sequence=TOKENS)
        assert worst(found, expected) < TOLERANCE
        filled = {name: value for name, value in found.items() if name.startswith("cache.")}
        own = case.hf.config.num_hidden_layers
        for k, layer in enumerate(caches[1].layers[: case.layers]):
            kept = filled[f"cache.{own + k}.key"][:, :, -layer.keys.shape[2] :]
            assert relative_error(kept, layer.keys) < TOLERANCE
        expected = case.theirs(step, *caches)
        for model in (decode, decode.map(Fuse().run)):
            found = case.ours(model, {**step, **filled}, context=TOKENS)
            assert worst(found, expected) < TOLERANCE
        other = {**step, **filled, "next_ids_0": (step["next_ids_0"] + 1) % TINY["vocab_size"]}
        assert worst(case.ours(decode, other, context=TOKENS), expected) > TOLERANCE
        assert worst(case.ours(decode, other, context=TOKENS), expected[:1]) < TOLERANCE


@pytest.mark.parametrize("family", ["deepseek_v3", "mellum"])
def test_training_yields_the_weighted_loss_and_every_gradient(
    family: str, make_case: Callable[[str], Case]
) -> None:
    case = make_case(family)
    inputs = case.inputs(0, TOKENS)
    labels = inputs["input_ids"].clone()
    labels[0, :3] = -100
    expected = their_loss(case, inputs, labels, 0.3)
    expected.backward()
    gradients = {f"{name}.gradient": p.grad for name, p in case.hf.named_parameters()}
    named = dict(case.mtp.named_parameters())
    gradients |= {f"{case.published(name)}.gradient": named[name].grad for name in case.own}
    trained = Differentiate().run(case.graph("train"))
    trained.verify()
    found = case.ours(trained, {**inputs, "labels": labels}, sequence=TOKENS)
    assert relative_error(found["loss"], expected.detach()) < TOLERANCE
    assert {name for name in found if name.endswith(".gradient")} == {
        name for name, gradient in gradients.items() if gradient is not None
    }
    for name, gradient in gradients.items():
        if gradient is not None:
            error = (found[name].reshape(gradient.shape) - gradient).norm()
            assert float(error) < TOLERANCE * max(float(gradient.norm()), 1e-3), name


def their_loss(case: Case, inputs: Values, labels: Tensor, weight: float) -> Tensor:
    """The loss of DeepSeek-V3 (section 2.2): cross-entropies of the model, and of every prediction
    layer against tokens one further on each."""
    logits = case.theirs(inputs, *case.caches())
    losses = [
        F.cross_entropy(found[:, : -(k + 1)].flatten(0, 1), labels[:, k + 1 :].flatten())
        for k, found in enumerate(logits)
    ]
    return losses[0] + weight * sum(losses[1:], start=torch.zeros(())) / (len(losses) - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_both_models_under_their_published_names(
    family: str, make_case: Callable[[str], Case]
) -> None:
    case = make_case(family)
    model = case.graph("prefill")
    named = dict(case.mtp.named_parameters())
    theirs = sum(p.numel() for p in case.hf.parameters())
    assert model.parameters == theirs + sum(named[name].numel() for name in case.own)
    weights = model.sources("weight")
    assert set(PUBLISHED[family]) <= weights.keys()
    for name in case.own:
        assert weights[case.published(name)].shape == tuple(named[name].shape)
    assert parse_model(print_model(model)) == model


def test_flops_are_those_of_the_matrices_and_of_attention(
    make_case: Callable[[str], Case],
) -> None:
    case = make_case("deepseek_v3")
    h, heads, values = 24, 4, case.config.values
    attention = h * 10 + 10 * heads * 10 + h * (8 + 4) + 8 * heads * 12 + heads * 6 * h
    experts = 3 * h * values["moe_intermediate_size"] * (2 + 1) + 8 * h
    matrices = 2 * h * h + attention + experts + h * values["vocab_size"]
    plain = lower_config(replace(case.config, prediction_layers=0), "prefill")
    for batch, tokens in ((1, 7), (3, 16), (8, 64)):
        sizes = {"batch": batch, "sequence": tokens}
        pairs = 2 * batch * heads * tokens**2 * (10 + 6)
        one = 2 * matrices * batch * tokens + pairs
        both = case.graph("prefill").bind(sizes).flops
        assert both == plain.bind(sizes).flops + 2 * one
    trained = Differentiate().run(case.graph("train").map(Fuse().run))
    assert trained.flops == 3 * case.graph("prefill").flops


def test_the_projection_of_a_prediction_layer_stays_unquantized(
    make_case: Callable[[str], Case],
) -> None:
    stated: Mapping[str, Any] = {"quant_method": "fp8", "weight_block_size": [4, 4]}
    case = make_case("deepseek_v3")
    model = lower_config(replace(case.config, quantization=stated), "prefill")
    weights = model.sources("weight")
    assert weights["model.layers.3.eh_proj.weight"].dtype == "float32"
    assert weights["model.layers.3.self_attn.o_proj.weight"].dtype == "float8_e4m3fn"
    assert weights["model.layers.2.self_attn.o_proj.weight"].dtype == "float8_e4m3fn"


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({"model_type": "deepseek_v3"}, 3, "deepseek_v3 has 2 .*num_nextn_predict_layers 2"),
        ({"model_type": "qwen3", "head_dim": 6}, 1, "no prediction layers for qwen3 .*nothing"),
        (
            {"model_type": "minimax_m2", "num_local_experts": 8, "num_mtp_modules": 3},
            1,
            "minimax_m2 .*num_mtp_modules 3",
        ),
        ({"model_type": "mellum", "num_mtp_layers": None}, 1, "mellum has 0"),
        ({"model_type": "bailing_hybrid", "mtp_layer_types": None}, 1, "mtp_layer_types must list"),
    ],
)
def test_layers_that_a_config_does_not_have_are_refused(
    changes: dict[str, Any], count: int, message: str, tmp_path: Path
) -> None:
    family = changes["model_type"]
    values = {**TINY, **FAMILIES.get(family, {}), **changes}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    config = replace(read_config(str(path)), prediction_layers=count)
    with pytest.raises(UserError, match=message):
        lower_config(config, "prefill")


def test_the_key_of_a_trace_tells_prediction_layers(make_case: Callable[[str], Case]) -> None:
    config = make_case("deepseek_v3").config
    keys = {trace_key(replace(config, prediction_layers=n), "decode") for n in (0, 1, 2)}
    assert len(keys) == 3
