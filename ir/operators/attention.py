"""Attention as one operator, and the mask that it becomes a product of when taken apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import dims
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Tape, Types, stated
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _hidden(op: Op, queries: "Tensor", keys: "Tensor", lag: int) -> "Tensor":
    """Where a query must not see a key; `lag` is how far the first query is behind the keys."""
    ahead = keys[None, :] - queries[:, None] - lag
    hidden = (ahead > 0) & bool(op.attributes.get("causal", True))
    if op.attributes.get("window") is not None:
        hidden = hidden | (ahead <= -op.integer("window"))
    if op.attributes.get("chunk") is not None:
        chunk = op.integer("chunk")
        hidden = hidden | (keys[None, :] // chunk != (queries[:, None] + lag) // chunk)
    return hidden


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
    return scores.masked_fill(hidden, op.number("fill") if "fill" in op.attributes else -torch.inf)


def _mask_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """The gradient, but none for hidden pairs."""
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    attributes = {**op.attributes, "indices": f"{result}->{letters}", "fill": 0.0}
    return (tape.add("mask", [given], tape.type_of(op.operands[0]), attributes),)


EXTRAS = ("mask", "sinks", "indices", "more_query", "more_key")
"""Operands that attention may have after queries, keys and values, in this order."""


def extras_of(op: Op) -> tuple[str, ...]:
    """The names of the operands after the third; raises VerificationError for unknown ones."""
    stated = op.attributes.get("extras", ())
    if not isinstance(stated, tuple) or list(stated) != [x for x in EXTRAS if x in stated]:
        raise VerificationError(f"extras must be some of {', '.join(EXTRAS)} in this order")
    return tuple(str(name) for name in stated)


def _attention(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    query, key, value, *more = operands
    extras = dict(zip(extras_of(op), more, strict=True))
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    grouped = query.reshape(batch, groups, heads // groups, queries, width)
    scores = torch.einsum("bgrsd,bgtd->bgrst", grouped, key)
    if "more_query" in extras:
        grouped = extras["more_query"].reshape(batch, groups, heads // groups, queries, -1)
        common = extras["more_key"].expand(batch, groups, keys, -1)
        scores = scores + torch.einsum("bgrsd,bgtd->bgrst", grouped, common)
    scores = (scores * op.number("scale")).reshape(batch, heads, queries, keys)
    if op.attributes.get("softcap") is not None:
        scores = (scores / op.number("softcap")).tanh() * op.number("softcap")
    if "mask" in extras:
        scores = scores + aligned(extras["mask"], op.text("mask"), "bhst")
    hidden = _unseen(op, queries, keys, extras.get("indices"))
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    if "sinks" in extras:
        sinks = extras["sinks"].reshape(1, heads, 1, 1).expand(batch, heads, queries, 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.softmax(-1)[..., :keys].reshape(batch, groups, heads // groups, queries, keys)
    out = torch.einsum("bgrst,bgte->bsgre", weights, value)
    return out.reshape(batch, queries, heads, value.shape[-1])


_RULES = ("window", "chunk")


def _unseen(op: Op, queries: int, keys: int, indices: "Tensor | None") -> "Tensor | None":
    """Where a query must not see a key, broadcast to (batch, heads, queries, keys)."""
    import torch

    causal = bool(op.attributes.get("causal"))
    hidden: Tensor | None = None
    if causal or any(op.attributes.get(name) is not None for name in _RULES):
        hidden = _hidden(op, torch.arange(queries), torch.arange(keys), keys - queries)
    if indices is not None:
        unselected = torch.ones((indices.shape[0], queries, keys), dtype=torch.bool)
        unselected = unselected.scatter(-1, indices.long(), value=False).unsqueeze(1)
        hidden = unselected if hidden is None else hidden | unselected
    return hidden


def _attention_indices(op: Op) -> Indices:
    letters = {"mask": op.attributes.get("mask", ""), "sinks": "h", "indices": "bsk"}
    letters |= {"more_query": "bhsx", "more_key": "bptx"}
    extras = tuple(str(letters[name]) for name in extras_of(op))
    own = "".join(extras)
    reduced = dict.fromkeys("tdg" + "".join(x for x in "kpx" if x in own), "sum")
    return Indices(("bhsd", "bgtd", "bgte", *extras), "bshe", reduced)


def _attention_flops(op: Op, types: Types) -> Dim:
    """Scores and weighted values over all pairs, not halved for causality.

    A query counts the keys that it attends to at most: those of its window, chunk or selection.
    """
    query, _, value, *more = types
    extras = dict(zip(extras_of(op), more, strict=True))
    batch, heads, queries, width = query.shape
    keys, value_width = value.shape[-2], value.shape[-1]
    if "indices" in extras:
        selected = dims.size(extras["indices"].shape[-1])
        keys = min(keys, selected) if isinstance(keys, int) else selected
    limits = [op.integer(name) for name in _RULES if op.attributes.get(name) is not None]
    if isinstance(keys, int):
        keys = min(keys, *limits) if limits else keys
    if "more_query" in extras:
        width = width + extras["more_query"].shape[-1]
    return batch * heads * queries * keys * (width + value_width) * 2


def _names(op: Op) -> tuple[str, ...]:
    """The names of the operands of attention, in order."""
    return ("query", "key", "value", *extras_of(op))


def _attention_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    """One operator for all operands whose gradients anybody reads."""
    (given,) = gradients
    if given is None:
        return (None,) * len(op.operands)
    names = _names(op)
    wanted = {n: v for n, v in zip(names, op.operands, strict=True) if tape.wants(v)}
    made = tape.add_several(
        "attention_grad",
        [given, *op.operands],
        [tape.type_of(value) for value in wanted.values()],
        {**op.attributes, "gives": tuple(wanted)},
    )
    found = dict(zip(wanted, made, strict=True))
    return tuple(found.get(name) for name in names)


def _attention_grad(op: Op, operands: Sequence["Tensor"]) -> "Sequence[Tensor]":
    """By torch's differentiation of the reference of `attention`."""
    import torch

    given, *values = operands
    with torch.enable_grad():
        leaves = {
            name: value.detach().requires_grad_(name in _gives(op))
            for name, value in zip(_names(op), values, strict=True)
        }
        out = _attention(op, [*leaves.values()])
    return torch.autograd.grad(out, [leaves[name] for name in _gives(op)], given.to(out.dtype))


