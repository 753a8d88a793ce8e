"""Layers of Transformers that loop inside their own code: the same layers with operators of ours.

Each function is a forward pass; a layer it fits is recognised by its attributes and by the
parameters of its own forward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from ..aten import UnsupportedError
from .kept import Place, Table
from .operators import convolve, convolve_kept, scan


def lightning_attention(
    layer: Any,
    number: int,
    hidden_states: Tensor,
    position_embeddings: Any,
    attention_mask: Tensor | None,
    past_key_values: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Linear attention with a constant decay for each head (arXiv 2401.04658)."""
    del number, position_embeddings, kwargs
    if attention_mask is not None:
        raise UnsupportedError("padding before linear attention")
    batch, tokens, _ = hidden_states.shape
    heads, width = layer.num_attention_heads, layer.head_dim
    states = layer.act_fn(layer.qkv_proj(hidden_states)).reshape(batch, tokens, heads, 3 * width)
    query, key, value = torch.split(states, width, dim=3)
    place = place_of(past_key_values, layer.layer_idx, "recurrent_states")
    output, state = scan(
        {
            "query": ("bshn", query),
            "key": ("bshn", key),
            "value": ("bshp", value),
            "decay": ("h", -layer.slope_rate.reshape(heads)),
            "initial": ("bhnp", place.held() if place else None),
        },
        "bshp",
        "bhnp",
        value.dtype,
        kept=place is not None,
        chunk=layer.block_size,
    )
    if place and state is not None:
        place.begin(state)
    output = layer.norm(output.reshape(batch, tokens, heads * width))
    return layer.out_proj(F.sigmoid(layer.output_gate(hidden_states)) * output), None


def recurrent_block(
    layer: Any,
    number: int,
    input_states: Tensor,
    position_ids: Tensor,
    attention_mask: Tensor | None,
    use_cache: bool = True,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The recurrent block of Griffin: a short convolution, then a gated linear recurrence
    (arXiv 2402.19427)."""
    del attention_mask, use_cache
    cache = kwargs.get("past_key_values")
    branch = layer.act_fn(layer.linear_y(input_states))
    x, weight = layer.linear_x(input_states).transpose(1, 2), layer.conv_1d.weight.squeeze(1)
    window = place_of(cache, number, "conv_states")
    place = place_of(cache, number, "recurrent_states")
    lru, state = layer.rg_lru, place.held() if place else None
    lru.recurrent_states = state
    if window is None:
        x = convolve(x, weight)
    else:
        x, last = convolve_kept(x, weight, window.held(), layer.conv1d_width - 1)
        window.begin(last)
    x = (x + layer.conv_1d.bias[:, None]).transpose(1, 2)
    hidden_states = lru(x, position_ids)
    state, lru.recurrent_states = lru.recurrent_states, None
    if place is not None and state is not None:
        place.put(state)
    return layer.linear_out(hidden_states * branch), None


def gated_recurrence(
    hidden_states: Tensor,
    recurrent_gate: Tensor,
    reset: Tensor,
    recurrent_states: Tensor | None,
    acc_dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor | None]:
    """The recurrence of the RG-LRU: (batch, sequence, channels), the gate 0 where a text begins."""
    del acc_dtype
    return scan(
        {
            "value": ("bsc", hidden_states),
            "factor": ("bsc", recurrent_gate * ~reset),
            "initial": ("bc", recurrent_states),
        },
        "bsc",
        "bc",
        hidden_states.dtype,
        kept=True,
    )


def place_of(cache: Any, layer: int, table: Table, number: int = 0) -> Place | None:
    """Where a layer's state is kept; raises UnsupportedError for a cache that has no place."""
    if cache is None:
        return None
    if not isinstance(cache.layers[layer], LinearAttentionCacheLayerMixin):
        raise UnsupportedError(f"a cache whose layer {layer} keeps no state")
    return Place(cache.layers[layer], table, number)
