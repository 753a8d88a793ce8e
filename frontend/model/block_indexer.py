"""Indexers that select whole blocks of tokens, without their loop over queries.

Known by what they hold: `block_topk` blocks of `compress_ratio` tokens each, scored by the mean of
their keys. A query also sees all tokens behind the last whole block.
"""

import inspect
import math
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .aten import UnsupportedError

_HELD = ("block_topk", "compress_ratio", "index_qk_proj", "q_layernorm", "k_layernorm")
_PARAMETERS = ("hidden_states", "position_embeddings", "attention_mask", "past_key_values")


def _selected(
    module: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor,
    past_key_values: Any,
) -> Tensor:
    """Which keys every query is to see (batch, 1, queries, keys), those after it among them."""
    del attention_mask
    batch, queries, _ = hidden_states.shape
    cos, sin = position_embeddings
    heads, width = module.index_n_heads, module.index_head_dim
    rotate: Any = vars(sys.modules[type(module).__module__])["apply_rotary_pos_emb"]
    query, key = torch.split(
        module.index_qk_proj(hidden_states), [heads * width, module.index_kv_heads * width], dim=-1
    )
    query = module.q_layernorm(query.reshape(batch, queries, heads, width))
    query = rotate(query, cos=cos[:, -queries:], sin=sin[:, -queries:], unsqueeze_dim=2)
    if past_key_values is not None:
        key = past_key_values.update_indexer(key, module.layer_idx)
    keys, size = key.shape[1], module.compress_ratio
    blocks = keys // size
    firsts = slice(0, blocks * size, size)
    pooled = key[:, : blocks * size].reshape(batch, blocks, size, width).float().mean(dim=2)
    pooled = module.k_layernorm(pooled.to(key.dtype)).unsqueeze(2)
    pooled = rotate(pooled, cos=cos[:, firsts], sin=sin[:, firsts], unsqueeze_dim=2).squeeze(2)
    scores = torch.einsum("bshd,bnd->bshn", query.float(), pooled.float())
    scores = torch.relu(scores).sum(dim=2) / math.sqrt(width)
    seen = torch.arange(queries).unsqueeze(1) + (keys - queries + 1)
    complete = torch.div(seen, size, rounding_mode="floor")
    whole = torch.arange(blocks).unsqueeze(0) < complete
    scores = scores.masked_fill(~whole, -torch.inf)
    best = scores.topk(min(module.block_topk, blocks), dim=-1).indices
    picked = torch.zeros_like(scores).scatter(-1, best, 1.0) * whole
    tokens = picked.unsqueeze(-1).expand(-1, -1, -1, size).reshape(batch, queries, blocks * size)
    tokens = nn.functional.pad(tokens, (0, keys - blocks * size))
    rest = torch.arange(keys).unsqueeze(0) >= complete * size
    return ((tokens > 0) | rest).unsqueeze(1)


def install(model: nn.Module) -> None:
    """Give every indexer of blocks a forward pass without loops.

    Raises UnsupportedError for one that is called in another way than is known.
    """
    for module in model.modules():
        if not all(hasattr(module, name) for name in _HELD):
            continue
        if tuple(inspect.signature(type(module).forward).parameters)[1:] != _PARAMETERS:
            raise UnsupportedError(f"the parameters of {type(module).__name__}")
        module.forward = partial(_selected, module)
