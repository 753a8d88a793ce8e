"""Operators of our own that a trace holds: attention as one node, its mask, where a layer begins.

They have shapes and no kernels: they exist to be traced. Transformers calls `attend` and `mask`
when a model is built with `attn_implementation="wscc"`, and `mask` inside `masks_as_operators`
whatever the model's implementation is.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import has_side_effect
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .aten import UnsupportedError
from .concrete import value_of

IMPLEMENTATION = "wscc"

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_OPERATORS.define(
    "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? sinks,"
    " Tensor? indices, float scale, bool causal, int? window, float? softcap) -> Tensor"
)
_OPERATORS.define(
    "mask(Tensor like, SymInt batch, SymInt queries, SymInt keys, bool causal, int? window,"
    " int? chunk, ScalarType dtype) -> Tensor"
)
_MARKS = ("layer_input", "layer_output", "run_input", "run_output")
for _mark in _MARKS:
    _OPERATORS.define(f"{_mark}(Tensor value, int stack, int layer, int slot) -> Tensor")
_OPERATORS.define("left_out(Tensor like, int layer) -> Tensor")


@torch.library.register_fake("wscc::attention", lib=_OPERATORS)
def _attention_shape(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> Tensor:
    """(batch, heads, queries, width) to (batch, queries, heads, value width)."""
    del key, rest, named
    batch, heads, queries, _ = query.shape
    return query.new_empty((batch, queries, heads, value.shape[-1]))


@torch.library.register_fake("wscc::mask", lib=_OPERATORS)
def _mask_shape(
    like: Tensor,
    batch: int,
    queries: int,
    keys: int,
    causal: bool,
    window: int | None,
    chunk: int | None,
    dtype: torch.dtype,
) -> Tensor:
    del causal, window, chunk
    return like.new_empty((batch, 1, queries, keys), dtype=dtype)


def _mark_shape(value: Tensor, stack: int, layer: int, slot: int) -> Tensor:
    del stack, layer, slot
    return torch.empty_like(value)


for _mark in _MARKS:
    torch.library.register_fake(f"wscc::{_mark}", _mark_shape, lib=_OPERATORS)


@torch.library.register_fake("wscc::left_out", lib=_OPERATORS)
def _left_out_shape(like: Tensor, layer: int) -> Tensor:
    del layer
    return torch.empty_like(like)


def layer_input(value: Tensor, stack: int, layer: int, slot: int) -> Tensor:
    """`value` itself, marked as what a layer takes from the one before.

    `stack` numbers the lists of layers, and `slot` the values that pass from layer to layer.
    """
    return torch.ops.wscc.layer_input(value, stack, layer, slot)


def layer_output(value: Tensor, stack: int, layer: int, slot: int) -> Tensor:
    """`value` itself, marked as what a layer gives to the next one."""
    return torch.ops.wscc.layer_output(value, stack, layer, slot)


def run_input(value: Tensor, stack: int, layer: int, slot: int) -> Tensor:
    """`value` itself, marked as what the run of layers that begins with `layer` takes from the rest
    of the model."""
    return torch.ops.wscc.run_input(value, stack, layer, slot)


def run_output(value: Tensor, stack: int, layer: int, slot: int) -> Tensor:
    """`value` itself, marked as what the rest of the model takes from the run that ends with
    `layer`."""
    return torch.ops.wscc.run_output(value, stack, layer, slot)


def left_out(like: Tensor, layer: int) -> Tensor:
    """Stands for a result that a layer which is not traced would have; nothing may read it."""
    return torch.ops.wscc.left_out(like, layer)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    indices: Tensor | None = None,
    position_bias: Tensor | None = None,
    sinks: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention as Transformers calls it: query (batch, heads, queries, width), key and value
    (batch, groups, keys, width), result (batch, queries, heads, width).

    `s_aux` are sinks, one score for every head, and `indices` the keys that each query attends
    to. Who sees whom is in the mask; without one it is what sdpa of Transformers would take.
    `sinks` have a score for every query: what is left of them if all scores of a query are less
    by as much are sinks of zero.
    """
    if sinks is not None:
        position_bias = -sinks if position_bias is None else position_bias - sinks
        s_aux = torch.zeros(query.shape[1], dtype=query.dtype)
    if position_bias is not None:
        attention_mask = position_bias if attention_mask is None else attention_mask + position_bias
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    stated = rest.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if stated is None else stated)
    bare = attention_mask is None
    result = torch.ops.wscc.attention(
        query,
        key,
        value,
        attention_mask,
        s_aux,
        indices,
        scale,
        causal and bare,
        sliding_window if causal and bare else None,
        None if softcap is None else float(softcap),
    )
    return result, None


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: Any = "cpu",
    allow_is_bidirectional_skip: bool = False,
    **rest: Any,
) -> Tensor | None:
    """The mask that Transformers asks for, as one operator: (batch, 1, queries, keys), 0 or the
    least number.

    Raises UnsupportedError for padding, and for a rule other than causality, window and chunk.
    """
    del rest
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        raise UnsupportedError("a mask of the model's own")
    if q_offset + q_length != kv_offset + kv_length:
        raise UnsupportedError("a mask whose last query does not stand at the last key")
    padded = False
    if attention_mask is not None and value_of(attention_mask) is not None:
        padded = not bool(attention_mask.all())
    try:
        seen = _visibility(mask_function)
    except UnsupportedError:
        offsets = q_offset, kv_offset
        stated = _stated(mask_function, (batch_size, q_length, kv_length), offsets, dtype)
        if stated is None or padded:
            raise
        return stated
    if padded:
        raise UnsupportedError("padding")
    if allow_is_bidirectional_skip and seen == Visibility(causal=False):
        return None
    like = torch.empty((), device=device)
    return torch.ops.wscc.mask(
        like, batch_size, q_length, kv_length, seen.causal, seen.window, seen.chunk, dtype
    )


