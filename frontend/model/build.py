"""The Hugging Face model of a config, of tensors that have shapes and no memory.

No code but that of the installed Transformers is run, and nothing is downloaded.
"""

import copy
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import getsource, signature
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from ...ir.errors import Location, UserError
from . import experts, indexer, packed, scans
from .aten import UnsupportedError
from .attention import IMPLEMENTATION
from .config import ModelConfig
from .prediction import Prediction, attach
from .text_half import language_model, speaking, whole_model

_LOG = logging.getLogger(__name__)

_CACHES = ("past_key_values", "cache_params", "state")
"""What the forward pass of a model may call its cache."""

_OFF = ("output_attentions", "output_hidden_states", "output_router_logits")
"""Options of a config that make a model return, and compute, more than logits."""


@dataclass(frozen=True)
class Built:
    """A model and which arguments of its forward pass take positions and the cache.

    `config` is that of its language model, which lies in the module `text` ("" for all of it);
    `parameters` are the names of the language model's parameters, embedding and head included.
    `operators` is whether its attention is one operator of ours. With `towers` it is the model as
    a whole, and the parameters are all of its. `prediction` are the prediction layers behind it.
    """

    model: nn.Module
    config: Any
    text: str
    parameters: frozenset[str]
    positions: bool
    cache: str | None
    operators: bool
    towers: bool = False
    prediction: Prediction | None = None

    @property
    def predicted(self) -> int:
        """How many prediction layers stand behind the model."""
        return 0 if self.prediction is None else self.prediction.count


def build(config: ModelConfig, mode: FakeTensorMode) -> Built:
    """The model of a config, in inference, with attention and experts as operators where its code
    lets them be replaced.

    Raises UserError with what Transformers says against the config.
    """
    try:
        kind, hf_config = _chosen(config)
        operators = "ALL_ATTENTION_FUNCTIONS" in _source(hf_config, kind)
        try:
            model = _made(kind, hf_config, config, operators, mode)
        except KeyError as error:
            if error.args != (IMPLEMENTATION,):
                raise
            operators = False
            model = _made(kind, hf_config, config, operators, mode)
        prediction = None
        if config.prediction_layers:
            prediction = _predicting(model, config, mode)
        scans.install(model)
        experts.install(model)
        indexer.install(model)
        if config.towers:
            packed.install(model)
        built = _built(model, operators, config.towers)
        return built if prediction is None else _with(built, prediction)
    except UnsupportedError as error:
        raise UserError(f"{config.name}: not built yet: {error}", Location(config.path)) from error
    except UserError:
        raise
    except Exception as error:
        refused = f"Transformers refuses {config.family}: {first_line(error)}"
        raise unexpected(refused, config, error) from error


def _made(
    kind: Any, hf_config: Any, config: ModelConfig, operators: bool, mode: FakeTensorMode
) -> Any:
    chosen = {"attn_implementation": IMPLEMENTATION if operators else "eager"}
    if kind._can_set_experts_implementation():
        chosen["experts_implementation"] = IMPLEMENTATION
    with _weightless(mode):
        model = kind._from_config(hf_config, dtype=getattr(torch, config.dtype), **chosen).eval()
    _set_apart(model)
    return model if config.towers else speaking(model)


def _set_apart(model: nn.Module) -> None:
    """Give every module without weights that has several names a copy of its own under each, as
    torch traces a model with such a module without the paths of all others."""
    seen: set[nn.Module] = set()
    for parent in [*model.modules()]:
        for name, module in [*parent._modules.items()]:
            if module in seen and next(module.parameters(), None) is None:
                setattr(parent, name, copy.copy(module))
            elif module is not None:
                seen.add(module)


@contextmanager
def _weightless(mode: FakeTensorMode) -> Iterator[None]:
    """Inside, models are made without values for their weights."""
    weightless = patch.object(PreTrainedModel, "initialize_weights", lambda _: None)
    with mode, torch.device("cpu"), weightless:
        yield


def _predicting(model: Any, config: ModelConfig, mode: FakeTensorMode) -> Prediction:
    """Prediction layers behind a model, of its dtype."""
    if config.towers:
        raise UserError("--prediction-layers stand behind the language model: with --part text")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, config.dtype))
    try:
        with _weightless(mode):
            return attach(model, config)
    finally:
        torch.set_default_dtype(before)


def _with(built: Built, prediction: Prediction) -> Built:
    parameters = built.parameters | prediction.parameters
    return replace(built, prediction=prediction, parameters=parameters, text=prediction.decoder)


def unexpected(message: str, config: ModelConfig, error: Exception) -> UserError:
    """The user's error for what went wrong in Transformers or torch; the traceback is logged."""
    _LOG.debug("%s: %s", config.name, message, exc_info=error)
    return UserError(f"{message} (-vv shows where)", Location(config.path))


def first_line(error: Exception) -> str:
    """The first line of what an error says, by its class where that is no sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:300] if lines else ""
    return text if " " in text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _chosen(config: ModelConfig) -> tuple[Any, Any]:
    """The class of the language model and the config that it is made of."""
    values = {key: value for key, value in config.values.items() if key != "model_type"}
    whole: Any = AutoConfig.for_model(config.family, **copy.deepcopy(values))
    text = whole.get_text_config(decoder=True)
    for part in (whole, text):
        for name in _OFF:
            if getattr(part, name, None):
                setattr(part, name, False)
        part.use_cache = True
    found = whole_model(whole) if config.towers else language_model(whole)
    if found:
        return found
    raise UnsupportedError(f"{config.family} has no language model of its own in Transformers")


def _source(config: Any, kind: Any) -> str:
    """The code of the language model's module."""
    text = type(config.get_text_config(decoder=True))
    owner: Any = MODEL_MAPPING.get(text, kind)
    owner = owner[0] if isinstance(owner, tuple | list) else owner
    return getsource(sys.modules[owner.__module__])


def _built(model: Any, operators: bool, towers: bool) -> Built:
    taken = signature(model.forward).parameters
    cache = next((name for name in _CACHES if name in taken), None)
    text = model.config.get_text_config(decoder=True)
    path, names = "", frozenset(name for name, _ in model.named_parameters())
    if text is not model.config:
        modules = {id(module): name for name, module in model.named_modules()}
        path = modules.get(id(model.get_decoder()), "")
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        own = tuple(f"{modules[id(end)]}." for end in ends if id(end) in modules)
        inside = (f"{path}." if path else "", *own)
        if not towers:
            names = frozenset(name for name in names if name.startswith(inside))
    positions = "position_ids" in taken and not towers
    return Built(model, text, path, names, positions, cache, operators, towers)
