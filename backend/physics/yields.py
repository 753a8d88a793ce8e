"""Shares of cores, dies and wafers that work, from areas and the defects of a process.

A defect kills the core that it hits; in an area that a die states, or in the interface of a memory,
it kills the die. Between those lie wires and empty silicon, where it does no harm, and links have
spare lanes (UCIe 1.1, section 4.3, lane repair). Redundancy inside a core is not modelled.

Murphy's and the negative binomial yield are averages of Poisson's, exp(-area density), over a
density that varies from die to die: triangular about its mean (Murphy, Proc. IEEE 52, 1964), or
gamma-distributed (Stapper, IBM J. Res. Dev. 27, 1983). So cores of one die fail together more often
than alone, and a die with spares is averaged over the same densities. Dies fail independently.

Figures are floats, or arrays of them with one entry a design point.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...ir.errors import UserError
from ...ir.hardware import Core, Die, Hardware, Wafer
from ...ir.technology import Defects, Technology
from .stacked import die_interface_area_m2

Figure: TypeAlias = Any
"""A float, or an array of them."""

_TRIANGLE_NODES = 6
"""On each half of the triangle; up to 5 defects expected a die, yields come out within 1e-6."""

_QUANTILE_NODES = 24
"""Yields come out within 1e-6."""

_TINY = 1e-300
"""Below any chance that matters."""

_ROUNDING = 1e-6
"""By how much a count that is computed may miss a whole number."""

_FEW = 8
"""So many dead parts are counted one by one, which is faster than the beta function."""

_UNCLUSTERED = 1e9
"""Above this clustering the negative binomial is Poisson's in all digits that matter."""


# Areas.


def murphy(expected: Figure) -> Figure:
    """((1 - exp(-x)) / x)^2 for x defects expected in an area; 1 at x = 0."""
    some = np.where(expected > 0, expected, 1.0)
    return np.where(expected > 0, np.expm1(-some) / -some, 1.0)[()] ** 2


def negative_binomial(expected: Figure, clustering: Figure) -> Figure:
    """(1 + x / c)^-c for x defects expected; the larger c is, the nearer to Poisson's."""
    bounded = np.minimum(clustering, _UNCLUSTERED)
    return np.exp(-bounded * np.log1p(expected / bounded))


def poisson(expected: Figure) -> Figure:
    """exp(-x) for x defects expected."""
    return np.exp(-expected)


def share_without_defect(area_m2: Figure, defects: Defects) -> Figure:
    """Share of such areas that no defect hits."""
    expected = area_m2 * defects.per_m2
    if defects.model == "murphy":
        return murphy(expected)
    return negative_binomial(expected, defects.clustering)


# Counts.


def at_most_dead(most: Figure, made: Figure, dead: Figure) -> Figure:
    """Probability that at most `most` of `made` parts are dead, each with probability `dead`.

    The binomial's lower tail: the sum of its terms where those are few, else a regularized
    incomplete beta function (Abramowitz and Stegun, 26.5.24), which stays exact for millions of
    parts. `most` is a whole number; `made` need not be.
    """
    left = made - most
    some = np.where(left > 0, left, 1.0)
    if np.max(most) <= _FEW:
        tail = _few_dead(most, some, dead)
    else:
        from scipy import special

        tail = special.betaincc(np.maximum(most, 0) + 1.0, some, dead)
    return np.where(most < 0, 0.0, np.where(left > 0, tail, 1.0))[()]


def _few_dead(most: Figure, left: Figure, dead: Figure) -> Figure:
    """Sum over n <= most of C(left + most, n) dead^n alive^(left + most - n)."""
    most = int(np.max(most)) if np.size(most) == 1 else most
    alive, made = 1.0 - dead, left + most
    ways, total = 1.0, 0.0
    for n in range(int(np.max(most)) + 1):
        total = total + (n <= most) * ways * dead**n * alive ** np.maximum(most - n, 0)
        ways = ways * (made - n) / (n + 1)
    # Twice as fast as a power, which it stands for.
    all_left = np.exp(left * np.log(np.maximum(alive, _TINY)))
    return np.minimum(all_left * total, 1.0)


def at_least(needed: Figure, made: Figure, dead: Figure) -> Figure:
    """Probability that at least `needed` of `made` parts work, each dead with `dead`.

    Neither needs to be whole; a part of one more that may be dead is none.
    """
    return at_most_dead(np.floor(made - needed + _ROUNDING), made, dead)


