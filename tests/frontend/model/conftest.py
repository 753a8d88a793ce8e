"""Tiny models of every family: a config, our graphs, and Hugging Face's model with random weights.

A fixture yields them because test modules cannot import each other.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from wscc.frontend.model import ModelConfig, lower_config, read_config
from wscc.ir.graph import Model, Phase

TINY: dict[str, Any] = {
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}

MIXED = ["full_attention", "full_attention", "sliding_attention", "full_attention"]

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-scaled": {"rope_scaling": LLAMA3_ROPE, "attention_bias": True, "mlp_bias": True},
    "llama-yarn": {"rope_scaling": {"type": "yarn", "factor": 4.0}, "hidden_act": "gelu_new"},
    "llama-tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama-one-head": {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 24},
    "mistral": {"model_type": "mistral", "sliding_window": 5},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-sliding": {"model_type": "qwen2", **SLIDING},
    "qwen3": {"model_type": "qwen3", "head_dim": 10},
    "qwen3-mixed": {
        "model_type": "qwen3",
        "head_dim": 10,
        "num_hidden_layers": 4,
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": MIXED,
    },
}

WriteConfig = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Case:
    """One tiny model; graphs are traced when they are first asked for."""

    name: str
    values: Mapping[str, Any]
    config: ModelConfig
    hf: Any
    _graphs: dict[Phase, Model] = field(default_factory=dict[Phase, Model])

    def graph(self, phase: Phase) -> Model:
        if phase not in self._graphs:
            self._graphs[phase] = lower_config(self.config, phase)
        return self._graphs[phase]

    @property
    def state(self) -> dict[str, Any]:
        """Parameters and buffers as Hugging Face names them; all buffers as computed ones too."""
        tensors = (*self.hf.named_parameters(), *self.hf.named_buffers())
        computed = {f"computed.{name}": tensor for name, tensor in self.hf.named_buffers()}
        return {name: tensor.detach() for name, tensor in tensors} | computed


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> WriteConfig:
    """Writes the tiny config with some values changed; its path."""

    def write(changes: Mapping[str, Any]) -> str:
        values = {**TINY, **changes}
        path = tmp_path_factory.mktemp("tiny") / "config.json"
        path.write_text(json.dumps(values, indent=2))
        return str(path)

    return write


@pytest.fixture(scope="session")
def make_case(write_config: WriteConfig) -> Callable[[str], Case]:
    """A tiny model by the name of its variant, made once."""
    made: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in made:
            values = TINY | VARIANTS[name]
            config = read_config(write_config(values))
            made[name] = Case(name, values, config, _hugging_face_model(values))
        return made[name]

    return make


@pytest.fixture(scope="session", params=VARIANTS)
def case(request: pytest.FixtureRequest, make_case: Callable[[str], Case]) -> Case:
    """Every tiny model in turn."""
    return make_case(request.param)


def _hugging_face_model(values: Mapping[str, Any]) -> Any:
    """The model of a config in float32, every weight random."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**{k: v for k, v in values.items() if k != "dtype"})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.1)
    return model.eval()
