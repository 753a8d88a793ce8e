"""How an operator kind is declared: what it computes, its shapes, its work, how it may be split.

Every kind but the views states its *indices*: a letter for each dimension of each operand and of
every result, in the manner of einsum. Splitting follows from them: a letter of the result may be
split freely, a letter that is reduced gives partial results, and a letter in `whole` may not be
split at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import dims
from .dims import Dim
from .errors import VerificationError
from .graph import Attribute, Op, TensorType

Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class Indices:
    """Letters of the operands, of the first result, and of the `others`.

    `reduced` letters say how they are combined; `uneven` ones may differ in size from operand to
    operand.
    """

    operands: tuple[str, ...]
    result: str
    reduced: Mapping[str, str] = field(default_factory=dict[str, str])
    whole: frozenset[str] = frozenset()
    uneven: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()

    @property
    def equation(self) -> str:
        return f"{','.join(self.operands)}->{','.join((self.result, *self.others))}"


def parse_indices(text: str) -> tuple[tuple[str, ...], str]:
    """The operands and the result of `"bse,fe->bsf"`: (("bse", "fe"), "bsf")."""
    operands, results = parse_equation(text)
    return operands, results[0]


def parse_equation(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operands and all results of `"bse->bsk,bsk"`; raises ValueError."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"{text!r} is not of the form 'ab,bc->ac'")
    return tuple(left.split(",")) if left else (), tuple(right.split(","))


class Tape(Protocol):
    """Where the gradient of an operator writes the operators that compute it."""

    def add(
        self,
        kind: str,
        operands: Sequence[str],
        type_: TensorType,
        attributes: Mapping[str, Attribute],
        name: str | None = None,
    ) -> str:
        """Add an operator of one result; the name of that result."""
        ...

    def add_several(
        self,
        kind: str,
        operands: Sequence[str],
        types: Sequence[TensorType],
        attributes: Mapping[str, Attribute],
    ) -> tuple[str, ...]:
        """Add an operator of several results; their names."""
        ...

    def type_of(self, name: str) -> TensorType:
        """The type of a value of the forward graph or of the tape."""
        ...

    def wants(self, name: str) -> bool:
        """Whether anybody reads the gradient of a value of the forward graph."""
        ...


Gradient = Callable[[Op, Tape, Sequence[str | None]], Sequence[str | None]]
"""From the gradients of an operator's results to those of its operands; None is no gradient."""


def _as_it_is(op: Op, types: Types) -> Op:
    del types
    return op


def _nothing_more(op: Op, types: Types) -> None:
    del op, types


@dataclass(frozen=True)
class OpKind:
    """A declaration: everything else about a kind is derived from these fields.

    `operands` is how many a kind takes, or None for any number. `types` derives the results'
    types where they follow from the operands. `check` raises VerificationError for attributes or
    types that do not fit. `flops` counts a multiply-add as two. `creates` kinds may have letters
    in a result that no operand has. `gradient` is missing where nothing flows back; `saving`
    makes of an operator one that also yields what its gradient would compute once more.
    """

    name: str
    doc: str
    operands: int | None
    reference: Callable[[Op, Sequence[Any]], Any]
    indices: Callable[[Op], Indices] | None = None
    types: Callable[[Op, Types], Types] | None = None
    check: Callable[[Op, Types], None] = _nothing_more
    flops: Callable[[Op, Types], Dim] = lambda op, types: 0
    gradient: Gradient | None = None
    saving: Callable[[Op, Types], Op] = _as_it_is
    collective: bool = False
    creates: bool = False


def stated(reduced: str = "", whole: str = "", uneven: str = "") -> Callable[[Op], Indices]:
    """Indices from the op's `indices` attribute; letters missing in the results are reduced.

    `reduced` is how, or "function" where the attribute of that name says how. `whole` and
    `uneven` name the attributes that hold the letters which may not be split or may differ.
    """

    def read(op: Op) -> Indices:
        operands, (result, *others) = parse_equation(op.text("indices"))
        operands = operands or ("",) * len(op.operands)
        gone = {letter for letters in operands for letter in letters} - {*result, *"".join(others)}
        how = op.text("function") if reduced == "function" else reduced
        return Indices(
            operands,
            result,
            dict.fromkeys(sorted(gone), how) if how else {},
            whole=frozenset(op.text(whole) if whole else ""),
            uneven=frozenset(op.text(uneven) if uneven else ""),
            others=tuple(others),
        )

    return read


def letter_sizes(op: Op, indices: Indices, types: Types) -> dict[str, Dim]:
    """The size of every letter; raises VerificationError where two dimensions disagree."""
    sizes: dict[str, Dim] = {}
    operands = zip(indices.operands, types, strict=True)
    results = zip((indices.result, *indices.others), op.types, strict=True)
    for letters, type_ in (*operands, *results):
        if len(letters) != len(type_.shape):
            raise VerificationError(f"indices {letters!r} for shape {type_}")
        for letter, dim in zip(letters, type_.shape, strict=True):
            if sizes.setdefault(letter, dim) != dim and letter not in indices.uneven:
                raise VerificationError(f"index {letter} is {sizes[letter]} and {dim} at once")
    return sizes


def product_flops(op: Op, types: Types, indices: Indices) -> Dim:
    """Two for every combination of all letters: a sum of products."""
    return dims.product(letter_sizes(op, indices, types).values()) * 2