def exactly_dead(count: int, made: Figure, dead: Figure) -> Figure:
    """Probability that `count` of `made` parts are dead, each with probability `dead`."""
    ways = 1.0
    for n in range(count):
        ways = ways * (made - n) / (n + 1)
    return ways * dead**count * (1.0 - dead) ** np.maximum(made - count, 0)


def dead_among(most: int, groups: Sequence[tuple[Figure, Figure]]) -> list[Figure]:
    """Probabilities of 0, 1 .. `most` dead parts in all groups of (made, dead probability)."""
    total: list[Figure] = [1.0] + [0.0] * most
    for made, dead in groups:
        own = [exactly_dead(count, made, dead) for count in range(most + 1)]
        total = [sum(total[i] * own[n - i] for i in range(n + 1)) for n in range(most + 1)]
    return total


# Parts.


def yield_of(part: Core | Die | Wafer | Hardware) -> Figure:
    """Share of the parts made that work; of a system, of its wafers, which are tested first.

    Raises UserError where a technology gives no density of defects.
    """
    match part:
        case Core():
            return share_without_defect(part.area_m2, defects_of(part.technology))
        case Die():
            return die_yield(part)
        case Wafer():
            return wafer_yield(part)
        case Hardware():
            return wafer_yield(part.wafer)


def defects_of(technology: Technology) -> Defects:
    """The defects of a process; raises UserError where its technology gives none."""
    if technology.defects is None:
        raise UserError(f"a yield needs the defect_density of technology {technology.name}")
    return technology.defects


def die_yield(die: Die, needed: Figure | None = None) -> Figure:
    """Share of the dies made that work.

    With spares, rows shift past as many dead cores as there are spare columns, and as many rows as
    there are spare rows may have more; or columns and rows change places, whichever saves more
    dies. Both are ways to repair, so the share is a lower bound of what the best way gives. Cores
    of patches have no spares; the others are taken to be equally many in every row and column.

    With `needed`, a die works if that many of all its cores do, wherever they lie: a network routes
    around the dead ones.
    """
    defects = defects_of(die.core.technology)
    fragile = fragile_m2(die)
    (core, count), *patches = die.kinds
    patched = [(kind.area_m2, many) for kind, many in patches]

    if needed is not None:
        made = cores_made(die)
        area = core.area_m2 * (made - sum(many for _, many in patched))
        mean = (area + sum(size * many for size, many in patched)) / made
        none_dead = share_without_defect(fragile + needed * mean, defects)
        density, weights = _densities(defects)
        tail = at_least(_over(needed), _over(made), -np.expm1(-_over(mean) * density))
        return np.maximum(none_dead, _mean(tail * poisson(_over(fragile) * density), weights))

    fixed = fragile + sum(size * many for size, many in patched)
    none_dead = share_without_defect(fixed + count * core.area_m2, defects)
    if not np.any(die.spare_rows) and not np.any(die.spare_columns):
        return none_dead
    density, weights = _densities(defects)
    dead = -np.expm1(-_over(core.area_m2) * density)
    rows, columns = _over(die.rows), _over(die.columns)
    spares = _over(die.spare_rows), _over(die.spare_columns)
    works = np.zeros(())
    if np.any(die.spare_columns):
        by_row = _shifted((rows, spares[0]), (_over(count) / rows, spares[1]), dead)
        works = np.maximum(works, by_row)
    if np.any(die.spare_rows):
        by_column = _shifted((columns, spares[1]), (_over(count) / columns, spares[0]), dead)
        works = np.maximum(works, by_column)
    works = _mean(works * poisson(_over(fixed) * density), weights)
    spared = (die.spare_rows > 0) | (die.spare_columns > 0)
    return np.where(spared, np.maximum(none_dead, works), none_dead)[()]


def cores_made(die: Die) -> Figure:
    """Cores of all kinds that a die is made with, spare ones included."""
    return (die.rows + die.spare_rows) * (die.columns + die.spare_columns)


def fragile_m2(die: Die) -> Figure:
    """Of a die beside its cores, where one defect kills it: the areas that it states, but for blank
    ones, and the interfaces of its memories."""
    return die.declared_logic_m2 + die_interface_area_m2(die)


def wafer_yield(wafer: Wafer) -> Figure:
    """Share of the wafers made that are good ones.

    Where dies are tested before they are joined (known good, or on a board) only the joining can
    fail. Else, with `cores_needed`, that many cores of the dies that work must work; without it all
    dies but the spare ones.
    """
    bonded = wafer.link.bonding_yield
    if joins_tested_dies(wafer):
        lost = [(count, 1.0 - bonded) for _, count in wafer.kinds]
        return _all_but_spares(wafer, lost)
    if wafer.cores_needed is None:
        lost = [(count, 1.0 - die_yield(die) * bonded) for die, count in wafer.kinds]
        return _all_but_spares(wafer, lost)
    return _enough_cores(wafer, wafer.cores_needed)


