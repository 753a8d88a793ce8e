"""What Transformers' config classes say of themselves, without Transformers.

families.jsonl holds a line that heads it and a line for every config class. make_schema.py makes
it; a class is parsed when it is first asked for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

TABLE = Path(__file__).with_name("families.jsonl")


SYNONYMS = (
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "top_k_experts"),
    ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
)
"""Keys of one meaning: published configs may have another of them than the class does."""


class Field(NamedTuple):
    """A field of a config class.

    `types` are words (`int`, `float`, `bool`, `str`, `dict`, `null`, `list`, `list[int,null]`),
    `words` the only ones that a string may be, where there is such a list.
    """

    types: frozenset[str]
    default: Any
    words: tuple[str, ...] = ()


class Part(NamedTuple):
    """A config inside a config: its class, and whether its own model_type says another one."""

    config_class: str
    open: bool
    optional: bool
    given: Mapping[str, Any] = MappingProxyType({})
    """What the outer class gives it where it states nothing, in place of its own defaults."""


@dataclass(frozen=True)
class ConfigClass:
    """One config class.

    `standard` maps the standard names of fields (`hidden_size`) to the class's own (`n_embd`),
    `renamed` older names to newer ones. `also` are keys without a field that the class or its
    models ask for. `divides` holds where heads must divide the hidden size though the width of
    a head is given. `rope_labels` are keys that `rope_parameters` may be nested under, and
    `left_open` fields that have no default and that the class's models read all the same.
    """

    name: str
    type: str
    fields: Mapping[str, Field]
    standard: Mapping[str, str]
    renamed: Mapping[str, str]
    parts: Mapping[str, Part]
    also: frozenset[str]
    rope_labels: frozenset[str]
    left_open: frozenset[str]
    encoder_decoder: bool
    divides: bool

    def own_name(self, key: str) -> str:
        """The field that a key sets: itself, unless it is a standard or an older name."""
        key = self.renamed.get(key) or self.synonyms.get(key, key)
        return self.standard.get(key, key)

    @cached_property
    def names(self) -> Mapping[str, frozenset[str]]:
        """Every field's own name and its standard ones."""
        found = {name: {name} for name in self.fields}
        for standard, own in self.standard.items():
            found.setdefault(own, {own}).add(standard)
        return {own: frozenset(names) for own, names in found.items()}

    @cached_property
    def native(self) -> frozenset[str]:
        """Every key that the class itself does something with."""
        return frozenset({*self.fields, *self.standard, *self.renamed, *self.parts, *self.also})

    @cached_property
    def synonyms(self) -> Mapping[str, str]:
        """The keys that the class does not know, each with the one field that has its meaning."""
        found: dict[str, str] = {}
        for group in SYNONYMS:
            own = {self.standard.get(key, key) for key in group if key in self.native}
            if len(own) == 1:
                found |= {key: next(iter(own)) for key in group if key not in self.native}
        return found

    @cached_property
    def known(self) -> frozenset[str]:
        """Every key that means something to the class, under whatever name."""
        return self.native | frozenset(self.synonyms)


@dataclass(frozen=True)
class Schema:
    """The head of the table.

    `types` gives the class of a model type. `causal` and `multimodal` are the types that a model
    of that kind is built from, `encoders` those that are causal only where a key has a certain
    value, and `others` all further types: `encoder-decoder`, `part` of a model, or `other`.
    """

    transformers: str
    activations: frozenset[str]
    rope_types: frozenset[str]
    layer_types: frozenset[str]
    mlp_layer_types: frozenset[str]
    types: Mapping[str, str]
    causal: frozenset[str]
    multimodal: frozenset[str]
    encoders: Mapping[str, tuple[str, Any]]
    others: Mapping[str, str]

    @cached_property
    def built(self) -> frozenset[str]:
        """The model types that a language model is built from."""
        return self.causal | self.multimodal


@cache
def schema() -> Schema:
    """The head of the table, read once."""
    head: dict[str, Any] = json.loads(_lines()[: _lines().index(b"\n")])
    for key in ("activations", "rope_types", "layer_types", "mlp_layer_types", "causal"):
        head[key] = frozenset(head[key])
    head["multimodal"] = frozenset(head["multimodal"])
    return Schema(**head)


@cache
def config_class(name: str) -> ConfigClass:
    """A class of the table by its name."""
    lines = _lines()
    start = lines.index(b'\n{"class":"%s"' % name.encode()) + 1
    line: dict[str, Any] = json.loads(lines[start : lines.index(b"\n", start)])
    fields = {
        key: Field(frozenset(_split(types)), default, *map(tuple, words))
        for key, (types, default, *words) in line["fields"].items()
    }
    return ConfigClass(
        name=name,
        type=line.get("type", ""),
        fields=fields,
        standard=line.get("map", {}),
        renamed=line.get("renamed", {}),
        parts={key: Part(*part) for key, part in line.get("parts", {}).items()},
        also=frozenset(line.get("also", ())),
        rope_labels=frozenset(line.get("rope_labels", ())),
        left_open=frozenset(line.get("left_open", ())),
        encoder_decoder=line.get("encoder_decoder", False),
        divides=line.get("divides", False),
    )


def class_of_type(model_type: str) -> ConfigClass:
    """The class of a model type of the table."""
    return config_class(schema().types[model_type])


def installed_types() -> tuple[str, frozenset[str]]:
    """The installed Transformers' version, and the model types that it has a folder for.

    Transformers is not imported. Empty where there is none.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return "", frozenset()
    try:
        folders = [folder.name for folder in (Path(spec.origin).parent / "models").iterdir()]
        return version("transformers"), frozenset(folders) | {
            name.replace("_", "-") for name in folders
        }
    except (OSError, PackageNotFoundError):
        return "", frozenset()


@cache
def _lines() -> bytes:
    return TABLE.read_bytes()


def _split(types: str) -> list[str]:
    return types.split("|")
