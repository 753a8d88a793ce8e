"""The figures that a chip is published with, of a design, to stand beside the published ones.

Cores, peak, memory, bandwidths, areas from their components and nameplate power, of one wafer or
node. Which figures of a shipped spec are published is in specs/published.jsonl.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir.hardware import Die, Hardware, Wafer
from . import capacity
from .area import NEEDED, Area, core_areas, die_areas
from .figures import plain
from .geometry import cores_outline_m
from .power import nameplate, power


@dataclass(frozen=True)
class Headline:
    """A figure in SI, and the share of it that the spec states instead of leaving it computed."""

    value: float
    stated: float = 0.0


BESIDE_DIES: tuple[str, ...] = ("memory", "io", "stated", "regulator_loss")
"""Components of a wafer's power that are not a die's, but for the die's own memory and `stated`."""


def headlines(hardware: Hardware) -> dict[str, Headline]:
    """Every figure by key; raises UserError where the spec lacks what a power rests on."""
    wafer, die, core = hardware.wafer, hardware.wafer.die, hardware.core
    dies = hardware.dies / hardware.wafers
    dtypes = {dtype for kind, _ in hardware.cores_by_kind for dtype in kind.matrix_flops_per_cycle}
    peaks = {dtype: hardware.peak_flops(dtype) / hardware.wafers for dtype in sorted(dtypes)}
    figures = {
        "dies": dies,
        "cores": wafer.cores_in_use,
        "cores_made": sum(count * cores for kind, count in wafer.kinds for _, cores in kind.kinds),
        "die_cores": wafer.cores_in_use / dies,
        **{f"peak.{dtype}": peak for dtype, peak in peaks.items()},
        **{f"die_peak.{dtype}": peak / dies for dtype, peak in peaks.items()},
        "sram": capacity.sram_bytes(wafer),
        "sram_bandwidth": capacity.sram_bandwidth(wafer),
        "fabric_bandwidth": fabric_bandwidth(wafer),
        "bisection": capacity.bisection(wafer),
        "io_bandwidth": sum(io.ports * io.bandwidth_bytes_per_s for io in wafer.io),
        "dram": capacity.dram_bytes(wafer),
        "dram_bandwidth": capacity.dram_bandwidth(wafer),
        "core_power": power(core),
        "die_power": die_power(wafer),
        "wafer_power": power(wafer),
    }
    areas = {
        "core_area": tuple(core_areas(core).values()) if _known(die) else (),
        "die_area": tuple(_die_components(die, wafer)),
        "wafer_area": tuple(_wafer_components(wafer)),
    }
    summed = {name: _summed(parts) for name, parts in areas.items() if parts}
    return {name: Headline(plain(value)) for name, value in figures.items()} | summed


def die_power(wafer: Wafer) -> float:
    """Nameplate watts of one die with its memory and its share of the links between dies; cores
    that are not in use draw nothing."""
    watts, own = nameplate(wafer), nameplate(wafer.die)
    dies = wafer.rows * wafer.columns - len(wafer.dead_dies)
    shared = sum(figure for name, figure in watts.items() if name not in BESIDE_DIES)
    return shared / dies + own["memory"] + own["stated"]


def fabric_bandwidth(wafer: Wafer) -> float:
    """Bytes/s into and out of every core over the four links of its router, summed as makers do.

    Each link counts at both of its ends; it is no bisection, which is capacity.bisection.
    """
    return sum(
        count * 4 * 2 * core.router.width_bytes * core.clock_hz
        for core, count in capacity.core_counts(wafer)
    )


def _known(die: Die) -> bool:
    return all(core_areas(core).keys() >= NEEDED for core, _ in die.kinds)


def _die_components(die: Die, wafer: Wafer) -> Iterator[Area]:
    """Of all cores that a die is made with, spare ones too, then of what lies beside them;
    nothing where an area of a core is not known."""
    if not _known(die):
        return
    spares = (die.rows + die.spare_rows) * (die.columns + die.spare_columns)
    spares -= die.rows * die.columns
    for core, count in die.kinds:
        made = count + (spares if core is die.core else 0)
        yield from (Area(made * area.m2, area.stated) for area in core_areas(core).values())
    areas = die_areas(die, wafer.link, cores_outline_m(die), wafer.switch is not None)
    yield from (area for name, area in areas.items() if name != "cores")


def _wafer_components(wafer: Wafer) -> Iterator[Area]:
    """Of all dies; what lies between and around them is left out."""
    for die, count in wafer.kinds:
        yield from (Area(count * a.m2, a.stated) for a in _die_components(die, wafer))


def _summed(parts: tuple[Area, ...]) -> Headline:
    total = sum(area.m2 for area in parts)
    stated = sum(area.m2 for area in parts if area.stated)
    return Headline(plain(total), plain(stated / total))
