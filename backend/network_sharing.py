"""Which flows share which links: the sparse incidence that the fluid model fills.

Neighbouring links with the same flows are one, and links that cannot limit anything are left out.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .network import Fabric, Floats, Flows, Integers

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sharing:
    """Flows and links in common; a flow may stand for `count` equal ones."""

    links: csr_array
    """(flows, links): the flow's count where it uses the link."""
    bytes_per_s: Floats
    """(links,)."""

    @cached_property
    def to_links(self) -> csr_array:
        """(links, flows): sums over flows."""
        return csr_array(self.links.T)

    @property
    def free(self) -> Mask:
        """Flows without a link in common with others: (flows,)."""
        return np.diff(self.links.indptr) == 0

    def of(self, flows: Mask) -> "Sharing":
        """Only some of the flows."""
        return Sharing(csr_array(self.links[flows]), self.bytes_per_s)

    def limiting(self, limit: Floats) -> "Sharing":
        """Only links whose flows could together ask for more than there is; `limit` is (flows,)."""
        wanted = self.to_links @ limit
        scarce = wanted > self.bytes_per_s * (1 + 1e-12)
        return Sharing(csr_array(self.links[:, scarce]), self.bytes_per_s[scarce])

    def least_of_links(self, value: Floats) -> Floats:
        """(flows,): the least of each flow's links; every flow has at least one."""
        return np.minimum.reduceat(value[self.links.indices], self.links.indptr[:-1])

    def any_of_links(self, value: Mask) -> Mask:
        """(flows,): whether any of a flow's links has it."""
        return np.logical_or.reduceat(value[self.links.indices], self.links.indptr[:-1])

    def least_of_flows(self, value: Floats) -> Floats:
        """(links,): the least of each link's flows; every link has at least one."""
        return np.minimum.reduceat(value[self.to_links.indices], self.to_links.indptr[:-1])


@dataclass(frozen=True)
class _Stretches:
    """Straight parts of routes over links lo to hi - 1 of a line: arrays of one length."""

    flow: Integers
    line: Integers
    lo: Integers
    hi: Integers


def shared_links(fabric: Fabric, flows: Flows, count: Floats) -> Sharing:
    """Links and ramps of flows that all travel; `count` is (flows,)."""
    flow, link, bytes_per_s = _on_lines(fabric, _stretches(fabric, flows), count)
    every = np.arange(len(flows))
    sources, source = np.unique(
        flows.source_row * fabric.columns + flows.source_column, return_inverse=True
    )
    targets, target = np.unique(
        flows.target_row * fabric.columns + flows.target_column, return_inverse=True
    )
    on_lines, number = len(bytes_per_s), len(bytes_per_s) + len(sources) + len(targets)
    rows = np.concatenate((flow, every, every))
    columns = np.concatenate((link, on_lines + source, on_lines + len(sources) + target))
    ramps = np.full(len(sources) + len(targets), fabric.ramp_bytes_per_s)
    return Sharing(
        csr_array((count[rows], (rows, columns)), shape=(len(flows), number)),
        np.concatenate((bytes_per_s, ramps)),
    )


def _stretches(fabric: Fabric, flows: Flows) -> _Stretches:
    """Along the row and along the column; lines are eastward, westward, southward, northward."""
    every = np.arange(len(flows))
    west = flows.target_column < flows.source_column
    north = flows.target_row < flows.source_row
    line = np.concatenate(
        (
            flows.source_row + west * fabric.rows,
            2 * fabric.rows + flows.target_column + north * fabric.columns,
        )
    )
    begin = np.concatenate((flows.source_column, flows.source_row))
    end = np.concatenate((flows.target_column, flows.target_row))
    moves = begin != end
    return _Stretches(
        np.concatenate((every, every))[moves],
        line[moves],
        np.minimum(begin, end)[moves],
        np.maximum(begin, end)[moves],
    )


def _on_lines(fabric: Fabric, on: _Stretches, count: Floats) -> tuple[Integers, Integers, Floats]:
    """Pairs of a flow and a link, and the links' bytes/s.

    A line is cut where stretches begin or end. Links of a piece have the same flows, so the
    slowest stands for all; a piece whose flows are all in the next or the last piece, which is no
    faster, limits nothing.
    """
    span = max(fabric.rows, fabric.columns)
    points, at = np.unique(
        np.concatenate((on.line * span + on.lo, on.line * span + on.hi)), return_inverse=True
    )
    begin, end = at[: len(on.line)], at[len(on.line) :]
    begins = np.bincount(begin, count[on.flow], len(points))
    ends = np.bincount(end, count[on.flow], len(points))
    bytes_per_s = _slowest(
        fabric, points // span, points % span, np.diff(points, append=points[-1:])
    )
    used = np.cumsum(begins - ends) > 1
    in_next = (np.roll(ends, -1) == 0) & (np.roll(bytes_per_s, -1) <= bytes_per_s)
    in_last = (begins == 0) & (np.roll(bytes_per_s, 1) <= bytes_per_s)
    kept = used & ~in_next & ~in_last
    number = np.append(0, np.cumsum(kept))
    first, beyond = number[begin], number[end]
    lengths = beyond - first
    flow = np.repeat(on.flow, lengths)
    link = np.arange(len(flow)) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
    return flow, link, bytes_per_s[kept]


def _slowest(fabric: Fabric, line: Integers, lo: Integers, length: Integers) -> Floats:
    """Bytes/s of the slowest of `length` links from `lo` on."""
    die = np.where(line < 2 * fabric.rows, fabric.die_columns, fabric.die_rows)
    crossings = (lo + length) // die - lo // die
    inside = np.where(length > crossings, fabric.link_bytes_per_s, np.inf)
    return np.minimum(inside, np.where(crossings > 0, fabric.crossing_bytes_per_s, np.inf))
