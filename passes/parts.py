"""Slices and concatenations of equal parts become those of whole parts along a new dimension.

A dimension of n parts that is cut at the parts' seams is seen as parts of a size each: then only
the number of the part must be whole where it is sliced or joined, and each part may be split.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import gcd

from ..ir.dims import Dim
from ..ir.graph import Attribute, Graph, Op, TensorType
from ..ir.kinds import indices_of

SMALLEST = 8
"""Elements of a part at least: with smaller ones nothing is left to split."""

Units = Callable[[list[int]], int | None]
"""The size of a part, given the sizes of all pieces of a dimension."""


def equal_parts(sizes: list[int]) -> int | None:
    """Pieces of one size are the parts."""
    return sizes[0] if len(set(sizes)) == 1 else None


def common_parts(sizes: list[int]) -> int | None:
    """Pieces of several parts each, as large as they can be."""
    unit = gcd(*sizes)
    return unit if len(set(sizes)) == 1 or unit >= SMALLEST else None


def in_parts(graph: Graph, units: Units) -> Graph:
    """The graph with slices and concatenations along a dimension of parts."""
    cuts = _cuts(graph, units)
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind == "concat":
            ops.extend(_joined(graph, op, units))
        elif op.kind == "slice":
            ops.extend(_taken(graph, op, cuts))
        else:
            ops.append(op)
    return graph.with_ops(ops)


def _new_letter(op: Op) -> str:
    return next(x for x in "pqrstuvwxyzabcdefghijklmno" if x not in indices_of(op).equation)


def _split(type_: TensorType, at: int, unit: int) -> TensorType:
    """A type with one dimension as parts of `unit` elements."""
    size = type_.shape[at]
    assert isinstance(size, int)
    return TensorType(type_.dtype, (*type_.shape[:at], size // unit, unit, *type_.shape[at + 1 :]))


# Slices


def _place(graph: Graph, op: Op) -> tuple[str, int]:
    """The value that a slice reads and the dimension that it cuts."""
    (letters,) = indices_of(op).operands
    return op.operands[0], letters.index(op.text("along"))


def _cuts(graph: Graph, units: Units) -> dict[tuple[str, int], int]:
    """The parts of every dimension whose slices all begin and end at parts' seams."""
    bounds: dict[tuple[str, int], set[Dim]] = {}
    for op in graph.ops:
        if op.kind == "slice":
            bounds.setdefault(_place(graph, op), set()).update((op.dim("start"), op.dim("stop")))
    found: dict[tuple[str, int], int] = {}
    for (name, at), ends in bounds.items():
        size = graph.types[name].shape[at]
        numbers = sorted(end for end in {*ends, 0, size} if isinstance(end, int))
        if len(numbers) == len({*ends, 0, size}):
            pieces = [b - a for a, b in pairwise(numbers)]
            unit = units(pieces) if len(pieces) > 1 else None
            if unit is not None and unit > 1:
                found[name, at] = unit
    return found


def _taken(graph: Graph, op: Op, cuts: Mapping[tuple[str, int], int]) -> list[Op]:
    """A slice as one of whole parts, between views."""
    name, at = _place(graph, op)
    type_ = graph.types[name]
    if op.dim("start") == 0 and op.dim("stop") == type_.shape[at]:
        return _as_view(graph, op)
    unit = cuts.get((name, at))
    if unit is None:
        return [op]
    (letters,), result = indices_of(op).operands, indices_of(op).result
    along, new = op.text("along"), _new_letter(op)
    first, last = op.integer("start") // unit, op.integer("stop") // unit
    spelt = letters.replace(along, new + along)
    kept = result if last - first == 1 else result.replace(along, new + along)
    attributes: dict[str, Attribute] = {
        "indices": f"{spelt}->{kept}", "along": new, "start": first, "stop": last,
    }  # fmt: skip
    parts = Op("reshape", (name,), (f"{op.result}.parts",), (_split(type_, at, unit),), {}, op.path)
    if kept == result:
        return [parts, Op("slice", parts.results, op.results, op.types, attributes, op.path)]
    taken = _split(op.type, result.index(along), unit)
    inner = Op("slice", parts.results, (f"{op.result}.taken",), (taken,), attributes, op.path)
    return [parts, inner, Op("reshape", inner.results, op.results, op.types, {}, op.path)]


def _as_view(graph: Graph, op: Op) -> list[Op]:
    """A slice of everything, in the order of its result."""
    (letters,), result = indices_of(op).operands, indices_of(op).result
    if len(letters) != len(result):
        return [Op("reshape", op.operands, op.results, op.types, {}, op.path)]
    order = tuple(letters.index(letter) for letter in result)
    return [Op("transpose", op.operands, op.results, op.types, {"order": order}, op.path)]


# Concatenations


def _joined(graph: Graph, op: Op, units: Units) -> list[Op]:
    """A concatenation as one of parts along a new dimension, then merged: so that a view which
    takes the parts apart again finds the seam."""
    indices, along = indices_of(op), op.text("along")
    types = graph.operand_types(op)
    if any(along not in letters for letters in indices.operands):
        return [op]
    rows = [*zip(indices.operands, types, op.operands, strict=True)]
    sizes = [type_.shape[letters.index(along)] for letters, type_, _ in rows]
    numbers = [size for size in sizes if isinstance(size, int)]
    unit = units(numbers) if len(numbers) == len(sizes) > 1 else None
    if unit is None:
        return [op]
    new = _new_letter(op)
    views: list[Op] = []
    operands: list[str] = []
    spelt: list[str] = []
    for at, (letters, type_, name) in enumerate(rows):
        if numbers[at] != unit:
            whole = _split(type_, letters.index(along), unit)
            views.append(Op("reshape", (name,), (f"{op.result}.part{at}",), (whole,), {}, op.path))
            name, letters = views[-1].result, letters.replace(along, new + along)
        operands.append(name)
        spelt.append(letters)
    result = indices.result
    attributes = {"indices": f"{','.join(spelt)}->{result.replace(along, new + along)}"}
    parts = _split(op.type, result.index(along), unit)
    return [
        *views,
        Op(
            "concat", tuple(operands), (f"{op.result}.parts",), (parts,),
            {**attributes, "along": new}, op.path,
        ),
        Op("reshape", (f"{op.result}.parts",), op.results, op.types, {}, op.path),
    ]  # fmt: skip
