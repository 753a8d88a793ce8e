"""Reverse sweep over one graph: from the gradients of what it yields to those of what it reads.

What each kind of operator contributes is declared with the kind. differentiate.py applies the
sweep to a whole model and says what its repeated layers do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from ..ir.dims import Dim
from ..ir.errors import UserError, VerificationError
from ..ir.expression import LETTERS
from ..ir.graph import Attribute, Graph, Op, TensorType
from ..ir.kinds import kind_of
from ..ir.operators.flow import is_floating
from ..ir.operators.tensors import letters_of

Repeat = Callable[[Op, Sequence[str | None]], Sequence[str | None]]
"""What a repeat contributes, as the gradient of any other kind of operator."""


def reached(
    graph: Graph, sources: Iterable[str], repeat: Callable[[Op, Set[str]], Iterable[str]]
) -> set[str]:
    """The floating-point values of a graph that depend on `sources`, these included.

    `repeat` says which results of a repeat do, given those found so far.
    """
    found = set(sources)
    for op in graph.ops:
        if op.kind == "repeat":
            found.update(repeat(op, found))
        elif not found.isdisjoint(op.operands):
            results = zip(op.results, op.types, strict=True)
            found.update(name for name, type_ in results if is_floating(type_))
    return found


@dataclass
class Sweep:
    """Walks over a graph in reverse; `ops` is what it adds, in order.

    `active` are the values whose gradients are wanted. Gradients are named after their values:
    `x.grad`, further contributions `x.grad_1` and so on, their sum `x.grad_sum`.
    """

    graph: Graph
    active: set[str]
    ops: list[Op] = field(default_factory=list[Op])
    types: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    _parts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _path: str = ""

    # What gradients of kinds call (ir.kind.Tape)

    def add(
        self,
        kind: str,
        operands: Sequence[str],
        type_: TensorType,
        attributes: Mapping[str, Attribute],
        name: str | None = None,
    ) -> str:
        """Add an operator of one result; the name of that result."""
        return self.add_several(kind, operands, [type_], attributes, [name or kind])[0]

    def add_several(
        self,
        kind: str,
        operands: Sequence[str],
        types: Sequence[TensorType],
        attributes: Mapping[str, Attribute],
        names: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Add an operator of several results; the names of those results."""
        wanted = names or [f"{kind}.{at}" for at in range(len(types))]
        results: list[str] = []
        for name, type_ in zip(wanted, types, strict=True):
            results.append(self.declare(name, type_))
        made = Op(kind, tuple(operands), tuple(results), tuple(types), attributes, self._path)
        self.ops.append(made)
        return made.results

    def type_of(self, name: str) -> TensorType:
        """The type of a value of the graph or of what was added."""
        return self.graph.types[name] if name in self.graph.types else self.types[name]

    def wants(self, name: str) -> bool:
        """Whether anybody reads the gradient of a value of the graph."""
        return name in self.active

    # The walk

    def give(self, name: str, gradient: str) -> None:
        """Add a contribution to the gradient of a value."""
        if self.type_of(gradient) != self.type_of(name):
            raise VerificationError(
                f"graph {self.graph.name}: the gradient of %{name}, {self.type_of(name)}, is "
                f"{self.type_of(gradient)}"
            )
        self._parts.setdefault(name, []).append(gradient)

    def gradient(self, name: str) -> str | None:
        """The sum of all contributions to the gradient of a value, None if there is none."""
        parts = self._parts.get(name, [])
        if len(parts) > 1:
            self._join(name, parts)
        if len(parts) > 1:
            letters = LETTERS[: len(self.type_of(name).shape)]
            attributes = {
                "indices": f"{','.join([letters] * len(parts))}->{letters}",
                "expr": " + ".join(LETTERS[: len(parts)]),
            }
            total = f"{name}.grad_sum"
            parts[:] = [self.add("elementwise", parts, self.type_of(name), attributes, total)]
        return parts[0] if parts else None

    def _join(self, name: str, parts: list[str]) -> None:
        """Make one concatenation of contributions that are padded parts of one dimension."""
        makers = {result: op for op in self.ops for result in op.results}
        made = [makers[part] for part in parts if part in makers]
        pads = self._tiles([op for op in made if op.kind == "pad" and op.attributes["value"] == 0])
        if not pads:
            return
        letters = [letters_of(op) for op in pads]
        target, along = letters[0][1], pads[0].text("along")
        own = [mine.translate(str.maketrans(result, target)) for (mine,), result in letters]
        joined = self.add(
            "concat",
            [op.operands[0] for op in pads],
            self.type_of(name),
            {"indices": f"{','.join(own)}->{target}", "along": along},
            f"{name}.grad_joined",
        )
        gone = {op.result for op in pads}
        parts[:] = [joined, *(part for part in parts if part not in gone)]

    def _tiles(self, pads: Sequence[Op]) -> list[Op]:
        """The pads whose operands, one after the other, fill a dimension; none if they do not."""
        starts: dict[tuple[int, Dim], tuple[Op, Dim]] = {}
        for op in pads:
            (own,), result = letters_of(op)
            along = op.text("along")
            shape = self.type_of(op.operands[0]).shape
            size = shape[own.index(along)] if along in own else 1
            starts[result.index(along), op.dim("before")] = (op, size)
        for place in dict.fromkeys(place for place, _ in starts):
            found: list[Op] = []
            at: Dim = 0
            while (place, at) in starts:
                op, size = starts.pop((place, at))
                found.append(op)
                at = at + size
            if found and found[-1].dim("after") == 0:
                return found
        return []

    def declare(self, name: str, type_: TensorType) -> str:
        """The name, made unique, of a value that comes from outside."""
        name = self._unused(name)
        self.types[name] = type_
        return name

    def total(self, name: str) -> str:
        """The gradient of a value, zeros if there is none."""
        return self.gradient(name) or self.constant(0, self.type_of(name), f"{name}.grad")

    def constant(self, value: float, type_: TensorType, name: str) -> str:
        """The name of a value that is the same number everywhere."""
        attributes = {"indices": f"->{LETTERS[: len(type_.shape)]}", "expr": f"{value:g}"}
        return self.add("elementwise", [], type_, attributes, name)

    def run(self, repeat: Repeat) -> None:
        """Visit every operator, the last one first; `repeat` says what repeats contribute.

        Raises UserError for an operator that a gradient reaches and whose kind declares none.
        """
        for op in reversed(self.graph.ops):
            if self.active.isdisjoint(op.results):
                continue
            self._path = op.path
            given = [self.gradient(name) if self.wants(name) else None for name in op.results]
            if not any(given):
                continue
            begin = len(self.ops)
            found = self._contributions(op, given, repeat)
            named: dict[str, str] = {}
            for name, gradient in zip(op.operands, found, strict=True):
                if gradient is not None and self.wants(name):
                    if gradient not in named:
                        named[gradient] = self._named_after(name, gradient, begin)
                    self.give(name, named[gradient])
        self._path = ""

    def _contributions(
        self, op: Op, given: Sequence[str | None], repeat: Repeat
    ) -> Sequence[str | None]:
        if op.kind == "repeat":
            return repeat(op, given)
        gradient = kind_of(op).gradient
        if gradient is None:
            raise UserError(f"training through {op.kind} (in {op.path or 'main'}) is not built yet")
        return gradient(op, self, given)

    def _named_after(self, value: str, gradient: str, begin: int) -> str:
        """A gradient that was added since `begin` under a name that says of which value it is."""
        added = [name for op in self.ops[begin:] for name in op.results]
        if gradient not in added or gradient.partition(".grad")[1]:
            return gradient
        name = self._unused(f"{value}.grad")
        self.types[name] = self.types.pop(gradient)
        for at in range(begin, len(self.ops)):
            op = self.ops[at]
            self.ops[at] = replace(
                op,
                operands=tuple(name if own == gradient else own for own in op.operands),
                results=tuple(name if own == gradient else own for own in op.results),
            )
        return name

    def _unused(self, name: str) -> str:
        taken, count = name, 0
        while taken in self.types or taken in self.graph.types:
            count += 1
            taken = f"{name}_{count}"
        return taken
