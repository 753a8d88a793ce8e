"""Members of a collective on a mesh: lines, rectangles, and rings that are embedded in them.

Nodes are numbered row by row, `y * width + x`.
"""

from dataclasses import dataclass

import numpy as np

from .arrays import Ints


@dataclass(frozen=True)
class Rectangle:
    """Rows and columns of cores on a mesh that is `width` cores wide."""

    rows: int
    columns: int
    width: int
    top: int = 0
    left: int = 0

    @property
    def nodes(self) -> Ints:
        """(rows, columns)"""
        rows = self.top + np.arange(self.rows)[:, np.newaxis]
        return rows * self.width + self.left + np.arange(self.columns)

    def row(self, index: int) -> Ints:
        """(columns,) nodes of a row, west to east."""
        return self.nodes[index]

    def column(self, index: int) -> Ints:
        """(rows,) nodes of a column, north to south."""
        return self.nodes[:, index]


@dataclass(frozen=True)
class Ring:
    """All nodes of a rectangle in an order in which each is near the next, and the last the first.

    `longest_hop` is 1 for a Hamiltonian ring, which a mesh has where both sides are at least 2 and
    one is even. Otherwise it is 2: an odd number of nodes allows no ring of single links, and a
    line is folded, out over every other node and back over those between.
    """

    members: Ints
    longest_hop: int


def ring_in(rectangle: Rectangle) -> Ring:
    """The ring through a rectangle. No link carries two of its hops in the same direction."""
    nodes = rectangle.nodes
    rows, columns = nodes.shape
    if min(rows, columns) == 1:
        line = nodes.ravel()
        return Ring(np.concatenate([line[::2], line[1::2][::-1]]), min(2, max(1, len(line) - 1)))
    if rows % 2 == 0:
        return Ring(_out_and_back(nodes), 1)
    if columns % 2 == 0:
        return Ring(_out_and_back(nodes.T), 1)
    return Ring(_odd(nodes), 2)


def _out_and_back(nodes: Ints) -> Ints:
    """Serpentine over all columns but the first, of an even number of rows; back over the first."""
    return np.concatenate([[nodes[0, 0]], _serpentine(nodes[:, 1:]), nodes[:0:-1, 0]])


def _serpentine(nodes: Ints) -> Ints:
    turned = nodes.copy()
    turned[1::2] = turned[1::2, ::-1]
    return turned.ravel()


def _odd(nodes: Ints) -> Ints:
    """Serpentine over all but the last two rows, up and down through those, back over the first
    column; from the zigzag's last node to the column it is two links."""
    upper = _serpentine(nodes[:-2, 1:])
    lower = _serpentine(nodes[-2:, :0:-1].T)
    return np.concatenate([[nodes[0, 0]], upper, lower, nodes[:0:-1, 0]])
