"""One reader for every method of quantization that configs are published with.

Which modules a method leaves alone follows Transformers' quantizers where it has one, and else the
tool that writes the files.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .fields import Fields
from .listed import cache_scheme, compressed_tensors, modelopt, quark
from .schemes import (
    EVERYTHING,
    LAYERS,
    WHOLE,
    Activations,
    ModuleKind,
    Pattern,
    Quantization,
    Rule,
    Scheme,
    Weights,
    transformers_pattern,
)

Reader = Callable[[str, Fields], Quantization]
"""Reads what a method's config says; raises ConfigError."""

E4M3_FORMATS = ("e4m3", "float8_e4m3fn", "fp8_e4m3", "float8_e4m3")


def _left_out(fields: Fields, *keys: str) -> tuple[tuple[Rule, ...], frozenset[ModuleKind]]:
    """A rule for the modules that the first of `keys` in the file lists. Only where there is no
    list does Transformers keep the product that yields the logits by itself."""
    for key in keys:
        listed = fields.names(key)
        if listed is not None:
            return _excluding(listed), EVERYTHING
    return (), LAYERS


def _excluding(names: Iterable[str]) -> tuple[Rule, ...]:
    patterns = tuple(transformers_pattern(name) for name in names)
    return (Rule(None, patterns),) if patterns else ()


_SKIPPED = ("modules_to_not_convert", "ignored_layers")


def _fp8(method: str, fields: Fields) -> Quantization:
    """FP8 in blocks: DeepSeek-V3, arXiv 2412.19437, section 3.3."""
    fields.choice("fmt", E4M3_FORMATS, "e4m3")
    rules, kinds = _left_out(fields, *_SKIPPED)
    stated = "weight_block_size" in fields.values
    default = (1, 32) if method == "mxfp8" else (128, 128)
    block = fields.pair("weight_block_size") if stated else default
    powers = method == "mxfp8" or fields.choice("scale_fmt", ("float", "ue8m0"), "float") == "ue8m0"
    scale = "float8_e8m0fnu" if powers else "float32"
    static = fields.choice("activation_scheme", ("dynamic", "static"), "dynamic") == "static"
    activations = Activations(
        "float8_e4m3fn",
        WHOLE if static or block is None else block[1],
        scale,
        static="activation_scale" if static else None,
        per_tensor=static,
    )
    weights = Weights("float8_e4m3fn", block or (WHOLE, WHOLE), scale, "weight_scale_inv")
    every = Scheme(weights, activations)
    if fields.choice("expert_dtype", ("fp8", "fp4"), "fp8") == "fp4":
        packed = Weights("float4_e2m1", (1, 32), scale, "weight_scale_inv")
        inside = Pattern("experts", r"\.experts(\.|$)")
        rules = (*rules, Rule(Scheme(packed, activations), (inside,)))
    return Quantization(
        method, (*rules, Rule(every)), kinds, cache_scheme(fields.section("kv_cache_scheme"))
    )


def _mxfp4(method: str, fields: Fields) -> Quantization:
    """Experts in blocks of 32 with shared exponents: OCP Microscaling Formats, version 1.0."""
    rules, _ = _left_out(fields, *_SKIPPED)
    weights = Weights("float4_e2m1", (1, 32), "float8_e8m0fnu", "weight_scales")
    return Quantization(method, (*rules, Rule(Scheme(weights))), frozenset(("experts",)))


def _nvfp4(method: str, fields: Fields) -> Quantization:
    """Four-bit floats in blocks of 16, scales in FP8, as Transformers makes them."""
    rules, kinds = _left_out(fields, *_SKIPPED)
    weights = Weights(
        "float4_e2m1", (1, 16), "float8_e4m3fn", "weight_scale", overall="weight_scale_2"
    )
    return Quantization(method, (*rules, Rule(Scheme(weights))), kinds)


def _fbgemm(method: str, fields: Fields) -> Quantization:
    """FP8 with a scale for each output and each token."""
    rules, kinds = _left_out(fields, *_SKIPPED)
    scheme = Scheme(Weights("float8_e4m3fn", (1, WHOLE)), Activations("float8_e4m3fn"))
    return Quantization(method, (*rules, Rule(scheme)), kinds)


def _gptq(method: str, fields: Fields) -> Quantization:
    """Groups of integers with zero points: Frantar et al., arXiv 2210.17323.

    Zero points are stored for symmetric groups too. Columns that were put in another order
    (`desc_act`) are taken to be in that order in memory, as its kernels have them.
    """
    fields.flag("desc_act")
    default = _integer_scheme(fields, "sym")
    rules = [*_gptq_exceptions(fields, default)]
    if inside := _blocks_of_modules(fields):
        rules.append(Rule(default, inside))
    else:
        rules.append(Rule(default))
    with_head = fields.flag("lm_head")
    return Quantization(method, tuple(rules), EVERYTHING if with_head else LAYERS)


