"""What each operator kind computes, over torch tensors: the meaning of the graph.

Every function takes the op and its operands' values and returns the value of its result. Nothing
here is fast; it is what everything else is compared with.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import expression
from .dims import size
from .errors import VerificationError
from .graph import Op

if TYPE_CHECKING:
    from torch import Tensor


def _indices(op: Op) -> tuple[tuple[str, ...], str]:
    from .kinds import indices_of

    indices = indices_of(op)
    return indices.operands, indices.result


def _dtype(op: Op) -> Any:
    import torch

    return getattr(torch, op.type.dtype)


def aligned(value: "Tensor", letters: str, target: str) -> "Tensor":
    """`value` permuted and unsqueezed to the letters of `target`; a letter that `target` lacks
    must have size one."""
    for at in reversed(range(len(letters))):
        if letters[at] not in target:
            value = value.squeeze(at)
            letters = letters[:at] + letters[at + 1 :]
    value = value.permute([letters.index(letter) for letter in target if letter in letters])
    for at, letter in enumerate(target):
        if letter not in letters:
            value = value.unsqueeze(at)
    return value


def matmul(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = _indices(op)
    return torch.einsum(f"{','.join(letters)}->{result}", *operands)


def elementwise(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = _indices(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    value = expression.evaluate(op.text("expr"), values).to(_dtype(op))
    missing = [at for at, letter in enumerate(result) if letter not in "".join(letters)]
    shape = [size(dim) if at in missing else -1 for at, dim in enumerate(op.type.shape)]
    return value.expand(shape)


def reduce(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = _indices(op)
    inside = result + "".join(sorted(set("".join(letters)) - set(result)))
    dtype = _dtype(op)
    values = [aligned(v, own, inside).to(dtype) for v, own in zip(operands, letters, strict=True)]
    value = expression.evaluate(op.text("expr"), values)
    over = tuple(range(len(result), len(inside)))
    if op.text("function") == "sum":
        return value.sum(over)
    if value.numel() == 0:
        return torch.full(value.shape[: len(result)], -torch.inf, dtype=dtype)
    return value.amax(over)


def norm(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = _indices(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    over = result.index(op.text("over"))
    x = values[0].float()
    if op.text("function") == "layer":
        x = x - x.mean(over, keepdim=True)
    x = x * (x.square().mean(over, keepdim=True) + op.number("epsilon")).rsqrt()
    for at, value in enumerate(values[1:]):
        x = x * value if at == 0 else x + value
    return x.to(_dtype(op))


def rotary(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = _indices(op)
    x, cos, sin = (aligned(v, own, result) for v, own in zip(operands, letters, strict=True))
    pair = result.index(op.text("pair"))
    first, second = x.unbind(pair)
    turned = torch.stack((-second, first), dim=pair)
    return x * cos + turned * sin


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

    (letters,), result = _indices(op)
    scores = aligned(operands[0], letters, result)
    query, key = op.text("query"), op.text("key")
    queries = torch.arange(scores.shape[result.index(query)] if query else 1) + offsets[0]
    keys = torch.arange(scores.shape[result.index(key)]) + offsets[1]
    lag = len(keys) - len(queries) if lag is None else lag
    hidden = _hidden(op, queries, keys, lag)
    hidden = aligned(hidden if query else hidden[0], query + key, result)
    return scores.masked_fill(hidden, -torch.inf)


def attention(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
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


def embedding(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = _indices(op)
    ids, table = operands
    found = table.movedim(letters[1].index(op.text("rows")), 0)[ids]
    rest = letters[1].replace(op.text("rows"), "")
    return aligned(found, letters[0] + rest, result)


def concat(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = _indices(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    return torch.cat(values, dim=result.index(op.text("along")))


def reshape(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    return operands[0].reshape([size(dim) for dim in op.type.shape])


def transpose(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    return operands[0].permute(op.integers("order"))


def slice_(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    start, stop = op.integer("start"), op.integer("stop")
    return operands[0].narrow(op.integer("dim"), start, stop - start)


def identity(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    return operands[0]


def not_alone(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    raise VerificationError(f"{op.kind} %{op.result} has no value apart from its graph")
