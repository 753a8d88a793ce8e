"""What a design takes: area, outlines, limits of geometry, capacities, power, yield, cost.

PHYSICS answers what the frontend asks (ir/physics.py); each model is a module beside this one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...ir.hardware import Constraint, Core, Die, Wafer
from ...ir.physics import Function
from ...ir.technology import Link
from . import area, capacity, cost, geometry, power, yields
from .figures import Figure, plain

_ALL = ("core", "die", "wafer", "system")
_BEYOND_CORES = ("die", "wafer", "system")


def _function(
    name: str, unit: str | None, of: tuple[str, ...], compute: Callable[..., Figure]
) -> Function:
    return Function(name, unit, of, lambda part: plain(compute(part)))


_FUNCTIONS: tuple[Function, ...] = (
    _function("area", "m2", _ALL, area.outline_m2),
    _function("power", "W", _ALL, power.power),
    _function("power_density", "W/m2", _ALL, power.power_density),
    _function("static_power", "W", _ALL, power.static_power),
    _function("yield", None, _ALL, yields.yield_of),
    _function("cost", "USD", _BEYOND_CORES, cost.cost),
    _function("cores", None, _BEYOND_CORES, capacity.cores),
    _function("peak", "flop/s", _ALL, capacity.peak),
    _function("sram", "B", _ALL, capacity.sram_bytes),
    _function("sram_bandwidth", "B/s", _ALL, capacity.sram_bandwidth),
    _function("dram", "B", _BEYOND_CORES, capacity.dram_bytes),
    _function("dram_bandwidth", "B/s", _BEYOND_CORES, capacity.dram_bandwidth),
    _function("bisection", "B/s", ("die", "wafer"), capacity.bisection),
)


@dataclass(frozen=True)
class WaferPhysics:
    """The models of this folder as ir.physics.Physics."""

    functions: Mapping[str, Function]

    def core_outline_m(self, core: Core) -> tuple[float, float] | None:
        return geometry.core_outline_m(core)

    def die_outline_m(self, die: Die, links: Link | None) -> tuple[float, float]:
        return geometry.die_outline_m(die, links)

    def limits(self, wafer: Wafer) -> tuple[Constraint, ...]:
        return geometry.limits(wafer)


PHYSICS = WaferPhysics(MappingProxyType({function.name: function for function in _FUNCTIONS}))
