"""Classes of equal dimensions, each whole or split into a sequence of finer classes."""

from collections.abc import Sequence

from ..ir import dims
from ..ir.dims import Dim, Polynomial
from ..ir.errors import VerificationError

_PROBE = {"batch": 1_000_003, "sequence": 1_000_033, "context": 1_000_037}
"""Primes that order symbolic sizes; equality is always decided on the polynomials."""


class Classes:
    """A union-find over dimensions that are numbered as they are added."""

    def __init__(self) -> None:
        self._sizes: list[Dim] = []
        self._parents: list[int] = []
        self._children: dict[int, tuple[int, ...]] = {}
        self._kept: set[int] = set()

    def add(self, size: Dim, kept: bool = False) -> int:
        """A new class; one of one element is no class at all unless it is `kept`."""
        self._sizes.append(size)
        self._parents.append(len(self._parents))
        if kept:
            self._kept.add(len(self._parents) - 1)
        return len(self._parents) - 1

    def leaves(self, node: int) -> tuple[int, ...]:
        """The finest classes that a class is split into; none for a dimension of one element."""
        root, parents = node, self._parents
        while parents[root] != root:
            parents[root] = parents[parents[root]]
            root = parents[root]
        if self._sizes[root] == 1 and root not in self._kept:
            return ()
        if root not in self._children:
            return (root,)
        return tuple(leaf for child in self._children[root] for leaf in self.leaves(child))

    def size(self, leaf: int) -> Dim:
        return self._sizes[leaf]

    def unify(self, left: Sequence[int], right: Sequence[int], crumbs: bool = False) -> None:
        """Make two row-major sequences of classes the same, splitting where one is finer.

        Raises VerificationError where no splitting makes them so; unless `crumbs` may be left also
        where the same parts stand in another order, so that they would be split until every order
        is the same.
        """
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
            elif x != y and not crumbs and (x in b or y in a):
                raise VerificationError("a view puts the parts of a dimension into another order")
            elif x != y:
                self._split_larger(x, y)
                a.append(x)
                b.append(y)
        if a or b:
            raise VerificationError("a view between shapes with different numbers of elements")

    def _probe(self, leaf: int) -> int:
        return dims.size(dims.bind(self._sizes[leaf], _PROBE))

    def _split_larger(self, x: int, y: int) -> None:
        small, large = sorted((x, y), key=self._probe)
        rest = quotient(self.size(large), self.size(small))
        self._children[large] = (self.add(self.size(small)), self.add(rest))


def quotient(large: Dim, small: Dim) -> Dim:
    """`large` over `small`; raises VerificationError unless it divides evenly."""
    if isinstance(large, int) and isinstance(small, int) and small and large % small == 0:
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
