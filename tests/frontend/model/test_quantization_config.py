"""What published configs say of quantization is read as their makers mean it."""

import copy
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from wscc.frontend.model.config.section import ConfigError
from wscc.frontend.model.quantization import (
    STORED_DTYPES,
    Quantization,
    read_quantization,
    stored_as,
)
from wscc.frontend.model.quantization.schemes import Activations, Scheme, Weights

ATTENTION = "model.layers.3.self_attn.q_proj"
MLP = "model.layers.3.mlp.down_proj"

FP8_BLOCKS = Weights("float8_e4m3fn", (128, 128), "float32", "weight_scale_inv")
FP8_TENSOR = Weights("float8_e4m3fn", (0, 0), "bfloat16")
NVFP4_INPUTS = Activations("float4_e2m1", 16, "float8_e4m3fn", static="input_scale")
GPTQ = Weights("uint4", (1, 128), "float16", "scales", "uint4", "qzeros")

DEEPSEEK_V3 = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}
LLAMA_FP8 = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": {
                "num_bits": 8,
                "type": "float",
                "strategy": "tensor",
                "dynamic": False,
                "symmetric": True,
            },
            "weights": {
                "num_bits": 8,
                "type": "float",
                "strategy": "tensor",
                "dynamic": False,
                "symmetric": True,
            },
        }
    },
}
LLAMA_W4A16 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "ignore": ["lm_head", "re:.*self_attn.*"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "output_activations": None,
            "weights": {
                "actorder": "weight",
                "group_size": 128,
                "num_bits": 4,
                "strategy": "group",
                "symmetric": True,
                "type": "int",
            },
        }
    },
}
NVFP4_PACKED = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "ignore": ["lm_head"],
    "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": {
                "dynamic": "local",
                "group_size": 16,
                "num_bits": 4,
                "strategy": "tensor_group",
                "type": "float",
            },
            "weights": {
                "dynamic": False,
                "group_size": 16,
                "num_bits": 4,
                "strategy": "tensor_group",
                "type": "float",
            },
        }
    },
}
DEEPSEEK_NVFP4 = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "kv_cache_quant_algo": "FP8",
    "group_size": 16,
    "exclude_modules": ["lm_head", "model.layers.0.self_attn*", "model.layers.3.mlp"],
}
QWEN_GPTQ = {
    "batch_size": 1,
    "bits": 4,
    "damp_percent": 0.01,
    "desc_act": False,
    "group_size": 128,
    "modules_in_block_to_quantize": None,
    "quant_method": "gptq",
    "sym": True,
    "true_sequential": True,
}
LLAMA_AWQ = {
    "bits": 4,
    "group_size": 128,
    "modules_to_not_convert": None,
    "quant_method": "awq",
    "version": "gemm",
    "zero_point": True,
}
NF4 = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "llm_int8_skip_modules": None,
    "llm_int8_threshold": 6.0,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}
QUARK_FP8 = {
    "quant_method": "quark",
    "exclude": ["lm_head", "*.mlp.gate"],
    "global_quant_config": {
        "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False},
        "input_tensors": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False},
    },
    "kv_cache_quant_config": {"*k_proj": {"output_tensors": {"dtype": "fp8_e4m3"}}},
}
TORCHAO = {
    "quant_method": "torchao",
    "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}},
}
HQQ = {
    "quant_method": "hqq",
    "quant_config": {"weight_quant_params": {"nbits": 2, "group_size": 16, "axis": 1}},
    "skip_modules": ["lm_head"],
}

PUBLISHED: Mapping[str, tuple[dict[str, Any], Weights, Activations | None]] = {
    "DeepSeek-V3": (DEEPSEEK_V3, FP8_BLOCKS, Activations("float8_e4m3fn", 128)),
    "Llama-3.1-70B-Instruct-FP8": (
        LLAMA_FP8,
        FP8_TENSOR,
        Activations("float8_e4m3fn", static="input_scale", per_tensor=True),
    ),
    "Llama-3.3-70B-Instruct-quantized.w4a16": (
        LLAMA_W4A16,
        Weights("int4", (1, 128), "bfloat16"),
        None,
    ),
    "Llama-3.3-70B-Instruct-NVFP4": (
        NVFP4_PACKED,
        Weights("float4_e2m1", (1, 16), "float8_e4m3fn", overall="weight_global_scale"),
        Activations("float4_e2m1", 16, "float8_e4m3fn", static="input_global_scale"),
    ),
    "Qwen2.5-7B-Instruct-GPTQ-Int4": (QWEN_GPTQ, GPTQ, None),
    "Llama-3-8B-AWQ": (LLAMA_AWQ, GPTQ, None),
    "Llama-3.1-8B-bnb-4bit": (
        NF4,
        Weights("nf4", (1, 64), "uint8", "weight.absmax", overall="weight.nested_absmax"),
        None,
    ),
    "Llama-3.1-8B-FP8-Quark": (
        QUARK_FP8,
        Weights("float8_e4m3fn", (0, 0)),
        Activations("float8_e4m3fn", static="input_scale", per_tensor=True),
    ),
    "Phi-4-mini-torchao": (
        TORCHAO,
        Weights("uint4", (1, 64), "bfloat16", zero="bfloat16"),
        None,
    ),
    "Llama-3.1-8B-HQQ": (
        HQQ,
        Weights("uint2", (1, 16), "float16", "scale", "float16", "zero"),
        None,
    ),
}


