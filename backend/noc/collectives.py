"""The library of collectives: a plan for each, from members, bytes and chunks.

Members are nodes in order (a row, a column, a rectangle's ring of collectives_rings.py, terminals
of a switch); for `two_dimensional` they are an array of rows and columns. `size` is the bytes of
the whole vector: what each member has of a sum, what all have together of a gather.

Example:
    >>> plan = all_reduce([0, 1, 2, 3], 4096, "ring")
    >>> plan.sent_bytes().tolist()
    [6144, 6144, 6144, 6144]
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...ir.errors import UserError, nearest
from . import collectives_lines as lines
from .arrays import Ints
from .collectives_plan import (
    Messages,
    Plan,
    messages,
    one_after_another,
    over_lines,
    plan_of,
    renamed,
    shares,
)

AllReduce = Literal["ring", "halving_doubling", "tree", "chain", "star", "two_phase",
                    "two_phase_first", "two_dimensional"]  # fmt: skip
Line = Literal["ring", "tree", "chain", "star", "two_phase", "two_phase_first"]
Scatter = Literal["ring", "halving", "two_dimensional"]
Gather = Literal["ring", "doubling", "two_dimensional", "multicast"]
Reduce = Literal["tree", "chain", "star", "two_phase", "two_phase_first"]
Broadcast = Literal["multicast", "tree", "chain", "star", "two_phase", "two_phase_first",
                    "scatter_all_gather"]  # fmt: skip


def all_reduce(
    members: npt.ArrayLike,
    size: int,
    algorithm: AllReduce = "ring",
    chunks: int = 1,
    multicast: bool = False,
    line: Line = "ring",
    group: int | None = None,
) -> Plan:
    """Every member ends with the sum of all members' vectors.

    `ring`: reduce-scatter and all-gather; `halving_doubling`: the same in log2 n steps each;
    `two_dimensional`: what `line` says over rows, columns and rows again; the others reduce to one
    member and broadcast the sum back along the same messages, or by a `multicast` of the network.
    `group`: as in `reduce`.
    """
    nodes, n = _members(members, algorithm == "two_dimensional")
    blocks = 1
    if algorithm == "two_dimensional" and line == "ring":
        rows, columns = nodes.shape
        scatter, gather = _rows_then_columns(rows, columns), _columns_then_rows(rows, columns)
        table, blocks = one_after_another([scatter, gather]), n
    elif algorithm == "two_dimensional":
        rows, columns = nodes.shape
        table = _through_one_column(rows, columns, line)
    elif algorithm == "ring":
        table = one_after_another([lines.ring_reduce_scatter(n), lines.ring_all_gather(n)])
        blocks = n
    elif algorithm == "halving_doubling":
        table, blocks = lines.halving_doubling(n), 1 << (n.bit_length() - 1)
    else:
        root = _root(n, algorithm, None, group)
        down = _reduction(n, algorithm, root, group)
        back = lines.multicast(n, root) if multicast else _way_back(n, root, algorithm, group)
        table = one_after_another([down, back])
    held = np.ones((n, blocks), np.bool_)
    return plan_of(nodes.ravel(), shares(size, blocks), held, held, table, chunks)


def reduce_scatter(
    members: npt.ArrayLike, size: int, algorithm: Scatter = "ring", chunks: int = 1
) -> Plan:
    """Member i ends with part i of the sum of all members' vectors.

    `halving` needs a power of two of members. With `two_dimensional` the parts are counted down
    the columns: the member in row r and column c has part c * rows + r.
    """
    nodes, n = _members(members, algorithm == "two_dimensional")
    if algorithm == "two_dimensional":
        table = _rows_then_columns(*nodes.shape)
    else:
        table = lines.halving(n) if algorithm == "halving" else lines.ring_reduce_scatter(n)
    everything = np.ones((n, n), np.bool_)
    own = _own_part(nodes)
    return plan_of(nodes.ravel(), shares(size, n), everything, own, table, chunks)


def all_gather(
    members: npt.ArrayLike, size: int, algorithm: Gather = "ring", chunks: int = 1
) -> Plan:
    """Every member ends with the parts of all; parts as in `reduce_scatter`."""
    nodes, n = _members(members, algorithm == "two_dimensional")
    if algorithm == "two_dimensional":
        table = _columns_then_rows(*nodes.shape)
    elif algorithm == "multicast":
        table = _everyone_to_all(n)
    else:
        table = lines.doubling(n) if algorithm == "doubling" else lines.ring_all_gather(n)
    everything = np.ones((n, n), np.bool_)
    own = _own_part(nodes)
    return plan_of(nodes.ravel(), shares(size, n), own, everything, table, chunks)


def reduce(
    members: npt.ArrayLike,
    size: int,
    algorithm: Reduce = "tree",
    chunks: int = 1,
    root: int | None = None,
    group: int | None = None,
) -> Plan:
    """The root ends with the sum of all members' vectors.

    The root is a position among the members: the first if not given. Two phases have their own, in
    the middle of the middle group, or the very first; their groups have `group` members, about
    sqrt(n) if not given.
    """
    nodes, n = _members(members)
    at = _root(n, algorithm, root, group)
    table = _reduction(n, algorithm, at, group)
    ends = np.zeros((n, 1), np.bool_)
    ends[at] = True
    held = np.ones((n, 1), np.bool_)
    return plan_of(nodes, shares(size, 1), held, ends, table, chunks)


def broadcast(
    members: npt.ArrayLike,
    size: int,
    algorithm: Broadcast = "tree",
    chunks: int = 1,
    root: int | None = None,
    group: int | None = None,
) -> Plan:
    """Every member ends with the root's vector. Root and `group` are as in `reduce`.

    `multicast` needs a network that copies words on their way; `scatter_all_gather` (Chan et al.,
    2007, section 7.2) sends part i to member i and then runs a ring.
    """
    nodes, n = _members(members)
    root, blocks = _root(n, algorithm, root, group), 1
    if algorithm == "scatter_all_gather":
        others = np.delete(np.arange(n), root)
        ring = lines.ring_all_gather(n)
        needed = ring.destination != root
        ring = ring.at(np.flatnonzero(needed))
        table, blocks = one_after_another([messages(0, root, others, others), ring]), n
    elif algorithm == "multicast":
        table = lines.multicast(n, root)
    else:
        table = _way_back(n, root, algorithm, group)
    starts = np.zeros((n, blocks), np.bool_)
    starts[root] = True
    ends = np.ones((n, blocks), np.bool_)
    return plan_of(nodes, shares(size, blocks), starts, ends, table, chunks)


def all_to_all(members: npt.ArrayLike, size: int, chunks: int = 1) -> Plan:
    """Member j ends with part j of every member's vector of `size` bytes."""
    nodes, n = _members(members)
    pair = np.arange(n * n)
    starts = pair // n == np.arange(n)[:, np.newaxis]
    ends = pair % n == np.arange(n)[:, np.newaxis]
    return plan_of(nodes, np.tile(shares(size, n), n), starts, ends, lines.all_to_all(n), chunks)


