"""What all files of one binding share: the chosen values, a guard against cycles, the changes.

One point of a space is bound, or a batch of points at once: then the magnitudes are arrays with
one entry a point, and what would refuse a single point strikes it from the batch. The names and
expressions that are evaluated with it are in evaluate.py.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from ...ir.errors import Location, UserError
from . import syntax
from .units import InvalidPointError, Quantity

if TYPE_CHECKING:
    from .evaluate import Scope

_T = TypeVar("_T")

Value: TypeAlias = Quantity | str
"""A quantity in SI, or a word such as `on`, `circuit`, `stitched`."""

Changes: TypeAlias = "Mapping[tuple[str, ...], Change]"
"""The fields that copies change, by the names of file, part and blocks down to the field."""

MOST_KEPT = 4096
"""Results of one kind that are remembered for one set of parameters."""

MAX_CHAIN = 60
"""References to references to references; a spec needs five."""


class AbsentError(UserError):
    """A parameter that does not exist for the values of the others."""


class SplitNeededError(Exception):
    """A batch whose points are built differently: those of the mask apart from the others."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__("a batch of points that are built differently")
        self.mask = mask


class OneByOneError(Exception):
    """A design that is bound for single points only, as one with defects drawn at random."""


_Trail: TypeAlias = dict[Hashable, Callable[[], str]]


class _Step:
    """One entry of a trail, for as long as it is evaluated."""

    __slots__ = ("_key", "_label", "_trail")

    def __init__(self, trail: _Trail, key: Hashable, label: Callable[[], str]) -> None:
        self._trail, self._key, self._label = trail, key, label

    def __enter__(self) -> None:
        self._trail[self._key] = self._label

    def __exit__(self, *_: object) -> None:
        del self._trail[self._key]


@dataclass
class Memo:
    """What bindings of one space have worked out: by what it is, by the parameters that it asked,
    and by their values.

    What asked the same parameters and got the same answers is the same again.
    """

    kept: dict[Hashable, dict[frozenset[str], dict[tuple[Hashable, ...], Any]]] = field(
        default_factory=dict[Hashable, dict[frozenset[str], dict[tuple[Hashable, ...], Any]]]
    )
    written: dict[int, Any] = field(default_factory=dict[int, Any])
    """The fields of each block as they are written, by the block's identity."""


@dataclass(frozen=True)
class Change:
    """A field that a copy changes, and the file scope in which its value is read."""

    field: syntax.Field
    scope: "Scope"


@dataclass
class Binding:
    """The chosen values, the physics of constraints, and what is being evaluated."""

    chosen: Mapping[str, Value]
    physics: "Callable[[syntax.Call, Scope], Quantity]"
    points: int | None = None
    """How many a batch has; None: a single point is bound."""
    memo: Memo = field(default_factory=Memo)
    """What earlier bindings of the space have worked out."""
    values: "Callable[[str], Value] | None" = None
    """The value of a parameter of the spec itself; None: nothing is remembered."""
    of_all: bool = False
    """Whether every parameter exists, whatever its `when` says: to learn what it measures."""
    asked: frozenset[str] = frozenset()
    """Parameters of the spec that have been asked since this was last set to none."""
    trail: _Trail = field(default_factory=dict[Hashable, Callable[[], str]])
    """What is being evaluated, from the outside in, and how messages call it."""
    valid: Any = True
    """Of a batch: which of its points have not been struck."""

    def evaluating(
        self, key: Hashable, label: Callable[[], str], location: Location | None
    ) -> _Step:
        """Guard one step of evaluation against cycles and endless chains of references."""
        if key in self.trail:
            names = [name() for name in list(self.trail.values())[list(self.trail).index(key) :]]
            chain = " -> ".join([*names, label()])
            raise UserError(f"{label()} depends on itself: {chain}", location)
        if len(self.trail) >= MAX_CHAIN:
            raise UserError(f"references nest more than {MAX_CHAIN} deep", location)
        return _Step(self.trail, key, label)

    def remembered(
        self, key: Hashable, make: Callable[[], _T], fits: Callable[[_T], bool] = lambda _: True
    ) -> _T:
        """What `make` gives: from an earlier binding, where every parameter that it asked then had
        the value that it has now. What does not fit belongs to one binding, and is not kept."""
        if self.values is None:
            return make()
        variants = self.memo.kept.setdefault(key, {})
        for names, results in variants.items():
            values = self._values_of(names)
            if values is not None and values in results:
                self.asked |= names
                return results[values]
        made, names = self.noting(make)
        values = self._values_of(names)
        if values is not None and fits(made):
            results = variants.setdefault(names, {})
            if len(results) >= MOST_KEPT:
                results.clear()
            results[values] = made
        return made

    def _values_of(self, names: frozenset[str]) -> tuple[Hashable, ...] | None:
        """The values of some parameters; None where one does not exist, or is an array."""
        assert self.values is not None
        asked = self.asked
        try:
            found = [self.values(name) for name in names]
        except AbsentError:
            return None
        finally:
            self.asked = asked
        plain = [value if isinstance(value, str) else value.magnitude for value in found]
        return None if any(isinstance(value, np.ndarray) for value in plain) else tuple(plain)

    def noting(self, make: Callable[[], _T]) -> tuple[_T, frozenset[str]]:
        """What `make` gives, and which parameters it asked."""
        before, self.asked = self.asked, frozenset()
        made = make()
        asked, self.asked = self.asked, before | self.asked
        return made, asked

    def require(self, holds: Any, message: Callable[[], str], location: Location | None) -> None:
        """Refuse what does not hold: the design with InvalidPointError, or points of the batch."""
        if isinstance(holds, np.ndarray):
            self.valid = self.valid & holds
        elif not holds:
            raise InvalidPointError(message(), location)

    def decided(self, holds: Any) -> bool:
        """A condition as one answer for all points; raises SplitNeededError where they differ."""
        if not isinstance(holds, np.ndarray):
            return bool(holds)
        if holds.all() or not holds.any():
            return bool(holds.flat[0])
        raise SplitNeededError(holds)
