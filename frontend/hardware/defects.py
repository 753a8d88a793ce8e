"""The dead cores, dies and links of a wafer: those that `defects { .. }` names, and those drawn at
random from a density and a seed.

What they do to yield is in backend/; what the compiler makes of them is in passes/.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from ...ir import hardware as ir
from ...ir.errors import UserError
from . import syntax
from .binding import OneByOneError
from .fields import EDGES, PARTS
from .read import inner, read
from .units import InvalidPointError
from .view import View

Place = tuple[int, int]

MOST_DRAWN = 100_000
"""Dead cores of a wafer, and dies that it may have; those of today have some thousands of dead
cores."""


@dataclass(frozen=True)
class Stand:
    """What defects see of one kind of die, and the rectangle of the wafer's grid that it fills.

    Figures may be arrays, one entry a point of a batch. `fragile_m2` is the area beside the cores
    in which a defect kills the die: what it states, and the interfaces of its memories. `patches`
    are the rectangles of other cores, as first row and column, rows, columns and area of a core.
    """

    name: str
    corner: tuple[Any, Any]
    size: tuple[Any, Any]
    rows: Any
    columns: Any
    spare_rows: Any
    spare_columns: Any
    core_m2: Any
    fragile_m2: Any
    patches: tuple[tuple[Any, ...], ...]

    def covers(self, row: int, column: int) -> bool:
        down, across = row - self.corner[0], column - self.corner[1]
        return 0 <= down < self.size[0] and 0 <= across < self.size[1]


def stand(die: ir.Die, corner: tuple[Any, Any], size: tuple[Any, Any]) -> Stand:
    """A kind of die in a rectangle of a wafer's grid."""
    return Stand(
        name=die.name,
        corner=corner,
        size=size,
        rows=die.rows,
        columns=die.columns,
        spare_rows=die.spare_rows,
        spare_columns=die.spare_columns,
        core_m2=die.core.area_m2,
        fragile_m2=die.declared_logic_m2 + sum(memory.phy_area_m2 for memory in die.memories),
        patches=tuple((p.row, p.column, p.rows, p.columns, p.core.area_m2) for p in die.patches),
    )


@dataclass(frozen=True)
class Ground:
    """The grid of a wafer: which die stands where. The last of `stands` that covers a place counts,
    the first covers all."""

    view: View
    rows: Any
    columns: Any
    stands: tuple[Stand, ...]

    def at(self, row: int, column: int) -> Stand:
        return next(stand for stand in reversed(self.stands) if stand.covers(row, column))

    @cached_property
    def places(self) -> list[tuple[Stand, list[Place]]]:
        """Every kind of die with the places where it stands."""
        places = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        if len(self.stands) == 1:
            return [(self.stands[0], places)]
        standing = [(kind, [at for at in places if self.at(*at) is kind]) for kind in self.stands]
        return [(kind, found) for kind, found in standing if found]

    @cached_property
    def cores(self) -> Any:
        """Cores of all dies, spare ones of a die not counted."""
        first, *others = self.stands
        patched = sum(kind.size[0] * kind.size[1] for kind in others)
        own = (self.rows * self.columns - patched) * first.rows * first.columns
        return own + sum(kind.size[0] * kind.size[1] * kind.rows * kind.columns for kind in others)

    def point(self, at: int) -> "Ground":
        """The grid in one point of a batch."""
        stands = tuple(Stand(*_of_point(vars(kind).values(), at)) for kind in self.stands)
        rows, columns = _of_point((self.rows, self.columns), at)
        return Ground(self.view, int(rows), int(columns), stands)


@dataclass(frozen=True)
class Dead:
    """What is dead; `cores` counts those of dead dies too."""

    dies: tuple[Place, ...] = ()
    dead_cores: tuple[ir.DeadCore, ...] = ()
    links: tuple[ir.DeadLink, ...] = ()
    cores: Any = 0


def defects(ground: Ground) -> Dead:
    """What is dead on a wafer. Of a batch of points, where it differs, only how many cores are.

    Raises OneByOneError for a batch that needs more than the number.
    """
    blocks = inner(ground.view, "defects")
    if not blocks:
        return Dead()
    (block,) = blocks
    values = read(block, PARTS["wafer"].blocks["defects"])
    points = ground.view.scope.binding.points
    figures = (ground.rows, ground.columns, *(tuple(vars(kind).values()) for kind in ground.stands))
    if points is None or not _differs((*figures, *values.values())):
        return _dead(ground, block, values)
    if "usable" in ground.view.fields or "spares" in ground.view.fields:
        raise OneByOneError
    return _counted(ground, block, values)