def shift(
    members: npt.ArrayLike, size: int, by: int = 1, wraps: bool = True, chunks: int = 1
) -> Plan:
    """Every member's vector goes to the member `by` positions on, past the end only if it wraps."""
    nodes, n = _members(members)
    table = lines.shift(n, by, wraps)
    starts = np.eye(n, dtype=np.bool_)
    ends = np.zeros((n, n), np.bool_)
    ends[table.destination, table.source] = True
    return plan_of(nodes, np.full(n, size), starts, ends, table, chunks)


def send_receive(members: npt.ArrayLike, size: int, pairs: npt.ArrayLike, chunks: int = 1) -> Plan:
    """For every row (from, to) of `pairs`, positions among the members, a vector of `size` bytes.

    Raises UserError where a pair has one end.
    """
    nodes, n = _members(members)
    source, destination = np.asarray(pairs, np.int64).reshape(-1, 2).T
    if np.any(source == destination):
        raise UserError("a member sends to itself")
    number = np.arange(len(source))
    starts, ends = (np.zeros((n, len(source)), np.bool_) for _ in range(2))
    starts[source, number] = ends[destination, number] = True
    table = messages(0, source, destination, number)
    return plan_of(nodes, np.full(len(source), size), starts, ends, table, chunks)


def _members(members: npt.ArrayLike, two_dimensional: bool = False) -> tuple[Ints, int]:
    nodes = np.asarray(members, np.int64)
    if nodes.ndim != 1 + two_dimensional or nodes.size == 0:
        wanted = "rows and columns of members" if two_dimensional else "members in a list"
        raise UserError(f"a collective needs {wanted}, not an array of shape {nodes.shape}")
    if len(np.unique(nodes)) < nodes.size:
        raise UserError("a node is named twice among the members of a collective")
    return nodes, nodes.size


