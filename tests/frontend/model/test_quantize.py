"""A quantized graph yields what the model yields with the weights that it stands for."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.quantization import quantize, read_quantization, stored_as
from wscc.ir.graph import Graph, Input, Model
from wscc.ir.interpreter import run_model
from wscc.ir.operators.quantized import TABLES
from wscc.ir.summary import summarize
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


@dataclass(frozen=True)
class Tiny:
    """A tiny model of Hugging Face and its graphs without quantization."""

    hf: Any
    prefill: Model
    decode: Model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from transformers import AutoConfig, AutoModelForCausalLM

    path = tmp_path_factory.mktemp("tiny") / "config.json"
    path.write_text(json.dumps(TINY))
    config = read_config(str(path))
    torch.manual_seed(0)
    made = AutoConfig.for_model(**{k: v for k, v in TINY.items() if k != "dtype"})
    hf = AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval()
    return Tiny(hf, lower_config(config, "prefill"), lower_config(config, "decode"))


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


def filled(model: Model, hf: Any) -> Fixed:
    """The parameters of `hf` where they are stored as they are, else random ones."""
    torch.manual_seed(1)
    known: Fixed = {name: t.detach() for name, t in (*hf.named_parameters(), *hf.named_buffers())}
    known |= {f"computed.{name}": buffer for name, buffer in hf.named_buffers()}
    for _, value, source in sources(model):
        stored = value.role == "weight" and value.type.dtype != "float32"
        if stored or (value.role in ("weight", "buffer") and source not in known):
            known[source] = random_values(value)
    return known


def repeated(scale: Tensor, shape: torch.Size, block: tuple[int, int]) -> Tensor:
    rows, columns = (-(-size // own) for size, own in zip(shape, block, strict=True))
    spread = scale.float().reshape(rows, columns)
    spread = spread.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return spread[: shape[0], : shape[1]]


def fp8_weight(state: Fixed, module: str) -> Tensor:
    weight = state[f"{module}.weight"]
    return weight.float() * repeated(state[f"{module}.weight_scale_inv"], weight.shape, (16, 8))


def gptq_weight(state: Fixed, module: str) -> Tensor:
    codes = state[f"{module}.weight"]
    zero, scale = (
        repeated(state[f"{module}.{name}"], codes.shape, (1, 8)) for name in ("qzeros", "scales")
    )
    return (codes.float() - zero) * scale


def nf4_weight(state: Fixed, module: str) -> Tensor:
    codes = state[f"{module}.weight"]
    values = torch.tensor(TABLES["nf4"])[codes.long()]
    return values * repeated(state[f"{module}.weight.absmax"], codes.shape, (1, codes.shape[1]))


def nvfp4_weight(state: Fixed, module: str) -> Tensor:
    codes = state[f"{module}.weight"]
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])[(codes & 7).long()]
    values = values * torch.where(codes < 8, 1, -1)
    inner = repeated(state[f"{module}.weight_scale"], codes.shape, (1, 16))
    return values * inner * state[f"{module}.weight_scale_2"]


def row_weight(state: Fixed, module: str) -> Tensor:
    weight = state[f"{module}.weight"]
    return weight.float() * state[f"{module}.weight_scale"].float().reshape(-1, 1)


def tensor_weight(state: Fixed, module: str) -> Tensor:
    return state[f"{module}.weight"].float() * state[f"{module}.weight_scale"].float()


def blockwise(x: Tensor, state: Fixed, module: str) -> Tensor:
    """The activations that a product in FP8 sees, with a scale for 8 inputs (16 of o_proj's 32)."""
    del state, module
    parts = x.unflatten(-1, (-1, 8))
    scale = parts.abs().amax(-1, keepdim=True) / 448
    return ((parts / scale).to(torch.float8_e4m3fn).float() * scale).flatten(-2)


def by_token(x: Tensor, state: Fixed, module: str) -> Tensor:
    del state, module
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale


def by_tensor(x: Tensor, state: Fixed, module: str) -> Tensor:
    scale = state[f"{module}.input_scale"]
    return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale


def linears(hf: Any) -> list[tuple[str, Any]]:
    return [(n, m) for n, m in hf.named_modules() if isinstance(m, torch.nn.Linear)]


Dequantize = Callable[[Fixed, str], Tensor]
Simulate = Callable[[Tensor, Fixed, str], Tensor]


def theirs(hf: Any, state: Fixed, dequantized: Dequantize, simulate: Simulate | None) -> Tensor:
    """Logits of Hugging Face with dequantized weights and simulated activations."""
    modules = [(name, module) for name, module in linears(hf) if name != "lm_head"]
    before = {name: module.weight.data for name, module in modules}
    hooks = []
    for name, module in modules:
        module.weight.data = dequantized(state, name)
        if simulate is not None:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda module, inputs, name=name: (simulate(inputs[0], state, name),)
                )
            )
    with torch.no_grad():
        logits = hf(**prompt()).logits
    for name, module in modules:
        module.weight.data = before[name]
    for hook in hooks:
        hook.remove()
    return logits