def _integer_scheme(fields: Fields, symmetric: str, default: Scheme | None = None) -> Scheme:
    """Integers of some bits in groups along the inputs."""
    fields.flag(symmetric)
    known = default.weights if default else None
    bits = fields.number("bits", (2, 3, 4, 8), int(known.dtype[4:]) if known else None)
    group = fields.group("group_size", known.block[1] if known else None)
    dtype = f"uint{bits}"
    return Scheme(Weights(dtype, (1, group), "float16", "scales", dtype, "qzeros"))


def _gptq_exceptions(fields: Fields, default: Scheme) -> Iterable[Rule]:
    """The rules of GPTQModel's `dynamic`: `-:` leaves out, anything else has bits of its own."""
    dynamic = fields.section("dynamic")
    if dynamic is None:
        return
    for text in dynamic.values:
        expression = re.sub(r"^[-+]:", "", text)
        try:
            re.compile(expression)
        except re.error as wrong:
            raise dynamic.error(f"{text!r} is no regular expression: {wrong}", text) from None
        patterns = (Pattern(text, f"^(?:{expression})"),)
        if text.startswith("-:"):
            yield Rule(None, patterns)
        else:
            own = dynamic.section(text)
            yield Rule(_integer_scheme(own, "sym", default) if own else default, patterns)


def _blocks_of_modules(fields: Fields) -> tuple[Pattern, ...]:
    """The modules within a layer that are quantized, where the file lists them."""
    key = "modules_in_block_to_quantize"
    listed = fields.values.get(key)
    if listed is None:
        return ()
    items: list[Any] = listed if isinstance(listed, list) else [None]
    names = [name for item in items for name in (item if isinstance(item, list) else [item])]
    if any(not isinstance(name, str) for name in names):
        raise fields.error(f"{key} must be lists of strings", key)
    return tuple(Pattern(name, rf"(?:^|\.){re.escape(name)}$") for name in names)


def _awq(method: str, fields: Fields) -> Quantization:
    """Groups of integers: Lin et al., arXiv 2306.00978. The logits' product is never converted."""
    bits = fields.number("bits" if "bits" in fields else "w_bit", (2, 3, 4, 8), 4)
    group = fields.group("group_size" if "group_size" in fields else "q_group_size", 128)
    zero = f"uint{bits}" if fields.flag("zero_point", True) else None
    weights = Weights(f"uint{bits}", (1, group), "float16", "scales", zero, "qzeros")
    rules, _ = _left_out(fields, *_SKIPPED)
    return Quantization(method, (*rules, Rule(Scheme(weights))), LAYERS)


def _bitsandbytes(method: str, fields: Fields) -> Quantization:
    """Four bits in blocks of 64 (Dettmers et al., arXiv 2305.14314), or eight with a scale for each
    output, multiplied as integers (arXiv 2208.07339, without its outliers).

    Scales that are quantized themselves are taken as bytes with one scale for the matrix.
    """
    rules, kinds = _left_out(fields, "llm_int8_skip_modules")
    if fields.flag("load_in_4bit") or fields.flag("_load_in_4bit"):
        dtype = fields.choice("bnb_4bit_quant_type", ("fp4", "nf4"), "fp4")
        weights = Weights(dtype, (1, 64), "float32", "weight.absmax")
        if fields.flag("bnb_4bit_use_double_quant"):
            weights = Weights(
                dtype, (1, 64), "uint8", "weight.absmax", overall="weight.nested_absmax"
            )
        scheme = Scheme(weights)
    elif fields.flag("load_in_8bit") or fields.flag("_load_in_8bit"):
        scheme = Scheme(Weights("int8", (1, WHOLE), scale_name="SCB"), Activations("int8"))
    else:
        raise fields.error(
            "bitsandbytes: neither load_in_4bit nor load_in_8bit is true", "load_in_4bit"
        )
    return Quantization(method, (*rules, Rule(scheme)), kinds)


def _hqq(method: str, fields: Fields) -> Quantization:
    """Groups of integers with zero points that are no integers: Badri and Shaji, 2023."""
    stated = fields.section("quant_config") or fields
    rules = _excluding(fields.names("skip_modules") or ["lm_head"])
    if "weight_quant_params" not in stated and "nbits" not in stated:
        own = [
            Rule(_hqq_scheme(inner), (Pattern(name, rf"(?:^|\.){re.escape(name)}$"),))
            for name in stated.values
            if (inner := stated.section(name))
        ]
        return Quantization(method, (*rules, *own))
    return Quantization(method, (*rules, Rule(_hqq_scheme(stated))))


def _hqq_scheme(fields: Fields) -> Scheme:
    fields = fields.section("weight_quant_params") or fields
    bits = fields.number("nbits", (1, 2, 3, 4, 8), 4)
    group = fields.group("group_size", WHOLE)
    block = (1, group) if fields.number("axis", (0, 1), 1) == 1 else (group, 1)
    return Scheme(Weights(f"uint{bits}", block, "float16", "scale", "float16", "zero"))


