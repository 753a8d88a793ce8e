"""Reshapes and transposes disappear: every dimension is cut as finely as any view needs it.

A view says how the dimensions of two values correspond. All such facts, and the letters that tie
the dimensions of an operator together, are gathered over the whole model; each class of equal
dimensions is split into the finest factors that occur; then every value has a shape under which
all views are the identity, and transposes become another order of letters in the consumers. Where
no splitting does, a `view` stays as an operator (seams.py).
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ..ir.dims import Dim
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Attribute, Graph, Model, Op, Role, TensorType, forward_bodies
from ..ir.kinds import indices_of
from ..ir.operators.quantized import renamed_blocks
from .classes import Classes
from .parts import common_parts, equal_parts, in_parts
from .seams import Seam, loosened, rows_of, with_seam

Key = tuple[str, str, int]
"""A dimension: graph, value, place."""

LETTERED = (
    "over", "along", "pair", "rows", "classes", "query", "key", "expert", "sequence", "positions",
    "kernel", "outputs", "results", "order", "into", "whole",
)  # fmt: skip
"""Attributes that hold letters."""

SINGLE = frozenset(LETTERED) - {"results", "order", "into", "whole", "expert"}
"""Of these, attributes whose letters stand for one dimension each, which may not be split."""

THIN = frozenset(
    (
        "elementwise", "matmul", "reduce", "norm", "rotary", "mask", "embedding", "concat", "slice",
        "dequantize", "quantize", "scan", "experts", "chosen_matmul", "chosen_matmul_grad", "view",
    )
)  # fmt: skip
"""Kinds that may lose a letter of one element; of the others those that they single out stay."""


@dataclass(frozen=True)
class FoldViews:
    """Remove every reshape and transpose from a model.

    A valid model in, a valid model with the same outputs out (under finer shapes); inputs are
    row-major views of their sources. Views that no splitting of dimensions explains stay, with
    dimensions that must be whole; of two ways to see slices that of fewer such views is taken.
    """

    name: str = "fold_views"

    def run(self, model: Model) -> Model:
        """The model without reshapes and transposes."""
        folded, seams = _fold(model.map(lambda graph: in_parts(graph, common_parts)))
        if seams:
            other, fewer = _fold(model.map(lambda graph: in_parts(graph, equal_parts)))
            folded = other if fewer < seams else folded
        return folded


class _SeamNeededError(Exception):
    """No splitting of dimensions serves; a seam would."""

    def __init__(self, seam: Seam, letter: str = "") -> None:
        super().__init__(seam, letter)
        self.seam = seam
        self.letter = letter


def _fold(model: Model) -> tuple[Model, int]:
    """The folded model, and how many seams it took."""
    model, kept = _thick(model)
    count = len(kept)
    while True:
        try:
            return _Folding(model, kept).folded(), count
        except _SeamNeededError as needed:
            model = _seamed(model, needed)
            count += 1


def _seamed(model: Model, needed: _SeamNeededError) -> Model:
    graph = model.graphs[needed.seam.graph]
    op = graph.producers.get(needed.seam.op)
    if op is None or op.kind != "view":
        return with_seam(model, needed.seam)[0]
    ops = [loosened(other, needed.letter) if other is op else other for other in graph.ops]
    return dataclasses.replace(model, graphs={**model.graphs, graph.name: graph.with_ops(ops)})


def _singled_out(op: Op) -> set[str]:
    """Letters that must stand for one dimension each."""
    indices = indices_of(op)
    if op.kind == "view":
        return set()
    named = "".join(str(op.attributes[name]) for name in SINGLE if op.attributes.get(name))
    return set(indices.uneven) | {x for x in named if x in indices.equation}


def _thick(model: Model) -> tuple[Model, set[Key]]:
    """Dimensions of one element that operators single out, behind seams so that they stay."""
    kept: set[Key] = set()
    for graph in model.graphs.values():
        for op in graph.ops:
            if op.kind in THIN or not _has_letters(op):
                continue
            special, first = _singled_out(op) | set(indices_of(op).whole), len(op.operands)
            for at, (letters, value) in enumerate(rows_of(op)):
                shape = graph.types[value].shape
                loose = frozenset(
                    i for i, x in enumerate(letters) if x in special and shape[i] == 1
                )
                if loose:
                    side = "reads" if at < first else "makes"
                    place = at if at < first else at - first
                    seam = Seam(graph.name, _named(model, graph, op), side, place, loose)
                    model, inner = with_seam(model, seam)
                    kept |= {(graph.name, inner, i) for i in loose}
    return model, kept


def _named(model: Model, graph: Graph, op: Op) -> str:
    """The first result of an operator of a graph, which may have been given seams since."""
    at = [other.result for other in graph.ops if other.kind == op.kind].index(op.result)
    return [o.result for o in model.graphs[graph.name].ops if o.kind == op.kind][at]


def _has_letters(op: Op) -> bool:
    return op.kind not in ("repeat", "reshape", "transpose")


KEPT: tuple[Role, ...] = ("saved", "gradient", "weight", "state")
"""Roles of what a graph yields for others to read."""


def _kept_as(role: Role, source: str, body: str) -> tuple[str, str, str]:
    """What names a kept value, where `body` runs the layer forward; a gradient is split like its
    weight."""
    return ("weight" if role == "gradient" else role), source, body if "*" in source else ""


@dataclass(frozen=True)
class _Stored:
    """Where a value is kept: the value that holds it, and for each of its leaves the place among
    the holder's."""

    holder: str
    order: tuple[int, ...]

    @property
    def plain(self) -> bool:
        return self.order == tuple(range(len(self.order)))


