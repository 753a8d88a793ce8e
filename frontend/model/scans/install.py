"""Finds the layers of a model that scan, and lets them call operators of ours.

A layer is recognised by what its forward pass calls. That pass gets names of its own to look up
functions by: nothing outside the model changes.
"""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache

from ..aten import UnsupportedError
from . import functions, layers, recurrent
from .kept import Kept
from .operators import convolve, convolve_kept

_FUNCTIONS = (
    functions.chunk_kimi_delta_attention,
    functions.mamba2_chunk_scan,
    functions.mamba_selective_scan,
    functions.recurrent_kimi_delta_attention,
    functions.torch_chunk_gated_delta_rule,
    functions.torch_recurrent_gated_delta_rule,
)
_STEPS = (functions.mamba2_selective_state_update, functions.mamba_selective_state_update)
"""Functions that write into the state that they are given."""

_FUSED = ("mamba2_split_conv1d_scan_combined", "mamba_inner_fn")
"""Functions that may do a whole layer, and yield None where there is no kernel for it."""

_NAMES = frozenset(
    {
        "causal_conv1d_fn",
        "causal_conv1d_update",
        *_FUSED,
        *(function.__name__ for function in (*_FUNCTIONS, *_STEPS)),
    }
)

_KERNEL = "use_kernel_func_from_hub_with_fallback."
_HOOKS = "force_accelerate_hooks."
"""Decorators of Transformers: of functions that have kernels, and of layers that call them."""

_CACHES = ("cache_params", "past_key_values")
"""What a layer may call the cache among its arguments."""


_LIGHTNING = ("slope_rate", "diagonal_decay", "block_size", "qkv_proj", "output_gate")
_RECURRENT_BLOCK = ("conv_1d", "conv1d_width", "rg_lru", "linear_x", "linear_y", "linear_out")
_CHANNEL_MIXING = ("time_shift", "time_mix_key", "time_mix_receptance", "key", "value")
_TIME_MIXING = ("time_decay", "time_first", "time_mix_value", *_CHANNEL_MIXING)
_MATRIX_MEMORY = ("chunkwise_kernel_fn", "sequence_kernel_fn", "step_kernel_fn")
_INLINE = {
    _LIGHTNING: layers.lightning_attention,
    _RECURRENT_BLOCK: layers.recurrent_block,
    _TIME_MIXING: recurrent.time_mixing,
    _CHANNEL_MIXING: recurrent.channel_mixing,
    _MATRIX_MEMORY: recurrent.matrix_memory,
}
"""Layers that loop in their own code, by attributes that tell them; the first that fits counts."""

_BLOCKS = ("blocks", "embeddings", "out_norm")
"""What holds such layers and hands each its part of the cache."""

_STATEFUL = (recurrent.time_mixing, recurrent.matrix_memory)
"""Those whose model has no other cache than one of its own, which a common one takes the place of.
"""


def install(model: nn.Module) -> None:
    """Let every layer of a model that scans call operators of ours.

    Raises UnsupportedError for a layer that calls a function of another form than is known.
    """
    for path, module in model.named_modules():
        function = _unwrapped(type(module).forward)
        if isinstance(function, FunctionType) and "forward" not in vars(module):
            ours = next((y for x, y in _INLINE.items() if all(hasattr(module, z) for z in x)), None)
            if ours is not None:
                _replace(module, path, function, ours)
                if ours in _STATEFUL:
                    _keep_states(model)
            elif called := _called(function):
                module.forward = _Layer(module, function, called)
            elif _own_cache(inspect.unwrap(type(module).forward)):
                module.forward = _any_cache(module.forward)


def _keep_states(model: Any) -> None:
    """Let the caches of a model have states in all layers, and nothing in place of them.

    What only spares memory goes: RWKV halves what flows on every few layers, and the weights with
    it, so that float16 holds it, and xLSTM takes long prompts in pieces.
    """
    config = model.config
    config.layer_types = ["linear_attention"] * config.num_hidden_layers
    for name, off in (("rescale_every", 0), ("max_inference_chunksize", sys.maxsize)):
        if hasattr(config, name):
            setattr(config, name, off)
    for module in model.modules():
        forward = inspect.unwrap(type(module).forward)
        if all(hasattr(module, name) for name in _BLOCKS) and "cache_params" in _parameters(
            forward
        ):
            _replace(module, "", forward, recurrent.blocks_in_turn)


def _called(function: FunctionType) -> dict[str, FunctionType]:
    """The functions with a scan or convolution, of its own module, that a function calls."""
    found = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    functions = {name: x for name, x in found.items() if isinstance(x, FunctionType)}
    return {
        name: x
        for name, x in functions.items()
        if name in _NAMES or _decorator(x).startswith(_KERNEL)
    }


