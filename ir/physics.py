"""What the frontend asks of the physics while it builds a design; the answers are in backend/.

Figures are SI floats, or arrays with one entry a design point.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .hardware import Constraint, Core, Die, Wafer


@dataclass(frozen=True)
class Function:
    """A function that constraints may call on a part: `power(wafer)`."""

    name: str
    unit: str | None
    """The SI unit of what it gives, as a spec spells units; None for a plain number."""
    of: tuple[str, ...]
    """The kinds of part that it takes: core, die, wafer, system."""
    compute: Callable[[Any], Any]
    """A Core, Die, Wafer or Hardware to a figure; raises UserError where the spec lacks what it
    rests on."""


class Physics(Protocol):
    """Outlines of parts without a size, the limits that no spec needs to state, and functions."""

    @property
    def functions(self) -> Mapping[str, Function]: ...

    def core_outline_m(self, core: Core) -> tuple[float, float] | None:
        """Height and width that a core needs; None where its technology gives no densities."""
        ...

    def die_outline_m(self, die: Die, links: Any) -> tuple[float, float]:
        """Height and width that a die needs for its cores, interfaces and declared areas.

        `die` has an outline of zero; `links` is the Link that joins it to others, or None.
        """
        ...

    def limits(self, wafer: Wafer) -> tuple[Constraint, ...]:
        """What geometry demands, such as interfaces that fit the edges of their dies."""
        ...


AREA = Function("area", "m2", ("core", "die", "wafer"), lambda part: part.area_m2)
"""The outline's area."""


@dataclass(frozen=True)
class NoPhysics:
    """Parts without a size have an equal share of what they stand in; no limits, only `area()`."""

    functions: Mapping[str, Function] = field(default_factory=lambda: {"area": AREA})

    def core_outline_m(self, core: Core) -> tuple[float, float] | None:
        return None

    def die_outline_m(self, die: Die, links: Any) -> tuple[float, float]:
        rows, columns = die.rows + die.spare_rows, die.columns + die.spare_columns
        return rows * die.core.height_m, columns * die.core.width_m

    def limits(self, wafer: Wafer) -> tuple[Constraint, ...]:
        return ()
