"""What a rule works on: one call of an ATen operator, its tensors seen through views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import Any

from ....ir.dims import Dim, Polynomial
from ....ir.expression import LETTERS
from ....ir.graph import Attribute, TensorType
from ..builder import GraphBuilder, View, letters_for

_PARTS = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the real and of the imaginary part of a complex number."""


class UnsupportedError(Exception):
    """An operator, or a use of one, that the graph has no form for."""


def stored_type(type_: TensorType) -> TensorType:
    """How the graph holds a tensor that ATen sees: a complex number is a last dimension of two."""
    part = _PARTS.get(type_.dtype)
    return type_ if part is None else TensorType(part, (*type_.shape, 2))


@dataclass(frozen=True)
class Shown:
    """A tensor as ATen sees it: its view and its type.

    The view of complex numbers has one dimension more than their type, the last, for real and
    imaginary parts.
    """

    view: View
    type: TensorType

    @property
    def stored(self) -> TensorType:
        """The type that the view shows of the graph's value."""
        return stored_type(self.type)

    @property
    def complex(self) -> bool:
        return self.type.dtype in _PARTS


@dataclass(frozen=True)
class Call:
    """One call of an ATen operator: tensors are `Shown`, integers are dimensions.

    `type` is the type of its result, and a tuple of types where there are several.
    """

    graph: GraphBuilder
    arguments: Sequence[Any]
    named: dict[str, Any]
    type: TensorType
    name: str

    @property
    def types(self) -> tuple[TensorType, ...]:
        """The types of all results."""
        return self.type if isinstance(self.type, tuple) else (self.type,)

    @property
    def rank(self) -> int:
        """The number of dimensions of the result."""
        return len(self.type.shape)

    def get(self, at: int, name: str, default: Any = None) -> Any:
        """The argument at a place or of a name."""
        return self.arguments[at] if at < len(self.arguments) else self.named.get(name, default)

    def tensor(self, at: int) -> Shown:
        """The tensor argument at a place; a number is a tensor without dimensions."""
        return self.as_tensor(self.arguments[at], f"argument {at}")

    def as_tensor(self, found: Any, what: str) -> Shown:
        """A tensor or a number as a tensor; raises UnsupportedError for anything else."""
        if isinstance(found, Shown):
            return found
        if isinstance(found, bool | int | float | Polynomial):
            type_ = TensorType(_dtype(found), ())
            return Shown(self.constant(found, type_), type_)
        raise UnsupportedError(f"{what} is no tensor")

    def dim(self, at: int, name: str, rank: int, default: int | None = None) -> int:
        """An argument that counts dimensions of a tensor, from the start."""
        return self.get(at, name, default) % max(rank, 1)

    def with_arguments(self, *arguments: Any, type_: TensorType | None = None) -> "Call":
        """A call of other arguments, and of another result."""
        return replace(self, arguments=arguments, named={}, type=type_ or self.type)

    def solid(self, shown: Shown) -> View:
        """A view of a tensor in which every dimension is one of the value's own."""
        axes = shown.view.axes
        if self.thin(shown) and None not in axes:
            return shown.view
        return self.graph.whole(self.graph.real(shown.view, shown.type.shape))

    def thin(self, shown: Shown) -> bool:
        """Whether a view shows all dimensions of its value as they are; it may have more."""
        own = self.graph.types[shown.view.name].shape
        pairs = zip(shown.view.axes, shown.type.shape, strict=True)
        seen = {axis for axis, size in pairs if axis is not None and own[axis] == size}
        return len(seen) == len(own)

    def lettered(
        self, shown: Shown, letters: str, needed: str = "", sizes: Mapping[str, Dim] | None = None
    ) -> tuple[str, str]:
        """A value and its letters where a tensor's dimensions have `letters`.

        Dimensions that the value lacks, because it is broadcast, have none, but for those that are
        `needed`; one that is broadcast to the letter's size in `sizes` has a letter of its own.
        """
        view, shape = shown.view, shown.type.shape
        own = self.graph.types[view.name].shape
        held = [
            at
            for at, axis in enumerate(view.axes)
            if letters[at] in needed or (axis is not None and own[axis] == shape[at])
        ]
        if not self.thin(shown) or any(view.axes[at] is None for at in held):
            view = View(view.name, tuple(view.axes[at] for at in held))
            letters, shape = "".join(letters[at] for at in held), tuple(shape[at] for at in held)
            view = self.graph.whole(self.graph.real(view, shape))
        stated = zip(letters, shape, strict=True)
        target = [(sizes or {}).get(letter, size) for letter, size in stated]
        return view.name, self.graph.letters(view, letters, target)

    def real(self, at: int) -> str:
        """The name of a tensor argument with exactly the dimensions that ATen sees."""
        shown = self.tensor(at)
        return self.graph.real(shown.view, shown.type.shape)

    def add(
        self, kind: str, operands: Sequence[str], type_: TensorType, **named: Attribute
    ) -> View:
        """Add an operator of the graph, called as this call is."""
        return self.graph.add(kind, operands, type_, named, self.name)

    def elementwise(self, expr: str, *operands: View, type_: TensorType | None = None) -> Shown:
        """An expression over views, of the type of the call's result or of another."""
        type_ = type_ or self.type
        return Shown(self.graph.elementwise(expr, operands, type_, self.name), type_)

    def constant(self, value: bool | float | Dim, type_: TensorType) -> View:
        """A tensor of equal numbers: a value without dimensions, broadcast."""
        made = self.graph.elementwise(number(value), [], TensorType(type_.dtype, ()), "constant")
        return View(made.name, (None,) * len(type_.shape))

    def positions(self, count: Dim, start: Dim = 0, step: Dim = 1) -> View:
        """The numbers start, start + step, ... as a vector of int64."""
        type_ = TensorType("int64", (count,))
        return self.add("iota", [], type_, indices="->s", start=start, step=step)


Rule = Callable[[Call], Any]
"""From a call to the view of its result, or to the views of all of them."""


def number(value: Any) -> str:
    """A number in an expression; raises UnsupportedError for what is none."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Polynomial):
        return str(value)
    if not isinstance(value, int | float) or isnan(value):
        raise UnsupportedError(f"the number {value}")
    return repr(value) if isfinite(value) else str(value)


def _dtype(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "float32" if isinstance(value, float) else "int64"


def spare_letter(taken: str, wanted: str) -> str:
    """`wanted`, or another letter that is none of `taken`."""
    return next(letter for letter in wanted + LETTERS if letter not in taken)


def letters_of(type_: TensorType) -> str:
    """Letters for the dimensions of a tensor."""
    return letters_for(len(type_.shape))


def fixed(dim: Dim, what: str) -> int:
    """A dimension that must be a number."""
    if not isinstance(dim, int):
        raise UnsupportedError(f"{what} {dim}, which is not a number")
    return dim
