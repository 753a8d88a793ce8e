"""Layers of RWKV and xLSTM, whose states Transformers keeps in caches of their own: the same layers
with scans, and with states in a cache like any other.

Both divide one recurrence by another, and Transformers scales either with a running maximum, so
that no power overflows. It cancels in the quotient, but for xLSTM's epsilon, and is left out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.modeling_outputs import BaseModelOutput

from .kept import Place
from .layers import place_of
from .operators import scan


def time_mixing(
    layer: Any, number: int, hidden: Tensor, state: Any = None, use_cache: bool = False
) -> tuple[Tensor, Any]:
    """RWKV's attention: sums of values that decay by channel, the token's own weighed apart
    (arXiv 2305.13048)."""
    del use_cache
    before = _shifted(hidden, place_of(state, number, "conv_states"))
    key = layer.key(_mixed(hidden, before, layer.time_mix_key)).float()
    value = layer.value(_mixed(hidden, before, layer.time_mix_value))
    receptance = torch.sigmoid(layer.receptance(_mixed(hidden, before, layer.time_mix_receptance)))
    weight = torch.exp(key)
    own = torch.exp(key + layer.time_first)
    decay = -torch.exp(layer.time_decay.float())
    above = _sum_before(weight * value, decay, place_of(state, number, "recurrent_states"))
    below = _sum_before(weight, decay, place_of(state, number, "recurrent_states", 1))
    mixed = ((above + own * value) / (below + own)).to(value.dtype)
    return layer.output(receptance * mixed), state


def channel_mixing(
    layer: Any, number: int, hidden: Tensor, state: Any = None
) -> tuple[Tensor, Any]:
    """RWKV's feed-forward layer, which sees the token before too."""
    before = _shifted(hidden, place_of(state, number, "conv_states", 1))
    key = torch.square(torch.relu(layer.key(_mixed(hidden, before, layer.time_mix_key))))
    receptance = torch.sigmoid(layer.receptance(_mixed(hidden, before, layer.time_mix_receptance)))
    return receptance * layer.value(key), state


def _mixed(now: Tensor, before: Tensor, share: Tensor) -> Tensor:
    return now * share + before * (1 - share)


def _shifted(hidden: Tensor, place: Place | None) -> Tensor:
    """Every token's predecessor (batch, sequence, width): zeros before the first one."""
    held = place.held() if place else None
    if place is not None:
        place.begin(hidden[:, -1])
    if held is not None:
        return held.unsqueeze(1)
    return F.pad(hidden[:, :-1], (0, 0, 1, 0))


def _sum_before(value: Tensor, decay: Tensor, place: Place | None) -> Tensor:
    """For every token the decaying sum (batch, sequence, channels) of those before it."""
    held = place.held() if place else None
    if held is not None:
        sums = held.unsqueeze(1)
    else:
        earlier = F.pad(value[:, :-1], (0, 0, 1, 0))
        operands = {"value": ("bsc", earlier), "decay": ("c", decay)}
        sums, _ = scan(operands, "bsc", "bc", torch.float32, kept=False)
    if place is not None:
        place.begin(sums[:, -1] * torch.exp(decay) + value[:, -1])
    return sums


def matrix_memory(
    layer: Any,
    number: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    igate: Tensor,
    fgate: Tensor,
    c_initial: Tensor | None = None,
    n_initial: Tensor | None = None,
    m_initial: Tensor | None = None,
    return_last_states: bool | None = None,
    mode: str | None = None,
) -> tuple[Tensor, None]:
    """The mLSTM of xLSTM (arXiv 2405.04517): query and key (batch, heads, sequence, width), value
    the same of another width, gates (batch, heads, sequence)."""
    del c_initial, n_initial, m_initial, return_last_states, mode
    cache = layer.cache
    written, decay = torch.exp(igate.float()), F.logsigmoid(fgate.float())
    scale, chunk = query.shape[-1] ** -0.5, layer.config.chunk_size
    common = {"query": ("bhsn", query), "key": ("bhsn", key), "decay": ("bhs", decay)}
    memory = place_of(cache, number, "recurrent_states")
    above, state = scan(
        {
            **common,
            "value": ("bhsp", value),
            "beta": ("bhs", written),
            "initial": ("bhnp", memory.held() if memory else None),
        },
        "bhsp",
        "bhnp",
        torch.float32,
        kept=memory is not None,
        scale=scale,
        chunk=chunk,
    )
    length = place_of(cache, number, "recurrent_states", 1)
    below, total = scan(
        {
            **common,
            "value": ("bhs", written),
            "initial": ("bhn", length.held() if length else None),
        },
        "bhs",
        "bhn",
        torch.float32,
        kept=length is not None,
        scale=scale,
        chunk=chunk,
    )
    for place, new in ((memory, state), (length, total)):
        if place is not None and new is not None:
            place.begin(new)
    divisor = torch.clamp(below.abs(), min=1.0) + layer.config.eps
    return (above / divisor.unsqueeze(-1)).to(query.dtype), None


def blocks_in_turn(
    model: Any,
    number: int,
    input_ids: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    cache_params: Any = None,
    use_cache: bool | None = None,
    **kwargs: Any,
) -> BaseModelOutput:
    """xLSTM's blocks, each of which finds its states in a cache by itself."""
    del number, use_cache, kwargs
    for module in model.modules():
        if hasattr(module, "chunkwise_kernel_fn"):
            module.cache = cache_params
    hidden = model.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
    for block in model.blocks:
        hidden, _ = block(hidden, None)
    made = BaseModelOutput(last_hidden_state=model.out_norm(hidden))
    made.cache_params = cache_params
    return made
