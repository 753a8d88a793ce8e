"""Attention as one operator, and the mask that it becomes a product of when taken apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import Dim
from ..graph import Op
from ..kind import Indices, OpKind, Types, stated
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _hidden(op: Op, queries: "Tensor", keys: "Tensor", lag: int) -> "Tensor":
    """Where a query must not see a key; `lag` is how far the first query is behind the keys."""
    ahead = keys[None, :] - queries[:, None] - lag
    hidden = ahead > 0
    window = op.attributes.get("window")
    return hidden if window is None else hidden | (ahead <= -op.integer("window"))


def mask(
    op: Op, operands: Sequence["Tensor"], offsets: tuple[int, int] = (0, 0), lag: int | None = None
) -> "Tensor":
    """Scores with hidden pairs at minus infinity.

    `offsets` are the positions of the first query and key that this part holds, and `lag` is keys
    minus queries of the whole; without them the operand is the whole.
    """
    import torch

    (letters,), result = letters_of(op)
    scores = aligned(operands[0], letters, result)
    query, key = op.text("query"), op.text("key")
    queries = torch.arange(scores.shape[result.index(query)] if query else 1) + offsets[0]
    keys = torch.arange(scores.shape[result.index(key)]) + offsets[1]
    lag = len(keys) - len(queries) if lag is None else lag
    hidden = _hidden(op, queries, keys, lag)
    hidden = aligned(hidden if query else hidden[0], query + key, result)
    return scores.masked_fill(hidden, -torch.inf)


def _attention(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    query, key, value = operands
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    query = query.reshape(batch, groups, heads // groups, queries, width)
    scores = torch.einsum("bgrsd,bgtd->bgrst", query, key) * op.number("scale")
    if op.attributes.get("causal"):
        hidden = _hidden(op, torch.arange(queries), torch.arange(keys), keys - queries)
        scores = scores.masked_fill(hidden, -torch.inf)
    out = torch.einsum("bgrst,bgte->bsgre", scores.softmax(-1), value)
    return out.reshape(batch, queries, heads, value.shape[-1])


def _attention_flops(op: Op, types: Types) -> Dim:
    """Scores and weighted values over all pairs, not halved for causality."""
    query, _, value = types
    batch, heads, queries, width = query.shape
    keys, value_width = value.shape[-2], value.shape[-1]
    return batch * heads * queries * keys * (width + value_width) * 2


KINDS = (
    OpKind(
        name="attention",
        doc="""Softmax(scale q k) v for q (batch, heads, queries, width), k and v (batch,
        groups, keys, width); the result is (batch, queries, heads, width). Query i sees key j
        where j - i <= keys - queries if `causal`, and only the last `window` of those if
        given.""",
        operands=3,
        indices=lambda op: Indices(
            ("bhsd", "bgtd", "bgte"), "bshe", {"t": "sum", "d": "sum", "g": "sum"}
        ),
        flops=_attention_flops,
        reference=_attention,
    ),
    OpKind(
        name="mask",
        doc="""Minus infinity where `query` must not see `key` (letters): later positions, and
        those `window` or more behind; the last query stands at the last key. Without a letter
        for `query` there is one query.""",
        operands=1,
        indices=stated(),
        reference=mask,
    ),
)
