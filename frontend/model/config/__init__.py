"""A config.json, read and checked with nothing but json.

What the file says is in `ModelConfig`, which holds only what the graph depends on. document.py
reads the file, schema.py knows Transformers' config classes, parts.py the configs inside a
config, and checks.py and rope.py what values must be; build.py hands them to Transformers.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from ....ir.errors import UserError, nearest
from ....ir.graph import Phase
from .checks import check_section, missing_sizes, unknown_keys
from .document import Document, read_document, shown
from .families import model_type_of
from .parts import Family, family_of, sections_of
from .rope import check_rope
from .schema import class_of_type, schema
from .section import ConfigError, Section

_LOG = logging.getLogger(__name__)

DTYPES = ("bfloat16", "float16", "float32")
UNBUILT_DTYPES = ("float64",)
DEFAULT_DTYPE = "bfloat16"

_WEIGHT_DTYPE = re.compile(r"^(u?int[1-8]|float[48]_\w+|fp[48]|[mn]v?xfp4|nvfp4|mxfp4)$")
"""Words for what weights are stored as; what they are computed with is then the default."""

PACKAGES = ("wscc", "torch", "transformers")
"""Packages whose versions decide what a trace looks like."""

Part = Literal["text", "all"]


@dataclass(frozen=True)
class ModelConfig:
    """A checked config.

    `values` are what Transformers' config class of the model type `family` is made with; of a
    multimodal model and `part` "text" both are those of its text half, where that is a model of
    its own. With `part` "all", `image_tokens` and `audio_tokens` of a prompt stand for images and
    audio (None: one image, or recording, of the config's own size). `prediction_layers` is how
    many of its multi-token-prediction layers stand behind it. `dtype` is what is computed with,
    `layers` counts the decoder's layers, and `quantization` is what the file says of its weights,
    as it stands.
    """

    path: str
    name: str
    family: str
    dtype: str
    layers: int
    values: Mapping[str, Any]
    part: Part = "text"
    quantization: Mapping[str, Any] | None = None
    image_tokens: int | None = None
    audio_tokens: int | None = None
    prediction_layers: int = 0

    @property
    def towers(self) -> bool:
        """Whether it is of a model as a whole that takes more than text."""
        return self.part == "all" and self.family in schema().multimodal


def read_config(path: str, part: Part = "text") -> ModelConfig:
    """The config in a file, or in the config.json of a folder.

    Raises UserError, at the line and column where there is one, for a file that is missing or no
    JSON, a model that is not built, and sizes that are missing or do not fit together.
    """
    document = read_document(path)
    try:
        return _checked(document, part)
    except ConfigError as wrong:
        raise UserError(wrong.message, document.locate(wrong.path)) from None


def trace_key(config: ModelConfig, phase: Phase, sizes: Mapping[str, int] | None = None) -> str:
    """The name under which the trace of a phase may be kept: a digest of all it depends on.

    `sizes` are those of a trace that is not symbolic in them.
    """
    content = {
        "name": config.name,
        "family": config.family,
        "dtype": config.dtype,
        "values": dict(config.values),
        "part": config.part,
        "quantization": config.quantization,
        "image_tokens": config.image_tokens,
        "audio_tokens": config.audio_tokens,
        "prediction_layers": config.prediction_layers,
        "phase": phase,
        "sizes": None if sizes is None else dict(sizes),
        "versions": {package: _version(package) for package in PACKAGES},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=8)
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _checked(document: Document, part: Part) -> ModelConfig:
    stated = document.values
    model_type = model_type_of(stated)
    root = Section(class_of_type(model_type), stated)
    sections = sections_of(root)
    for section, whole in sections:
        check_section(section, whole)
        check_rope(section)
    for section, whole in sections:
        _log_defaults(document, section, whole)
    _log_unknown(sections)
    family = family_of(model_type, root, part)
    _check_quantization(family.quantization)
    return ModelConfig(
        path=str(document.file),
        name=_name(document),
        family=family.model_type,
        dtype=_dtype(document, family),
        layers=family.layers,
        values=family.values,
        part=part,
        quantization=family.quantization,
    )


def _check_quantization(stated: Mapping[str, Any] | None) -> None:
    """Raise ConfigError for a method that is not built or a value that does not fit."""
    from ..quantization import read_quantization

    read_quantization(stated)


def _log_defaults(document: Document, section: Section, whole: bool) -> None:
    """Say which sizes Transformers fills in, of the text alone: towers are seldom spelt out."""
    names = [] if whole else missing_sizes(section)
    latent = section.has("qk_rope_head_dim")
    for name in ("sliding_window",) if latent else ("head_dim", "sliding_window"):
        field = section.config_class.fields.get(name)
        if field is not None and type(field.default) is int and section.key_of(name) is None:
            names.append(name)
    if section.path in ((), ("text_config",)):
        for name in names:
            taken = section.config_class.fields[name].default
            where = document.file, section.label(name)
            _LOG.warning("%s: no %s, Transformers takes %s", *where, shown(taken))


def _log_unknown(sections: list[tuple[Section, bool]]) -> None:
    read = {
        key for section, _ in sections if not section.path for key in section.config_class.known
    }
    for section, _ in sections:
        for key, meant in unknown_keys(section):
            if section.path or key not in read:
                hint = f", did you mean '{meant}'?" if meant else ""
                _LOG.info("key %s is not used%s", shown(section.label(key)), hint)


def _dtype(document: Document, family: Family) -> str:
    for section in (Section(family.config_class, document.values), family.section):
        for key in ("dtype", "torch_dtype"):
            stated = section.values.get(key)
            if isinstance(stated, dict):
                stated = stated.get("text_config", stated.get(""))
            if stated is not None:
                return _dtype_word(section, key, stated)
    _LOG.info("%s: no dtype, %s assumed", document.file, DEFAULT_DTYPE)
    return DEFAULT_DTYPE


def _dtype_word(section: Section, key: str, stated: Any) -> str:
    name = stated.removeprefix("torch.") if isinstance(stated, str) else ""
    if name in DTYPES:
        return name
    if name == "auto" or _WEIGHT_DTYPE.match(name):
        return DEFAULT_DTYPE
    label, built = section.label(key), ", ".join(DTYPES)
    if name in UNBUILT_DTYPES:
        raise section.error(f"{label} '{name}' is not built yet; built are {built}", key)
    hint = nearest(name, DTYPES) or f", known are {built}"
    raise section.error(f"unknown {label} {shown(stated)}{hint}", key)


def _name(document: Document) -> str:
    """What the config calls the model, else its folder or file."""
    stated = document.values.get("_name_or_path")
    if isinstance(stated, str) and (last := stated.rstrip("/").rpartition("/")[2]):
        return last.encode("utf-8", "replace").decode()
    file = document.file
    return file.resolve().parent.name if file.name == "config.json" else file.stem
