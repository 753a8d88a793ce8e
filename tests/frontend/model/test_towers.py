"""Models as a whole, with the towers that make tokens of images and audio, against Hugging Face."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMultimodalLM
from wscc.frontend.model import ModelConfig, SizesNeededError, lower_config
from wscc.frontend.model import trace as tracing
from wscc.frontend.model.features import Features
from wscc.frontend.model.lower import lower
from wscc.frontend.model.trace import trace
from wscc.ir.errors import UserError
from wscc.ir.graph import Model
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model, print_model

BATCH, TEXT_TOKENS = 2, 7
TOLERANCE = 1e-5
IMAGE, AUDIO = 60, 59

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
TOWER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_vl": {
        "text_config": {**TEXT, "rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
        "vision_config": {
            "depth": 4,
            "hidden_size": 24,
            "num_heads": 3,
            "intermediate_size": 40,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [1],
        },
        "image_token_id": IMAGE,
        "video_token_id": 61,
    },
    "llava_next": {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**TOWER, "model_type": "clip_vision_model", "projection_dim": 16},
        "image_token_id": IMAGE,
        "image_grid_pinpoints": [[12, 24], [24, 24]],
    },
    "gemma3": {
        "text_config": {
            **TEXT,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "image_size": 16},
        "mm_tokens_per_image": 4,
        "image_token_id": IMAGE,
    },
    "mllama": {
        "text_config": {**TEXT, "cross_attention_layers": [1], "rope_parameters": ROPE},
        "vision_config": {
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_global_layers": 2,
            "attention_heads": 3,
            "image_size": 12,
            "patch_size": 4,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 72,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2]],
        },
        "image_token_index": IMAGE,
    },
    "qwen2_audio": {
        "text_config": {**TEXT, "model_type": "qwen2"},
        "audio_config": {
            "d_model": 24,
            "encoder_layers": 3,
            "encoder_attention_heads": 3,
            "encoder_ffn_dim": 40,
            "num_mel_bins": 8,
            "max_source_positions": 16,
        },
        "audio_token_index": AUDIO,
    },
}

TOKENS = {"qwen3_vl": 6, "llava_next": 30, "gemma3": 8, "mllama": 0, "qwen2_audio": 8}
"""Tokens of a prompt that are no text."""


@dataclass(frozen=True)
class Case:
    """A tiny model of ours and Hugging Face's, and what both are run on."""

    hf: Any
    model: Model
    features: Features
    state: Mapping[str, Tensor]
    expected: Tensor


def config_of(family: str) -> ModelConfig:
    config = ModelConfig("tiny", family, family, "float32", 3, FAMILIES[family], part="all")
    if family == "qwen2_audio":
        return replace(config, audio_tokens=TOKENS[family])
    return replace(config, image_tokens=TOKENS[family] or None)


def hugging_face(family: str) -> Any:
    """The whole model of a family, every weight random."""
    torch.manual_seed(0)
    values = json.loads(json.dumps(FAMILIES[family]))
    config = AutoConfig.for_model(family, **values)
    model: Any = AutoModelForMultimodalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.02)
    return model.eval()


@cache
def case_of(family: str) -> Case:
    sizes = {"batch": BATCH, "sequence": TOKENS[family] + TEXT_TOKENS, "context": 1}
    made: list[Features] = []

    def noted(*arguments: Any) -> Features:
        made.append(features_of(*arguments))
        return made[-1]

    features_of: Callable[..., Features] = tracing.features_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "features_of", noted)
        traced = trace(config_of(family), "prefill", sizes=sizes)
    (features,) = made
    hf = hugging_face(family)
    generator = torch.Generator().manual_seed(1)
    data = {name: torch.randn(s, generator=generator) for name, s in features.data.items()}
    words = torch.randint(3, 50, (BATCH, sizes["sequence"]), generator=generator)
    assert features.prompts is not None
    ids = torch.where(features.prompts >= 0, features.prompts, words)
    with torch.no_grad():
        expected = hf(input_ids=ids, **data, **features.known).logits
    buffers = dict(hf.named_buffers())
    state = {name: x.detach() for name, x in hf.named_parameters(remove_duplicate=False)}
    state |= buffers | {f"computed.{name}": x for name, x in buffers.items()}
    state |= {f"computed.constant.{at}": x for at, x in enumerate(traced.constants)}
    model = lower(traced, config_of(family), "prefill")
    return Case(hf, model, features, {**state, **data, "input_ids": ids}, expected)


def error(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_equals_hugging_face(family: str) -> None:
    case = case_of(family)
    assert case.features.tokens == TOKENS[family]
    assert case.model.parameters == sum(x.numel() for x in case.hf.parameters())
    assert error(run_model(case.model, case.state)["logits"], case.expected) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_depend_on_the_images_and_the_audio(family: str) -> None:
    case = case_of(family)
    (name,) = case.features.data
    other = {**case.state, name: case.state[name].flip(0, -1)}
    assert error(run_model(case.model, other)["logits"], case.expected) > 1e-3


def runs(model: Model) -> list[tuple[str, int, int]]:
    return [(body.name, first, count) for body, first, count in model.runs()]


def test_the_layers_of_a_tower_are_kinds_of_their_own_beside_the_language_models() -> None:
    model = case_of("gemma3").model
    assert runs(model) == [("tower0", 0, 4), ("layer0", 0, 1), ("layer1", 1, 1), ("layer0", 2, 1)]
    weights = [i.source for i in model.graphs["tower0"].inputs if i.role == "weight"]
    assert all(name.startswith("model.vision_tower.encoder.layers.*.") for name in weights)


def test_layers_run_apart_where_the_model_reads_or_changes_what_flows_between() -> None:
    assert runs(case_of("qwen3_vl").model) == [
        ("tower0", 0, 2),
        ("tower0", 2, 2),
        ("layer0", 0, 1),
        ("layer0", 1, 2),
    ]


def test_a_model_may_have_several_stacks_of_tower_layers() -> None:
    assert ("tower1", 0, 2) in runs(case_of("mllama").model)


def test_a_whole_model_is_read_back_from_its_text() -> None:
    model = case_of("qwen3_vl").model
    assert parse_model(print_model(model)) == model


SIZES = {"batch": 1, "sequence": 300, "context": 1}


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("qwen3_vl", {"image_tokens": 211}, "nearest are 210 and 212"),
        ("gemma3", {"image_tokens": 6}, "nearest are 4 and 8"),
        ("gemma3", {"image_tokens": 304}, "a prompt of 300 tokens is shorter than the 304"),
        ("qwen3_vl", {"audio_tokens": 4}, "--audio-tokens 4: qwen3_vl takes no audio"),
        ("qwen2_audio", {"image_tokens": 4}, "--image-tokens 4: qwen2_audio takes no images"),
    ],
)
def test_a_number_of_tokens_that_cannot_be_is_refused(
    family: str, options: Mapping[str, int], message: str
) -> None:
    config = replace(config_of(family), image_tokens=None, audio_tokens=None)
    with pytest.raises(UserError, match=message):
        lower_config(replace(config, **options), "prefill", SIZES)


@pytest.mark.parametrize("phase", ["decode", "train"])
def test_towers_run_in_prefill_alone(phase: Any) -> None:
    with pytest.raises(UserError, match="the towers of gemma3 run in prefill"):
        lower_config(config_of("gemma3"), phase, SIZES)


def test_a_model_with_towers_is_traced_for_its_sizes() -> None:
    with pytest.raises(SizesNeededError):
        lower_config(config_of("gemma3"), "prefill")