def read(raw: dict[str, Any]) -> Quantization:
    quantization = read_quantization(raw)
    assert quantization is not None
    return quantization


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read(name: str) -> None:
    raw, weights, activations = PUBLISHED[name]
    assert read(raw).scheme("linear", (MLP,)) == Scheme(weights, activations)
    assert read(raw).scheme("output", ("lm_head",)) is None


def test_no_quantization_is_none() -> None:
    assert read_quantization(None) is None


def test_deepseek_v32_has_scales_that_are_powers_of_two() -> None:
    scheme = read(DEEPSEEK_V3 | {"scale_fmt": "ue8m0"}).scheme("linear", (MLP,))
    assert scheme is not None
    assert scheme.weights.scale == "float8_e8m0fnu"


def test_gpt_oss_quantizes_experts_alone() -> None:
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]
    quantization = read({"quant_method": "mxfp4", "modules_to_not_convert": kept})
    experts = quantization.scheme("experts", ("model.layers.3.mlp.experts",))
    assert experts == Scheme(Weights("float4_e2m1", (1, 32), "float8_e8m0fnu", "weight_scales"))
    assert quantization.scheme("linear", (MLP,)) is None


def test_exclusions_of_transformers_match_as_transformers_matches_them() -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    patterns = ["model.layers.1", "gate", "re*", "layers.*.q_proj", "lm_head", "model.*.3.mlp"]
    names = [
        "model.layers.1.mlp.up_proj",
        "model.layers.11.mlp.up_proj",
        "model.layers.2.mlp.gate",
        "model.layers.2.mlp.gate_proj",
        "model.layers.3.mlp.gate_proj",
        "model.layers.2.self_attn.q_proj",
        "lm_head",
        "lm_head2",
    ]
    for pattern in patterns:
        quantization = read(DEEPSEEK_V3 | {"modules_to_not_convert": [pattern]})
        for name in names:
            kept = quantization.scheme("linear", (name,)) is None
            assert kept == (not should_convert_module(name, [pattern])), (pattern, name)


def test_a_list_of_exclusions_without_the_head_has_it_quantized_as_in_transformers() -> None:
    assert read(DEEPSEEK_V3).scheme("output", ("lm_head",)) is None
    listed = read(DEEPSEEK_V3 | {"modules_to_not_convert": ["model.embed_tokens"]})
    assert listed.scheme("output", ("lm_head",)) is not None
    assert (
        read(DEEPSEEK_V3 | {"ignored_layers": ["lm_head"]}).scheme("output", ("lm_head",)) is None
    )


def test_compressed_tensors_ignores_names_and_expressions() -> None:
    quantization = read(LLAMA_W4A16)
    assert quantization.scheme("linear", (ATTENTION,)) is None
    assert quantization.scheme("linear", (MLP,)) is not None


def test_targets_by_name_come_before_those_by_kind() -> None:
    raw = copy.deepcopy(LLAMA_FP8)
    group = copy.deepcopy(LLAMA_W4A16["config_groups"]["group_0"])
    raw["config_groups"]["group_1"] = group | {"targets": ["re:.*down_proj$"]}
    assert read(raw).scheme("linear", (MLP,)) == Scheme(Weights("int4", (1, 128), "bfloat16"))
    other = read(raw).scheme("linear", (ATTENTION,))
    assert other is not None
    assert other.weights == FP8_TENSOR


def test_modelopt_excludes_by_wildcards_and_states_the_cache() -> None:
    quantization = read(DEEPSEEK_NVFP4)
    assert quantization.cache == "float8_e4m3fn"
    assert quantization.scheme("linear", ("model.layers.0.self_attn.o_proj",)) is None
    assert quantization.scheme("linear", (MLP,)) is None
    scheme = quantization.scheme("linear", (ATTENTION,))
    assert scheme is not None
    assert scheme.activations == NVFP4_INPUTS


def test_modelopt_may_list_an_algorithm_for_every_module() -> None:
    mixed = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {
            ATTENTION: {"quant_algo": "FP8"},
            MLP: {"quant_algo": "W4A16_AWQ", "group_size": 64},
        },
    }
    attention = read(mixed).scheme("linear", (ATTENTION,))
    assert attention is not None
    assert attention.weights.dtype == "float8_e4m3fn"
    assert read(mixed).scheme("linear", (MLP,)) == Scheme(Weights("int4", (1, 64), "bfloat16"))
    assert read(mixed).scheme("linear", ("model.layers.3.mlp.up_proj",)) is None


def test_the_cache_is_read_wherever_a_method_states_it() -> None:
    assert read(NVFP4_PACKED).cache == "float8_e4m3fn"
    assert read(QUARK_FP8).cache == "float8_e4m3fn"
    assert read(LLAMA_FP8).cache is None


