"""The Hugging Face model of a config, of tensors that have shapes and no memory.

No code but that of the installed Transformers is run, and nothing is downloaded.
"""

import sys
from dataclasses import dataclass
from inspect import getsource, signature
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from ...ir.errors import Location, UserError
from . import experts, indexer, scans
from .aten import UnsupportedError
from .attention import IMPLEMENTATION
from .config import ModelConfig

_OFF = ("output_attentions", "output_hidden_states", "output_router_logits")
"""Options of a config that make a model return, and compute, more than logits."""


@dataclass(frozen=True)
class Built:
    """A model and which arguments of its forward pass take positions and the cache.

    `operators` is whether its attention is one operator of ours.
    """

    model: nn.Module
    config: Any
    positions: bool
    cache: str | None
    operators: bool


def build(config: ModelConfig, mode: FakeTensorMode) -> Built:
    """The model of a config, in inference, with attention and experts as operators where its code
    lets them be replaced.

    Raises UserError with what Transformers says against the config.
    """
    try:
        hf_config = text_config(config)
        kind: Any = AutoModelForCausalLM._model_mapping[type(hf_config)]
        source = getsource(sys.modules[kind.__module__])
        operators = "ALL_ATTENTION_FUNCTIONS" in source
        chosen = {"attn_implementation": IMPLEMENTATION if operators else "eager"}
        if kind._can_set_experts_implementation():
            chosen["experts_implementation"] = IMPLEMENTATION
        with mode, torch.device("cpu"):
            model = AutoModelForCausalLM.from_config(
                hf_config, dtype=getattr(torch, config.dtype), trust_remote_code=False, **chosen
            )
        model.eval()
        scans.install(model)
        experts.install(model)
        indexer.install(model)
    except UnsupportedError as error:
        raise UserError(f"{config.name}: not built yet: {error}", Location(config.path)) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"Transformers refuses it: {reason}", Location(config.path)) from error
    taken = signature(model.forward).parameters
    cache = next((name for name in ("past_key_values", "cache_params") if name in taken), None)
    return Built(model, model.config, "position_ids" in taken, cache, operators)


def text_config(config: ModelConfig) -> Any:
    """The config of the language model as Transformers holds it."""
    values = {key: value for key, value in config.values.items() if key != "model_type"}
    made: Any = AutoConfig.for_model(config.family, **values)
    made = made.get_text_config(decoder=True)
    for name in _OFF:
        if getattr(made, name, None):
            setattr(made, name, False)
    made.use_cache = True
    return made
