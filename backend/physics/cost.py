"""Dollars of a good die, wafer and system as made, and of a million tokens.

Silicon is computed from the price of a processed wafer and yields.py; memories, links, switches,
assembly and cooling cost what the spec states, and nothing where it states nothing. Design, masks
and test are not in it. Figures are floats, or arrays with one entry a design point.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

from ...ir.errors import UserError
from ...ir.hardware import Die, Hardware, Wafer
from ...ir.technology import Memory, Technology
from .yields import die_yield, joins_tested_dies, passing_die_yield, wafer_yield

Figure: TypeAlias = Any
"""A float, or an array of them."""

WAFER_DIAMETER_M = 0.300
EDGE_LOSS_M = 5e-3
"""Rim of a wafer that holds no dies (Chiplet Actuary, DAC 2022, parameter.ini)."""
SCRIBE_LANE_M = 0.2e-3
"""Between two dies (Chiplet Actuary, DAC 2022, parameter.ini)."""


def cost(part: Die | Wafer | Hardware) -> Figure:
    """USD of a good die with its memories, of a good wafer or node with all that is on it, or of a
    system. Raises UserError where a technology gives no wafer_cost or no density of defects."""
    match part:
        case Die():
            return good_die_usd(part, die_yield(part)) + memories_usd(part.memories)
        case Wafer():
            return wafer_usd(part)
        case Hardware():
            return system_usd(part)


def gross_dies(height_m: Figure, width_m: Figure) -> Figure:
    """Whole dies that a wafer of 300 mm holds, good or not; zero of dies that none holds.

    pi r^2 / A - 2 pi r / sqrt(2 A) for a usable radius r and an area A with its scribe lane
    (Hennessy and Patterson, section 1.6; with rim and lane as in Chiplet Actuary, DAC 2022).
    """
    area = (height_m + SCRIBE_LANE_M) * (width_m + SCRIBE_LANE_M)
    radius = WAFER_DIAMETER_M / 2 - EDGE_LOSS_M
    gross = np.pi * radius**2 / area - 2 * np.pi * radius / np.sqrt(2 * area)
    return np.maximum(gross, 0.0)


def good_die_usd(die: Die, works: Figure) -> Figure:
    """Of the silicon of a die of which the share `works` is good; infinite where none is."""
    good = gross_dies(die.height_m, die.width_m) * works
    return _over(processed_wafer_usd(die.core.technology), good)


def processed_wafer_usd(technology: Technology) -> Figure:
    """Of a wafer of 300 mm; raises UserError where the technology gives none."""
    if technology.wafer_cost_usd is None:
        raise UserError(f"a cost needs the wafer_cost of technology {technology.name}")
    return technology.wafer_cost_usd


def memories_usd(memories: tuple[Memory, ...]) -> Figure:
    """Of memories, as stated."""
    return sum(memory.cost_usd for memory in memories)


def wafer_usd(wafer: Wafer) -> Figure:
    """Of a good wafer or node: its dies, what is on and beside them, and what is stated.

    Dies that stay on the wafer that they are made on cost that wafer, whatever its outline, over
    its yield, and memory is put on good ones only. Dies that are tested and joined cost what good
    ones do, with the memory that is joined to them, over the yield of joining them.
    """
    joining = wafer.rows * wafer.columns * wafer.link.cost_usd
    if joins_tested_dies(wafer):
        dies = sum(count * _tested_die_usd(wafer, die) for die, count in wafer.kinds)
        made = _over(dies + joining, wafer_yield(wafer))
    else:
        silicon = processed_wafer_usd(wafer.die.core.technology)
        on_dies = sum(count * memories_usd(die.memories) for die, count in wafer.kinds)
        made = _over(silicon + joining, wafer_yield(wafer)) + on_dies
    switch = wafer.switch
    beside = 0.0 if switch is None else switch.count * switch.cost_usd
    return made + memories_usd(wafer.memories) + beside + wafer.cost_usd


def _tested_die_usd(wafer: Wafer, die: Die) -> Figure:
    return good_die_usd(die, passing_die_yield(wafer, die)) + memories_usd(die.memories)


def system_usd(hardware: Hardware) -> Figure:
    """Of all wafers or nodes, of joining each, and of the switch that they meet in."""
    joining = 0.0 if hardware.link is None else hardware.link.cost_usd
    switch = hardware.switch
    beside = 0.0 if switch is None else switch.count * switch.cost_usd
    return hardware.wafers * (wafer_usd(hardware.wafer) + joining) + beside


def usd_per_million_tokens(
    capital_usd: Figure,
    lifetime_s: Figure,
    utilization: Figure,
    power_w: Figure,
    electricity_usd_per_j: Figure,
    tokens_per_s: Figure,
) -> Figure:
    """Capital spread over the time in use, and electricity, over the tokens of a second.

    `utilization` is the share of its life in which the system works; idle, it is taken to draw
    nothing. `power_w` is its average at work.
    """
    usd_per_s = capital_usd / (lifetime_s * utilization) + power_w * electricity_usd_per_j
    return 1e6 * usd_per_s / tokens_per_s


@dataclass(frozen=True)
class Economics:
    """None where the spec lacks what the figure rests on, or no part of the system works."""

    cost_usd: float | None = None
    usd_per_million_tokens: float | None = None


def economics(hardware: Hardware, power_w: float, tokens_per_s: float) -> Economics:
    """What one design costs, and a million tokens of it at this power and pace."""
    try:
        cost_usd = float(system_usd(hardware))
    except UserError:
        return Economics()
    if not isfinite(cost_usd):
        return Economics()
    if hardware.economy is None:
        return Economics(cost_usd)
    economy = hardware.economy
    tokens_usd = usd_per_million_tokens(
        cost_usd,
        economy.lifetime_s,
        economy.utilization,
        power_w,
        economy.electricity_usd_per_j,
        tokens_per_s,
    )
    return Economics(cost_usd, float(tokens_usd))


def _over(usd: Figure, share: Figure) -> Figure:
    """usd / share, infinite at a share of zero."""
    with np.errstate(divide="ignore"):
        return np.true_divide(usd, share)
