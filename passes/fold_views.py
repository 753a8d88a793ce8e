"""Reshapes and transposes disappear: every dimension is cut as finely as any view needs it.

A view says how the dimensions of two values correspond. All such facts, and the letters that tie
the dimensions of an operator together, are gathered over the whole model; each class of equal
dimensions is split into the finest factors that occur; then every value has a shape under which
all views are the identity, and transposes become another order of letters in the consumers.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..ir import dims
from ..ir.dims import Dim, Polynomial
from ..ir.errors import VerificationError
from ..ir.graph import Attribute, Graph, Model, Op, TensorType
from ..ir.kinds import indices_of

Key = tuple[str, str, int]
"""A dimension: graph, value, place."""

_PROBE = {"batch": 1_000_003, "sequence": 1_000_033, "context": 1_000_037}
"""Primes that order symbolic sizes; equality is always decided on the polynomials."""


class _Classes:
    """Classes of equal dimensions, each whole or split into a sequence of finer classes."""

    def __init__(self) -> None:
        self._sizes: list[Dim] = []
        self._parents: list[int] = []
        self._children: dict[int, tuple[int, ...]] = {}

    def add(self, size: Dim) -> int:
        self._sizes.append(size)
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def leaves(self, node: int) -> tuple[int, ...]:
        """The finest classes that a class is split into; none for a dimension of one element."""
        root = node
        while self._parents[root] != root:
            root = self._parents[root]
        if self._sizes[root] == 1:
            return ()
        if root not in self._children:
            return (root,)
        return tuple(leaf for child in self._children[root] for leaf in self.leaves(child))

    def size(self, leaf: int) -> Dim:
        return self._sizes[leaf]

    def unify(self, left: Sequence[int], right: Sequence[int]) -> None:
        """Make two row-major sequences of classes the same, splitting where one is finer."""
        a = [leaf for node in left for leaf in self.leaves(node)][::-1]
        b = [leaf for node in right for leaf in self.leaves(node)][::-1]
        while a and b:
            x, y = a.pop(), b.pop()
            # An earlier step may have split what was still whole when the lists were made.
            if (finer := self.leaves(x)) != (x,):
                a.extend(reversed(finer))
                b.append(y)
            elif (finer := self.leaves(y)) != (y,):
                b.extend(reversed(finer))
                a.append(x)
            elif x != y and self._sizes[x] == self._sizes[y]:
                self._parents[x] = y
            elif x != y:
                self._split_larger(x, y)
                a.append(x)
                b.append(y)
        if a or b:
            raise VerificationError("a view between shapes with different numbers of elements")

    def _probe(self, leaf: int) -> int:
        return dims.size(dims.bind(self._sizes[leaf], _PROBE))

    def _split_larger(self, x: int, y: int) -> None:
        small, large = sorted(
            (x, y), key=lambda leaf: dims.size(dims.bind(self.size(leaf), _PROBE))
        )
        rest = _quotient(self.size(large), self.size(small))
        self._children[large] = (self.add(self.size(small)), self.add(rest))


def _quotient(large: Dim, small: Dim) -> Dim:
    if isinstance(large, int) and isinstance(small, int) and large % small == 0:
        return large // small
    if isinstance(large, Polynomial) and len(large.terms) == 1:
        ((symbols, factor),) = large.terms
        divisor = small.terms if isinstance(small, Polynomial) else (((), small),)
        ((divided, by),) = divisor if len(divisor) == 1 else (((), 0),)
        left = list(symbols)
        if by and factor % by == 0 and all(name in symbols for name in divided):
            for name in divided:
                left.remove(name)
            return dims.product([factor // by, *(dims.symbol(name) for name in left)])
    raise VerificationError(f"a view cuts a dimension of {large} at {small}")


@dataclass(frozen=True)
class FoldViews:
    """Remove every reshape and transpose from a model.

    A valid model in, a valid model with the same outputs out (under finer shapes); inputs are
    row-major views of their sources. Raises VerificationError for a view that no splitting of
    dimensions explains.
    """

    name: str = "fold_views"

    def run(self, model: Model) -> Model:
        """The model without views."""
        return _Folding(model.map(_stack)).folded()


def _stack(graph: Graph) -> Graph:
    """Concatenations of equal parts as parts stacked along a new dimension, then merged: so that
    a view which takes the parts apart again finds the seam."""
    ops: list[Op] = []
    for op in graph.ops:
        ops.extend(_stacked(graph, op) if op.kind == "concat" else [op])
    return graph.with_ops(ops)


def _stacked(graph: Graph, op: Op) -> list[Op]:
    indices, along = indices_of(op), op.text("along")
    types = graph.operand_types(op)
    if any(along not in letters for letters in indices.operands):
        return [op]
    rows = zip(indices.operands, types, strict=True)
    sizes = {type_.shape[letters.index(along)] for letters, type_ in rows}
    (part,) = sizes if len(sizes) == 1 else (None,)
    if not isinstance(part, int):
        return [op]
    new = next(x for x in "pqrstuvwxyz" if x not in indices.equation)
    at = indices.result.index(along)
    shape = (*op.type.shape[:at], len(types), part, *op.type.shape[at + 1 :])
    result = indices.result.replace(along, new + along)
    attributes = {"indices": f"{','.join(indices.operands)}->{result}", "along": new}
    parts = f"{op.result}.parts"
    type_ = TensorType(op.type.dtype, shape)
    return [
        Op("concat", op.operands, (parts,), (type_,), attributes, op.path),
        Op("reshape", (parts,), op.results, op.types, {}, op.path),
    ]


@dataclass(frozen=True)
class _Stored:
    """Where a value is kept: the value that holds it, and for each of its leaves the place among
    the holder's."""

    holder: str
    order: tuple[int, ...]


