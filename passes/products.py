"""Where the operands of a matrix product lie, and whether it is local or its tiles travel.

In `matvec` a weight is cut where the vector is, and across; every product is local. In `matmul`
both operands are cut over rows and columns, and tiles travel over the mesh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..ir.dims import Dim, Polynomial, symbol
from ..ir.graph import Op
from ..ir.kinds import Indices, indices_of
from ..ir.mapped import Sharding
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
class Known:
    """What is known of a product's letters: the part that each plays, its size (None where it is
    symbolic), and those that count the tokens of a sequence."""

    parts: Mapping[str, Part]
    sizes: Mapping[str, int | None]
    tokens: frozenset[str]
    cached: tuple[str, ...]
    """Letters whose size is symbolic and not the batch: tokens of any kind."""

    @staticmethod
    def of(letters: Iterable[tuple[str, Part, Dim]]) -> "Known":
        """What is known from each letter with its part and its size."""
        found = [*letters]
        many = [x for x, _, n in found if isinstance(n, Polynomial) and n != symbol("batch")]
        return Known(
            {x: part for x, part, _ in found},
            {x: n if isinstance(n, int) else None for x, _, n in found},
            frozenset(x for x, _, n in found if n == symbol("sequence")),
            tuple(dict.fromkeys(many)),
        )

    def largest(self, letters: Iterable[str]) -> str:
        """The letter with most elements, the last of equals; symbolic ones count as one."""
        return max(reversed([*letters]), key=lambda x: self.sizes.get(x) or 1)

    def with_tokens_whole(self, placed: Placed) -> Placed:
        """Tokens no longer cut over the columns."""
        return {
            x: () if x in self.tokens and set(cut) & set(COLUMNS) else cut
            for x, cut in placed.items()
        }


def weight_axes(
    layout: Layout, letters: Letters, left: Placed, known: Known
) -> tuple[Placed, Placed]:
    """Axes of an activation and of a weight that may still lie anywhere.

    Tokens that are cut over the columns come whole, but where the new features must be whole too
    (as what a router chooses from). So do, where tokens are many, the features that heads are
    made of (of a low rank): they are fewer than what heads would be summed up in.
    """
    a = dict(left)
    if any(known.parts[x] != "whole" for x in letters.right):
        a = known.with_tokens_whole(a)
    if layout != "matmul" and known.tokens and any(known.parts[x] == "head" for x in letters.right):
        a |= {x: () for x in letters.contracted if set(a.get(x, ())) & set(COLUMNS)}
    used = axes_of(a, letters.contracted)
    if not used and letters.contracted:
        wanted = COLUMNS if layout == "matmul" else ROWS
        free = tuple(axis for axis in wanted if axis not in axes_of(a, a))
        a[known.largest(letters.contracted)] = used = free
    over_rows = set(used or axes_of(a, letters.shared)) & set(ROWS)
    across = COLUMNS if layout == "matmul" or over_rows else ROWS
    taken = axes_of(a, (*letters.left, *letters.shared) if layout == "matmul" else a)
    over = tuple(axis for axis in across if axis not in taken)
    b = _new_features(letters, known, over, inner_part(layout, letters.right, known))
    for letter in letters.contracted:
        cut = a.get(letter, ())
        b[letter] = tuple(MIRROR[axis] for axis in cut) if layout == "matmul" else cut
    return a, b | {letter: a.get(letter, ()) for letter in letters.shared}


def cache_axes(letters: Letters, a: Placed, known: Known) -> tuple[Placed, Placed]:
    """Axes of two operands of which nothing else says where they lie, a cache and what is
    multiplied with it."""
    used = axes_of(a, a)
    new = [*letters.right]
    features = {known.largest(new): COLUMNS} if new and not set(used) & set(COLUMNS) else {}
    return localized(letters, a, features)


def inner_part(layout: Layout, letters: Iterable[str], known: Known) -> Part:
    """What lies over the inner axis of the columns: a head's width, or, where tokens do not
    travel, the queries that share a head's keys, so that no scores are summed over devices."""
    shared = layout != "matmul" and any(known.parts.get(x) == "member" for x in letters)
    return "member" if shared else "width"


