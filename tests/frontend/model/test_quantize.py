"""A quantized graph yields what the model yields with the weights that it stands for."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from torch import Tensor
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.quantization import quantize, read_quantization, stored_as
from wscc.ir.graph import Graph, Input, Model
from wscc.ir.interpreter import run_model
from wscc.ir.operators.quantized import TABLES

Fixed = dict[str, Tensor]

_SHARED = run_path(str(Path(__file__).with_name("quantized_models.py")))
TINY: dict[str, Any] = _SHARED["TINY"]
TOKENS: int = _SHARED["TOKENS"]
FP8: dict[str, Any] = _SHARED["FP8"]
GPTQ: dict[str, Any] = _SHARED["GPTQ"]
NF4: dict[str, Any] = _SHARED["NF4"]
NVFP4: dict[str, Any] = _SHARED["NVFP4"]
INT8: dict[str, Any] = _SHARED["INT8"]
STATIC: dict[str, Any] = _SHARED["STATIC"]
CACHE: dict[str, Any] = _SHARED["CACHE"]
SIZES: dict[str, int] = _SHARED["SIZES"]
quantized: Callable[[Model, dict[str, Any]], Model] = _SHARED["quantized"]
sources: Callable[[Model], Iterator[tuple[Graph, Input, str]]] = _SHARED["sources"]
random_values: Callable[[Input], Tensor] = _SHARED["random_values"]
prompt: Callable[[], Fixed] = _SHARED["prompt"]


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
