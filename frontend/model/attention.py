"""Operators of our own that a trace holds: attention as one node, and where a layer begins.

They have shapes and no kernels: they exist to be traced. Transformers calls `attend` when a model
is built with `attn_implementation="wscc"`; with that name it builds no masks either.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

IMPLEMENTATION = "wscc"

_OPERATORS = torch.library.Library("wscc", "DEF")
_OPERATORS.define(
    "attention(Tensor query, Tensor key, Tensor value, float scale, bool causal, int? window)"
    " -> Tensor"
)
_OPERATORS.define("layer_input(Tensor hidden, int layer) -> Tensor")


@torch.library.register_fake("wscc::attention", lib=_OPERATORS)
def _attention_shape(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool, window: int | None
) -> Tensor:
    """(batch, heads, queries, width) to (batch, queries, heads, value width)."""
    batch, heads, queries, _ = query.shape
    return query.new_empty((batch, queries, heads, value.shape[-1]))


@torch.library.register_fake("wscc::layer_input", lib=_OPERATORS)
def _layer_input_shape(hidden: Tensor, layer: int) -> Tensor:
    return torch.empty_like(hidden)


def layer_input(hidden: Tensor, layer: int) -> Tensor:
    """`hidden` itself, marked as what the layer number `layer` takes from the one before."""
    return torch.ops.wscc.layer_input(hidden, layer)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention as Transformers calls it: query (batch, heads, queries, width), key and value
    (batch, groups, keys, width), result (batch, queries, heads, width).

    Raises NotImplementedError where a model asks for more than scale, causality and window.
    """
    more = [name for name in ("softcap", "s_aux") if rest.get(name) is not None]
    more += ["attention_mask"] * (attention_mask is not None)
    if more:
        raise NotImplementedError(f"attention with {', '.join(more)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    causal = bool(getattr(module, "is_causal", True))
    return torch.ops.wscc.attention(query, key, value, scale, causal, sliding_window), None


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