def _gives(op: Op) -> tuple[str, ...]:
    """The names of the operands whose gradients `attention_grad` yields; raises
    VerificationError for what is no operand of its."""
    stated = op.attributes.get("gives")
    known = _names(op)
    if not isinstance(stated, tuple) or not stated or any(name not in known for name in stated):
        raise VerificationError(f"gives must be some of {', '.join(known)}")
    return tuple(str(name) for name in stated)


def _attention_grad_indices(op: Op) -> Indices:
    """A gradient that lacks a letter is the sum over it; heads go with their groups."""
    forward = _attention_indices(op)
    letters = dict(zip(_names(op), forward.operands, strict=True))
    gradients = [letters[name] for name in _gives(op)]
    operands = (forward.result, *forward.operands)
    partial = set("".join(operands)) - set(gradients[0]).intersection(*gradients) - {"h"}
    reduced = dict.fromkeys(sorted(partial), "sum")
    return Indices(operands, gradients[0], reduced, others=tuple(gradients[1:]))


def _attention_grad_flops(op: Op, types: Types) -> Dim:
    """Twice the forward's: four products of the size of its two. The scores, which a fused kernel
    computes once more, are not counted a second time."""
    return _attention_flops(op, types[1:]) * 2


KINDS = (
    OpKind(
        name="attention",
        doc="""Softmax(scale q k) v for q (batch, heads, queries, width), k and v (batch,
        groups, keys, width); the result is (batch, queries, heads, width). Query i sees key j
        where j - i <= keys - queries if `causal`, only the last `window` of those if given, and
        only those of its own `chunk` of positions if given. `softcap` c makes scores
        c tanh(scores / c). `extras` names the operands after the third: a `mask` that is added
        to the scores (the attribute of that name holds its letters of bhst), `sinks`, a score
        for every head that takes its share of the softmax (arXiv 2309.17453), `indices`
        (batch, queries, selected), the only keys that a query attends to (arXiv 2512.02556), and
        `more_query` and `more_key`, a second width whose products are added to the scores; all
        heads may have its keys in common (positions in latent attention, arXiv 2405.04434).""",
        operands=None,
        indices=_attention_indices,
        flops=_attention_flops,
        reference=_attention,
        gradient=_attention_gradient,
    ),
    OpKind(
        name="attention_grad",
        doc="""The gradients of the operands of `attention` that `gives` names (query, key, value,
        and those of `extras`), from the gradient of its result and all its operands, in that
        order. The softmax is computed once more instead of kept (Dao et al., arXiv
        2205.14135).""",
        operands=None,
        indices=_attention_grad_indices,
        flops=_attention_grad_flops,
        reference=_attention_grad,
    ),
    OpKind(
        name="mask",
        doc="""Minus infinity where `query` must not see `key` (letters): later positions (but
        if not `causal`), those `window` or more behind, and those of another `chunk`; the last
        query stands at the last key. Without a letter for `query` there is one query. `fill`
        stands for another number than minus infinity.""",
        operands=1,
        indices=stated(),
        reference=mask,
        gradient=_mask_gradient,
    ),
)
