"""Where the operands of a matrix product lie, and whether it is local or its tiles travel.

In `matvec` a weight is cut where the vector is, and across; every product is local. In `matmul`
both operands are cut over rows and columns, and tiles travel over the mesh.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..ir.kinds import Indices
from ..ir.program import Layout
from .axes import COLUMNS, MIRROR, ROWS, Axes, Placed, axes_of, clash, without_clashes
from .dimensions import Part

Form = Literal["local", "reduce", "rotate"]


@dataclass(frozen=True)
class Letters:
    """The letters of a product by the part they play."""

    contracted: tuple[str, ...]
    shared: tuple[str, ...]
    """In both operands and the result."""
    left: tuple[str, ...]
    right: tuple[str, ...]

    @staticmethod
    def of(indices: Indices) -> "Letters":
        left, right = indices.operands
        return Letters(
            contracted=tuple(x for x in left if x in indices.reduced),
            shared=tuple(x for x in left if x in right and x in indices.result),
            left=tuple(x for x in left if x not in right and x in indices.result),
            right=tuple(x for x in right if x not in left and x in indices.result),
        )

    @property
    def turned(self) -> "Letters":
        """The letters of the product with its operands in the other order."""
        return Letters(self.contracted, self.shared, self.right, self.left)


@dataclass(frozen=True)
class Right:
    """What is known of the right operand: the part that each of its letters plays, its sizes
    (None where they are symbolic)."""

    parts: dict[str, Part]
    sizes: dict[str, int | None]

    def largest(self, letters: Iterable[str]) -> str:
        """The letter with most elements, the last of equals; symbolic ones count as one."""
        return max(reversed([*letters]), key=lambda x: self.sizes.get(x) or 1)


def weight_axes(
    layout: Layout, letters: Letters, left: Placed, right: Right
) -> tuple[Placed, Placed]:
    """Axes of an activation and of a weight that may still lie anywhere."""
    a = dict(left)
    used = axes_of(a, letters.contracted)
    if not used and letters.contracted:
        wanted = ROWS if layout == "matvec" else COLUMNS
        free = tuple(axis for axis in wanted if axis not in axes_of(a, a))
        a[right.largest(letters.contracted)] = used = free
    across = COLUMNS if layout == "matmul" or set(used) & set(ROWS) else ROWS
    taken = axes_of(a, a) if layout == "matvec" else axes_of(a, (*letters.left, *letters.shared))
    b = _new_features(letters, right, tuple(axis for axis in across if axis not in taken))
    for letter in letters.contracted:
        cut = a.get(letter, ())
        b[letter] = cut if layout == "matvec" else tuple(MIRROR[axis] for axis in cut)
    return a, b | {letter: a.get(letter, ()) for letter in letters.shared}


def _new_features(letters: Letters, right: Right, over: Axes) -> Placed:
    """The new letters of a weight, cut over a direction: heads outside, widths inside."""
    new = [x for x in letters.right if right.parts[x] != "whole"] or [*letters.right]
    heads = [x for x in new if right.parts[x] == "head"]
    widths = [x for x in new if right.parts[x] == "width"]
    if not over or not new:
        return {}
    if heads or widths:
        return dict.fromkeys(heads[:1], over[:1]) | dict.fromkeys(widths[-1:], over[1:])
    return {right.largest(new): over}


def by_heads(letters: Iterable[str], parts: Mapping[str, Part]) -> Placed:
    """Heads over the outer axis of the columns, their width over the inner one."""
    heads = [x for x in letters if parts.get(x) == "head"]
    widths = [x for x in letters if parts.get(x) == "width"]
    return dict.fromkeys(heads[:1], COLUMNS[:1]) | dict.fromkeys(widths[-1:], COLUMNS[1:])


def activation_axes(
    layout: Layout, letters: Letters, left: Placed, right: Placed | None, sizes: Right
) -> tuple[Placed, Placed]:
    """Axes of two activations: heads lie alike on both sides. In `matvec` what is summed does too,
    and keys lie over the rows; in `matmul` both are already cut over the rows."""
    a, b = dict(left), dict(right or {})
    if not {*axes_of(a, a), *axes_of(b, b)} & set(COLUMNS):
        cut = by_heads((*letters.shared, *letters.contracted), sizes.parts)
        a, b = a | cut, b | cut
    b |= {letter: a.get(letter, ()) for letter in letters.shared}
    if layout == "matmul":
        if right is None:
            b |= {letter: a.get(letter, ()) for letter in letters.contracted}
        return a, b
    for letter in letters.contracted:
        a[letter] = b[letter] = b.get(letter) or a.get(letter, ())
    first = (*letters.contracted, *letters.shared)
    a, b = without_clashes(a, first), without_clashes(b, first)
    for letter in letters.right:
        if sizes.sizes[letter] is None and not clash(b, letter, ROWS):
            b[letter] = ROWS
    return a, b


def form_of(layout: Layout, letters: Letters, a: Placed, b: Placed) -> Form | None:
    """How a product with operands that lie so is computed; None where it cannot be."""
    if any(a.get(x, ()) != b.get(x, ()) for x in letters.shared):
        return None
    both = set(axes_of(a, letters.left)) & set(axes_of(b, letters.right))
    alike = all(a.get(x, ()) == b.get(x, ()) for x in letters.contracted)
    if alike and not both:
        return "local"
    if alike and (reduced_axes(letters, a, b) or reduced_axes(letters.turned, b, a)):
        return "reduce"
    return "rotate" if layout == "matmul" and not alike and not both else None


def reduced_axes(letters: Letters, a: Placed, b: Placed) -> Placed | None:
    """Where the result of a `reduce` product lies: of letters that are cut over the same axes
    those of the right operand move to the axes of the contraction; several of them each to the
    mirror of its own. None where there are no such letters, or no such axes."""
    both = set(axes_of(a, letters.left)) & set(axes_of(b, letters.right))
    keys = [x for x in letters.right if set(b.get(x, ())) & both]
    summed = axes_of(a, letters.contracted)
    moved = {x: tuple(MIRROR[axis] for axis in b.get(x, ())) for x in keys}
    if not keys or (len(keys) > 1 and not set(axes_of(moved, keys)) <= set(summed)):
        return None
    free = {x: a.get(x, ()) or b.get(x, ()) for x in (*letters.shared, *letters.left)}
    free |= {x: b.get(x, ()) for x in letters.right}
    return free | (moved if len(keys) > 1 else {keys[0]: summed})


def localized(letters: Letters, a: Placed, b: Placed) -> tuple[Placed, Placed]:
    """Axes under which a product is local whatever they were: the right operand follows the
    left."""
    kept = {x: a.get(x, ()) for x in (*letters.contracted, *letters.shared)}
    taken = set(axes_of(a, a))
    free = {x: b.get(x, ()) for x in letters.right if not taken & set(b.get(x, ()))}
    return {**a}, kept | free
