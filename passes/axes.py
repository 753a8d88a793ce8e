"""The axes of a mesh as the layouts name them, and how an operator's letters lie on them."""

from collections.abc import Iterable, Mapping

Axes = tuple[str, ...]
Placed = dict[str, Axes]
"""The axes of every letter of an operator."""

ROWS: Axes = ("yh", "yd")
COLUMNS: Axes = ("xh", "xd")
MIRROR: Mapping[str, str] = dict(zip((*ROWS, *COLUMNS), (*COLUMNS, *ROWS), strict=True))
"""The axis of the other direction that plays the same part."""


def axes_of(placed: Placed, letters: Iterable[str]) -> Axes:
    """The axes of some letters, in their order."""
    return tuple(axis for letter in letters for axis in placed.get(letter, ()))


def clash(placed: Placed, letter: str, cut: Axes) -> bool:
    """Whether another letter already lies on one of these axes."""
    return any(set(cut) & set(own) for other, own in placed.items() if other != letter)


def by_direction(axes: Axes) -> tuple[Axes, ...]:
    """The axes along rows and those along columns, as far as there are any."""
    parts = (tuple(x for x in axes if x in ROWS), tuple(x for x in axes if x in COLUMNS))
    return tuple(part for part in parts if part)


def without_clashes(placed: Placed, first: Iterable[str] = ()) -> Placed:
    """Every axis kept by one letter only: by the `first` letters, else by the earliest."""
    kept: Placed = {}
    order = [*first]
    for letter in [*order, *(x for x in placed if x not in order)]:
        cut = placed.get(letter, ())
        kept[letter] = () if clash(kept, letter, cut) else cut
    return kept
