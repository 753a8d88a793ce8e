"""Where dimensions cannot be split alike, a value passes through a `view` that keeps them whole.

A seam stands before an operator that reads a value, behind one that makes it, or in the place of a
reshape or transpose. It decouples some dimensions: those on its one side may be split otherwise
than those on its other.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Literal

from ..ir.graph import Graph, Model, Op, TensorType
from ..ir.kinds import indices_of

LETTERS = ascii_lowercase + ascii_uppercase

Side = Literal["reads", "makes", "instead", "yields"]


@dataclass(frozen=True)
class Seam:
    """A seam at an operator, named by its first result.

    `reads`: before its operand number `at`. `makes`: behind its result number `at`. `instead`: in
    the place of the operator, a view itself. `yields`: before the graph's output number `at`.
    `loose` dimensions are decoupled.
    """

    graph: str
    op: str
    side: Side
    at: int = 0
    loose: frozenset[int] = frozenset()


def with_seam(model: Model, seam: Seam) -> tuple[Model, str]:
    """The model with one seam more, and the value behind it (in front of it for `makes`)."""
    graph = model.graphs[seam.graph]
    if seam.side == "yields":
        changed, name = _yielding(graph, seam)
    else:
        ops: list[Op] = []
        name = seam.op
        for op in graph.ops:
            if op.result == seam.op:
                made, name = _around(graph, op, seam)
                ops.extend(made)
            else:
                ops.append(op)
        changed = graph.with_ops(ops)
    return dataclasses.replace(model, graphs={**model.graphs, seam.graph: changed}), name


def _around(graph: Graph, op: Op, seam: Seam) -> tuple[list[Op], str]:
    match seam.side:
        case "reads":
            view = _copy(graph, op.operands[seam.at], _unused(graph, op.operands[seam.at]), seam)
            operands = tuple(
                view.result if at == seam.at else name for at, name in enumerate(op.operands)
            )
            return [view, dataclasses.replace(op, operands=operands)], view.result
        case "makes":
            name = op.results[seam.at]
            inner = _unused(graph, name)
            results = tuple(inner if result == name else result for result in op.results)
            view = _copy(graph, name, name, seam)
            return [
                dataclasses.replace(op, results=results),
                dataclasses.replace(view, operands=(inner,), path=op.path),
            ], inner
        case _:
            return [_kept(graph, op)], op.result


def _yielding(graph: Graph, seam: Seam) -> tuple[Graph, str]:
    output = graph.outputs[seam.at]
    view = _copy(graph, output.name, _unused(graph, output.name), seam)
    outputs = tuple(
        dataclasses.replace(output, name=view.result) if at == seam.at else other
        for at, other in enumerate(graph.outputs)
    )
    return dataclasses.replace(graph, ops=(*graph.ops, view), outputs=outputs), view.result


def _unused(graph: Graph, name: str) -> str:
    names = (f"{name}.seam{at}" for at in range(len(graph.ops) + 1))
    return next(other for other in names if other not in graph.types)


def _copy(graph: Graph, name: str, result: str, seam: Seam) -> Op:
    """The same value, with loose dimensions under letters of their own."""
    type_ = graph.types[name]
    rank = len(type_.shape)
    before = LETTERS[:rank]
    after = "".join(LETTERS[rank + at] if at in seam.loose else LETTERS[at] for at in range(rank))
    return _view((name,), (result,), type_, (before, after, before, after))


def _kept(graph: Graph, op: Op) -> Op:
    """A reshape or transpose as a view; dimensions in front and behind that a reshape leaves as
    they are stay common."""
    source, target = graph.types[op.operands[0]].shape, op.type.shape
    before = LETTERS[: len(source)]
    if op.kind == "transpose":
        result = "".join(before[at] for at in op.integers("order"))
        letters = (before, result, before, before)
    else:
        first = _common(source, target)
        last = _common(source[first:][::-1], target[first:][::-1])
        new = LETTERS[len(source) : len(source) + len(target) - first - last]
        after = before[:first] + new + before[len(before) - last :]
        letters = (before, after, before, after)
    return _view(op.operands, op.results, op.type, letters, op.path)


def _common(a: Iterable[object], b: Iterable[object]) -> int:
    """How many leading entries are equal."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def _view(
    operands: tuple[str, ...],
    results: tuple[str, ...],
    type_: TensorType,
    letters: tuple[str, str, str, str],
    path: str = "",
) -> Op:
    operand, result, order, into = letters
    whole = "".join(letter for letter in LETTERS if (letter in operand) != (letter in result))
    attributes = {
        "indices": f"{operand}->{result}", "order": order, "into": into, "whole": whole,
    }  # fmt: skip
    return Op("view", operands, results, (type_,), attributes, path)


def loosened(op: Op, letter: str) -> Op:
    """A view whose two sides no longer share a letter."""
    (operand,), result = indices_of(op).operands, indices_of(op).result
    other = next(x for x in LETTERS if x not in operand + result)
    letters = (
        operand,
        result.replace(letter, other),
        op.text("order"),
        op.text("into").replace(letter, other),
    )
    return _view(op.operands, op.results, op.type, letters, op.path)


def rows_of(op: Op) -> Iterator[tuple[str, str]]:
    """The indices of every operand and of every result, with the value's name."""
    indices = indices_of(op)
    letters = (*indices.operands, indices.result, *indices.others)
    return zip(letters, (*op.operands, *op.results), strict=True)
