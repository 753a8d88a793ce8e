"""What `wscc check` says of a design, as data: a key, a label, a figure in SI and its text.

Printing is the caller's; the sources of a spec's figures are here too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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


def summary(hardware: Hardware, units: Mapping[str, str] | None = None) -> tuple[Fact, ...]:
    """The figures that a chip architect checks first, and what was assumed where the spec says
    nothing; power, yield and cost are backend/'s. `units` are the SI units of its parameters."""
    limits = (*_parameters(hardware, units or {}), *_constraints(hardware))
    return (*_counts(hardware), *_areas(hardware), *limits, *_assumed(hardware))


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


def _parameters(hardware: Hardware, units: Mapping[str, str]) -> Iterator[Fact]:
    for name, value in hardware.parameters.items():
        text = value if isinstance(value, str) else spelt(value, units.get(name, ""))
        yield Fact(f"parameter.{name}", f"parameter {name}", value, text)


def _constraints(hardware: Hardware) -> Iterator[Fact]:
    shown = [line for line in hardware.constraints if not (line.implied and line.holds)]
    for constraint in shown:
        yield Fact(constraint.text, "constraint", constraint.holds, _verdict(constraint))


def _assumed(hardware: Hardware) -> Iterator[Fact]:
    for name, text in hardware.assumed.items():
        yield Fact(f"assumed.{name}", "assumed", text, text)


def _verdict(constraint: Constraint) -> str:
    left, right = (spelt(side, constraint.unit) for side in (constraint.left, constraint.right))
    if constraint.holds:
        return f"{constraint.text}: holds, {left} {constraint.comparison} {right}"
    ratio = constraint.left / constraint.right if constraint.right else float("inf")
    return f"{constraint.text}: broken, {left} is {ratio:.3g} times {right}"


def spelt(value: float, unit: str) -> str:
    """A figure in SI for a person: lengths and areas in millimetres, others with a prefix."""
    if unit == "B" and value >= 1024 and value % 1024 == 0:
        power = next(power for power in (4, 3, 2, 1) if value % 1024**power == 0)
        return f"{value / 1024**power:,.0f} {'KMGT'[power - 1]}iB"
    if unit in ("m", "m2"):
        return f"{value * (1e3 if unit == 'm' else 1e6):.4g} m{unit}"
    if unit in ("", "USD") or value < 1:
        return f"{value:.4g} {unit}".rstrip()
    return _scaled(value, unit)


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


def _sources_of(file: SourceFile, items: tuple[syntax.Item, ...], label: str) -> Iterator[Source]:
    for item in items:
        if isinstance(item, syntax.Field) and item.source:
            yield Source(
                file.name, item.location.line or 0, label, " ".join(item.text.split()), item.source
            )
        elif isinstance(item, syntax.Block):
            yield from _sources_of(file, item.items, f"{label}: {item.title}")