def _counted(ground: Ground, block: View, values: Mapping[str, Any]) -> Dead:
    binding = ground.view.scope.binding
    assert binding.points is not None
    fine = np.broadcast_to(binding.valid, (binding.points,)).copy()
    cores = np.zeros(binding.points, int)
    for at in np.flatnonzero(fine).tolist():
        point = dict(zip(values, _of_point(values.values(), at), strict=True))
        try:
            cores[at] = _dead(ground.point(at), block, point).cores
        except InvalidPointError:
            fine[at] = False
    binding.require(fine, lambda: "", None)
    return Dead(cores=cores)


def _differs(figures: Iterable[Any]) -> bool:
    """Whether some figure is an array, one entry a point."""
    return any(
        _differs(figure) if isinstance(figure, tuple) else isinstance(figure, np.ndarray)
        for figure in figures
    )


def _of_point(figures: Iterable[Any], at: int) -> Iterator[Any]:
    """Figures as they are in one point of a batch."""
    for figure in figures:
        if isinstance(figure, np.ndarray):
            number = figure[at].item()
            yield int(number) if number == int(number) else number
        elif isinstance(figure, tuple):
            yield tuple(_of_point(figure, at))
        else:
            yield figure


def _dead(ground: Ground, block: View, values: Mapping[str, Any]) -> Dead:
    dies, cores, links = _named(ground, block)
    if values["density"] is not None:
        if values["seed"] is None:
            raise UserError(
                f"{block.label}: defects drawn from a density need a seed", block.block.location
            )
        drawn = _drawn(ground, block, values)
        dies = [*dict.fromkeys([*dies, *drawn[0]])]
        cores = [*dict.fromkeys([*cores, *drawn[1]])]
    elif values["seed"] is not None or values["clustering"] is not None:
        raise UserError(f"{block.label}: field density is missing", block.block.location)
    alive = tuple(core for core in cores if core.die not in dies)
    lost = sum(ground.at(*place).rows * ground.at(*place).columns for place in dies)
    return Dead(tuple(dies), alive, tuple(links), lost + len(alive))


def _named(ground: Ground, block: View) -> tuple[list[Place], list[ir.DeadCore], list[ir.DeadLink]]:
    """Those that the block names, each checked against its grid."""
    dies: list[Place] = []
    cores: list[ir.DeadCore] = []
    links: list[ir.DeadLink] = []
    for dead in block.block.items:
        if not isinstance(dead, syntax.Dead):
            continue
        of = None if dead.of_at is None else _die_at(ground, dead.of_at, dead)
        plain = dead.side is None
        match dead.what, dead.of:
            case "die", None if plain:
                dies.append(_die_at(ground, dead.at, dead))
            case "core", "die" if of is not None and plain:
                cores.append(ir.DeadCore(of, _core_at(ground, of, dead)))
            case "link", None if dead.side in EDGES:
                place = _die_at(ground, dead.at, dead)
                _check_neighbour(place, dead, (ground.rows, ground.columns), "die")
                links.append(ir.DeadLink(place, None, cast(ir.Edge, dead.side)))
            case "link", "die" if of is not None and dead.side in EDGES:
                core = _core_at(ground, of, dead)
                _check_neighbour(core, dead, _grid(ground.at(*of)), "core")
                links.append(ir.DeadLink(of, core, cast(ir.Edge, dead.side)))
            case _:
                raise UserError(
                    "expected 'dead die 11, 6', 'dead core 3, 5 of die 0, 2', 'dead link 3, 5 "
                    "east', of a die, or 'dead link 3, 5 east of die 0, 2', of a core",
                    dead.location,
                )
    _check_dead_once(ground.view, block, [*dies, *cores, *links])
    return dies, cores, links


def _grid(die: Stand) -> Place:
    return die.rows, die.columns


def _die_at(ground: Ground, at: tuple[float, float], dead: syntax.Dead) -> Place:
    return _place("die", at, (ground.rows, ground.columns), ground.view.label, dead)


def _core_at(ground: Ground, of: Place, dead: syntax.Dead) -> Place:
    die = ground.at(*of)
    return _place("core", dead.at, _grid(die), f"die {die.name}", dead)


def _check_neighbour(place: Place, dead: syntax.Dead, grid: Place, what: str) -> None:
    step = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}[str(dead.side)]
    row, column = place[0] + step[0], place[1] + step[1]
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise UserError(f"{what} {_at(place)} has no neighbour in the {dead.side}", dead.location)


