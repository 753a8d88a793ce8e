"""A config.json, read and checked with nothing but json.

What the file says is in `ModelConfig`, which holds only what the graph depends on. keys.py is the
table of keys; trace.py hands the values to Transformers.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...ir.errors import Location, UserError, nearest
from ...ir.graph import Phase
from .keys import FAMILIES, SILENT, ConfigError, Family, check, normalized

_LOG = logging.getLogger(__name__)

DTYPES = ("bfloat16", "float16", "float32")
UNBUILT_DTYPES = ("float64", "float8_e4m3fn", "float8_e5m2", "int8")
DEFAULT_DTYPE = "bfloat16"

_MISSPELT = 0.85
"""How alike (by difflib) a key must be to one that the file lacks to be taken for it."""

PACKAGES = ("wscc", "torch", "transformers")
"""Packages whose versions decide what a trace looks like."""


@dataclass(frozen=True)
class ModelConfig:
    """A checked config: `values` are the keys that the family `family` computes with."""

    path: str
    name: str
    family: str
    dtype: str
    layers: int
    values: Mapping[str, Any]


def read_config(path: str) -> ModelConfig:
    """The config in a file, or in the config.json of a folder.

    Raises UserError, at the line and column where there is one, for a file that is missing or no
    JSON, a model that is not built, and sizes that are missing or do not fit together.
    """
    file = _find(path)
    text = _read(file)
    values = _parse(text, str(file))
    try:
        return _checked(file, values)
    except ConfigError as wrong:
        raise UserError(wrong.message, _locate(text, str(file), wrong.key)) from None


def trace_key(config: ModelConfig, phase: Phase) -> str:
    """The name under which the trace of a phase may be kept: a digest of all it depends on."""
    content = {
        "name": config.name,
        "family": config.family,
        "dtype": config.dtype,
        "values": dict(config.values),
        "phase": phase,
        "versions": {package: _version(package) for package in PACKAGES},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _find(path: str) -> Path:
    file = Path(path)
    if file.is_dir():
        if not (file / "config.json").is_file():
            raise UserError("no config.json in this folder", Location(path))
        return file / "config.json"
    if not file.is_file():
        raise UserError("no such file", Location(path))
    return file


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not a text file in UTF-8", Location(str(file))) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", Location(str(file))) from None


def _parse(text: str, file: str) -> dict[str, Any]:
    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        values = json.loads(text, parse_constant=no_number)
    except json.JSONDecodeError as error:
        where = Location(file, error.lineno, error.colno)
        raise UserError(f"not valid JSON: {error.msg}", where) from None
    except RecursionError:
        raise UserError("not a config: nested too deeply", Location(file)) from None
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", Location(file)) from None
    if not isinstance(values, dict):
        kinds = {list: "a list", str: "a string", int: "a number", float: "a number"}
        kind = kinds.get(type(values), json.dumps(values))
        raise UserError(f"not a config: {kind} instead of an object", Location(file, 1, 1))
    return values


def _checked(file: Path, values: dict[str, Any]) -> ModelConfig:
    family = _family(values)
    if values.get("is_encoder_decoder") is True:
        raise ConfigError("encoder-decoder models are not built yet", "is_encoder_decoder")
    quantization = values.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        named = f" ({method})" if isinstance(method, str) else ""
        raise ConfigError(f"quantized weights{named} are not built yet", "quantization_config")
    check(family, values)
    _check_unknown(family, values)
    for key, value in (family.filled or {}).items():
        if key not in values:
            _LOG.warning("%s: no %s, Transformers takes %s", file, key, value)
    return ModelConfig(
        path=str(file),
        name=_name(file, values),
        family=values["model_type"],
        dtype=_dtype(file, values),
        layers=values["num_hidden_layers"],
        values=normalized(family, values),
    )


def _family(values: Mapping[str, Any]) -> Family:
    name = values.get("model_type")
    built = ", ".join(FAMILIES)
    if name is None:
        raise ConfigError(f"no model_type; built are {built}")
    if not isinstance(name, str):
        raise ConfigError(f"model_type must be a string, not {name!r}"[:80], "model_type")
    if name in FAMILIES:
        return FAMILIES[name]
    if name in _types_of_transformers():
        raise ConfigError(f"model_type '{name}' is not built yet; built are {built}", "model_type")
    if "auto_map" in values:
        raise ConfigError(
            f"model_type '{name}' needs code that comes with the model (auto_map), and such code "
            f"is never run; built are {built}",
            "auto_map",
        )
    hint = nearest(name, FAMILIES) or f", built are {built}"
    raise ConfigError(f"unknown model_type '{name}'{hint}", "model_type")


def _types_of_transformers() -> frozenset[str]:
    """The model types that the installed Transformers has a folder for."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    folders = [folder.name for folder in (Path(spec.origin).parent / "models").iterdir()]
    return frozenset(folders) | {name.replace("_", "-") for name in folders}


def _check_unknown(family: Family, values: Mapping[str, Any]) -> None:
    """Refuse a key that is a misspelt one which the file lacks; warn of any other unknown one."""
    for key in values:
        if key in family.checks or key in SILENT:
            continue
        absent = [known for known in family.checks if known not in values]
        if meant := get_close_matches(key, absent, n=1, cutoff=_MISSPELT):
            raise ConfigError(f"unknown key '{key}', did you mean '{meant[0]}'?", key)
        if values[key] not in (None, False):
            _LOG.warning("key '%s' is not used", key)


def _dtype(file: Path, values: Mapping[str, Any]) -> str:
    key = "dtype" if values.get("dtype") is not None else "torch_dtype"
    stated = values.get(key)
    if stated is None:
        _LOG.info("%s: no dtype, %s assumed", file, DEFAULT_DTYPE)
        return DEFAULT_DTYPE
    name = stated.removeprefix("torch.") if isinstance(stated, str) else ""
    if name in DTYPES:
        return name
    if name in UNBUILT_DTYPES:
        raise ConfigError(f"{key} '{name}' is not built yet; built are {', '.join(DTYPES)}", key)
    hint = nearest(name, DTYPES) or f", known are {', '.join(DTYPES)}"
    raise ConfigError(f"unknown {key} {stated!r}"[:80] + hint, key)


def _name(file: Path, values: Mapping[str, Any]) -> str:
    """What the config calls the model, else its folder or file."""
    stated = values.get("_name_or_path")
    if isinstance(stated, str) and (last := stated.rstrip("/").rpartition("/")[2]):
        return last
    return file.resolve().parent.name if file.name == "config.json" else file.stem


def _locate(text: str, file: str, key: str | None) -> Location:
    """Where a key of the outermost object stands, or the one that an inner key is in."""
    if key is not None:
        outer = key.partition(".")[0]
        for name, at in _keys(text):
            if name == outer:
                line = text.count("\n", 0, at) + 1
                return Location(file, line, at - text.rfind("\n", 0, at))
    return Location(file)


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[\[\]{}]')


def _keys(text: str) -> Iterator[tuple[str, int]]:
    """The keys of the outermost object and the offsets at which they begin."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "["):
            depth += 1
        elif token[0] in ("}", "]"):
            depth -= 1
        elif token[1] and depth == 1:
            yield json.loads(token[0].removesuffix(token[1])), token.start()
