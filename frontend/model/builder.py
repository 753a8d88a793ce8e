"""A graph under construction: values seen through views, operators in letter form.

ATen speaks of shapes; the graph speaks of letters. A `View` is how ATen sees a value of the
graph: transposed, with dimensions of size one put in, or broadcast. Operators with letters take a
view as it is, and only the others make it real first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from ...ir.dims import Dim
from ...ir.graph import Attribute, Graph, Input, Op, Output, Role, TensorType

_ORDER: tuple[Role, ...] = ("data", "carried", "shared", "cache", "buffer", "weight")

_LETTERS = {0: "", 1: "e", 2: "bs", 3: "bse", 4: "bhsd"}
"""Letters of a result by its rank: batch, head, sequence, width."""


@dataclass(frozen=True)
class View:
    """A value of the graph and, for every dimension that ATen sees, which of its own that is.

    An axis of None is a dimension that the value lacks: of size one, or broadcast to any size.
    """

    name: str
    axes: tuple[int | None, ...]


def _present(view: View, rank: int) -> list[int]:
    """The dimensions, of `rank` aligned at the end, that a view has an axis for."""
    first = rank - len(view.axes)
    return [first + at for at, axis in enumerate(view.axes) if axis is not None]


def letters_for(rank: int) -> str:
    """Letters for the dimensions of a value."""
    return _LETTERS.get(rank, ascii_lowercase[:rank])


@dataclass
class GraphBuilder:
    """Collects inputs, operators and outputs; every method that adds an operator names its
    result and returns the view of it."""

    name: str
    inputs: dict[str, Input] = field(default_factory=dict[str, Input])
    ops: list[Op] = field(default_factory=list[Op])
    outputs: list[Output] = field(default_factory=list[Output])
    types: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    path: str = ""
    _made: dict[tuple[View, tuple[Dim, ...]], str] = field(
        default_factory=dict[tuple[View, tuple[Dim, ...]], str]
    )

    def whole(self, name: str) -> View:
        """A value as it is."""
        return View(name, tuple(range(len(self.types[name].shape))))

    def add_input(self, name: str, type_: TensorType, role: Role, source: str) -> View:
        """The input of a source, added unless it is there."""
        key = f"{role} {source}"
        if key not in self.inputs:
            self.inputs[key] = Input(self.new_name(name, type_), type_, role, source)
        return self.whole(self.inputs[key].name)

    def add(
        self,
        kind: str,
        operands: Iterable[str],
        type_: TensorType,
        attributes: Mapping[str, Attribute],
        name: str | None = None,
    ) -> View:
        """Add an operator of one result."""
        return self.add_several(kind, operands, [type_], attributes, name)[0]

    def add_several(
        self,
        kind: str,
        operands: Iterable[str],
        types: Sequence[TensorType],
        attributes: Mapping[str, Attribute],
        name: str | None = None,
    ) -> tuple[View, ...]:
        """Add an operator and name all its results."""
        results = tuple(self.new_name(name or kind, type_) for type_ in types)
        op = Op(kind, tuple(operands), results, tuple(types), attributes, self.path)
        self.ops.append(op)
        return tuple(self.whole(result) for result in results)

    def elementwise(
        self, expr: str, views: Sequence[View], type_: TensorType, name: str | None = None
    ) -> View:
        """`expr` over views that broadcast against each other, dimensions aligned at the end.

        A dimension of size one that no operand has stays a matter of the view.
        """
        rank = len(type_.shape)
        found = {at for view in views for at in _present(view, rank)}
        kept = [at for at in range(rank) if at in found or type_.shape[at] != 1]
        thin = TensorType(type_.dtype, tuple(type_.shape[at] for at in kept))
        letters = letters_for(rank)
        result = "".join(letters[at] for at in kept)
        operands = [self.letters(view, letters, type_.shape) for view in views]
        made = self._elementwise(expr, views, operands, result, thin, name)
        return View(made, tuple(kept.index(at) if at in kept else None for at in range(rank)))

    def _elementwise(
        self,
        expr: str,
        views: Sequence[View],
        operands: Sequence[str],
        result: str,
        type_: TensorType,
        name: str | None,
    ) -> str:
        indices = f"{','.join(operands)}->{result}"
        attributes = {"indices": indices, "expr": expr}
        return self.add("elementwise", [v.name for v in views], type_, attributes, name).name

    def letters(self, view: View, target: str, shape: Sequence[Dim]) -> str:
        """Letters of the value behind a view, `target` being those of the dimensions it is
        broadcast to; a dimension of size one that is broadcast gets a letter of its own."""
        own = self.types[view.name].shape
        found: dict[int, str] = {}
        for axis, letter, size in zip(
            reversed(view.axes), reversed(target), reversed(shape), strict=False
        ):
            if axis is not None and own[axis] == size:
                found[axis] = letter
        spare = iter(letter for letter in reversed(ascii_lowercase) if letter not in target)
        return "".join(found.get(axis) or next(spare) for axis in range(len(own)))

    def real(self, view: View, shape: Sequence[Dim]) -> str:
        """The name of a value whose dimensions are exactly what the view shows as `shape`."""
        key = view, tuple(shape)
        if key not in self._made:
            self._made[key] = self._make(view, TensorType(self.types[view.name].dtype, key[1]))
        return self._made[key]

    def _make(self, view: View, type_: TensorType) -> str:
        own = self.types[view.name].shape
        kept = [axis for axis in view.axes if axis is not None]
        if view.axes == tuple(range(len(own))) and own == type_.shape:
            return view.name
        if len(kept) < len(own) or any(
            size != (1 if axis is None else own[axis])
            for axis, size in zip(view.axes, type_.shape, strict=True)
        ):
            letters = letters_for(len(type_.shape))
            operands = [self.letters(view, letters, type_.shape)]
            return self._elementwise("a", [view], operands, letters, type_, "broadcast")
        if kept != sorted(kept):
            order = TensorType(type_.dtype, tuple(own[axis] for axis in kept))
            moved = self.add("transpose", [view.name], order, {"order": tuple(kept)})
            return moved.name if order == type_ else self._reshape(moved.name, type_)
        return self._reshape(view.name, type_)

    def _reshape(self, name: str, type_: TensorType) -> str:
        return self.add("reshape", [name], type_, {}).name

    def reshape(self, view: View, seen: Sequence[Dim], shape: tuple[Dim, ...]) -> View:
        """The elements of a view, which shows `seen`, in row-major order under another shape."""
        name = self.real(view, seen)
        type_ = TensorType(self.types[name].dtype, shape)
        return self.whole(name if self.types[name] == type_ else self._reshape(name, type_))

    def graph(self) -> Graph:
        """What has been built."""
        inputs = sorted(self.inputs.values(), key=lambda value: _ORDER.index(value.role))
        return Graph(self.name, tuple(inputs), tuple(self.ops), tuple(self.outputs))

    def new_name(self, base: str, type_: TensorType) -> str:
        """A name that no value has yet, `base` if that is free, for a value of a type."""
        name, count = base, 0
        while name in self.types:
            count += 1
            name = f"{base}_{count}"
        self.types[name] = type_
        return name
