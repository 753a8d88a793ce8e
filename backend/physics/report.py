"""What physics says of one design, as facts for `wscc check`: power by component, yields, costs.

Each says whether it is computed or stated; what the spec lacks for one is its text. Printing is
the caller's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Literal

from ...ir.errors import UserError
from ...ir.hardware import Core, Die, Hardware, Wafer
from . import cost, power, yields

Basis = Literal["computed", "stated"]


@dataclass(frozen=True)
class PhysicsFact:
    """One line; `value` is in SI or USD, None where it cannot be computed."""

    key: str
    label: str
    value: float | None
    text: str
    basis: Basis = "computed"


def physics_facts(hardware: Hardware) -> tuple[PhysicsFact, ...]:
    """Nameplate and static power of the system, and yields and costs of its parts."""
    return (*_power(hardware), *_yields(hardware), *_costs(hardware))


def _power(hardware: Hardware) -> Iterator[PhysicsFact]:
    try:
        by_component = power.nameplate(hardware)
    except UserError as lack:
        yield PhysicsFact("power_nameplate_w", "nameplate power", None, lack.message)
        return
    total = float(sum(by_component.values()))
    yield PhysicsFact("power_nameplate_w", "nameplate power", total, _watts(total))
    for name, figure in by_component.items():
        watts = float(figure)
        if watts > 0:
            basis: Basis = "stated" if name == "stated" else "computed"
            text = f"{_watts(watts)}, {watts / total:.1%}{', as stated' * (name == 'stated')}"
            yield PhysicsFact(f"power_w.{name}", f"  {name.replace('_', ' ')}", watts, text, basis)
    wafer = hardware.wafer
    for key, part in (("core", wafer.die.core), ("die", wafer.die)):
        label, name = f"power_nameplate_w.{key}", f"nameplate power of {part.name}"
        yield _fact(label, name, power.power, part, _watts)
    density = float(power.power_density(hardware))
    text = f"{density * 1e-6:.3g} W/mm2 of wafer"
    yield PhysicsFact("power_density_w_per_m2", "power density", density, text)
    yield _fact("power_static_w", "static power", power.static_power, hardware, _watts)


def _yields(hardware: Hardware) -> Iterator[PhysicsFact]:
    wafer = hardware.wafer
    dies = {die.name: die for die, _ in wafer.kinds}
    cores = {core.name: core for die in dies.values() for core, _ in die.kinds}
    tested = yields.joins_tested_dies(wafer)
    of_die = partial(yields.passing_die_yield, wafer) if tested else yields.yield_of
    for name, core in cores.items():
        yield _fact(f"yield.core.{name}", f"yield of core {name}", yields.yield_of, core, _share)
    for name, die in dies.items():
        yield _fact(f"yield.die.{name}", f"yield of die {name}", of_die, die, _share)
    yield _fact("yield.wafer", f"yield of {wafer.name}", yields.yield_of, wafer, _share)


def _costs(hardware: Hardware) -> Iterator[PhysicsFact]:
    wafer = hardware.wafer
    yield _fact("cost_usd.wafer", f"cost of a good {wafer.name}", cost.cost, wafer, _dollars)
    yield _fact("cost_usd.system", "cost of the system", cost.cost, hardware, _dollars)


def _fact(
    key: str,
    label: str,
    compute: Callable[[Any], float],
    part: Core | Die | Wafer | Hardware,
    spell: Callable[[float], str],
) -> PhysicsFact:
    try:
        value = float(compute(part))
    except UserError as lack:
        return PhysicsFact(key, label, None, lack.message)
    if not isfinite(value):
        return PhysicsFact(key, label, None, "without bound: none of them works")
    return PhysicsFact(key, label, value, spell(value))


def _share(value: float) -> str:
    return f"{value:.6g}"


def _watts(watts: float) -> str:
    for factor, prefix in ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m")):
        if watts >= factor:
            return f"{watts / factor:.3g} {prefix}W"
    return f"{watts:.3g} W"


def _dollars(usd: float) -> str:
    return f"{usd:,.0f} USD"