def test_gptq_has_bits_of_their_own_for_some_modules() -> None:
    dynamic = {r"-:.*\.self_attn\.": {}, r"+:.*down_proj": {"bits": 8, "group_size": 32}}
    quantization = read(QWEN_GPTQ | {"dynamic": dynamic})
    assert quantization.scheme("linear", (ATTENTION,)) is None
    down = Weights("uint8", (1, 32), "float16", "scales", "uint8", "qzeros")
    assert quantization.scheme("linear", (MLP,)) == Scheme(down)
    assert quantization.scheme("linear", ("model.layers.3.mlp.up_proj",)) == Scheme(GPTQ)


def test_gptq_may_list_the_modules_within_a_layer() -> None:
    listed = {"modules_in_block_to_quantize": [["self_attn.q_proj", "self_attn.k_proj"]]}
    quantization = read(QWEN_GPTQ | listed)
    assert quantization.scheme("linear", (ATTENTION,)) == Scheme(GPTQ)
    assert quantization.scheme("linear", (MLP,)) is None


def test_a_group_of_minus_one_is_the_whole_row() -> None:
    scheme = read(QWEN_GPTQ | {"group_size": -1}).scheme("linear", (MLP,))
    assert scheme is not None
    assert scheme.weights.block == (1, 0)


@pytest.mark.parametrize("dtype", STORED_DTYPES)
def test_weights_may_be_stored_where_the_config_says_nothing(dtype: str) -> None:
    quantization = read(dict(stored_as(dtype)))
    scheme = quantization.scheme("linear", (MLP,))
    assert scheme is not None
    assert scheme.weights.dtype == dtype
    assert scheme.activations is None
    assert quantization.scheme("output", ("lm_head",)) is None


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        (
            {"quant_method": "fp9"},
            ("quantization_config", "quant_method"),
            "quantization method 'fp9' is not built, did you mean 'fp8'?",
        ),
        (
            {"quant_method": "aqlm"},
            ("quantization_config", "quant_method"),
            "quantization method 'aqlm' is not built; built are awq, bitnet, bitsandbytes, "
            "compressed-tensors, eetq, fbgemm_fp8, fp8, gptq, hqq, modelopt, mxfp4, mxfp8, nvfp4, "
            "quanto, quark, torchao",
        ),
        (
            DEEPSEEK_V3 | {"weight_block_size": [128]},
            ("quantization_config", "weight_block_size"),
            "quantization_config.weight_block_size must be two positive integers, not [128]",
        ),
        (
            QWEN_GPTQ | {"bits": 5},
            ("quantization_config", "bits"),
            "quantization_config.bits must be one of 2, 3, 4, 8, not 5",
        ),
        (
            QWEN_GPTQ | {"group_size": -7},
            ("quantization_config", "group_size"),
            "quantization_config.group_size must be a positive integer, or -1 for the whole "
            "dimension, not -7",
        ),
        (
            {"quant_method": "compressed-tensors"},
            ("quantization_config", "config_groups"),
            "compressed-tensors: no config_groups",
        ),
        (
            LLAMA_FP8 | {"ignore": ["re:(("]},
            ("quantization_config", "ignore"),
            "'re:((' is no regular expression: missing ), unterminated subpattern at position 1",
        ),
        (
            LLAMA_FP8 | {"kv_cache_scheme": {"num_bits": 4, "type": "float"}},
            ("quantization_config", "kv_cache_scheme", "num_bits"),
            "a cache of float4_e2m1 is not built, only of 8 bits",
        ),
        (
            DEEPSEEK_NVFP4 | {"quant_algo": "NVFP5"},
            ("quantization_config", "quant_algo"),
            "quantization_config.quant_algo: no 'NVFP5', did you mean 'NVFP4'?",
        ),
        (
            {"quant_method": "torchao", "quant_type": "autoquant"},
            ("quantization_config", "quant_type"),
            "torchao's 'autoquant' is not built; built are int4weightonly, int8weightonly, "
            "float8weightonly, int8dynamicactivationint8weight, int8dynamicactivationint4weight, "
            "float8dynamicactivationfloat8weight, float8dynamicactivationint4weight",
        ),
    ],
)
def test_what_cannot_be_read_is_one_message_with_the_key(
    raw: dict[str, Any], path: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_quantization(raw)
    assert refused.value.message == message
    assert refused.value.path == path


ODD = (None, 0, -1, 3.5, 1 << 40, True, "", "x", "((", [], [None], {}, {"a": 1}, [[1]], "128x128")


def test_a_changed_config_is_read_or_refused_in_one_message() -> None:
    random.seed(0)
    configs = [raw for raw, _, _ in PUBLISHED.values()] + [DEEPSEEK_NVFP4]
    for _ in range(3000):
        raw = copy.deepcopy(random.choice(configs))
        place: Any = raw
        while True:
            key = random.choice(sorted(place)) if place else "quant_method"
            if not isinstance(place.get(key), dict) or random.random() < 0.3:
                break
            place = place[key]
        place[key] = random.choice(ODD)
        with suppress(ConfigError):
            read_quantization(raw)
