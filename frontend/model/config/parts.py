"""Configs inside a config: which there are, and what of them Transformers is given.

A multimodal config has a text half and towers, each with keys of its own; early ones state the
text half's keys beside their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ....ir.errors import nearest
from .checks import SIZES
from .document import KeyPath, shown, shown_path
from .families import canonical
from .rope import KEYS as ROPES
from .rope import normalized
from .schema import ConfigClass, Part, config_class, schema
from .section import UNREAD, ConfigError, Section

TEXT = ("thinker_config", "text_config")
"""Where the text half is, or the part of an omni model that it is in."""

_DROPPED = UNREAD | {"dtype", "torch_dtype"}


@dataclass(frozen=True)
class Family:
    """What is handed to Transformers, and the section that speaks of the decoder."""

    model_type: str
    values: Mapping[str, Any]
    section: Section
    layers: int
    quantization: Mapping[str, Any] | None

    @property
    def config_class(self) -> ConfigClass:
        """The class of the section."""
        return self.section.config_class


def sections_of(root: Section) -> list[tuple[Section, bool]]:
    """A section and all inside it, each with whether it must state its sizes."""
    return [(root, True), *_inner(root)]


def _inner(section: Section) -> Iterator[tuple[Section, bool]]:
    for key in section.config_class.parts:
        inner = part_of(section, key)
        if inner is not None:
            yield inner, inner.path == section.path
            yield from _inner(inner)


def part_of(section: Section, key: str) -> Section | None:
    """The section that a key holds, or that stands flat in its outer one; None without either.

    Raises ConfigError where it is no object or its model type is not known.
    """
    part = section.config_class.parts[key]
    path = (*section.path, key)
    stated = section.values.get(key)
    if stated is None:
        flat = _flat(section, part) if key == "text_config" else None
        if flat is None and key in TEXT and not section.path:
            raise ConfigError(f"missing {shown_path(path)}", ())
        return flat
    if not isinstance(stated, dict):
        raise ConfigError(f"{shown_path(path)} must be an object, not {shown(stated)}", path)
    return Section(config_class(_class_name(part, stated, path)), {**part.given, **stated}, path)


def _class_name(part: Part, stated: Mapping[str, Any], path: KeyPath) -> str:
    """The class of a part: its own model_type decides only where the outer class leaves it open."""
    name = stated.get("model_type") if part.open else None
    if name is None:
        return part.config_class
    if not isinstance(name, str):
        label = shown_path((*path, "model_type"))
        raise ConfigError(f"{label} must be a string, not {shown(name)}", (*path, "model_type"))
    name = canonical(name, stated)
    if name in schema().types:
        return schema().types[name]
    hint = nearest(name, schema().types)
    label = shown_path((*path, "model_type"))
    raise ConfigError(f"unknown {label} {shown(name)}{hint}", (*path, "model_type"))


def _flat(section: Section, part: Part) -> Section | None:
    """The text half of a config that states its keys among its own."""
    inner = Section(config_class(part.config_class), section.values, section.path)
    if not any(inner.key_of(name) for name in SIZES):
        return None
    own = {*section.config_class.fields, *section.config_class.parts} - {"tie_word_embeddings"}
    values = {key: value for key, value in section.values.items() if key not in own}
    return Section(inner.config_class, values, section.path)


def family_of(model_type: str, root: Section, part: str) -> Family:
    """What a config is for Transformers: the whole of it, or its text half by itself."""
    stated = root.values.get("quantization_config")
    text = text_of(root)
    if stated is None:
        stated = text.values.get("quantization_config")
    if stated is not None and not isinstance(stated, dict):
        key = "quantization_config"
        raise root.error(f"{key} must be an object, not {shown(stated)}", key)
    family, section = model_type, root
    if part == "text" and model_type in schema().multimodal and text is not root:
        family, section = _own_model(model_type, root, text)
    return Family(family, _family_values(root, section, text), text, _layers(root, text), stated)


def _own_model(model_type: str, root: Section, text: Section) -> tuple[str, Section]:
    """The smallest part with the text half that Transformers builds by itself."""
    if (own := _type_of(text)) in schema().causal:
        return own, text
    if "thinker_config" in root.config_class.parts:
        thinker = part_of(root, "thinker_config")
        if thinker is not None and (own := _type_of(thinker)) in schema().built:
            return own, thinker
    return model_type, root


def _type_of(section: Section) -> str:
    """The model type of a section, as AutoConfig knows it."""
    known = schema().types
    name = section.config_class.type
    return name if known.get(name) == section.config_class.name else ""


def text_of(section: Section) -> Section:
    """The section that speaks of the decoder: itself where there is no other."""
    for key in TEXT:
        if key in section.config_class.parts:
            inner = part_of(section, key)
            if inner is not None:
                return text_of(inner)
    return section


def _layers(root: Section, text: Section) -> int:
    """How many layers the decoder has; of several stacks the deepest."""
    found = [_own_layers(text)]
    if found == [0]:
        found += [_own_layers(section) for section, _ in sections_of(root)]
    return max(found)


def _own_layers(section: Section) -> int:
    for name in ("num_hidden_layers", "num_layers"):
        stated = section.values.get(name, section.get(name))
        if type(stated) is int:
            return stated
    kinds = section.get("layer_types") or section.values.get("hybrid_override_pattern")
    return len(kinds) if isinstance(kinds, list | str) else 0


def _family_values(root: Section, section: Section, text: Section) -> dict[str, Any]:
    values = values_of(section)
    if section is text and text is not root and text.has("tie_word_embeddings"):
        values["tie_word_embeddings"] = _tied(root, text)
    return values


def _tied(root: Section, text: Section) -> bool:
    """Whether the head is the embedding: the outer config decides where it says so."""
    key = "tie_word_embeddings"
    stated = root.values.get(key)
    return stated if isinstance(stated, bool) else bool(text.get(key))


def values_of(section: Section) -> dict[str, Any]:
    """What a section's class is made with: only keys that it knows, as Transformers takes them."""
    known = section.config_class.known | {"per_layer_config"} | _stated_lists(section)
    synonyms = section.config_class.synonyms
    values = {
        synonyms.get(key, key): _value(section, key, value)
        for key, value in section.values.items()
        if key in known and key not in _DROPPED
    }
    for key in section.config_class.parts:
        inner = part_of(section, key)
        if inner is not None:
            values[key] = values_of(inner)
            if section.config_class.parts[key].open:
                values[key]["model_type"] = _type_of(inner)
    if section.config_class.encoder_decoder:
        values["is_encoder_decoder"] = False
    return values | _padding(section) | _left_open(section)


