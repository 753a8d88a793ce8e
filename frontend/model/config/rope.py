"""Rotary embeddings as a config states them: `rope_scaling` or `rope_parameters`, flat or nested.

A nested one gives parameters for each kind of layer. What Transformers fills in itself (the base,
the kind, the original length where `max_position_embeddings` stands for it) is not asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ....ir.errors import nearest
from .document import KeyPath, shown, shown_path
from .schema import schema
from .section import ConfigError, Section
from .values import LARGEST_NUMBER

KEYS = ("rope_parameters", "rope_scaling")

OLD_KINDS = {"mrope": "default", "su": "longrope"}
"""Names of earlier versions; Transformers reads the sections of `mrope` from a key of their own."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""The numbers that a kind cannot do without."""

POSITIVE = frozenset(
    {
        "factor",
        "rope_theta",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "partial_rotary_factor",
    }
)
LISTS = frozenset({"short_factor", "long_factor", "mrope_section"})


def check_rope(section: Section) -> None:
    """Raise ConfigError for the first thing that is wrong with a section's rotary embeddings."""
    stated = [key for key in KEYS if section.values.get(key)]
    for key in stated:
        if key not in section.config_class.known:
            continue
        for path, parameters in _flat(section, key):
            _check_one(section, path, parameters)
    if len(stated) == 2 and section.values["rope_parameters"] != section.values["rope_scaling"]:
        raise section.error("rope_parameters and rope_scaling are both given", "rope_scaling")
    _check_factor(section)


def normalized(section: Section, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with old names of kinds made new, as Transformers takes them."""
    if labels := _labels(section, stated):
        return {
            key: normalized(section, value) if key in labels and isinstance(value, dict) else value
            for key, value in stated.items()
        }
    kept = {key: value for key, value in stated.items() if value is not None}
    for key in ("rope_type", "type"):
        if isinstance(kind := kept.get(key), str):
            kept[key] = OLD_KINDS.get(kind, kind)
    return kept


def _labels(section: Section, stated: Mapping[str, Any]) -> list[str]:
    """The keys of parameters that are kinds of layers."""
    known = schema().layer_types | section.config_class.rope_labels
    return [key for key in stated if key in known]


def _flat(section: Section, key: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    path = (*section.path, key)
    stated = section.values[key]
    if not isinstance(stated, dict):
        raise ConfigError(f"{shown_path(path)} must be an object, not {shown(stated)}", path)
    labels = _labels(section, stated)
    if not labels:
        yield path, stated
    elif "layer_types" not in section.config_class.known:
        raise ConfigError(
            f"{shown_path(path)} is for a kind of layer ({labels[0]}), but all layers of "
            f"'{section.config_class.type}' are of one kind",
            path,
        )
    for label in labels:
        if isinstance(stated[label], dict):
            yield (*path, label), stated[label]
        elif stated[label] is not None:
            message = f"{shown_path((*path, label))} must be an object, not {shown(stated[label])}"
            raise ConfigError(message, (*path, label))


def _check_one(section: Section, path: KeyPath, parameters: Mapping[str, Any]) -> None:
    key = "rope_type" if "rope_type" in parameters else "type"
    kind = parameters.get(key, "default")
    known = schema().rope_types
    if not isinstance(kind, str) or OLD_KINDS.get(kind, kind) not in known:
        hint = nearest(kind, known) if isinstance(kind, str) else ""
        hint = hint or f", known are {', '.join(sorted(known))}"
        raise ConfigError(f"unknown rope_type {shown(kind)} in {shown_path(path)}{hint}", path)
    kind = OLD_KINDS.get(kind, kind)
    missing = [name for name in NEEDED.get(kind, ()) if parameters.get(name) is None]
    if missing:
        raise ConfigError(f"{shown_path(path)} of type '{kind}' lacks {', '.join(missing)}", path)
    for name, value in parameters.items():
        _check_parameter((*path, name), value)
    if kind == "longrope":
        _check_lengths(section, path, parameters)


def _check_parameter(path: KeyPath, value: Any) -> None:
    name = path[-1]
    if value is None:
        return
    if name in POSITIVE and not (type(value) in (int, float) and 0 < value < LARGEST_NUMBER):
        raise ConfigError(f"{shown_path(path)} must be a positive number, not {shown(value)}", path)
    if name in ("mscale", "mscale_all_dim") and not (
        type(value) in (int, float) and 0 <= value < LARGEST_NUMBER
    ):
        raise ConfigError(
            f"{shown_path(path)} must be a number from 0 on, not {shown(value)}", path
        )
    if name == "truncate" and type(value) is not bool:
        raise ConfigError(f"{shown_path(path)} must be true or false, not {shown(value)}", path)
    if name in LISTS and not (
        isinstance(value, list)
        and all(type(item) in (int, float) and 0 < item < LARGEST_NUMBER for item in value)
    ):
        message = f"{shown_path(path)} must be a list of positive numbers, not {shown(value)}"
        raise ConfigError(message, path)


def _check_lengths(section: Section, path: KeyPath, parameters: Mapping[str, Any]) -> None:
    short, long = parameters["short_factor"], parameters["long_factor"]
    if len(short) != len(long):
        raise ConfigError(
            f"{shown_path(path)} has {len(short)} short_factor and {len(long)} long_factor numbers",
            path,
        )


def _check_factor(section: Section) -> None:
    """The part of a head that is rotated, stated beside the parameters."""
    for key in ("partial_rotary_factor", "rope_theta"):
        value = section.values.get(key)
        if value is None or key not in section.config_class.known:
            continue
        if type(value) not in (int, float, dict) or (
            type(value) is not dict and not 0 < value < LARGEST_NUMBER
        ):
            raise section.error(
                f"{section.label(key)} must be a positive number, not {shown(value)}", key
            )
