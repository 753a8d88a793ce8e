"""A config traced: the Hugging Face model is built without weights and exported to ATen.

The trace is symbolic in batch, sequence and context. Of every kind of repeated layer only the
first is traced; the others are found equal by their modules, before tracing, and left out.
lower.py turns what comes out into a graph of ours.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer

from ...ir.errors import Location, UserError
from ...ir.graph import Phase
from .attention import IMPLEMENTATION, layer_input
from .config import ModelConfig

# Sizes that the trace is made at: any from two on would do, as all three are symbols in it.
_BATCH, _SEQUENCE, _CONTEXT = 3, 29, 31

_SYMBOLS = {
    "batch": torch.export.Dim("batch", min=2, max=1 << 20),
    "sequence": torch.export.Dim("sequence", min=2, max=1 << 30),
    "context": torch.export.Dim("context", min=2, max=1 << 30),
}


@dataclass(frozen=True)
class Trace:
    """An exported program and what is known of its layers.

    `layers_path` is the module that lists them (`model.layers`), `kinds[i]` the kind of layer
    `i`, `traced[k]` the layer that stands for kind `k`, and `tied` gives for every parameter the
    first name under which the model holds it.

    The program takes `input_ids`, `position_ids` and, in decode, a key and a value cache for each
    traced layer; it yields logits, then the new key caches, then the new value caches.
    """

    program: torch.export.ExportedProgram
    layers_path: str
    kinds: tuple[int, ...]
    traced: tuple[int, ...]
    tied: dict[str, str]


class _Stub(nn.Module):
    """Stands for a layer that is not traced: yields what it is given."""

    def forward(self, hidden: Tensor, **_: Any) -> Tensor:
        return hidden


class _CacheLayer(DynamicLayer):
    """A cache that starts as the first keys and values, not as an empty tensor."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.is_initialized:
            return super().update(key_states, value_states, *args, **kwargs)
        self.start(key_states, value_states)
        return key_states, value_states

    def tensors(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def start(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values, self.is_initialized = keys, values, True
        self.dtype, self.device = keys.dtype, keys.device


class _Step(nn.Module):
    """One forward pass with its caches as plain tensors, for the layers that are traced."""

    def __init__(self, model: nn.Module, traced: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.traced = tuple(traced)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, keys: list[Tensor], values: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        layers = [_CacheLayer() for _ in range(max(self.traced) + 1)]
        for at, key, value in zip(self.traced, keys, values, strict=False):
            layers[at].start(key, value)
        cache = DynamicCache()
        cache.layers.extend(layers)
        out = self.model(
            input_ids=input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        new = [layers[at].tensors() for at in self.traced]
        return out.logits, [key for key, _ in new], [value for _, value in new]


def build(config: ModelConfig, mode: FakeTensorMode) -> nn.Module:
    """The Hugging Face model of a config, of tensors that have shapes and no memory.

    Raises UserError with what Transformers says against the config.
    """
    try:
        hf_config = AutoConfig.for_model(config.family, **config.values)
        with mode, torch.device("cpu"):
            model = AutoModelForCausalLM.from_config(
                hf_config, dtype=getattr(torch, config.dtype), attn_implementation=IMPLEMENTATION
            )
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Transformers refuses it: {reason}", Location(config.path)) from error
    return model.eval()


def trace(config: ModelConfig, phase: Phase, whole: bool = False) -> Trace:
    """Trace one phase of a model; `whole` traces every layer as if no two were equal."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    model = build(config, mode)
    path, layers = _layers(model)
    kinds = tuple(range(len(layers))) if whole else _kinds(layers)
    traced = tuple(kinds.index(kind) for kind in range(max(kinds) + 1))
    for at, layer in enumerate(layers):
        if at in traced:
            layer.register_forward_pre_hook(_marking(at))
        else:
            layers[at] = _Stub()
    inputs, shapes = _inputs(model, phase, len(traced), mode)
    with torch.no_grad():
        program = torch.export.export(
            _Step(model, traced),
            inputs,
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    return Trace(program, path, kinds, traced, _tied(model))


def _marking(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """A hook that marks what a layer takes from the layer before."""

    def mark(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return layer_input(inputs[0], layer), *inputs[1:]

    return mark


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path and the list of the repeated layers: the longest module list of the model."""
    lists = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=lambda found: len(found[1]))


def _kinds(layers: nn.ModuleList) -> tuple[int, ...]:
    """A number for every layer; two layers have the same one where their modules are equal."""
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(_signature(layer), len(numbers)) for layer in layers)


def _signature(layer: nn.Module) -> Hashable:
    """All that a layer's computation may depend on: classes, plain attributes, shapes."""
    modules = tuple(
        (path, type(module).__qualname__, _plain_attributes(module))
        for path, module in layer.named_modules()
    )
    tensors = tuple(
        (name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers())
    )
    return modules, tensors


def _plain_attributes(module: nn.Module) -> Hashable:
    return tuple(
        (name, value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, str | int | float | bool | None)
        and not name.startswith("_")
        and name not in ("layer_idx", "training")
    )


def _inputs(
    model: nn.Module, phase: Phase, caches: int, mode: FakeTensorMode
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Example inputs of a phase and which of their dimensions are symbols."""
    batch, sequence, context = (_SYMBOLS[name] for name in ("batch", "sequence", "context"))
    decode = phase == "decode"
    tokens = (_BATCH, 1 if decode else _SEQUENCE)
    config: Any = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache_shape = (_BATCH, config.num_key_value_heads, _CONTEXT, width)
    with mode:
        ids = [torch.zeros(tokens, dtype=torch.int64) for _ in range(2)]
        cache = [
            [torch.zeros(cache_shape, dtype=config.dtype) for _ in range(caches * decode)]
            for _ in range(2)
        ]
    token_dims = {0: batch} if decode else {0: batch, 1: sequence}
    cache_dims = [{0: batch, 2: context}] * (caches * decode)
    return (*ids, *cache), (token_dims, token_dims, cache_dims, cache_dims)


def _tied(model: nn.Module) -> dict[str, str]:
    """For every parameter the first name under which the model holds it."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