def _quanto(method: str, fields: Fields) -> Quantization:
    stored = {"float8": "float8_e4m3fn"}
    dtype = fields.choice("weights", ("float8", "int8", "int4", "int2"), "int8")
    block = (1, 128) if dtype in ("int4", "int2") else (1, WHOLE)
    weights = Weights(stored.get(dtype, dtype), block, "bfloat16", "weight._scale")
    activations = None
    if "activations" in fields:
        name = fields.choice("activations", ("float8", "int8"), "int8")
        activations = Activations(stored.get(name, name), static="input_scale", per_tensor=True)
    rules, kinds = _left_out(fields, *_SKIPPED)
    return Quantization(method, (*rules, Rule(Scheme(weights, activations))), kinds)


def _eetq(method: str, fields: Fields) -> Quantization:
    fields.choice("weights", ("int8",), "int8")
    rules, kinds = _left_out(fields, *_SKIPPED)
    scheme = Scheme(Weights("int8", (1, WHOLE), "float16", "weight_scales"))
    return Quantization(method, (*rules, Rule(scheme)), kinds)


def _bitnet(method: str, fields: Fields) -> Quantization:
    """Weights of -1, 0 and 1 in two bits, activations in eight: Ma et al., arXiv 2402.17764."""
    rules, kinds = _left_out(fields, *_SKIPPED)
    scheme = Scheme(Weights("int2", (WHOLE, WHOLE), "bfloat16"), Activations("int8"))
    return Quantization(method, (*rules, Rule(scheme)), kinds)


_E4M3 = Weights("float8_e4m3fn", (1, WHOLE))
_INT8 = Weights("int8", (1, WHOLE), "bfloat16")

_TORCHAO: Mapping[str, Callable[[int], Scheme]] = {
    "int4weightonly": lambda group: Scheme(
        Weights("uint4", (1, group or 128), "bfloat16", zero="bfloat16")
    ),
    "int8weightonly": lambda group: Scheme(_INT8),
    "float8weightonly": lambda group: Scheme(_E4M3),
    "int8dynamicactivationint8weight": lambda group: Scheme(_INT8, Activations("int8")),
    "int8dynamicactivationint4weight": lambda group: Scheme(
        Weights("int4", (1, group or 32), "bfloat16"), Activations("int8")
    ),
    "float8dynamicactivationfloat8weight": lambda group: Scheme(
        _E4M3, Activations("float8_e4m3fn")
    ),
    "float8dynamicactivationint4weight": lambda group: Scheme(
        Weights("int4", (1, group or 128), "bfloat16"), Activations("float8_e4m3fn")
    ),
}
"""Configurations of torchao by their class's name without `Config`, with the group's size."""


def _torchao(method: str, fields: Fields) -> Quantization:
    name, options = _torchao_type(fields)
    known = re.sub(r"config$", "", name.replace("_", "").lower())
    if known not in _TORCHAO:
        listed = ", ".join(_TORCHAO)
        raise fields.error(f"torchao's '{name}' is not built; built are {listed}", "quant_type")
    scheme = _TORCHAO[known](options.group("group_size", WHOLE))
    rules, kinds = _left_out(fields, *_SKIPPED)
    if fields.flag("include_input_output_embeddings"):
        kinds = EVERYTHING
    return Quantization(method, (*rules, Rule(scheme)), kinds)


def _torchao_type(fields: Fields) -> tuple[str, Fields]:
    """The name of the configuration, in the old form a string, and its options."""
    if isinstance(fields.values.get("quant_type"), str):
        nothing = Fields({}, (*fields.path, "quant_type_kwargs"))
        return fields.text("quant_type", ""), fields.section("quant_type_kwargs") or nothing
    stated = fields.section("quant_type")
    inner = (stated.section("default") or stated) if stated else None
    if inner is None:
        raise fields.error("torchao: no quant_type", "quant_type")
    return inner.text("_type", ""), inner.section("_data") or inner


METHODS: Mapping[str, Reader] = {
    "awq": _awq,
    "bitnet": _bitnet,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": compressed_tensors,
    "eetq": _eetq,
    "fbgemm_fp8": _fbgemm,
    "fp8": _fp8,
    "gptq": _gptq,
    "hqq": _hqq,
    "modelopt": modelopt,
    "mxfp4": _mxfp4,
    "mxfp8": _fp8,
    "nvfp4": _nvfp4,
    "quanto": _quanto,
    "quark": quark,
    "torchao": _torchao,
}

ALIASES: Mapping[str, str] = {
    "auto-round": "gptq",
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "compressed_tensors": "compressed-tensors",
    "gptqmodel": "gptq",
    "intel/auto-round": "gptq",
    "modelopt_fp4": "modelopt",
}
"""Other names that files use for a method, whose config has the same keys."""