def _check_dead_once(
    view: View, block: View, items: list[Place | ir.DeadCore | ir.DeadLink]
) -> None:
    repeated = [item for item, times in Counter(items).items() if times > 1]
    if repeated:
        raise UserError(
            f"{view.label}: {_described(repeated[0])} is named dead twice", block.block.location
        )


def _described(item: Place | ir.DeadCore | ir.DeadLink) -> str:
    match item:
        case ir.DeadCore():
            return f"core {_at(item.core)} of die {_at(item.die)}"
        case ir.DeadLink(die, core, side):
            of = "" if core is None else f" of die {_at(die)}"
            return f"link {_at(core or die)} {side}{of}"
        case _:
            return f"die {_at(item)}"


def _at(place: Place) -> str:
    return f"{place[0]}, {place[1]}"


def _place(what: str, at: tuple[float, float], grid: Place, of: str, dead: syntax.Dead) -> Place:
    row, column = at
    if row != int(row) or column != int(column) or row >= grid[0] or column >= grid[1]:
        raise InvalidPointError(
            f"{of} has no {what} {row:g}, {column:g}: it has {grid[0]} x {grid[1]}, counted "
            "from zero",
            dead.location,
        )
    return int(row), int(column)


# Drawn at random.


def _drawn(
    ground: Ground, block: View, values: Mapping[str, Any]
) -> tuple[list[Place], list[ir.DeadCore]]:
    """Dies and cores that a draw of defects kills.

    Defects are Poisson's, of a rate that varies from die to die by a gamma distribution where they
    cluster (Stapper, IBM J. Res. Dev. 1983, which integrates to the negative binomial). One in a
    core kills it, one in the areas that a die states or in the interface of a memory kills the die;
    what is between is wires. A row of a die shifts past as many dead cores as it has spares.
    Raises InvalidPointError for more than MOST_DRAWN.
    """
    if ground.rows * ground.columns > MOST_DRAWN:
        raise InvalidPointError(
            f"{block.label}: defects are drawn for at most {MOST_DRAWN:,} dies",
            block.block.location,
        )
    random = np.random.default_rng(values["seed"])
    dies: list[Place] = []
    cores: list[ir.DeadCore] = []
    for die, places in ground.places:
        per_m2 = np.full(len(places), values["density"])
        if values["clustering"] is not None:
            per_m2 *= random.gamma(values["clustering"], size=len(places)) / values["clustering"]
        killed = random.random(len(places)) < -np.expm1(-per_m2 * die.fragile_m2)
        dies += [places[at] for at in np.flatnonzero(killed)]
        areas_m2 = _core_areas_m2(die)
        defects = random.poisson(np.minimum(per_m2 * areas_m2.sum(), MOST_DRAWN))
        if len(cores) + defects.sum() > MOST_DRAWN:
            raise InvalidPointError(
                f"{block.label}: the density kills more than {MOST_DRAWN:,} cores",
                block.block.location,
            )
        ends, last = np.cumsum(areas_m2), np.cumsum(defects)
        hit = np.searchsorted(ends, random.random(last[-1]) * ends[-1]).clip(max=ends.size - 1)
        for at in np.flatnonzero(defects):
            made = sorted({*hit[last[at] - defects[at] : last[at]].tolist()})
            dead = [divmod(core, areas_m2.shape[1]) for core in made]
            cores += [ir.DeadCore(places[at], core) for core in _not_repaired(die, dead)]
    return dies, cores


def _core_areas_m2(die: Stand) -> np.ndarray:
    """Of each core of a die, spare ones included."""
    areas = np.full((die.rows + die.spare_rows, die.columns + die.spare_columns), die.core_m2)
    for row, column, rows, columns, core_m2 in die.patches:
        areas[row : row + rows, column : column + columns] = core_m2
    return areas


def _not_repaired(die: Stand, hit: list[Place]) -> Iterator[Place]:
    """The dead cores that are left, as the cores are numbered without spares.

    Rows shift past dead cores by spare columns; what a row has too many of, columns shift past by
    spare rows; what is left is dead, where the shifts have moved it.
    """
    by_row: dict[int, list[int]] = defaultdict(list)
    for row, column in hit:
        by_row[row].append(column)
    in_column: Counter[int] = Counter()
    for row in sorted(by_row):
        for made_at in by_row[row][die.spare_columns :]:
            column = made_at - die.spare_columns
            in_column[column] += 1
            if in_column[column] > die.spare_rows:
                yield row - die.spare_rows, column
