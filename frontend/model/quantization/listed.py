"""Methods whose configs spell out dtypes and modules: compressed-tensors, ModelOpt, Quark."""

import re
from collections.abc import Iterable, Mapping, Sequence

from .fields import Fields
from .schemes import (
    WHOLE,
    Activations,
    Pattern,
    Quantization,
    Rule,
    Scheme,
    Weights,
    listed_pattern,
    wildcard_pattern,
)

_MX = "float8_e8m0fnu"


# compressed-tensors: what llm-compressor writes.


def compressed_tensors(method: str, fields: Fields) -> Quantization:
    """Groups of modules, each with a scheme of its own; `ignore` lists modules that are kept."""
    ignored = tuple(_listed(fields, "ignore"))
    rules = [Rule(None, ignored)] if ignored else []
    groups = fields.section("config_groups")
    found = list(_groups(groups)) if groups else []
    if not found:
        raise fields.error(f"{method}: no config_groups", "config_groups")
    by_name = [rule for rule in found if rule.patterns]
    everywhere = [rule for rule in found if not rule.patterns]
    cache = cache_scheme(fields.section("kv_cache_scheme"))
    return Quantization(method, (*rules, *by_name, *everywhere), cache=cache)


def _listed(fields: Fields, key: str) -> Iterable[Pattern]:
    for text in fields.names(key) or ():
        try:
            yield listed_pattern(text)
        except re.error as wrong:
            raise fields.error(f"{text!r} is no regular expression: {wrong}", key) from None


_CLASSES = frozenset({"Linear", "MoE", "FusedMoE", "Experts"})
"""Targets that are kinds of modules and stand for all that is converted."""


def _groups(groups: Fields) -> Iterable[Rule]:
    for name in groups.values:
        group = groups.section(name)
        stated = group.section("weights") if group else None
        if group is None or stated is None:
            continue
        inputs = group.section("input_activations")
        packed = group.text("format", "")
        scheme = Scheme(
            _compressed_weights(stated, packed), _compressed_inputs(inputs) if inputs else None
        )
        targets = group.names("targets") or ["Linear"]
        if _CLASSES.isdisjoint(targets):
            yield Rule(scheme, tuple(_listed(group, "targets")))
        else:
            yield Rule(scheme)


_STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group", "token")


def _compressed_weights(fields: Fields, packed: str) -> Weights:
    dtype, strategy = _numbers(fields, (2, 4, 8)), _strategy(fields)
    group = fields.group("group_size", WHOLE)
    zero = None if fields.flag("symmetric", True) else dtype
    if strategy == "tensor_group":
        overall = "weight_global_scale"
        return Weights(dtype, (1, group or 16), "float8_e4m3fn", overall=overall)
    if strategy == "block":
        return Weights(dtype, _structure(fields), "bfloat16")
    if strategy == "group":
        mx = packed.startswith("mxfp") or "uint8" in fields.text("scale_dtype", "")
        return Weights(dtype, (1, group), _MX if mx else "bfloat16", zero=zero)
    block = (WHOLE, WHOLE) if strategy == "tensor" else (1, WHOLE)
    return Weights(dtype, block, "bfloat16", zero=zero)


def _compressed_inputs(fields: Fields) -> Activations:
    """Activations; those with zero points are taken as symmetric."""
    dtype, strategy = _numbers(fields), _strategy(fields)
    dynamic = fields.values.get("dynamic") not in (None, False)
    if strategy == "tensor_group":
        group = fields.group("group_size", 16) or 16
        return Activations(dtype, group, "float8_e4m3fn", static="input_global_scale")
    if strategy == "group":
        return Activations(
            dtype, fields.group("group_size", WHOLE), _MX if "4" in dtype else "float32"
        )
    if strategy == "tensor":
        return Activations(dtype, static=None if dynamic else "input_scale", per_tensor=True)
    return Activations(dtype)


def _strategy(fields: Fields) -> str:
    default = "group" if fields.values.get("group_size") else "tensor"
    return fields.choice("strategy", _STRATEGIES, default)


def _numbers(fields: Fields, integers: Sequence[int] = (4, 8)) -> str:
    """The dtype of so many bits."""
    kind = fields.choice("type", ("int", "float"), "int")
    bits = fields.number("num_bits", (4, 8) if kind == "float" else integers, 8)
    return f"int{bits}" if kind == "int" else _FLOATS[bits]


