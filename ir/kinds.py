"""The table of operator kinds, and what follows from it for any operator.

kind.py says how a kind is declared, operators/ holds the declarations.
"""

from .dims import Dim
from .errors import VerificationError, nearest
from .graph import Graph, Op
from .kind import Indices, OpKind, Types, letter_sizes, parse_indices
from .operators import (
    attention,
    chosen,
    collectives,
    convolution,
    exchange,
    experts,
    linear,
    lookup,
    normalization,
    pointwise,
    positions,
    quantized,
    scan,
    seams,
    selection,
    training,
    views,
)

__all__ = ["KINDS", "Indices", "graph_flops", "indices_of", "kind_of", "parse_indices", "verify_op"]

_GROUPS = (
    linear,
    pointwise,
    normalization,
    positions,
    attention,
    quantized,
    lookup,
    selection,
    views,
    seams,
    collectives,
    experts,
    chosen,
    exchange,
    convolution,
    scan,
    training,
)

KINDS: dict[str, OpKind] = {kind.name: kind for group in _GROUPS for kind in group.KINDS}


def kind_of(op: Op) -> OpKind:
    """The declaration of an op's kind; raises VerificationError for an unknown one."""
    kind = KINDS.get(op.kind)
    if kind is None:
        raise VerificationError(f"no operator kind {op.kind!r}{nearest(op.kind, KINDS)}")
    return kind


def indices_of(op: Op) -> Indices:
    """The op's indices; raises VerificationError for a view or another kind without them."""
    kind = kind_of(op)
    if kind.indices is None:
        raise VerificationError(f"{op.kind} %{op.result} has no indices")
    return kind.indices(op)


def verify_op(graph: str, op: Op, types: Types) -> None:
    """Raise VerificationError unless operands, attributes and stated types fit the kind."""
    kind = kind_of(op)
    try:
        _verify(kind, op, types)
    except (ValueError, VerificationError) as error:
        raise VerificationError(f"graph {graph}: {op.kind} %{op.result}: {error}") from error


def _verify(kind: OpKind, op: Op, types: Types) -> None:
    if kind.operands is not None and len(types) != kind.operands:
        raise VerificationError(f"{len(types)} operands, not {kind.operands}")
    if len(op.results) != len(op.types):
        raise VerificationError(f"{len(op.results)} results of {len(op.types)} types")
    if kind.indices is not None:
        _verify_indices(kind, op, kind.indices(op), types)
    kind.check(op, types)
    if kind.types is not None and (derived := kind.types(op, types)) != op.types:
        shown = [", ".join(str(type_) for type_ in listed) for listed in (derived, op.types)]
        raise VerificationError(f"result is {shown[0]}, not {shown[1]}")


def _verify_indices(kind: OpKind, op: Op, indices: Indices, types: Types) -> None:
    if len(indices.operands) != len(types):
        raise VerificationError(f"indices for {len(indices.operands)} operands")
    letter_sizes(op, indices, types)
    inside = {letter for letters in indices.operands for letter in letters}
    new = [x for letters in (indices.result, *indices.others) for x in letters if x not in inside]
    if new and not kind.creates:
        raise VerificationError(f"index {new[0]} of the result is in no operand")


def graph_flops(graph: Graph) -> Dim:
    """FLOPs of a graph's own matrix products and attention, a multiply-add counted as two."""
    return sum((kind_of(op).flops(op, graph.operand_types(op)) for op in graph.ops), start=0)