def joins_tested_dies(wafer: Wafer) -> bool:
    """Whether dies are tested before they are joined."""
    return wafer.board or wafer.link.known_good


def passing_die_yield(wafer: Wafer, die: Die) -> Figure:
    """Share of dies that pass their test: with `cores_needed`, those with their share of it."""
    if wafer.cores_needed is None:
        return die_yield(die)
    dies = wafer.rows * wafer.columns
    made = sum(count * cores_made(kind) for kind, count in wafer.kinds)
    share = wafer.cores_needed / (made * (1.0 - wafer.spare_dies / dies))
    return die_yield(die, np.minimum(share, 1.0) * cores_made(die))


def _all_but_spares(wafer: Wafer, groups: Sequence[tuple[Figure, Figure]]) -> Figure:
    most = int(np.max(wafer.spare_dies))
    chances = dead_among(most, groups)
    return sum(chance * (n <= wafer.spare_dies) for n, chance in enumerate(chances))


def _enough_cores(wafer: Wafer, needed: Figure) -> Figure:
    """Over the dies that may be lost: the chance to lose so many, times that of enough cores.

    Cores of several kinds die as often as their average does (Hoeffding, Ann. Math. Stat. 27, 1956:
    a lower bound where fewer dead cores are expected than may be).
    """
    bonded, dies = wafer.link.bonding_yield, wafer.rows * wafer.columns
    groups: list[tuple[Figure, Figure]] = []
    made = dead = 0.0
    for die, count in wafer.kinds:
        defects = defects_of(die.core.technology)
        alive = share_without_defect(fragile_m2(die), defects)
        groups.append((count, 1.0 - alive * bonded))
        made = made + count * cores_made(die)
        (core, _), *patches = die.kinds
        patched = sum(many for _, many in patches)
        for kind, many in ((core, cores_made(die) - patched), *patches):
            dead = dead + count * many * (1.0 - share_without_defect(kind.area_m2, defects))
    most = int(np.max(wafer.spare_dies))
    total = 0.0
    for lost, chance in enumerate(dead_among(most, groups)):
        enough = at_least(needed, made * (1.0 - lost / dies), dead / made)
        total = total + chance * enough * (lost <= wafer.spare_dies)
    return total


def _shifted(lines: tuple[Figure, Figure], cores: tuple[Figure, Figure], dead: Figure) -> Figure:
    """All lines but the spare ones work, each of which works with all its cores but the spare ones;
    both are (needed, spare)."""
    line = at_most_dead(cores[1], cores[0] + cores[1], dead)
    return at_most_dead(lines[1], lines[0] + lines[1], 1.0 - line)


# The density of defects, which varies from die to die. What is averaged over it has a last axis
# for the nodes of a quadrature rule.


def _over(figure: Figure) -> npt.NDArray[np.float64]:
    return np.asarray(figure, dtype=np.float64)[..., np.newaxis]


def _mean(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> Figure:
    return (values * weights).sum(axis=-1)


def _densities(
    defects: Defects,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Densities of defects per m2, and the share of dies that each stands for."""
    if defects.model == "murphy":
        times, weights = _triangle()
        return _over(defects.per_m2) * times, weights
    from scipy import special

    quantiles, weights = _quantiles()
    clustering = _over(np.minimum(defects.clustering, _UNCLUSTERED))
    return _over(defects.per_m2) * special.gammaincinv(clustering, quantiles) / clustering, weights


@cache
def _triangle() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes and weights of a density that rises linearly from 0 to its mean 1 and falls to 2."""
    nodes, weights = _legendre(_TRIANGLE_NODES)
    return np.concatenate((nodes, 1 + nodes)), np.concatenate(
        (weights * nodes, weights * (1 - nodes))
    )


@cache
def _quantiles() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes and weights on 0 to 1, dense at both ends, where a gamma's quantiles bend: those of
    Gauss and Legendre carried over by x^2 (3 - 2 x)."""
    nodes, weights = _legendre(_QUANTILE_NODES)
    return nodes**2 * (3 - 2 * nodes), weights * 6 * nodes * (1 - nodes)


@cache
def _legendre(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gauss and Legendre's nodes and weights on 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2