def _replace(module: Any, path: str, function: FunctionType, ours: Callable[..., Any]) -> None:
    """Give a layer that loops in its own code a forward pass of ours."""
    if _parameters(ours)[2:] != _parameters(function)[1:]:
        raise UnsupportedError(f"the parameters of {type(module).__name__}")
    number = re.search(r"\.(\d+)\.", path)
    module.forward = partial(ours, module, int(number[1]) if number else 0)
    if hasattr(module, "rg_lru"):
        module.rg_lru._rnn_scan = layers.gated_recurrence


def _own_cache(function: Any) -> bool:
    """Whether a forward pass asks for a class of caches of its own module."""
    found = (function.__globals__.get(name) for name in function.__code__.co_names)
    module = function.__module__
    return any(
        isinstance(x, type) and issubclass(x, DynamicCache) and x.__module__ == module
        for x in found
    )


def _any_cache(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward pass that takes a cache of any class, which it does where it is to return none."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("past_key_values") is not None
        return forward(*args, **{**kwargs, "use_cache": False} if given else kwargs)

    return call


def _decorator(function: Any) -> str:
    return getattr(getattr(function, "__code__", None), "co_qualname", "")


def _unwrapped(function: Any) -> Any:
    """A forward pass without the decorator that only moves weights."""
    while _decorator(function).startswith(_HOOKS):
        function = function.__wrapped__
    return function


def _rebound(function: FunctionType, names: Mapping[str, Any]) -> FunctionType:
    """A function that looks up some names elsewhere than its module does."""
    made = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class _Layer:
    """The forward pass of a layer, with functions of ours."""

    def __init__(
        self, module: nn.Module, function: FunctionType, called: Mapping[str, FunctionType]
    ) -> None:
        self.module = module
        self.kept: Kept | None = None
        self.functions: dict[str, Callable[..., Any]] = {
            **{function.__name__: function for function in _FUNCTIONS},
            **{function.__name__: partial(function, self) for function in _STEPS},
            **dict.fromkeys(_FUSED, functions.no_fused_kernel),
            "causal_conv1d_fn": self.convolved,
            "causal_conv1d_update": self.convolved_step,
        }
        own = {name: self._own(name, theirs) for name, theirs in called.items()}
        self.function = _rebound(function, own)

    def _own(self, name: str, theirs: FunctionType) -> Callable[..., Any]:
        """Our function in place of one of Transformers'."""
        ours = self.functions.get(name)
        where = f"{name} in {type(self.module).__name__}"
        if ours is None:
            raise UnsupportedError(f"the function {where}")
        if name not in _FUSED and _parameters(ours) != _parameters(theirs):
            raise UnsupportedError(f"the parameters of {where}")
        return ours

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = signature(self.function).bind(self.module, *args, **kwargs)
        name = next((name for name in _CACHES if bound.arguments.get(name) is not None), None)
        if name is None:
            return self.function(*bound.args, **bound.kwargs)
        self.kept = bound.arguments[name] = Kept(bound.arguments[name])
        try:
            result = self.function(*bound.args, **bound.kwargs)
            self.kept.finish()
        finally:
            self.kept = None
        return result

    def renew(self, old: Tensor, new: Tensor | None) -> None:
        """Put a state in the place of another; without a cache there is none to renew."""
        if self.kept is not None and new is not None:
            self.kept.renew(old, new)

    def convolved(
        self,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """`causal_conv1d_fn`: (batch, channels, sequence), zeros or kept inputs in front."""
        functions.check_no_packing(kwargs)
        window = self.kept.window_of(hidden_states) if self.kept is not None else None
        x = hidden_states.to(weight.dtype)
        if window is None:
            result = convolve(x, weight)
        else:
            result, last = convolve_kept(x, weight, window.kept, window.size or weight.shape[-1])
            window.put(last)
        return functions.activated(result, bias, activation).to(hidden_states.dtype)

    def convolved_step(
        self,
        hidden_states: Tensor,
        conv_state: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
    ) -> Tensor:
        """`causal_conv1d_update`: the same after inputs that were kept."""
        x = hidden_states.to(weight.dtype)
        result, last = convolve_kept(x, weight, conv_state, conv_state.shape[-1])
        self.renew(conv_state, last)
        return functions.activated(result, bias, activation).to(hidden_states.dtype)


def _parameters(function: Callable[..., Any]) -> list[str]:
    return [
        name
        for name, parameter in signature(function).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
