"""Flow-level network model: flows share links, ramps and time max-min fairly, event by event.

Packets, buffers and arbitration are not modelled; zero-load latency is added once to each flow.
Fabric, flows and lower bounds are in network.py, the shared links in network_sharing.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .network import Fabric, Floats, Flows, Integers, latency_s, routes, whole_words
from .network_sharing import Sharing, shared_links

Mask = NDArray[np.bool_]

EQUAL = 1e-12
"""Rates whose relative difference is less are one rate."""
TOGETHER = 1e-9
"""Ends whose relative difference is less are one event."""
SHRUNK = 0.75
"""Part of the flows that is left when links that no longer limit any are looked for again."""


def fluid(fabric: Fabric, flows: Flows) -> Floats:
    """When the last word of each flow arrives: (flows,), in seconds.

    Between events every flow has its max-min fair rate (progressive filling; Bertsekas and
    Gallager, Data Networks, 1992, section 6.5.2) on links, injection and ejection; an event is a
    release or an end. Flows that share no limiting link, even through others, do not wait for
    each other's events: the number of array operations is that of the busiest such group's
    events. Latency (`latency_s`) is added to the end, so that a flow alone takes `zero_load_s`.
    """
    finish_s = flows.release_s.astype(np.float64)
    sent = np.flatnonzero(flows.travel)
    if len(sent) == 0:
        return finish_s
    distinct, group, count = _grouped(flows[sent])
    ends_s = _simulate(fabric, distinct, count)
    finish_s[sent] = (ends_s + latency_s(fabric, distinct))[group]
    return finish_s


def _grouped(flows: Flows) -> tuple[Flows, Integers, Floats]:
    """The distinct flows, which of them each flow is, and how many each stands for."""
    keys = np.stack(
        (
            flows.source_row,
            flows.source_column,
            flows.target_row,
            flows.target_column,
            flows.bytes,
            flows.release_s,
        )
    )
    order = np.lexsort(keys)
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(keys[:, order]) != 0).any(axis=0)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(fresh) - 1
    return flows[order[fresh]], group, np.bincount(group).astype(np.float64)


@dataclass
class _State:
    """Flows that have not ended: arrays of one length; overwritten as time goes on."""

    flow: Integers
    left_bytes: Floats
    waiting: Mask
    """Not yet released."""
    since_s: Floats
    """For which time `left_bytes` holds; the release while waiting."""

    def kept(self, which: Mask) -> "_State":
        return _State(
            self.flow[which], self.left_bytes[which], self.waiting[which], self.since_s[which]
        )


def _simulate(fabric: Fabric, flows: Flows, count: Floats) -> Floats:
    """When the last byte of each flow is sent, latency apart: (flows,), in seconds."""
    ends_s = np.empty(len(flows))
    limit = routes(fabric, flows).slowest_bytes_per_s
    sharing = shared_links(fabric, flows, count)
    state = _State(
        flow=np.arange(len(flows)),
        left_bytes=whole_words(fabric, flows) * fabric.word_bytes,
        waiting=np.ones(len(flows), dtype=bool),
        since_s=flows.release_s.astype(np.float64),
    )
    while True:
        sharing = sharing.limiting(limit[state.flow])
        free = sharing.free
        alone = state.flow[free]
        ends_s[alone] = state.since_s[free] + state.left_bytes[free] / limit[alone]
        state, sharing = state.kept(~free), sharing.of(~free)
        if len(state.flow) == 0:
            return ends_s
        ended = _advance(sharing, state, limit[state.flow], ends_s)
        state, sharing = state.kept(~ended), sharing.of(~ended)


def _advance(sharing: Sharing, state: _State, limit: Floats, ends_s: Floats) -> Mask:
    """Runs events until enough flows have ended; returns which. Every set has its own clock."""
    sets, label = _independent(sharing)
    clock_s = np.full(sets, np.inf)
    np.minimum.at(clock_s, label, state.since_s)
    ended = np.zeros(len(label), dtype=bool)
    while ended.sum() <= (1 - SHRUNK) * len(label):
        running = ~(state.waiting | ended)
        rate = fair_rates(sharing, limit, running)
        to_end_s = np.divide(state.left_bytes, rate, out=np.full(len(label), np.inf), where=running)
        to_start_s = np.where(state.waiting, state.since_s - clock_s[label], np.inf)
        step_s = np.full(sets, np.inf)
        np.minimum.at(step_s, label, np.minimum(to_end_s, to_start_s))
        near_s = step_s[label] * (1 + TOGETHER)
        ending = running & (to_end_s <= near_s)
        ends_s[state.flow[ending]] = (clock_s[label] + to_end_s)[ending]
        step_s[np.isinf(step_s)] = 0.0
        clock_s += step_s
        state.left_bytes -= rate * step_s[label]
        state.waiting &= ~(to_start_s <= near_s)
        state.since_s = np.where(state.waiting, state.since_s, clock_s[label])
        ended |= ending
    return ended


def _independent(sharing: Sharing) -> tuple[int, NDArray[np.int32]]:
    """Sets of flows without a link in common: their number and the set of each flow."""
    links = sharing.links
    flows, number = len(links.indptr) - 1, len(sharing.bytes_per_s)
    pairs = csr_array(
        (links.data, links.indices + flows, np.append(links.indptr, [links.nnz] * number)),
        shape=(flows + number, flows + number),
    )
    sets, label = connected_components(pairs, directed=False)
    return sets, label[:flows]


def fair_rates(sharing: Sharing, limit: Floats, running: Mask) -> Floats:
    """Max-min fair rate of each running flow, at most its `limit`: (flows,), in bytes/s.

    All links at which every flow's least share is the link's own are filled at once: what other
    links do can no longer change them.
    """
    rate = np.zeros(len(limit))
    left = sharing.bytes_per_s.copy()
    open_ = running.copy()
    while open_.any():
        users = sharing.to_links @ open_.astype(np.float64)
        share = np.divide(left, users, out=np.full(len(left), np.inf), where=users > 0)
        least = np.minimum(limit, sharing.least_of_links(share))
        filled = sharing.least_of_flows(np.where(open_, least, np.inf)) >= share * (1 - EQUAL)
        fixed = open_ & ((least >= limit * (1 - EQUAL)) | sharing.any_of_links(filled))
        rate[fixed] = least[fixed]
        left = np.maximum(left - sharing.to_links @ (rate * fixed), 0.0)
        open_ &= ~fixed
    return rate
