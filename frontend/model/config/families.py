"""Which model a config names, and whether it is one that is built.

Built is every causal language model that Transformers has classes for, and every multimodal model
that speaks through one. No code that comes with a config is ever run.
"""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from .document import shown
from .schema import class_of_type, installed_types, schema
from .section import ConfigError

_LOG = logging.getLogger(__name__)

ALIASES: Mapping[str, str] = {
    "Yi": "llama",
    "aquila": "llama",
    "kimi_k2": "deepseek_v3",
    "xverse": "llama",
}
"""Published model types whose code is that of another, with the same keys in their configs."""


_DRAFTS = "it drafts tokens out of the keys and values of another model"
_CODES = "its tokens are several codes at once"
OTHER_INPUTS: Mapping[str, str] = {
    "blt": "its bytes are cut into patches by what the text says, so no shape is known",
    "diffusion_gemma": "it writes blocks of tokens by diffusion, not one token after the other",
    "evolla": "its layers attend to a protein",
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
    "idefics": "its layers attend to images",
    "musicgen": _CODES,
    "musicgen_melody": _CODES,
    "pi0": "it yields actions, not tokens",
    "voxtral_realtime": "it adds audio to every token",
}
"""Model types that take or yield something else than one token after the other, and what."""


_MISSPELT = 0.8
"""How alike (by difflib) a type must be to one that is known to be taken for it."""


_ENCODER_DECODER = "an encoder-decoder model; built are decoders"
_OTHER_KINDS = {
    "encoder-decoder": _ENCODER_DECODER,
    "part": "a part of a model, and none by itself",
    "other": "not a causal language model",
}


def model_type_of(values: Mapping[str, Any]) -> str:
    """The model type that Transformers has classes for.

    Raises ConfigError for a type that is missing, unknown or not built.
    """
    stated = values.get("model_type")
    if stated is None:
        raise ConfigError(
            "no model_type, so it cannot be told which model this is", ("model_type",)
        )
    if not isinstance(stated, str):
        raise ConfigError(f"model_type must be a string, not {shown(stated)}", ("model_type",))
    model_type = canonical(stated, values)
    if model_type != stated:
        _LOG.info("model_type %s is built as %s", shown(stated), model_type)
    if model_type not in schema().built:
        raise _refusal(model_type, values)
    if model_type in OTHER_INPUTS:
        raise ConfigError(
            f"model_type '{model_type}' is not built: {OTHER_INPUTS[model_type]}", ("model_type",)
        )
    _check_causal(model_type, values)
    return model_type


def canonical(stated: str, values: Mapping[str, Any]) -> str:
    """A model type without its other names."""
    if stated == "mistral" and "layer_types" in values:
        return "ministral"  # as AutoConfig.from_pretrained reads it
    return ALIASES.get(stated, stated)


def _check_causal(model_type: str, values: Mapping[str, Any]) -> None:
    key = "is_encoder_decoder"
    stated = values.get(key)
    if stated is not None and type(stated) is not bool:
        raise ConfigError(f"{key} must be true or false, not {shown(stated)}", (key,))
    if class_of_type(model_type).encoder_decoder if stated is None else stated:
        if stated:
            raise ConfigError("is_encoder_decoder is true; built are decoders", (key,))
        raise ConfigError(f"model_type '{model_type}' is {_ENCODER_DECODER}", ("model_type",))
    if model_type in schema().encoders:
        key, needed = schema().encoders[model_type]
        if values.get(key) != needed:
            word = "true" if needed is True else f"'{needed}'"
            raise ConfigError(
                f"model_type '{model_type}' is an encoder: only with {key} {word} is it a causal "
                "language model",
                (key,) if key in values else ("model_type",),
            )


def _refusal(name: str, values: Mapping[str, Any]) -> ConfigError:
    """Why a model type is not built."""
    path = ("model_type",)
    known, made_with = schema(), schema().transformers
    if kind := known.others.get(name):
        return ConfigError(f"model_type '{name}' is {_OTHER_KINDS[kind]}", path)
    if "auto_map" in values:
        return ConfigError(
            f"model_type {shown(name)} needs code that comes with the model (auto_map), and such "
            f"code is never run{_nearest_type(name)}",
            ("auto_map",),
        )
    installed, folders = installed_types()
    if name in folders:
        return ConfigError(
            f"model_type '{name}' is known to Transformers {installed}, which is installed, but "
            f"not to {made_with}, which wscc was made for",
            path,
        )
    if meant := get_close_matches(name, sorted(known.built), n=1, cutoff=_MISSPELT):
        return ConfigError(f"unknown model_type {shown(name)}, did you mean '{meant[0]}'?", path)
    return ConfigError(
        f"unknown model_type {shown(name)}: Transformers {made_with} does not have it"
        + _nearest_type(name),
        path,
    )


def _nearest_type(name: str) -> str:
    """`; the nearest that it has is 'x'` for the type that is most like a name, if any is."""
    built = sorted(schema().built)
    related = [known for known in built if name and known.startswith(name)]
    if found := related[:1] or get_close_matches(name, built, n=1, cutoff=0.3):
        return f"; the nearest model_type that is built is '{found[0]}'"
    return ""