def _new_features(letters: Letters, known: Known, over: Axes, inner: Part) -> Placed:
    """The new letters of a weight, cut over a direction: heads outside, the others inside."""
    new = [x for x in letters.right if known.parts[x] != "whole"] or [*letters.right]
    heads = [x for x in new if known.parts[x] == "head"]
    inside = [x for x in new if known.parts[x] == inner]
    if not over or not new:
        return {}
    if heads or inside:
        return dict.fromkeys(heads[:1], over[:1]) | dict.fromkeys(inside[-1:], over[1:])
    return {known.largest(new): over}


def by_heads(
    letters: Iterable[str], parts: Mapping[str, Part], inner: Collection[Part] = ("width",)
) -> Placed:
    """Heads over the outer axis of the columns, their width over the inner one."""
    own = [*letters]
    heads = [x for x in own if parts.get(x) == "head"]
    inside = [x for x in own if parts.get(x) in inner]
    return dict.fromkeys(heads[:1], COLUMNS[:1]) | dict.fromkeys(inside[-1:], COLUMNS[1:])


def beside_weight(letters: Letters, a: Placed, b: Placed) -> tuple[Placed, Placed]:
    """Axes of an activation and of a weight that has its place: what is summed lies as in the
    weight, and what else lies over the weight's axes comes whole."""
    taken = set(axes_of(b, b))
    free = {x: () if taken & set(a.get(x, ())) else a.get(x, ()) for x in letters.left}
    return free | {x: b.get(x, ()) for x in (*letters.contracted, *letters.shared)}, b


def gradient_axes(
    letters: Letters, a: Placed, b: Placed, aim: Placed | None
) -> tuple[Placed, Placed]:
    """Axes of two activations whose product is the gradient of a weight: each as the weight, where
    that is known to lie; tokens that are cut alike on both sides stay so."""
    if aim is None:
        free = {x: a.get(x, ()) for x in (*letters.shared, *letters.left)}
        aim = without_clashes(free | {x: b.get(x, ()) for x in letters.right})
    taken = set(axes_of(aim, aim))
    alike = {
        x: a[x]
        for x in letters.contracted
        if a.get(x) == b.get(x) and a.get(x) and not taken & set(a[x])
    }
    return aim | alike, aim | alike


def activation_axes(
    layout: Layout, letters: Letters, left: Placed, right: Placed | None, known: Known, fixed: bool
) -> tuple[Placed, Placed]:
    """Axes of two activations: heads lie alike on both sides. In `matmul` both are already cut
    over the rows; what is summed lies alike if sums must run along the columns, as in the right
    operand if that is `fixed`. Else what is summed lies alike too, and keys lie over the rows."""
    a, b = dict(left), dict(right or {})
    if layout == "matmul":
        if not {*axes_of(a, a), *axes_of(b, b)} & set(COLUMNS):
            cut = by_heads((*letters.shared, *letters.contracted), known.parts, ("width", "member"))
            a, b = a | cut, b | cut
        b |= {letter: a.get(letter, ()) for letter in letters.shared}
        if right is None:
            b |= {letter: a.get(letter, ()) for letter in letters.contracted}
        elif set(axes_of(a, letters.left)) & set(axes_of(b, letters.right)):
            giver, taker = (b, a) if fixed else (a, b)
            taker |= {letter: giver.get(letter, ()) for letter in letters.contracted}
            a = without_clashes(a, letters.left)
        return a, without_clashes(b, letters.shared)
    a, b = known.with_tokens_whole(a), known.with_tokens_whole(b)
    a = _beside_tokens(a, letters.left, b, letters.right, known)
    b = _beside_tokens(b, letters.right, a, letters.left, known)
    if not {*axes_of(a, a), *axes_of(b, b)} & set(COLUMNS):
        a, b = (x | cut for x, cut in zip((a, b), _new_heads(layout, letters, known), strict=True))
    a, b = _beside_members(a, b, known), _beside_members(b, a, known)
    for letter in letters.shared:
        a[letter] = b[letter] = a.get(letter) or b.get(letter, ())
    for letter in letters.contracted:
        a[letter] = b[letter] = b.get(letter) or a.get(letter, ())
    first = (*letters.contracted, *letters.shared)
    a, b = without_clashes(a, first), without_clashes(b, first)
    for letter in letters.right:
        if known.sizes[letter] is None and not clash(b, letter, ROWS):
            b[letter] = ROWS
    return a, b


