"""What `wscc check` says of a design, as data: a key, a label, a figure in SI and its text.

Printing is the caller's; the sources of a spec's figures are here too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...ir.hardware import Constraint, Hardware
from . import syntax
from .files import SourceFile

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True)
class Fact:
    """One line of a summary; `value` is in SI, `text` is for a person."""

    key: str
    label: str
    value: float | str | bool
    text: str


@dataclass(frozen=True)
class Source:
    """Where a figure of a spec comes from."""

    file: str
    line: int
    part: str
    figure: str
    """As written: `clock = 1.1 GHz`."""
    source: str


def summary(hardware: Hardware, power: Callable[[Any], float] | None = None) -> tuple[Fact, ...]:
    """The figures that a chip architect checks first, and what was assumed where the spec says
    nothing; nameplate power where `power` is given.

    `power` takes a core, a die or a wafer and returns watts.
    """
    figures = (*_counts(hardware), *_areas(hardware), *_power(hardware, power))
    return (*figures, *_limits(hardware), *_assumed(hardware))


def _counts(hardware: Hardware) -> Iterator[Fact]:
    wafer, die = hardware.wafer, hardware.wafer.die
    yield Fact("wafers", "wafers", hardware.wafers, f"{hardware.wafers} of {wafer.name}")
    yield Fact(
        "dies",
        "dies",
        hardware.dies,
        f"{hardware.dies:,} ({wafer.rows} x {wafer.columns} of {die.name} a wafer)",
    )
    yield Fact(
        "cores",
        "cores in use",
        hardware.cores,
        f"{hardware.cores:,} ({die.rows} x {die.columns} of {die.core.name} a die, "
        f"{wafer.usable_rows} x {wafer.usable_columns} usable)",
    )
    yield Fact("sram_bytes", "SRAM", hardware.sram_bytes, _scaled(hardware.sram_bytes, "B"))
    for dtype in die.core.matrix_flops_per_cycle:
        peak = hardware.peak_flops(dtype)
        yield Fact(f"peak_flops.{dtype}", f"peak {dtype}", peak, _scaled(peak, "FLOP/s"))


def _areas(hardware: Hardware) -> Iterator[Fact]:
    wafer = hardware.wafer
    for part, key in ((hardware.core, "core"), (wafer.die, "die"), (wafer, "wafer")):
        area_m2 = part.height_m * part.width_m
        text = f"{part.height_m * 1e3:g} mm x {part.width_m * 1e3:g} mm, {area_m2 * 1e6:.5g} mm2"
        yield Fact(f"area_m2.{key}", f"{key} area", area_m2, text)


def _power(hardware: Hardware, power: Callable[[Any], float] | None) -> Iterator[Fact]:
    if power is None:
        return
    watts = hardware.wafers * power(hardware.wafer)
    density = watts / (hardware.wafers * hardware.wafer.area_m2)
    yield Fact("power_nameplate_w", "nameplate power", watts, _scaled(watts, "W"))
    yield Fact(
        "power_density_w_per_m2", "power density", density, f"{density * 1e-6:.2f} W/mm2 of wafer"
    )


def _limits(hardware: Hardware) -> Iterator[Fact]:
    for name, value in hardware.parameters.items():
        text = value if isinstance(value, str) else f"{value:g}"
        yield Fact(f"parameter.{name}", f"parameter {name}", value, text)
    for constraint in hardware.constraints:
        yield Fact(constraint.text, "constraint", constraint.holds, _verdict(constraint))


def _assumed(hardware: Hardware) -> Iterator[Fact]:
    for name, text in hardware.assumed.items():
        yield Fact(f"assumed.{name}", "assumed", text, text)


def _verdict(constraint: Constraint) -> str:
    if constraint.holds:
        return f"{constraint.text}: holds"
    ratio = constraint.left / constraint.right if constraint.right else float("inf")
    return f"{constraint.text}: broken, the left side is {ratio:.3g} times the right"


def _scaled(value: float, unit: str) -> str:
    factor, prefix = next((pair for pair in _PREFIXES if value >= pair[0]), _PREFIXES[-1])
    return f"{value / factor:.3g} {prefix}{unit}"


def sources(file: SourceFile) -> tuple[Source, ...]:
    """The source of every figure that names one, in this file and those that it uses."""
    figures = [(f"param {line.name}", line) for line in file.parameters.values()]
    limits = [(f"constraint {line.text}", line) for line in file.constraints]
    found = [
        Source(file.name, line.location.line or 0, "", text, line.source)
        for text, line in (*figures, *limits)
        if line.source
    ]
    for part in file.parts.values():
        items = part.items if isinstance(part, syntax.Block) else part.changes
        found.extend(_sources_of(file, items, f"{part.kind} {part.name}"))
    for used in file.used.values():
        found.extend(sources(used))
    return tuple(found)


def _sources_of(
    file: SourceFile, items: tuple[syntax.Field | syntax.Block | syntax.Dead, ...], label: str
) -> Iterator[Source]:
    for item in items:
        if isinstance(item, syntax.Field) and item.source:
            yield Source(
                file.name, item.location.line or 0, label, " ".join(item.text.split()), item.source
            )
        elif isinstance(item, syntax.Block):
            yield from _sources_of(file, item.items, f"{label}: {item.title}")
