"""Makes families.jsonl: what Transformers' config classes say of themselves.

    python -m wscc.frontend.model.config.make_schema          # rewrite the table
    python -m wscc.frontend.model.config.make_schema --check  # exit 1 where it is out of date

The table holds every class that a causal language model, or a multimodal model with a text half,
is configured by. schema.py reads it without importing Transformers.
"""

import dataclasses
import inspect
import json
import logging
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from .checks import FURTHER_SIZES, SIZES
from .schema import TABLE
from .source_keys import asked_for, read_by_models

_WORDS = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    dict: "dict",
    list: "list",
    tuple: "list",
    type(None): "null",
}


def table() -> str:
    """The whole text of the table: a line that heads it, then a line for every class."""
    import transformers
    from transformers.activations import ACT2FN
    from transformers.configuration_utils import (
        _LEGACY_LAYER_TYPE_REMAP,
        ALLOWED_ATTN_LAYER_TYPES,
        ALLOWED_MLP_LAYER_TYPES,
    )
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    builders = {
        "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "multimodal": auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    }
    kept = {name for names in builders.values() for name in names if name in CONFIG_MAPPING}
    classes = dict(_reachable(CONFIG_MAPPING[name] for name in sorted(kept)))
    for model_type in list(CONFIG_MAPPING):
        if (found := CONFIG_MAPPING[model_type]).__name__ in classes:
            classes[found.__name__] = found
    head = {
        "transformers": transformers.__version__,
        "activations": sorted(ACT2FN),
        "rope_types": sorted({"default", "axial", *ROPE_INIT_FUNCTIONS}),
        "layer_types": sorted(
            {*ALLOWED_ATTN_LAYER_TYPES, *_LEGACY_LAYER_TYPE_REMAP}
            | _words(classes.values(), "layer_types", "layers_block_type")
        ),
        "mlp_layer_types": sorted(
            {*ALLOWED_MLP_LAYER_TYPES} | _words(classes.values(), "mlp_layer_types")
        ),
        "types": {
            name: CONFIG_MAPPING[name].__name__
            for name in sorted(CONFIG_MAPPING)
            if CONFIG_MAPPING[name].__name__ in classes
        },
        "causal": sorted(name for name in builders["causal"] if name in CONFIG_MAPPING),
        "multimodal": sorted(name for name in builders["multimodal"] if name in CONFIG_MAPPING),
        "encoders": _encoders(builders["causal"], CONFIG_MAPPING),
        "others": _others(auto, kept, classes, CONFIG_MAPPING),
    }
    lines = [head, *({"class": name, **_described(classes[name])} for name in sorted(classes))]
    return "".join(_line(line) for line in lines)


def _words(classes: Iterable[type[Any]], *names: str) -> set[str]:
    """The kinds of layers that classes take by themselves."""
    found: set[str] = set()
    for config_class in classes:
        try:
            made = config_class()
        except Exception:  # it cannot be made without arguments
            continue
        for name in names:
            found |= {word for word in getattr(made, name, None) or () if isinstance(word, str)}
    return found


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"


def _others(
    auto: Any, built: set[str], classes: Mapping[str, Any], mapping: Mapping[str, Any]
) -> dict[str, str]:
    """What the types that are no language models of ours are instead."""
    sequence_to_sequence = {
        *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    }
    texts = {
        _part_class(spec).__name__
        for config_class in classes.values()
        for key, spec in config_class.sub_configs_defaults.items()
        if key == "text_config"
    }
    found: dict[str, str] = {}
    for name in sorted(set(mapping) - built):
        if name in sequence_to_sequence:
            found[name] = "encoder-decoder"
        else:
            found[name] = "part" if mapping[name].__name__ in texts else "other"
    return found


def _encoders(causal: Iterable[str], mapping: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The key and the value that make an encoder causal; such models warn where it is absent."""
    found: dict[str, list[Any]] = {
        "reformer": ["is_decoder", True],
        "xlm": ["causal", True],
        "xlnet": ["attn_type", "uni"],
    }
    for name in sorted(causal):
        if name not in mapping:
            continue
        folder = Path(inspect.getfile(mapping[name])).parent
        sources = (file.read_text(encoding="utf-8") for file in folder.glob("modeling_*.py"))
        if any("add `is_decoder=True.`" in source for source in sources):
            found[name] = ["is_decoder", True]
    return found


def _reachable(roots: Iterable[type[Any]]) -> Iterator[tuple[str, type[Any]]]:
    """The classes and all that they hold parts of, by name."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        found = waiting.pop()
        if found.__name__ in seen:
            continue
        seen.add(found.__name__)
        yield found.__name__, found
        waiting += [_part_class(spec) for spec in found.sub_configs_defaults.values()]


def _part_class(spec: Any) -> type[Any]:
    if _is_open(spec):
        return spec.get_config_class(spec.model_type)
    return spec.config_class


def _is_open(spec: Any) -> bool:
    """Whether the part's own model_type says what class it is of."""
    return spec.config_class.__name__ == "AutoConfig"


_ODD_SIZES = {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 3}
"""No class's own, so that what a part works out from its sizes is told from what it is given."""


def _given(config_class: type[Any], key: str) -> list[dict[str, Any]]:
    """What the class gives a part that leaves it out, in place of the part's own defaults; none
    where it gives nothing. Sizes are left out: a config has to state them."""
    spec = config_class.sub_configs_defaults[key]
    try:
        part = getattr(config_class(**{key: {"model_type": spec.model_type, **_ODD_SIZES}}), key)
        plain = _part_class(spec)(**_ODD_SIZES)
    except Exception:  # What Transformers cannot make of so little gives no defaults either.
        return []
    given = {
        name: value
        for name, value in sorted((spec.init_kwargs or {}).items())
        if name not in {*SIZES, *FURTHER_SIZES}
        and getattr(part, name, None) == value != getattr(plain, name, None)
        and _is_plain(value)
    }
    return [given] if given else []


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(_is_plain(item) for item in value)
    return isinstance(value, str | int | float | None)


def _described(config_class: type[Any]) -> dict[str, Any]:
    """One line of the table; what is empty is left out."""
    base = {field.name for field in dataclasses.fields(_base())}
    fields = {
        field.name: _field(field)
        for field in dataclasses.fields(config_class)
        if field.name not in base
    }
    fields = {**_constants(config_class), **fields}
    further = asked_for(config_class, _base()) | read_by_models(config_class, _base())
    further |= _computed(config_class)
    also = sorted(further - set(fields) - base)
    parts = {
        key: [_part_class(spec).__name__, _is_open(spec), spec.optional, *_given(config_class, key)]
        for key, spec in config_class.sub_configs_defaults.items()
    }
    described = {
        "type": config_class.model_type,
        "encoder_decoder": bool(getattr(config_class, "is_encoder_decoder", False)),
        "divides": _insists_on_division(config_class),
        "left_open": _left_open(config_class),
        "map": dict(sorted(config_class.attribute_map.items())),
        "renamed": dict(sorted(_renamed(config_class, also).items())),
        "parts": parts,
        "rope_labels": sorted(getattr(config_class, "_rope_type_labels", None) or ()),
        "fields": dict(sorted(fields.items())),
        "also": also,
    }
    return {key: value for key, value in described.items() if value}


def _constants(config_class: type[Any]) -> dict[str, list[Any]]:
    """Numbers and switches that stand in the class without an annotation; a config may set them."""
    base = {*vars(_base()), *dir(_base())}
    found: dict[str, Any] = {}
    for ancestor in reversed(inspect.getmro(config_class)):
        annotated = vars(ancestor).get("__annotations__", {})
        found |= {
            name: [_types(float | int if isinstance(value, float) else type(value)), value]
            for name, value in vars(ancestor).items()
            if isinstance(value, bool | int | float)
            and name not in base
            and name not in annotated
            and not name.startswith("_")
        }
    return found


def _computed(config_class: type[Any]) -> set[str]:
    """Attributes that the class works out, and that a config may set all the same."""
    try:
        made = config_class()
    except Exception:  # it cannot be made without arguments
        return set()
    properties = {
        name
        for ancestor in inspect.getmro(config_class)
        for name, value in vars(ancestor).items()
        if isinstance(value, property) and value.fset is not None
    }
    return {
        name
        for name in {*vars(made), *properties}
        if not name.startswith("_") and not hasattr(_base(), name) and name not in _base_values()
    }


@cache
def _base_values() -> frozenset[str]:
    """The attributes of any config."""
    return frozenset(vars(_base()()))


def _base() -> Any:
    from transformers import PreTrainedConfig

    return PreTrainedConfig


def _field(field: "dataclasses.Field[Any]") -> list[Any]:
    """[types, default], and the list of words where only those may stand."""
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    words = sorted(_literals(field.type))
    return [_types(field.type), _plain(default), *([words] if words else [])]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, int | float | str | None) else None


def _types(annotation: Any) -> str:
    """The words for an annotation: `int|null`, `list[float]|null`."""
    return "|".join(sorted(_alternatives(annotation)))


def _alternatives(annotation: Any) -> set[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {word for inner in arguments for word in _alternatives(inner)}
    if origin is Literal:
        return {_WORDS[type(word)] for word in arguments}
    plain = origin or annotation
    if plain in (list, tuple) or plain is typing.get_origin(Sequence[int]):
        inner = {word for item in arguments if item is not ... for word in _alternatives(item)}
        simple = {word.partition("[")[0] for word in inner}
        return {f"list[{','.join(sorted(simple))}]" if simple else "list"}
    if plain in _WORDS:
        return {_WORDS[plain]}
    if annotation is Any:
        return {"any"}
    return {"dict"}


def _literals(annotation: Any) -> set[str]:
    if get_origin(annotation) is Literal:
        return {word for word in get_args(annotation) if isinstance(word, str)}
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _literals(inner[0]) if len(inner) == 1 else set()
    return set()


def _renamed(config_class: type[Any], also: Iterable[str]) -> dict[str, str]:
    """Older names of fields: tried, by giving each a number and looking where it ends up."""
    probe, found = 8, dict[str, str]()
    names = {field.name for field in dataclasses.fields(config_class)} - {"dtype"}
    try:
        before = vars(config_class())
    except Exception:  # a class that cannot be made without arguments has no older names
        return {}
    for key in set(also) - set(config_class.attribute_map):
        try:
            after = vars(config_class(**{key: probe}))
        except Exception:  # not a number then, so not the older name of a size
            continue
        moved = [
            name
            for name, value in after.items()
            if name != key and type(value) is int and value == probe != before.get(name)
        ]
        if len(moved) == 1 and key not in after and moved[0] in names:
            found[key] = moved[0]
    return found


def _left_open(config_class: type[Any]) -> list[str]:
    """What the class neither states nor works out, and its models read all the same."""
    try:
        made = config_class()
    except Exception:  # it cannot be made without arguments
        return []
    fields = {field.name: field.default for field in dataclasses.fields(config_class)}
    folder = Path(inspect.getfile(config_class)).parent
    source = "".join(
        file.read_text(encoding="utf-8") for file in sorted(folder.glob("modeling_*.py"))
    )
    signs = {
        "head_dim": "head_dim",
        "layer_types": "config.layer_types[",
        "num_key_value_heads": "config.num_key_value_heads",
    }
    return [
        name
        for name, sign in signs.items()
        if name in fields and fields[name] is vars(made).get(name, 0) is None and sign in source
    ]


def _insists_on_division(config_class: type[Any]) -> bool:
    """Whether the heads have to divide the hidden size though the width of a head is given."""
    names = {field.name for field in dataclasses.fields(config_class)} | {
        *config_class.attribute_map
    }
    if not {"hidden_size", "num_attention_heads", "head_dim"} <= names:
        return False
    sizes = {"head_dim": 8, "num_key_value_heads": 1}
    sizes = {key: value for key, value in sizes.items() if key in names}
    try:
        config_class(hidden_size=40, num_attention_heads=5, **sizes)
    except Exception:  # refused for another reason
        return False
    try:
        config_class(hidden_size=24, num_attention_heads=5, **sizes)
    except Exception:  # refused for this one
        return True
    return False


def line(name: str) -> str:
    """The line of the class that a model type has."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[name]
    return _line({"class": config_class.__name__, **_described(config_class)})


def main(arguments: Sequence[str]) -> int:
    """Write the table, or compare it; the exit code."""
    from transformers.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)
    text = table()
    if "--check" in arguments:
        return int(TABLE.read_text(encoding="utf-8") != text)
    TABLE.write_text(text, encoding="utf-8")
    print(f"{TABLE}: {len(text.splitlines()) - 1} classes, {len(text) // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
