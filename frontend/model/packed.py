"""Attention of a tower over images of several sizes that lie one after the other in a row.

Transformers calls attention once for every image, or window of one, unless it believes in a kernel
that takes them all at once. `install` makes it do so, and `attend` takes those that are of equal
length as one batch.
"""

from functools import cache
from inspect import getsource
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import attend as attend_one
from .attention import mask

IMPLEMENTATION = "wscc_flash_attention"
"""Transformers takes a name with these two words in it for such a kernel's."""


def install(model: nn.Module) -> None:
    """Let every attention of a model that can be given all images at once be given them."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if config is not None and _takes_all(type(module)):
            config._attn_implementation = IMPLEMENTATION


@cache
def _takes_all(kind: type[nn.Module]) -> bool:
    """Whether the code of a module can give attention all images at once."""
    if not kind.__module__.startswith("transformers.models."):
        return False
    code = getsource(kind)
    return "cu_seq_lens_q=" in code and "is_flash_attention_requested(self.config)" in code


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention of each stretch of a row by itself: query, key and value (1, heads, row, width),
    result (1, row, heads, width). Stretch `i` begins at `cu_seq_lens_q[i]`, which is known.
    """
    named = {name: rest[name] for name in ("scaling", "is_causal", "softcap") if name in rest}
    if cu_seq_lens_q is None:
        return attend_one(module, query, key, value, attention_mask, **named)
    places: list[int] = cu_seq_lens_q.tolist()
    made: list[Tensor] = []
    stretches = [(start, stop - start) for start, stop in pairwise(places) if stop > start]
    for length, found in groupby(stretches, lambda stretch: stretch[1]):
        starts = [start for start, _ in found]
        q, k, v = (_stretches(x, starts[0], len(starts), length) for x in (query, key, value))
        result, _ = attend_one(module, q, k, v, None, **named)
        made.append(result.flatten(0, 1))
    return torch.cat(made).unsqueeze(0) if len(made) > 1 else made[0].unsqueeze(0), None


def _stretches(x: Tensor, start: int, number: int, length: int) -> Tensor:
    """Stretches of equal length as a batch (number, heads, length, width)."""
    row = x[0, :, start : start + number * length]
    return row.unflatten(1, (number, length)).transpose(0, 1)


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, mask)
