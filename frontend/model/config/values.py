"""What a value of a config must be, by what its key means.

A key means the same in every family (`num_attention_heads`, whatever the class calls it), so there
is one rule a meaning and no table a family. Types are those that Transformers' classes state.
"""

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from ....ir.errors import nearest
from .document import KeyPath, shown, shown_path
from .schema import Field, schema
from .section import UNREAD, ConfigError, Section

LARGEST_SIZE = 1 << 24
LARGEST_LENGTH = 1 << 40
LARGEST_NUMBER = 1e30
MOST_LAYERS = 1024
MOST_EXPERTS = 1 << 13
MOST_LAYER_EXPERTS = 1 << 19
"""Experts of all layers together: as many as any published model has."""

_LAYERS = re.compile(r"(^|_)(layers|depth)$|^n_layer$")
_EXPERTS = re.compile(r"(^|_)experts$")
_POSITIVE = re.compile(
    r"^(intermediate_size|moe_intermediate_size|ffn_dim|n_embd|d_model|n_ctx|n_positions)$"
    r"|(^|_)(num_(attention|key_value)_heads|num_(kv_)?heads|n_heads?|head_dim|hidden_size"
    r"|vocab_size|num_hidden_layers|patch_size|image_size|state_size|chunk_size|conv_kernel"
    r"|kernel_size|expand|embed_dim|hidden_dim|position_embeddings)$"
)
_SIZE = re.compile(
    r"(^|_)(size|dim|rank|heads|experts|tok|window|kernel|groups?|width|channels|layers|depth"
    r"|topk|top_k)$|^(num|n|max|min)_"
)
_LENGTH = re.compile(r"(^max_|_window$|_size_limit$|position|seq|_len(gth)?$|tokens)")
_PROBABILITY = re.compile(r"(dropout|pdrop|dropout_prob|layerdrop|drop_path_rate|drop_rate)$")
_ABOVE_ZERO = re.compile(r"(_eps|_epsilon|theta|base_freq)$")
_ACTIVATION = re.compile(r"(^|_)(act|hidden_act|act_fn|activation|activation_function)$")
_OPEN_ENDED = re.compile(r"_limits?$")


def check_value(section: Section, key: str) -> None:
    """Raise ConfigError where the value of a key is nothing that its class can have."""
    config_class, value = section.config_class, section.values[key]
    own = config_class.own_name(key)
    if key not in config_class.known or key in UNREAD or own in config_class.parts:
        return
    _check_finite(section, key, value)
    field = config_class.fields.get(own)
    if field is not None:
        _check_type(section, key, value, field)
    names = config_class.names.get(own, frozenset()) | {key}
    if type(value) is int and not _is_token(key):
        low, high = _bounds(names, None if field is None else field.default)
        if not low <= value <= high:
            raise section.error(
                f"{section.label(key)} must lie between {low} and {high}, not {shown(value)}", key
            )
    if type(value) in (int, float):
        _check_number(section, key, value, names)
    if isinstance(value, str) and field is not None and _ACTIVATION.search(own):
        _check_activation(section, key, value, field)


def is_size(key: str) -> bool:
    """Whether a key counts something."""
    return bool(_SIZE.search(key))


def _check_type(section: Section, key: str, value: Any, field: Field) -> None:
    label = section.label(key)
    if not any(_is_a(value, word) for word in field.types):
        raise section.error(f"{label} must be {_wanted(field)}, not {shown(value)}", key)
    if field.words and isinstance(value, str) and value not in field.words:
        hint = nearest(value, field.words) or f", known are {', '.join(field.words)}"
        raise section.error(f"unknown {label} {shown(value)}{hint}", key)


def _is_token(key: str) -> bool:
    return key.endswith(("token_id", "token_index"))


def _is_a(value: Any, word: str) -> bool:
    """Whether a value of JSON is of a type; an integer will do for a number."""
    kind, _, items = word.removesuffix("]").partition("[")
    match kind:
        case "int":
            return type(value) is int
        case "float":
            return type(value) in (int, float)
        case "list":
            inner = items.split(",") if items else ["any"]
            return isinstance(value, list) and all(
                any(_is_a(item, kind) for kind in inner) for item in value
            )
        case "any":
            return True
        case "null":
            return value is None
        case _:
            return type(value) is {"bool": bool, "str": str, "dict": dict}[kind]


_WANTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
    "dict": "an object",
    "list": "a list",
}
_LISTED = {"int": "integers", "float": "numbers", "str": "strings", "bool": "true or false"}


def _wanted(field: Field) -> str:
    words = {word for word in field.types if word != "null"}
    if "float" in words:
        words.discard("int")
    kinds: list[str] = []
    for word in sorted(words):
        kind, _, items = word.removesuffix("]").partition("[")
        items = ",".join(sorted(set(items.split(",")) - {"null", "list"}))
        of = f" of {_LISTED[items]}" if items in _LISTED else ""
        kinds.append(_WANTED.get(kind, kind) + of)
    return " or ".join(kinds)


def _bounds(names: Iterable[str], default: Any) -> tuple[int, int]:
    """The least and the most that an integer may be; what the class takes is always among them."""
    names = list(names)
    low, high = -LARGEST_LENGTH, LARGEST_LENGTH
    if any(_POSITIVE.search(name) for name in names):
        low = 1
    elif any(_SIZE.search(name) for name in names):
        low = 0
    if any(_LAYERS.search(name) for name in names):
        high = MOST_LAYERS
    elif any(_EXPERTS.search(name) for name in names):
        high = MOST_EXPERTS
    elif low >= 0 and not any(_LENGTH.search(name) for name in names):
        high = LARGEST_SIZE
    return (min(low, default), max(high, default)) if type(default) is int else (low, high)


def _check_number(section: Section, key: str, value: float, names: Iterable[str]) -> None:
    label, names = section.label(key), list(names)
    if any(_ABOVE_ZERO.search(name) for name in names) and not 0 < value < LARGEST_NUMBER:
        raise section.error(f"{label} must be a positive number, not {shown(value)}", key)
    if any(_PROBABILITY.search(name) for name in names) and not 0 <= value <= 1:
        raise section.error(f"{label} must lie between 0 and 1, not {shown(value)}", key)
    if abs(value) > LARGEST_NUMBER and not _OPEN_ENDED.search(key):
        raise section.error(f"{label} is too large: {shown(value)}", key)


def _not_finite(value: Any) -> KeyPath | None:
    """The keys that lead to a number that is none, in a value or what it holds."""
    if isinstance(value, float) and not isfinite(value):
        return ()
    if isinstance(value, Mapping):
        items: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list):
        items = ((str(at), item) for at, item in enumerate(value))
    else:
        return None
    for key, item in items:
        if (path := _not_finite(item)) is not None:
            return (key, *path)
    return None


def _check_finite(section: Section, key: str, value: Any) -> None:
    path = None if _OPEN_ENDED.search(key) else _not_finite(value)
    if path is not None:
        path = (*section.path, key, *path)
        raise ConfigError(f"{shown_path(path)} must be a finite number", path)


def _check_activation(section: Section, key: str, value: str, field: Field) -> None:
    known = schema().activations
    if value in known or (field.default is not None and field.default not in known):
        return
    hint = nearest(value, known) or f", known are {', '.join(sorted(known))}"
    raise section.error(f"unknown {section.label(key)} {shown(value)}{hint}", key)