def _stated(
    function: Any, sizes: tuple[int, int, int], offsets: tuple[int, int], dtype: torch.dtype
) -> Tensor | None:
    """A mask that follows from known values, such as where a prompt has images, as a tensor (batch
    or 1, 1, queries, keys); None where it does not."""
    batch, queries, keys = sizes
    row = torch.arange(queries)[None, None, :, None] + offsets[0]
    column = torch.arange(keys)[None, None, None, :] + offsets[1]
    one = torch.arange(1)[None, :, None, None]
    seen = function(torch.arange(batch)[:, None, None, None], one, row, column)
    if value_of(seen) is None:
        return None
    seen = seen.expand(batch, 1, queries, keys)
    if bool((seen == seen[:1]).all()):
        seen = seen[:1]
    return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)


@dataclass(frozen=True)
class Visibility:
    """Which keys a query sees: none after it if `causal`, of those the last `window`, and only
    those of its own `chunk`."""

    causal: bool = False
    window: int | None = None
    chunk: int | None = None


def _visibility(function: Any) -> Visibility:
    """What a mask function of Transformers' masking_utils hides, read off its parts."""
    name = getattr(function, "__qualname__", type(function).__name__)
    inside = _closure(function)
    match name.partition(".")[0]:
        case "causal_mask_function":
            return Visibility(causal=True)
        case "bidirectional_mask_function":
            return Visibility()
        case "sliding_window_overlay":
            return Visibility(window=int(inside["sliding_window"]))
        case "chunked_overlay":
            return Visibility(chunk=int(inside["chunk_size"]))
        case "and_masks":
            parts = [_visibility(part) for part in inside["mask_functions"]]
            return Visibility(
                any(part.causal for part in parts),
                min((part.window for part in parts if part.window is not None), default=None),
                min((part.chunk for part in parts if part.chunk is not None), default=None),
            )
        case _:
            raise UnsupportedError(f"a mask by {name}")


def _closure(function: Any) -> Mapping[str, Any]:
    cells = getattr(function, "__closure__", None) or ()
    names = function.__code__.co_freevars if cells else ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


@contextmanager
def masks_as_operators() -> Iterator[None]:
    """Inside, eager attention gets its masks from `mask` too."""
    mapping = type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping
    before = mapping["eager"]
    mapping["eager"] = mask
    try:
        yield
    finally:
        mapping["eager"] = before


for _mark in _MARKS:
    has_side_effect(getattr(torch.ops.wscc, _mark).default)  # kept where nothing reads them

ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, mask)
