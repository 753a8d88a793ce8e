"""What tests of quantized models share: a tiny config, methods, and values of what is stored."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from wscc.frontend.model.quantization import quantize, read_quantization
from wscc.ir.graph import Graph, Input, Model
from wscc.ir.text import parse_model, print_model

TINY = {
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
TOKENS = 7

FP8 = {"quant_method": "fp8", "weight_block_size": [16, 8]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 8, "sym": False}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
NVFP4 = {"quant_method": "nvfp4"}
INT8 = {
    "quant_method": "compressed-tensors",
    "ignore": ["lm_head"],
    "config_groups": {
        "all": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}
STATIC = {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}
CACHE = STATIC | {"kv_cache_quant_algo": "FP8"}

Fixed = dict[str, Tensor]


def quantized(model: Model, raw: dict[str, Any]) -> Model:
    made = quantize(model, read_quantization(raw))
    assert made != model
    assert parse_model(print_model(made)) == made
    assert made.parameters == model.parameters
    assert made.flops == model.flops
    return made


def sources(model: Model) -> Iterator[tuple[Graph, Input, str]]:
    """Every input of every layer with its name in the checkpoint."""
    for graph, first, count in ((model.main, 0, 1), *model.runs()):
        for value in graph.inputs:
            for layer in range(first, first + count):
                yield graph, value, value.source.replace("*", str(layer))


def random_values(value: Input) -> Tensor:
    """Random elements of a stored type, as they are held."""
    shape = [int(str(dim)) for dim in value.type.shape]
    match value.type.dtype:
        case "uint4" | "float4_e2m1" | "nf4":
            return torch.randint(0, 16, shape, dtype=torch.uint8)
        case "int8":
            return torch.randint(-127, 128, shape, dtype=torch.int8)
        case "float8_e4m3fn" if value.role == "weight":
            return torch.randn(shape).to(torch.float8_e4m3fn)
        case dtype:
            return (torch.rand(shape) * 0.05 + 0.01).to(getattr(torch, dtype))


def prompt() -> Fixed:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 61, (2, TOKENS), generator=generator)
    return {"input_ids": ids, "position_ids": torch.arange(TOKENS).expand(2, TOKENS)}


SIZES = {"batch": 2, "sequence": TOKENS}