def prompt() -> Fixed:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 61, (2, TOKENS), generator=generator)
    return {"input_ids": ids, "position_ids": torch.arange(TOKENS).expand(2, TOKENS)}


SIZES = {"batch": 2, "sequence": TOKENS}


@pytest.mark.parametrize(
    ("raw", "dequantized", "simulate"),
    [
        (GPTQ, gptq_weight, None),
        (NF4, nf4_weight, None),
        (NVFP4, nvfp4_weight, None),
        (dict(stored_as("int8")), lambda s, m: _renamed(s, m), None),
        (FP8, fp8_weight, blockwise),
        (INT8, row_weight, by_token),
        (STATIC, tensor_weight, by_tensor),
    ],
    ids=["gptq", "nf4", "nvfp4", "stored", "fp8", "w8a8", "static"],
)
def test_a_quantized_model_is_the_model_with_dequantized_weights(
    raw: dict[str, Any], dequantized: Dequantize, simulate: Simulate | None, tiny: Tiny
) -> None:
    model = quantized(tiny.prefill, raw)
    state = filled(model, tiny.hf)
    ours = run_model(model.bind(SIZES), {**state, **prompt()})["logits"]
    expected = theirs(tiny.hf, state, dequantized, simulate)
    assert (ours - expected).abs().max() / expected.abs().max() < 1e-5
    if simulate is None:
        plain = {
            name: dequantized(state, name) for name, _ in linears(tiny.hf) if name != "lm_head"
        }
        weights = state | {f"{name}.weight": weight for name, weight in plain.items()}
        same = run_model(tiny.prefill.bind(SIZES), {**weights, **prompt()})["logits"]
        assert torch.equal(ours, same)


def _renamed(state: Fixed, module: str) -> Tensor:
    """Quanto's name for a scale."""
    return row_weight(state | {f"{module}.weight_scale": state[f"{module}.weight._scale"]}, module)


def runs_of(model: Model) -> list[tuple[str, int, int]]:
    return [(body.name, first, count) for body, first, count in model.runs()]


def test_layers_that_are_stored_otherwise_are_graphs_of_their_own(tiny: Tiny) -> None:
    kept = ["lm_head", "model.layers.0", "model.layers.3.mlp"]
    model = quantized(tiny.prefill, NVFP4 | {"modules_to_not_convert": kept})
    assert runs_of(model) == [("layer0", 0, 1), ("layer0_1", 1, 2), ("layer0_2", 3, 1)]
    state = filled(model, tiny.hf)

    def weight(state: Fixed, module: str) -> Tensor:
        stored = module.startswith(("model.layers.1", "model.layers.2", "model.layers.3.self"))
        return nvfp4_weight(state, module) if stored else state[f"{module}.weight"]

    ours = run_model(model.bind(SIZES), {**state, **prompt()})["logits"]
    expected = theirs(tiny.hf, state, weight, None)
    assert (ours - expected).abs().max() / expected.abs().max() < 1e-5


def test_equal_layers_that_are_apart_share_a_graph(tiny: Tiny) -> None:
    raw = NVFP4 | {"modules_to_not_convert": ["lm_head", "model.layers.1"]}
    assert runs_of(quantized(tiny.decode, raw)) == [
        ("layer0", 0, 1),
        ("layer0_1", 1, 1),
        ("layer0", 2, 2),
    ]