_PREDICTION_LISTS = ("mtp_layer_types", "mtp_mlp_layer_types")
"""What `get_mtp_config` reads of any config: the kinds of its prediction layers."""


def _stated_lists(section: Section) -> set[str]:
    stated = {key: section.values.get(key) for key in _PREDICTION_LISTS}
    return {
        key
        for key, value in stated.items()
        if isinstance(value, list) and all(isinstance(item, str) for item in value)
    }


def _value(section: Section, key: str, value: Any) -> Any:
    if key in ROPES and isinstance(value, Mapping):
        return normalized(section, value)
    field = section.config_class.fields.get(section.config_class.own_name(key))
    if field is None:
        return value
    if type(value) is int and "float" in field.types and "int" not in field.types:
        return float(value)
    if isinstance(value, list) and {"list[float]", "list[float,null]"} & field.types:
        return [float(item) if type(item) is int else item for item in value]
    return value


def _left_open(section: Section) -> dict[str, int]:
    """What a class leaves open: a head's share of the hidden size, and no heads in groups."""
    hidden, heads = section.get("hidden_size"), section.get("num_attention_heads")
    if type(hidden) is not int or type(heads) is not int:
        return {}
    taken = {"head_dim": hidden // heads, "num_key_value_heads": heads}
    wanted = section.config_class.left_open
    return {key: taken[key] for key in taken if key in wanted and section.get(key) is None}


def _padding(section: Section) -> dict[str, Any]:
    """A padding token that is none of the vocabulary is none at all."""
    key = "pad_token_id"
    field = section.config_class.fields.get(key)
    token, words = section.get(key), section.get("vocab_size")
    if field is None or type(token) is not int or type(words) is not int:
        return {}
    if 0 <= token < words:
        return {}
    return {key: None if "null" in field.types else 0}