_FLOATS = {4: "float4_e2m1", 8: "float8_e4m3fn"}


def _structure(fields: Fields) -> tuple[int, int]:
    """The block of a weight: a list, or the older form `128x128`."""
    text = fields.values.get("block_structure")
    if isinstance(text, str) and re.fullmatch(r"[1-9]\d{0,6}x[1-9]\d{0,6}", text):
        rows, columns = text.split("x")
        return int(rows), int(columns)
    return fields.pair("block_structure") or (128, 128)


CACHES = ("float8_e4m3fn", "float8_e5m2", "int8")
"""What keys and values can be kept in."""


def cache_scheme(fields: Fields | None) -> str | None:
    """The dtype of keys and values in the cache."""
    if fields is None:
        return None
    dtype = _numbers(fields)
    if dtype not in CACHES:
        raise fields.error(f"a cache of {dtype} is not built, only of 8 bits", "num_bits")
    return dtype


# NVIDIA ModelOpt.

_STATIC = Activations("float8_e4m3fn", static="input_scale", per_tensor=True)
_FP4 = Weights("float4_e2m1", (1, 16), "float8_e4m3fn", overall="weight_scale_2")
_MXFP4 = Weights("float4_e2m1", (1, 32), _MX)
_INT4 = Weights("int4", (1, 128), "bfloat16")

ALGORITHMS: Mapping[str, Scheme] = {
    "FP8": Scheme(Weights("float8_e4m3fn", (WHOLE, WHOLE)), _STATIC),
    "FP8_PER_CHANNEL_PER_TOKEN": Scheme(
        Weights("float8_e4m3fn", (1, WHOLE)), Activations("float8_e4m3fn")
    ),
    "FP8_PB_WO": Scheme(Weights("float8_e4m3fn", (128, 128))),
    "FP8_PB": Scheme(Weights("float8_e4m3fn", (128, 128)), Activations("float8_e4m3fn", 128)),
    "MXFP8": Scheme(Weights("float8_e4m3fn", (1, 32), _MX), Activations("float8_e4m3fn", 32, _MX)),
    "NVFP4": Scheme(_FP4, Activations("float4_e2m1", 16, "float8_e4m3fn", static="input_scale")),
    "NVFP4_AWQ": Scheme(
        _FP4, Activations("float4_e2m1", 16, "float8_e4m3fn", static="input_scale")
    ),
    "W4A16_NVFP4": Scheme(_FP4),
    "W4A8_NVFP4_FP8": Scheme(_FP4, _STATIC),
    "W4A16_MXFP4": Scheme(_MXFP4),
    "W4A8_MXFP4_FP8": Scheme(_MXFP4, _STATIC),
    "W4A8_AWQ": Scheme(_INT4, _STATIC),
    "W4A16_AWQ": Scheme(_INT4),
    "W8A16": Scheme(Weights("int8", (1, WHOLE), "bfloat16")),
    "W8A8_SQ_PER_CHANNEL": Scheme(Weights("int8", (1, WHOLE)), Activations("int8")),
    "INT4": Scheme(_INT4),
}
"""ModelOpt's `quant_algo`."""

_CACHES: Mapping[str, str | None] = {"FP8": "float8_e4m3fn", "INT8": "int8", "NONE": None}


def modelopt(method: str, fields: Fields) -> Quantization:
    """One algorithm for all modules but those excluded, or one for each that is listed."""
    inner = fields.section("quantization") or fields
    rules = list(_excluded(inner, ("exclude_modules", "ignore")))
    cache = inner.choice("kv_cache_quant_algo", list(_CACHES), "NONE")
    stored = _CACHES[cache] or cache_scheme(inner.section("kv_cache_scheme"))
    algorithm = inner.choice("quant_algo", [*ALGORITHMS, "MIXED_PRECISION"], "FP8")
    if algorithm != "MIXED_PRECISION":
        return Quantization(method, (*rules, Rule(_algorithm(inner, algorithm))), cache=stored)
    layers = inner.section("quantized_layers")
    for name in layers.values if layers else ():
        own = layers.section(name) if layers else None
        if own:
            scheme = _algorithm(own, own.choice("quant_algo", list(ALGORITHMS), "FP8"))
            rules.append(Rule(scheme, (wildcard_pattern(name),)))
    return Quantization(method, tuple(rules), cache=stored)