def test_patterns_that_select_nothing_are_reported(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    raw = NVFP4 | {"modules_to_not_convert": ["lm_head", "model.layers.9"]}
    with caplog.at_level(logging.INFO):
        quantized(tiny.decode, raw)
    assert caplog.messages == ["quantization_config: 'model.layers.9' selects no weight"]


def test_weights_keep_their_names_and_shapes_and_scales_are_buffers(tiny: Tiny) -> None:
    (body, _, _), *_ = quantized(tiny.decode, FP8).runs()
    inputs = {value.source: value for value in body.inputs}
    before = {value.source: value for value in next(iter(tiny.decode.runs()))[0].inputs}
    down = inputs["model.layers.*.mlp.down_proj.weight"]
    assert down.type.dtype == "float8_e4m3fn"
    assert down.type.shape == before[down.source].type.shape
    scale = inputs["model.layers.*.mlp.down_proj.weight_scale_inv"]
    assert (scale.role, str(scale.type)) == ("buffer", "float32[2, 5]")
    norm = "model.layers.*.input_layernorm.weight"
    assert inputs[norm] == before[norm]


def test_products_say_what_they_multiply(tiny: Tiny) -> None:
    def compute(model: Model) -> set[object]:
        (body, _, _), *_ = model.runs()
        return {op.attributes.get("compute") for op in body.ops if op.kind == "matmul"}

    assert compute(quantized(tiny.decode, FP8)) == {"float8_e4m3fn"}
    assert compute(quantized(tiny.decode, INT8)) == {"int8"}
    assert compute(quantized(tiny.decode, GPTQ)) == {None}


def test_activations_that_several_products_take_are_quantized_once(tiny: Tiny) -> None:
    (body, _, _), *_ = quantized(tiny.decode, FP8).runs()
    assert sum(op.kind == "quantize" for op in body.ops) == 4
    (body, _, _), *_ = quantized(tiny.decode, STATIC).runs()
    assert sum(op.kind == "quantize" for op in body.ops) == 7


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_cache_in_fp8_holds_what_is_new_in_fp8(phase: str, tiny: Tiny) -> None:
    model = quantized(getattr(tiny, phase), CACHE)
    without = quantized(getattr(tiny, phase), STATIC)
    (body, _, _), *_ = model.runs()
    outputs = [output for output in body.outputs if output.role == "cache"]
    assert [output.source for output in outputs] == ["cache.*.key", "cache.*.value"]
    assert {body.types[output.name].dtype for output in outputs} == {"float8_e4m3fn"}
    scales = {
        value.source for value in body.inputs if value.source.endswith((".k_scale", ".v_scale"))
    }
    assert scales == {f"model.layers.*.self_attn.{name}_scale" for name in "kv"}
    state = filled(model, tiny.hf) | prompt()
    sizes = SIZES
    if phase == "decode":
        sizes = {"batch": 2, "context": TOKENS}
        state |= {
            source: torch.randn(2, 2, TOKENS, 8).to(torch.float8_e4m3fn)
            for _, value, source in sources(model)
            if value.role == "cache"
        }
        state["input_ids"], state["position_ids"] = torch.tensor([[3], [5]]), torch.full((2, 1), 7)
    scale = {
        name: tensor for name, tensor in state.items() if name.endswith(("k_scale", "v_scale"))
    }
    ours = run_model(model.bind(sizes), state)
    plain = {
        name: tensor.float() * scale[_scale_of(name)] if name.startswith("cache.") else tensor
        for name, tensor in state.items()
    }
    before = run_model(without.bind(sizes), plain)
    for source in ("cache.0.key", "cache.0.value"):
        by = scale[_scale_of(source)]
        new = before[source][:, :, -1]
        rounded = (new / by).clamp(-448, 448).to(torch.float8_e4m3fn)
        assert torch.equal(ours[source][:, :, -1].float(), rounded.float())
        if phase == "decode":
            assert torch.equal(ours[source][:, :, :-1].float(), state[source].float())


def _scale_of(cache: str) -> str:
    _, layer, name = cache.split(".")
    return f"model.layers.{layer}.self_attn.{name[0]}_scale"


def test_training_keeps_weights_as_they_are(tiny: Tiny) -> None:
    import dataclasses

    training = dataclasses.replace(tiny.prefill, phase="train")
    assert quantize(training, read_quantization(FP8)) is training


def test_no_quantization_changes_nothing(tiny: Tiny) -> None:
    assert quantize(tiny.prefill, None) is tiny.prefill


REFERENCE = Path(__file__).parents[3] / "examples"


EXPERTS = {
    "gpt_oss": {
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "hidden_size": 64,
        "intermediate_size": 32,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "sliding_window": 4,
        "rope_scaling": None,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    },
}


@pytest.fixture(scope="module")
def with_experts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A tiny model of a family with experts, traced once."""

    @cache
    def make(family: str) -> Model:
        path = tmp_path_factory.mktemp(family) / "config.json"
        path.write_text(json.dumps(TINY | EXPERTS[family]))
        return lower_config(read_config(str(path)), "prefill")

    return make


def random_state(*models: Model) -> Fixed:
    """Random values for every input of some models."""
    torch.manual_seed(2)
    found: Fixed = {}
    for model in models:
        for _, value, source in sources(model):
            if value.role in ("weight", "buffer") and source not in found:
                found[source] = random_values(value)
    return found


def test_experts_in_mxfp4_are_those_that_transformers_unpacks(
    with_experts: Callable[[str], Model],
) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    plain = with_experts("gpt_oss")
    raw = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    model = quantized(plain, raw)
    state = random_state(plain.bind(SIZES))
    stored = dict(state)
    for layer in range(2):
        for name, outputs, inputs in (("gate_up_proj", 64, 64), ("down_proj", 64, 32)):
            source = f"model.layers.{layer}.mlp.experts.{name}"
            blocks = torch.randint(0, 256, (4, outputs, inputs // 32, 16), dtype=torch.uint8)
            scales = torch.randint(120, 126, blocks.shape[:3], dtype=torch.uint8)
            state[source] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
            codes = torch.stack((blocks & 15, blocks >> 4), -1).reshape(4, outputs, inputs)
            stored[source] = codes.transpose(1, 2)
            turned = scales.transpose(1, 2).contiguous().view(torch.float8_e8m0fnu)
            stored[f"{source}_scales"] = turned
    ours = run_model(model.bind(SIZES), {**stored, **prompt()})["logits"]
    expected = run_model(plain.bind(SIZES), {**state, **prompt()})["logits"]
    assert torch.equal(ours, expected)


def test_experts_in_fp8_take_activations_in_fp8_and_routers_stay(
    with_experts: Callable[[str], Model],
) -> None:
    plain = with_experts("qwen3_moe")
    model = quantized(plain, FP8)
    (body, _, _), *_ = model.runs()
    (experts,) = (op for op in body.ops if op.kind == "experts")
    assert experts.attributes["compute"] == "float8_e4m3fn"
    assert body.producers[experts.operands[0]].kind == "dequantize"
    types = {value.source: str(value.type) for value in body.inputs}
    inside = "model.layers.*.mlp.experts"
    assert types["model.layers.*.mlp.gate.weight"] == "float32[4, 32]"
    assert types[f"{inside}.gate_up_proj"] == "float8_e4m3fn[4, 48, 32]"
    assert types[f"{inside}.gate_up_proj_scale_inv"] == "float32[4, 3, 4]"
    assert types[f"{inside}.down_proj_scale_inv"] == "float32[4, 2, 3]"
    state = random_state(model.bind(SIZES))
    logits = run_model(model.bind(SIZES), {**state, **prompt()})["logits"]
    assert logits.isfinite().all()


def test_experts_are_kept_where_their_linear_layers_in_the_checkpoint_are(
    with_experts: Callable[[str], Model],
) -> None:
    plain = with_experts("qwen3_moe")
    kept = NVFP4 | {"modules_to_not_convert": ["lm_head", "experts.0.down_proj"]}
    (body, _, _), *_ = quantized(plain, INT8 | {"ignore": ["re:.*experts.0.down_proj"]}).runs()
    assert not any("compute" in op.attributes for op in body.ops if op.kind == "experts")
    (body, _, _), *_ = quantized(plain, kept).runs()
    types = {value.source: value.type.dtype for value in body.inputs}
    assert types["model.layers.*.mlp.experts.down_proj"] == "float32"
    assert types["model.layers.*.mlp.experts.gate_up_proj"] == "float4_e2m1"


def test_bytes_of_a_published_checkpoint_are_counted(tmp_path: Path) -> None:
    """Qwen3-32B-FP8: a byte for each weight of a linear layer and four for each block of them."""
    values = {
        "model_type": "qwen3",
        "dtype": "bfloat16",
        "vocab_size": 151936,
        "hidden_size": 5120,
        "intermediate_size": 25600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "hidden_act": "silu",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    raw = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    model = quantized(lower_config(read_config(str(path)), "decode"), raw)
    linear = 64 * (5120 * (64 + 2 * 8) * 128 + 64 * 128 * 5120 + 3 * 5120 * 25600)
    stored = dict(summarize(model.bind({"batch": 1, "context": 1})).stored_bytes)
    assert stored["float8_e4m3fn"] == linear
    assert stored["float32"] == linear // 128**2 * 4
    assert stored["bfloat16"] == 2 * (model.parameters - linear)
    assert sum(stored.values()) == 34_326_243_328
