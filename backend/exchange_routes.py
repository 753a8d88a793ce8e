"""Groups of rectangles of which all send to all, on the links of wafers and between wafers.

Every core sends to those at its place in the other rectangles of its group, along the row first
and then along the column. Loads of links are differences at both ends of rectangles and running
sums between, so that a pair of rectangles costs as much as a pair of cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import Hardware
from ..ir.program import Rectangle
from . import links
from .network import Flows, fabric_of, latency_s

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Routes:
    """Seconds until all has arrived, words over the busiest link of a wafer; of all rectangles
    together words times hops, and joules of links between wafers."""

    seconds: float
    link_words: float
    word_hops: float
    link_energy_j: float


def routes_of(
    hardware: Hardware,
    places: Sequence[Rectangle],
    words: Sequence[float],
    rows: int,
    columns: int,
) -> Routes:
    """All groups of one stage at once: neighbours in `places`, of whose meshes of some rows and
    columns every core sends so many `words` to its like of each."""
    count = len(words)
    groups = [places[at : at + count] for at in range(0, len(places), count)]
    pairs = [
        (source, group[at], words[at])
        for group in groups
        for from_, at in permutations(range(count), 2)
        for source in [group[from_]]
    ]
    seconds = link_words = word_hops = 0.0
    for island in dict.fromkeys(place.island for place in places):
        own = [(a, b, w) for a, b, w in pairs if a.island == b.island == island]
        if own:
            found = _on_wafer(hardware, own, rows, columns)
            seconds = max(seconds, found.seconds)
            link_words = max(link_words, found.link_words)
            word_hops += found.word_hops
    bytes_ = hardware.core.router.width_bytes * rows * columns
    away = [(a, b, w * bytes_) for a, b, w in pairs if a.island != b.island]
    joules = 0.0
    if away:
        passed = links.exchanged(hardware, [(a.island, b.island, w) for a, b, w in away])
        out = max(links.way_out_s(hardware, place) for place in places)
        seconds = max(seconds, float(passed.seconds) + 2 * out)
        joules = float(passed.energy_j)
    return Routes(seconds, link_words, word_hops, joules)


def _on_wafer(
    hardware: Hardware,
    pairs: Sequence[tuple[Rectangle, Rectangle, float]],
    rows: int,
    columns: int,
) -> Routes:
    """Pairs of rectangles on one wafer."""
    fabric = fabric_of(hardware.wafer)
    a = np.array([(source.row, source.column) for source, _, _ in pairs]).T
    b = np.array([(target.row, target.column) for _, target, _ in pairs]).T
    words = np.array([w for _, _, w in pairs])
    last = np.maximum(a, b).max(axis=1)
    extent = int(last[0]) + rows, int(last[1]) + columns
    turned = extent[1], extent[0]
    across = _passing(extent, a[0], rows, (a[1], b[1]), columns, words)
    down = _passing(turned, b[1], columns, (a[0], b[0]), rows, words)
    rates = fabric.along_rows()[: extent[1] - 1], fabric.along_columns()[: extent[0] - 1]
    word_s = fabric.word_bytes
    busy_s = max(
        float((load[:, :-1] * word_s / rate).max(initial=0.0))
        for loads, rate in zip((across, down), rates, strict=True)
        for load in loads
    )
    sent: dict[tuple[int, int], float] = {}
    for (row, column), w in zip(a.T.tolist(), words.tolist(), strict=True):
        sent[row, column] = sent.get((row, column), 0.0) + w
    busy_s = max(busy_s, max(sent.values()) * word_s / fabric.ramp_bytes_per_s)
    alone = Flows(a[0], a[1], b[0], b[1], words * word_s, np.zeros(len(words)))
    hops = np.abs(a - b).sum(axis=0)
    return Routes(
        seconds=busy_s + float(latency_s(fabric, alone).max()),
        link_words=max(float(load.max(initial=0.0)) for load in (*across, *down)),
        word_hops=float((words * hops).sum()) * rows * columns,
        link_energy_j=0.0,
    )


def _passing(
    extent: tuple[int, int],
    lines: NDArray[np.int64],
    wide: int,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    long: int,
    words: Floats,
) -> tuple[Floats, Floats]:
    """Words over the links along some lines, up and down: arrays of (lines, places), of which
    [l, x] joins the places x and x + 1. Of each pair `long` cores in each of `wide` lines from
    `lines` on send over a line, from the places `ends[0]` on to those `ends[1]` on."""
    found: list[Floats] = []
    for start, stop in (ends, ends[::-1]):
        change = np.zeros((extent[0] + 1, extent[1] + 1))
        ahead = np.where(stop > start, words, 0.0)
        for line, sign in ((lines, 1.0), (lines + wide, -1.0)):
            for place, more in ((start, 1), (start + long, -1), (stop, -1), (stop + long, 1)):
                np.add.at(change, (line, np.minimum(place, extent[1])), sign * more * ahead)
        load = change.cumsum(axis=0).cumsum(axis=1).cumsum(axis=1)
        found.append(load[:-1, :-1])
    return found[0], found[1]