_PLACES: dict[str, lines.Place] = {"two_phase": "middle", "two_phase_first": "first"}


def _root(n: int, algorithm: str, root: int | None, group: int | None = None) -> int:
    if algorithm not in _PLACES:
        return root or 0
    if root is not None:
        raise UserError("two phases end where their groups say, not in a root of choice")
    return lines.two_phase_root(n, group, _PLACES[algorithm])


def _reduction(n: int, algorithm: str, root: int, group: int | None = None) -> Messages:
    if algorithm in _PLACES:
        return lines.two_phase_reduce(n, group, _PLACES[algorithm])
    table = {"tree": lines.tree_reduce, "chain": lines.chain_reduce, "star": lines.star_reduce}
    if algorithm not in table:
        raise UserError(f"there is no reduction {algorithm!r}{nearest(algorithm, table)}")
    return table[algorithm](n, root)


def _way_back(n: int, root: int, algorithm: str, group: int | None = None) -> Messages:
    if algorithm in _PLACES:
        return lines.two_phase_broadcast(n, group, _PLACES[algorithm])
    if algorithm == "chain":
        return lines.chain_broadcast(n, root)
    if algorithm == "tree":
        return lines.tree_broadcast(n, root)
    return lines.star_broadcast(n, root)


def _everyone_to_all(n: int) -> Messages:
    member = np.arange(n)
    source = np.repeat(member, n - 1)
    table = messages(0, source, np.concatenate([np.delete(member, i) for i in member]), source)
    return replace(table, stream=source)


def _grid(rows: int, columns: int) -> tuple[Ints, Ints, Ints]:
    """Members by rows and by columns, and the first part of every column."""
    member = np.arange(rows * columns).reshape(rows, columns)
    return member, member.T, np.arange(columns) * rows


def _rows_then_columns(rows: int, columns: int) -> Messages:
    by_row, by_column, part = _grid(rows, columns)
    no_offset = np.zeros(rows, np.int64)
    across = over_lines(lines.ring_reduce_scatter(columns), by_row, no_offset, rows)
    return one_after_another([across, over_lines(lines.ring_reduce_scatter(rows), by_column, part)])


def _columns_then_rows(rows: int, columns: int) -> Messages:
    by_row, by_column, part = _grid(rows, columns)
    no_offset = np.zeros(rows, np.int64)
    across = over_lines(lines.ring_all_gather(columns), by_row, no_offset, rows)
    return one_after_another([over_lines(lines.ring_all_gather(rows), by_column, part), across])


def _through_one_column(rows: int, columns: int, line: str) -> Messages:
    by_row, by_column, _ = _grid(rows, columns)
    no_offset = np.zeros(rows, np.int64)
    at, root = _root(columns, line, None), _root(rows, line, None)
    both_ways = [_reduction(rows, line, root), _way_back(rows, root, line)]
    return one_after_another(
        [
            over_lines(_reduction(columns, line, at), by_row, no_offset),
            renamed(one_after_another(both_ways), by_column[at]),
            over_lines(_way_back(columns, at, line), by_row, no_offset),
        ]
    )


def _own_part(nodes: Ints) -> npt.NDArray[np.bool_]:
    """(n, n) which part belongs to which member."""
    if nodes.ndim == 1:
        return np.eye(len(nodes), dtype=np.bool_)
    rows, columns = nodes.shape
    part = np.arange(nodes.size).reshape(columns, rows).T.ravel()
    return part[:, np.newaxis] == np.arange(nodes.size)
