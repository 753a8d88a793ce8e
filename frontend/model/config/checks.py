"""What the values of a config must be to one another: sizes that fit together, none left out.

Transformers fills in a missing size without a word and takes a misspelt key for an extra one:
this is where both are caught. What one value by itself must be is in values.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ....ir.errors import nearest
from .document import shown, shown_path
from .schema import SYNONYMS, ConfigClass, schema
from .section import QUIET, UNREAD, Section
from .values import MOST_LAYER_EXPERTS, check_value, is_size

SIZES = ("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads")
"""What every model has, under these or other names."""

FURTHER_SIZES = (
    "intermediate_size",
    "ffn_dim",
    "ffn_hidden_size",
    "num_key_value_heads",
    "moe_intermediate_size",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
)
"""What is as needed where a class has a number of its own for it."""

EXPERTS, CHOSEN, KEY_VALUE_HEADS = SYNONYMS

_MISSPELT = 0.85
"""How alike (by difflib) a key must be to one that is absent to be taken for it."""

_HEAD_WIDTHS = (
    "head_dim",
    "qk_head_dim",
    "qk_nope_head_dim",
    "attention_head_dim",
    "attention_head_size",
    "kv_channels",
)


def check_section(section: Section, whole: bool) -> None:
    """Raise ConfigError for the first thing that is wrong with a section's values.

    `whole`: it must state its sizes, as a file of its own does. A section inside another is saved
    without what its class takes anyway.
    """
    if whole:
        _check_sizes(section)
    for key in section.values:
        check_value(section, key)
    _check_spellings(section)
    _check_heads(section)
    _check_experts(section)
    _check_layers(section)


def missing_sizes(section: Section) -> list[str]:
    """The sizes that a class has numbers of its own for, and that nothing is stated of."""
    found: list[str] = []
    for name in (*SIZES, *FURTHER_SIZES):
        own = section.config_class.own_name(name)
        field = section.config_class.fields.get(own)
        if field is not None and type(field.default) is int and section.key_of(name) is None:
            found.append(own)
    if "layer_types" in section.config_class.left_open and not section.get("layer_types"):
        found.append("layer_types")
    return list(dict.fromkeys(found))


def unknown_keys(section: Section) -> Iterator[tuple[str, str | None]]:
    """The keys that a class does nothing with, and what may be meant by each.

    Raises ConfigError for one that is clearly a misspelt size.
    """
    config_class = section.config_class
    stated = {config_class.own_name(key) for key in section.values}
    absent = [name for name in config_class.known if config_class.own_name(name) not in stated]
    for key, value in section.values.items():
        if key in config_class.known or key in QUIET or value in (None, False):
            continue
        meant = get_close_matches(key, absent, n=1, cutoff=_MISSPELT)
        if meant and type(value) is int and _is_size(config_class, meant[0]):
            raise section.error(
                f"unknown key {shown(section.label(key))}, did you mean '{meant[0]}'?", key
            )
        yield key, meant[0] if meant else None


def _is_size(config_class: ConfigClass, key: str) -> bool:
    field = config_class.fields.get(config_class.own_name(key))
    return field is not None and "int" in field.types and is_size(key)


def _check_sizes(section: Section) -> None:
    missing = missing_sizes(section)
    if not missing:
        return
    hints = "".join(
        f"; {section.label(key)} is given{hint}"
        for key in section.values
        if key not in section.config_class.known
        and key not in QUIET
        and (hint := nearest(key, missing))
    )
    raise section.error(f"missing {', '.join(missing)}{hints}")


def _check_spellings(section: Section) -> None:
    """Refuse a field that is given under two names with two values."""
    seen: dict[str, str] = {}
    for key, value in section.values.items():
        own = section.config_class.own_name(key)
        if own not in section.config_class.fields or key in UNREAD:
            continue
        other = seen.setdefault(own, key)
        if section.values[other] != value:
            raise section.error(
                f"{section.label(other)} {shown(section.values[other])} and {key} {shown(value)} "
                "are the same size, but differ",
                key,
            )


def _check_heads(section: Section) -> None:
    if not (section.has("hidden_size") and section.has("num_attention_heads")):
        return
    heads, hidden = section.get("num_attention_heads"), section.get("hidden_size")
    if type(heads) is not int or type(hidden) is not int:
        return
    widths = [section.get(name) for name in _HEAD_WIDTHS]
    width = next((width for width in widths if type(width) is int), None)
    if "head_dim" in section.config_class.also and type(section.values.get("head_dim")) is int:
        width = section.values["head_dim"]
    if (width is None or section.config_class.divides) and hidden % heads:
        raise section.error(
            f"{section.label(_stated(section, 'hidden_size'))} {hidden} is not a multiple of "
            f"{_stated(section, 'num_attention_heads')} {heads}",
            _stated(section, "num_attention_heads"),
        )
    _check_groups(section, heads)
    _check_rotary_width(section, width or hidden // heads)


def _stated(section: Section, name: str) -> str:
    """The key by which a field is stated, or its own name where it is not."""
    return section.key_of(name) or section.config_class.own_name(name)


def _check_groups(section: Section, heads: int) -> None:
    name = section.first(KEY_VALUE_HEADS)
    groups = None if name is None else section.get(name)
    if name is None or type(groups) is not int or heads % groups == 0:
        return
    key = _stated(section, name)
    raise section.error(
        f"{section.label(_stated(section, 'num_attention_heads'))} {heads} is not a multiple of "
        f"{key} {groups}",
        key,
    )


def _check_rotary_width(section: Section, width: int) -> None:
    """Refuse heads of an odd width where all of it is rotated, two numbers at a time."""
    if not section.has("rope_parameters") or width % 2 == 0:
        return
    ropes = [section.values.get(key) for key in ("rope_parameters", "rope_scaling")]
    partial = [rope for rope in ropes if isinstance(rope, Mapping)]
    if any("partial_rotary_factor" in str(rope) for rope in [*section.values, *partial]):
        return
    if any(section.has(name) for name in ("partial_rotary_factor", "qk_rope_head_dim")):
        return
    key = section.key_of("head_dim") or _stated(section, "num_attention_heads")
    where = f"in {shown_path(section.path)} " if section.path else ""
    raise section.error(
        f"a head {where}is {width} wide, but rotary embeddings need an even width", key
    )


def _check_experts(section: Section) -> None:
    many, few = section.first(EXPERTS), section.first(CHOSEN)
    experts = None if many is None else section.get(many)
    chosen = None if few is None else section.get(few)
    if many is None or type(experts) is not int:
        return
    layers = section.get("num_hidden_layers")
    if type(layers) is int and layers * experts > MOST_LAYER_EXPERTS:
        raise section.error(
            f"{section.label(_stated(section, many))} {experts} in each of {layers} layers are "
            f"more than {MOST_LAYER_EXPERTS}",
            _stated(section, many),
        )
    if few is not None and type(chosen) is int and chosen > experts:
        raise section.error(
            f"{section.label(_stated(section, few))} {chosen} is more than {_stated(section, many)}"
            f" {experts}",
            _stated(section, few),
        )
    _check_expert_groups(section, many, experts, chosen)


def _check_expert_groups(section: Section, many: str, experts: int, chosen: Any) -> None:
    """Experts are chosen from `topk_group` of `n_group` groups of equal size."""
    groups, taken = section.get("n_group"), section.get("topk_group")
    if type(groups) is not int or experts == 0:
        return
    at = section.label(_stated(section, "n_group"))
    if groups < 1 or experts % groups:
        raise section.error(
            f"{_stated(section, many)} {experts} is not a multiple of {at} {groups}",
            _stated(section, "n_group"),
        )
    if type(taken) is not int:
        return
    if not 1 <= taken <= groups:
        raise section.error(
            f"{section.label('topk_group')} must lie between 1 and n_group {groups}, not {taken}",
            _stated(section, "topk_group"),
        )
    if type(chosen) is int and chosen > taken * (experts // groups):
        raise section.error(
            f"{section.label('topk_group')} {taken} groups of {experts // groups} experts are "
            f"fewer than the {chosen} chosen for a token",
            _stated(section, "topk_group"),
        )


def _check_layers(section: Section) -> None:
    """Refuse lists of the kinds of layers that are of unknown words or of a wrong length."""
    known = {
        "layer_types": schema().layer_types,
        "layers_block_type": schema().layer_types | {"mlp"},
        "mlp_layer_types": schema().mlp_layer_types,
        "hybrid_override_pattern": frozenset("M*E-"),
    }
    for key, words in known.items():
        stated = section.values.get(key)
        if isinstance(stated, list | str) and key in section.config_class.known:
            _check_words(section, key, stated, words)
            _check_count(section, key, stated)
    _check_windows(section)


def _check_count(section: Section, key: str, stated: Sequence[Any]) -> None:
    """Refuse a list of another length than there are layers, or layers and those that predict
    further tokens."""
    name = section.key_of("num_hidden_layers")
    layers = None if name is None else section.values[name]
    if not stated:
        raise section.error(f"{section.label(key)} lists no layers", key)
    if name is None or type(layers) is not int:
        return
    extra = section.values.get("num_nextn_predict_layers")
    if not layers <= len(stated) <= layers + (extra if type(extra) is int else 0):
        raise section.error(
            f"{section.label(key)} lists {len(stated)} layers, but {name} is {layers}", key
        )


def _check_windows(section: Section) -> None:
    """Refuse layers that attend to a window where there is none."""
    used, window = section.get("use_sliding_window"), section.get("sliding_window")
    types = section.values.get("layer_types")
    known = "layer_types" in section.config_class.known
    sliding = known and isinstance(types, list) and "sliding_attention" in types
    if used and section.has("sliding_window") and window is None:
        raise section.error(
            f"{section.label('use_sliding_window')} is true, but there is no sliding_window",
            "use_sliding_window",
        )
    if sliding and used is False:
        raise section.error(
            f"{section.label('layer_types')} has sliding_attention, but use_sliding_window is not "
            "true",
            "layer_types",
        )
    if sliding and section.has("sliding_window") and window is None:
        raise section.error(
            f"{section.label('layer_types')} has sliding_attention, but there is no sliding_window",
            "layer_types",
        )


def _check_words(section: Section, key: str, stated: Sequence[Any], words: frozenset[str]) -> None:
    own = frozenset(section.config_class.rope_labels)
    for word in stated:
        if not isinstance(word, str) or word not in words | own:
            hint = nearest(word, words) if isinstance(word, str) else ""
            hint = hint or f", known are {', '.join(sorted(words))}"
            raise section.error(
                f"unknown layer type {shown(word)} in {section.label(key)}{hint}", key
            )
