"""Where caches of tokens lie: their tokens over the rows, with room for those that come."""

from ..ir import dims
from ..ir.dims import Polynomial
from ..ir.graph import Graph, Op, TensorType
from ..ir.kinds import Indices
from ..ir.mapped import Sharding
from .axes import ROWS, without_clashes


def made(type_: TensorType, now: Sharding) -> Sharding:
    """Where a cache that is made anew lies: its tokens over the rows, the rest as it came."""
    tokens = {
        str(at): ROWS
        for at, dim in enumerate(type_.shape)
        if isinstance(dim, Polynomial) and dim != dims.symbol("batch")
    }
    placed = {str(at): axes for at, axes in enumerate(now.axes)} | tokens
    cut = without_clashes(placed, tokens)
    return Sharding(tuple(cut[str(at)] for at in range(len(type_.shape))))


def grows(graph: Graph, op: Op, indices: Indices) -> bool:
    """Whether a cache of tokens is given more of them, one an operand."""
    if op.kind != "concat":
        return False
    along = op.text("along")
    grown, *fresh = zip(op.operands, indices.operands, strict=True)
    return (
        any(value.name == grown[0] and value.role == "cache" for value in graph.inputs)
        and along in grown[1]
        and isinstance(op.type.shape[indices.result.index(along)], Polynomial)
        and not any(along in letters for _, letters in fresh)
    )


def room(op: Op, letters: str) -> tuple[int, ...]:
    """Room in a cache for the tokens that the other operands bring, one each."""
    along = op.text("along")
    if along not in letters:
        return ()
    return tuple(len(op.operands) - 1 if letter == along else 0 for letter in letters)
