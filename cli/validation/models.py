"""Configs of models that are known by their dimensions alone, as the pipeline loads them."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ...ir.graph import Phase
from .. import pipeline


def loaded(
    config: Mapping[str, object],
    phase: Phase,
    tokens: int,
    batch: int = 1,
    layers: int | None = None,
) -> pipeline.LoadedModel:
    """A model of `tokens` tokens a sequence, to be computed or in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        return pipeline.load_model(
            path, phase=phase, batch=batch, sequence=tokens, context=tokens, layers=layers
        )


def gpt(hidden: int, heads: int, layers: int, tokens: int, vocabulary: int) -> dict[str, object]:
    """A GPT with learned positions, tied embeddings and four times wider layers between."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": hidden,
        "n_head": heads,
        "n_layer": layers,
        "n_inner": 4 * hidden,
        "n_positions": tokens,
        "vocab_size": vocabulary,
        "activation_function": "gelu_new",
        "torch_dtype": "float16",
        "tie_word_embeddings": True,
    }


def llama(
    hidden: int, intermediate: int, layers: int, heads: int, head: int, vocabulary: int
) -> dict[str, object]:
    """A LLaMA with as many heads of keys as of queries."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": head,
    }