class _Folding:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.classes = _Classes()
        self.nodes: dict[Key, int] = {}
        for graph in model.graphs.values():
            for name, type_ in graph.types.items():
                for at, dim in enumerate(type_.shape):
                    self.nodes[graph.name, name, at] = self.classes.add(dim)
        for graph in model.graphs.values():
            for op in graph.ops:
                self._relate(graph, op)

    def folded(self) -> Model:
        return self.model.map(self._fold_graph)

    def _nodes(self, graph: Graph, value: str) -> list[int]:
        rank = len(graph.types[value].shape)
        return [self.nodes[graph.name, value, at] for at in range(rank)]

    def _relate(self, graph: Graph, op: Op) -> None:
        """Enter what one operator says about its dimensions."""
        unify = self.classes.unify
        if op.kind == "repeat":
            self._relate_repeat(graph, op)
        elif op.kind == "reshape":
            unify(self._nodes(graph, op.operands[0]), self._nodes(graph, op.result))
        elif op.kind == "transpose":
            operand = self._nodes(graph, op.operands[0])
            for at, node in zip(op.integers("order"), self._nodes(graph, op.result), strict=True):
                unify([operand[at]], [node])
        else:
            self._relate_letters(graph, op)

    def _relate_letters(self, graph: Graph, op: Op) -> None:
        free = indices_of(op).uneven
        first: dict[str, int] = {}
        for letter, node in self._lettered(graph, op):
            if letter not in free:
                self.classes.unify([first.setdefault(letter, node)], [node])

    def _lettered(self, graph: Graph, op: Op) -> Iterator[tuple[str, int]]:
        for letters, value in _rows(op):
            yield from zip(letters, self._nodes(graph, value), strict=True)

    def _relate_repeat(self, graph: Graph, op: Op) -> None:
        body = self.model.graphs[op.text("body")]
        inputs = [value.name for value in body.inputs if value.role in ("carried", "shared")]
        outputs = [output.name for output in body.outputs if output.role == "carried"]
        inner = [*inputs, *outputs]
        for outside, inside in zip((*op.operands, *op.results), inner, strict=True):
            for a, b in zip(self._nodes(graph, outside), self._nodes(body, inside), strict=True):
                self.classes.unify([a], [b])

    def _leaves(self, graph: Graph, value: str) -> tuple[int, ...]:
        return tuple(x for node in self._nodes(graph, value) for x in self.classes.leaves(node))

    def _fold_graph(self, graph: Graph) -> Graph:
        stored = self._storage(graph)
        inputs = [
            dataclasses.replace(value, type=self._type(graph, value.name)) for value in graph.inputs
        ]
        ops = [
            self._fold_op(graph, op, stored)
            for op in graph.ops
            if op.kind not in ("reshape", "transpose")
        ]
        outputs = [
            dataclasses.replace(output, name=stored[output.name].holder) for output in graph.outputs
        ]
        return Graph(graph.name, tuple(inputs), tuple(ops), tuple(outputs))

    def _storage(self, graph: Graph) -> dict[str, _Stored]:
        """For every value the one that holds it and in which order. A holder is kept in the order
        in which the graph's outputs want it."""
        stored: dict[str, _Stored] = {}
        for name in graph.types:
            stored[name] = _Stored(name, tuple(range(len(self._leaves(graph, name)))))
        for op in graph.ops:
            if op.kind in ("reshape", "transpose"):
                inner = stored[op.operands[0]]
                order = self._view_order(graph, op)
                stored[op.result] = _Stored(inner.holder, tuple(inner.order[at] for at in order))
        wanted = {stored[name].holder: stored[name].order for name in graph.output_names}
        inputs = {value.name for value in graph.inputs}
        for name, at in stored.items():
            order = wanted.get(at.holder)
            if order is not None and at.holder not in inputs:
                place = {leaf: new for new, leaf in enumerate(order)}
                stored[name] = _Stored(at.holder, tuple(place[leaf] for leaf in at.order))
        for name in graph.output_names:
            if stored[name].order != tuple(range(len(stored[name].order))):
                raise VerificationError(f"graph {graph.name}: output %{name} is a transposed input")
        return stored

    def _view_order(self, graph: Graph, op: Op) -> tuple[int, ...]:
        """For each leaf of a view's result its place among the operand's leaves."""
        if op.kind == "reshape":
            return tuple(range(len(self._leaves(graph, op.result))))
        starts, total = [], 0
        for node in self._nodes(graph, op.operands[0]):
            starts.append(range(total, total + len(self.classes.leaves(node))))
            total = starts[-1].stop
        return tuple(place for at in op.integers("order") for place in starts[at])

    def _type(self, graph: Graph, value: str) -> TensorType:
        shape = tuple(self.classes.size(leaf) for leaf in self._leaves(graph, value))
        return TensorType(graph.types[value].dtype, shape)

    def _fold_op(self, graph: Graph, op: Op, stored: dict[str, _Stored]) -> Op:
        if op.kind == "repeat":
            types = tuple(self._type(graph, name) for name in op.results)
            operands = tuple(stored[name].holder for name in op.operands)
            return dataclasses.replace(op, operands=operands, types=types)
        letters = self._new_letters(graph, op)
        spelt = [self._spell(graph, own, value, stored, letters) for own, value in _rows(op)]
        attributes: dict[str, Attribute] = dict(op.attributes)
        attributes["indices"] = f"{','.join(spelt[:-1])}->{spelt[-1]}"
        for name in ("over", "pair", "rows", "along", "query", "key"):
            if name in attributes:
                attributes[name] = "".join(letters[letter] for letter in op.text(name))
        result = self._type(graph, op.result)
        order = stored[op.result].order
        shape = tuple(result.shape[order.index(at)] for at in range(len(order)))
        return Op(
            op.kind,
            tuple(stored[name].holder for name in op.operands),
            op.results,
            (TensorType(result.dtype, shape),),
            attributes,
            op.path,
        )

    def _new_letters(self, graph: Graph, op: Op) -> dict[str, str]:
        """For every letter of an op the letters of its leaves: itself if there is one leaf."""
        pieces: dict[str, int] = {}
        for letter, node in self._lettered(graph, op):
            pieces[letter] = max(pieces.get(letter, 0), len(self.classes.leaves(node)))
        spare = iter(sorted(set("abcdefghijklmnopqrstuvwxyz") - set(pieces)))
        return {
            letter: letter[:count] if count <= 1 else "".join(next(spare) for _ in range(count))
            for letter, count in pieces.items()
        }

    def _spell(
        self,
        graph: Graph,
        own: str,
        value: str,
        stored: dict[str, _Stored],
        letters: dict[str, str],
    ) -> str:
        """The indices of a value's holder, where the value itself has the indices `own`."""
        nodes = self._nodes(graph, value)
        fine = "".join(
            letters[letter] if self.classes.leaves(node) else ""
            for letter, node in zip(own, nodes, strict=True)
        )
        places = [""] * len(fine)
        for at, letter in zip(stored[value].order, fine, strict=True):
            places[at] = letter
        return "".join(places)


def _rows(op: Op) -> Iterator[tuple[str, str]]:
    """The indices of every operand and of the result, with the value's name."""
    indices = indices_of(op)
    return zip((*indices.operands, indices.result), (*op.operands, op.result), strict=True)