class _Folding:
    def __init__(self, model: Model, kept: Collection[Key]) -> None:
        self.model = model
        self.classes = Classes()
        self.nodes: dict[Key, int] = {}
        for graph in model.graphs.values():
            for name, type_ in graph.types.items():
                for at, dim in enumerate(type_.shape):
                    key = graph.name, name, at
                    self.nodes[key] = self.classes.add(dim, key in kept)
        for graph in model.graphs.values():
            for op in graph.ops:
                self._relate(graph, op)
        self._relate_kept()
        for graph in model.graphs.values():
            for op in graph.ops:
                if _has_letters(op):
                    self._check_single(graph, op)

    def folded(self) -> Model:
        return self.model.map(self._fold_graph)

    def _nodes(self, graph: Graph, value: str) -> list[int]:
        rank = len(graph.types[value].shape)
        return [self.nodes[graph.name, value, at] for at in range(rank)]

    # What operators say about dimensions.

    def _relate(self, graph: Graph, op: Op) -> None:
        """Enter what one operator says about its dimensions."""
        if op.kind == "repeat":
            self._relate_repeat(graph, op)
        elif _has_letters(op):
            self._relate_letters(graph, op)
        else:
            self._relate_view(graph, op)

    def _relate_view(self, graph: Graph, op: Op) -> None:
        operand, result = self._nodes(graph, op.operands[0]), self._nodes(graph, op.result)
        seam = Seam(graph.name, op.result, "instead")
        if op.kind == "reshape":
            self._unify(operand, result, seam)
        else:
            for at, node in zip(op.integers("order"), result, strict=True):
                self._unify([operand[at]], [node], seam)

    def _unify(self, left: list[int], right: list[int], seam: Seam, letter: str = "") -> None:
        nowhere = not seam.graph
        try:
            self.classes.unify(left, right, crumbs=nowhere)
        except VerificationError as error:
            raise _SeamNeededError(seam, letter) from error

    def _seam(self, graph: Graph, op: Op, row: int, loose: Collection[int]) -> Seam:
        """A seam at the operand or result of an operator that stands in one row of its indices."""
        first = len(op.operands)
        if row < first:
            return Seam(graph.name, op.result, "reads", row, frozenset(loose))
        return Seam(graph.name, op.result, "makes", row - first, frozenset(loose))

    def _relate_letters(self, graph: Graph, op: Op) -> None:
        free = indices_of(op).uneven
        first: dict[str, int] = {}
        for row, (letters, value) in enumerate(rows_of(op)):
            for at, (letter, node) in enumerate(
                zip(letters, self._nodes(graph, value), strict=True)
            ):
                if letter not in free:
                    seam = self._seam(graph, op, row, {at})
                    self._unify([first.setdefault(letter, node)], [node], seam, letter)

    def _check_single(self, graph: Graph, op: Op) -> None:
        """A dimension that must not be split is loosened in each operand, then in the results."""
        special = _singled_out(op)
        for row, (letters, value) in enumerate(rows_of(op)):
            nodes = self._nodes(graph, value)
            made = graph.producers.get(value)
            loose = row < len(op.operands) and made is not None and made.kind == "view"
            split = {
                at
                for at, letter in enumerate(letters)
                if letter in special and len(self.classes.leaves(nodes[at])) > 1
            }
            if split and not loose:
                raise _SeamNeededError(self._seam(graph, op, row, split))

    def _relate_repeat(self, graph: Graph, op: Op) -> None:
        body = self.model.graphs[op.text("body")]
        inputs = [value for value in body.inputs if value.role in ("carried", "shared")]
        carried_in = [value.name for value in inputs if value.role == "carried"]
        outputs = [(at, o.name) for at, o in enumerate(body.outputs) if o.role == "carried"]
        for name, (at, result) in zip(carried_in, outputs, strict=True):
            seam = Seam(body.name, result, "yields", at)
            self._relate_values(body, name, body, result, seam)
        for at, (outside, inside) in enumerate(zip(op.operands, inputs, strict=True)):
            seam = self._seam(graph, op, at, ())
            self._relate_values(graph, outside, body, inside.name, seam)
        for at, (outside, inside) in enumerate(zip(op.results, carried_in, strict=True)):
            seam = self._seam(graph, op, len(op.operands) + at, ())
            self._relate_values(graph, outside, body, inside, seam)

    def _relate_values(
        self, graph: Graph, outside: str, other: Graph, inside: str, seam: Seam
    ) -> None:
        pairs = zip(self._nodes(graph, outside), self._nodes(other, inside), strict=True)
        for at, (a, b) in enumerate(pairs):
            self._unify([a], [b], dataclasses.replace(seam, loose=frozenset({at})))

    def _relate_kept(self) -> None:
        """What one graph keeps for others is split alike in all; a gradient, and what becomes of
        a weight, like the weight."""
        bodies = forward_bodies(op for op in self.model.main.ops if op.kind == "repeat")
        kept = {
            _kept_as(output.role, output.source, bodies.get(graph.name, graph.name))
            for graph in self.model.graphs.values()
            for output in graph.outputs
            if output.role in KEPT
        }
        first: dict[tuple[str, str, str], tuple[Graph, str]] = {}
        for graph in self.model.graphs.values():
            body = bodies.get(graph.name, graph.name)
            for value in graph.inputs:
                key = _kept_as(value.role, value.source, body)
                if key in kept:
                    other, name = first.setdefault(key, (graph, value.name))
                    try:
                        self._relate_values(other, name, graph, value.name, Seam("", "", "reads"))
                    except _SeamNeededError as error:
                        raise UserError(
                            f"{value.source}: graphs {other.name} and {graph.name} take it apart "
                            "in ways that have nothing in common"
                        ) from error
            for at, output in enumerate(graph.outputs):
                if output.role in KEPT:
                    key = _kept_as(output.role, output.source, body)
                    other, name = first.setdefault(key, (graph, output.name))
                    seam = Seam(graph.name, "", "yields", at)
                    self._relate_values(other, name, graph, output.name, seam)

    # The folded graphs.

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
        fixed = {value.name for value in graph.inputs}
        fixed.update(name for op in graph.ops if op.kind == "repeat" for name in op.results)
        for name, at in stored.items():
            order = wanted.get(at.holder)
            if order is not None and at.holder not in fixed:
                place = {leaf: new for new, leaf in enumerate(order)}
                stored[name] = _Stored(at.holder, tuple(place[leaf] for leaf in at.order))
        for at, name in enumerate(graph.output_names):
            if not stored[name].plain:
                raise _SeamNeededError(Seam(graph.name, "", "yields", at))
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

    def _held_type(self, graph: Graph, value: str, stored: Mapping[str, _Stored]) -> TensorType:
        """The type of a holder, in the order that it is kept in."""
        type_, order = self._type(graph, value), stored[value].order
        shape: list[Dim] = [type_.shape[order.index(at)] for at in range(len(order))]
        return TensorType(type_.dtype, tuple(shape))

    def _fold_op(self, graph: Graph, op: Op, stored: dict[str, _Stored]) -> Op:
        operands = tuple(stored[name].holder for name in op.operands)
        if op.kind == "repeat":
            for at, name in enumerate(op.operands):
                if not stored[name].plain:
                    raise _SeamNeededError(self._seam(graph, op, at, ()))
            types = tuple(self._type(graph, name) for name in op.results)
            return dataclasses.replace(op, operands=operands, types=types)
        letters = self._new_letters(graph, op)
        spelt = [self._spell(graph, own, value, stored, letters) for own, value in rows_of(op)]
        first = len(operands)
        attributes: dict[str, Attribute] = dict(op.attributes)
        attributes["indices"] = f"{','.join(spelt[:first])}->{','.join(spelt[first:])}"
        for name in LETTERED:
            if isinstance(attributes.get(name), str):
                text = op.text(name)
                attributes[name] = "".join(letters.get(letter, letter) for letter in text)
        if "blocks" in attributes:
            attributes["blocks"] = renamed_blocks(op, letters)
        types = tuple(self._held_type(graph, name, stored) for name in op.results)
        return dataclasses.replace(op, operands=operands, types=types, attributes=attributes)

    def _lettered(self, graph: Graph, op: Op) -> Iterator[tuple[str, int]]:
        for letters, value in rows_of(op):
            yield from zip(letters, self._nodes(graph, value), strict=True)

    def _new_letters(self, graph: Graph, op: Op) -> dict[str, str]:
        """For every letter of an op the letters of its leaves: itself if there is one leaf."""
        pieces: dict[str, int] = {}
        for letter, node in self._lettered(graph, op):
            pieces[letter] = max(pieces.get(letter, 0), len(self.classes.leaves(node)))
        alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        spare = iter(letter for letter in alphabet if letter not in pieces)
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