def _new_heads(layout: Layout, letters: Letters, known: Known) -> tuple[Placed, Placed]:
    """The cut of two activations that lie over rows at most."""
    both = (*letters.shared, *letters.contracted)
    inner = inner_part(layout, (*both, *letters.left, *letters.right), known)
    own = ((*both, *letters.left), (*both, *letters.right)) if inner == "member" else (both, both)
    first, second = (by_heads(each, known.parts, (inner,)) for each in own)
    return first, second


def _beside_tokens(
    placed: Placed, own: Iterable[str], other: Placed, others: Iterable[str], known: Known
) -> Placed:
    """What an operand alone has comes whole to the rows over which the tokens of the other lie:
    queries, which are fewer, to their keys."""
    tokens = {axis for x in others if known.sizes[x] is None for axis in other.get(x, ())}
    taken = tokens & set(ROWS)
    return {x: () if x in own and taken & set(cut) else cut for x, cut in placed.items()}


def _beside_members(placed: Placed, other: Placed, known: Known) -> Placed:
    """Keys or values come whole to the axes over which their queries are cut."""
    taken = {axis for x, cut in other.items() if known.parts.get(x) == "member" for axis in cut}
    return {
        x: () if taken & set(cut) and known.parts.get(x) != "member" else cut
        for x, cut in placed.items()
    }


def form_of(layout: Layout, letters: Letters, a: Placed, b: Placed) -> Form | None:
    """How a product with operands that lie so is computed; None where it cannot be."""
    if any(a.get(x, ()) != b.get(x, ()) for x in letters.shared):
        return None
    both = set(axes_of(a, letters.left)) & set(axes_of(b, letters.right))
    alike = all(a.get(x, ()) == b.get(x, ()) for x in letters.contracted)
    if alike and not both:
        return "local"
    if layout != "matmul":
        return None
    if alike and (reduced_axes(letters, a, b) or reduced_axes(letters.turned, b, a)):
        return "reduce"
    return "rotate" if not alike and not both else None


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


def reduced(
    op: Op, letters: Letters, a: Placed, b: Placed, aim: Sharding | None
) -> tuple[Placed, bool]:
    """Where the result of a `reduce` product lies, and whether its operands change places for
    that: so that it lies as it is wanted, else so that tokens lie over the rows."""
    straight = reduced_axes(letters, a, b)
    turned = reduced_axes(letters.turned, b, a)
    if straight is None or turned is None:
        found = straight if turned is None else turned
        assert found is not None
        return found, straight is None
    swap = _misfit(op, turned, aim) < _misfit(op, straight, aim)
    return (turned if swap else straight), swap


def _misfit(op: Op, axes: Placed, aim: Sharding | None) -> int:
    """How many dimensions of a result that lies so lie otherwise than they should."""
    cut = [axes[letter] for letter in indices_of(op).result]
    if aim is not None:
        return sum(own != wanted for own, wanted in zip(cut, aim.axes, strict=True))
    pairs = zip(cut, op.type.shape, strict=True)
    return sum(not set(own) <= set(ROWS) for own, dim in pairs if isinstance(dim, Polynomial))


def localized(letters: Letters, a: Placed, b: Placed) -> tuple[Placed, Placed]:
    """Axes under which a product is local whatever they were: the right operand follows the
    left."""
    kept = {x: a.get(x, ()) for x in (*letters.contracted, *letters.shared)}
    taken = set(axes_of(a, a))
    free = {x: b.get(x, ()) for x in letters.right if not taken & set(b.get(x, ()))}
    return {**a}, kept | free