def _algorithm(fields: Fields, name: str) -> Scheme:
    """A scheme with the groups that the file states."""
    scheme = ALGORITHMS[name]
    group = fields.group("group_size", WHOLE)
    weights = scheme.weights
    if not group or weights.block != (1, weights.block[1]) or weights.block[1] == WHOLE:
        return scheme
    own = Weights(
        weights.dtype, (1, group), weights.scale, weights.scale_name, overall=weights.overall
    )
    return Scheme(own, scheme.activations)


def _excluded(fields: Fields, keys: Iterable[str]) -> Iterable[Rule]:
    patterns = [wildcard_pattern(text) for key in keys for text in fields.names(key) or ()]
    if patterns:
        yield Rule(None, tuple(patterns))


# AMD Quark.

_QUARK_DTYPES: Mapping[str, str | None] = {
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "fp4": "float4_e2m1",
    "mx": "float4_e2m1",
    "int8": "int8",
    "uint8": "uint8",
    "int4": "int4",
    "uint4": "uint4",
    "int2": "int2",
    "bfloat16": None,
    "float16": None,
}
_QUARK_ACTIVATIONS = frozenset({"float8_e4m3fn", "float8_e5m2", "float4_e2m1", "int8", "int4"})


def quark(method: str, fields: Fields) -> Quantization:
    """A scheme for all modules, others by wildcards over their names, and what is excluded."""
    rules = list(_excluded(fields, ("exclude",)))
    own = fields.section("layer_quant_config")
    for name in own.values if own else ():
        stated = own.section(name) if own else None
        if stated:
            rules.append(Rule(_quark_scheme(stated), (wildcard_pattern(name),)))
    everywhere = fields.section("global_quant_config")
    if everywhere:
        rules.append(Rule(_quark_scheme(everywhere)))
    return Quantization(method, tuple(rules), cache=_quark_cache(fields))


def _quark_scheme(fields: Fields) -> Scheme | None:
    stated = _quark_tensor(fields, "weight")
    dtype = _quark_dtype(stated) if stated else None
    if stated is None or dtype is None:
        return None
    group = stated.group("group_size", WHOLE)
    blocks = {"per_tensor": (WHOLE, WHOLE), "per_channel": (1, WHOLE), "per_group": (1, group)}
    block = blocks[stated.choice("qscheme", list(blocks), "per_tensor")]
    scale = _MX if "e8m0" in stated.text("scale_format", "") else "float32"
    zero = None if stated.flag("symmetric", True) else dtype
    weights = Weights(dtype, block, scale, zero=zero)
    return Scheme(weights, _quark_activations(fields))


def _quark_activations(fields: Fields) -> Activations | None:
    stated = _quark_tensor(fields, "input_tensors")
    dtype = _quark_dtype(stated) if stated else None
    if stated is None or dtype is None:
        return None
    if dtype not in _QUARK_ACTIVATIONS:
        raise stated.error(f"activations of {dtype} are not built", "dtype")
    dynamic = stated.flag("is_dynamic")
    match stated.choice("qscheme", ("per_tensor", "per_channel", "per_group"), "per_tensor"):
        case "per_group":
            scale = _MX if "e8m0" in stated.text("scale_format", "") else "float32"
            return Activations(dtype, stated.group("group_size", 32), scale)
        case "per_channel":
            return Activations(dtype)
        case _:
            return Activations(dtype, static=None if dynamic else "input_scale", per_tensor=True)


def _quark_tensor(fields: Fields, key: str) -> Fields | None:
    """What the file says of one tensor; of several levels the first."""
    value = fields.values.get(key)
    if isinstance(value, list):
        return Fields.of(value[0], (*fields.path, key)) if value else None
    return fields.section(key)


def _quark_dtype(fields: Fields) -> str | None:
    return _QUARK_DTYPES[fields.choice("dtype", list(_QUARK_DTYPES), "bfloat16")]


def _quark_cache(fields: Fields) -> str | None:
    """The dtype of what the projections of keys and values yield, where it is quantized."""
    cache = fields.section("kv_cache_quant_config")
    for name in cache.values if cache else ():
        projection = cache.section(name) if cache else None
        stated = _quark_tensor(projection, "output_tensors") if projection else None
        if stated and (dtype := _quark_dtype(stated)):
            if dtype not in CACHES:
                raise stated.error(f"a cache of {dtype} is not built, only of 8 bits", "dtype")
            return dtype
    return None
