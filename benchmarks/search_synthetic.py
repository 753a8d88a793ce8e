"""Synthetic spaces of wafers, every design known at three fidelities: what searches are timed on.

The figures come from simple rooflines of a wafer: the cheapest rung takes the largest of the times
that compute, memory and network need by themselves (a lower bound), the middle adds what parallel
parts wait for each other, the dearest adds terms that the middle does not know. Two parameters
exist only in some designs. `python benchmarks/search_synthetic.py` prints what the spaces are like.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from wscc.dse.design import Floats
from wscc.dse.evaluator import Rung
from wscc.dse.objective import Objective, read_objective
from wscc.dse.pareto import nondominated
from wscc.dse.strategy import Problem
from wscc.dse.table import Table, TableSpace

RUNGS = (
    Rung("bound", 0.05 / 120, proven=("latency_s", "energy_j")),
    Rung("fluid", 1 / 120),
    Rung("flit", 1.0),
)
"""Costs of one evaluation: 0.05 s, 1 s and 120 s."""

Value = float | str
Domains = Mapping[str, Sequence[Value]]

PARAMETERS: Domains = {
    "clock_hz": (0.8e9, 1.0e9, 1.25e9, 1.5e9),
    "macs": (64, 128, 256, 512),
    "sram_bytes": (64e3, 128e3, 256e3, 512e3),
    "sram_ports": (1, 2, 4),
    "noc_bits": (64, 128, 256, 512),
    "noc_vcs": (2, 4, 8),
    "router": ("xy", "adaptive"),
    "topology": ("mesh", "torus"),
    "array": (64, 96, 128, 160),
    "reticle_links": (0.25, 0.5, 1.0),
    "dram": ("none", "stacked"),
    "dram_bandwidth": (1e12, 2e12, 4e12),
    "dram_layers": (2, 4, 8),
    "vector_lanes": (8, 16, 32),
    "spares": (0, 1, 2),
}
"""Fifteen parameters: numbers, words, and two that exist only with stacked DRAM."""

_ONLY_STACKED = ("dram_bandwidth", "dram_layers")


@dataclass(frozen=True)
class Work:
    """What a workload asks of the wafer."""

    flops: float
    weight_bytes: float
    state_bytes: float
    """Read once: keys and values."""
    moved_bytes: float
    """Over the network, from each core."""
    steps: int
    """One after another, each with its wait for all cores."""


@dataclass(frozen=True)
class Case:
    """A space, a workload and what is wanted."""

    name: str
    few: tuple[str, ...]
    """Open parameters with their least and greatest value only."""
    many: tuple[str, ...]
    """Open parameters with all their values."""
    work: Work
    objectives: tuple[str, ...]
    area_mm2: float
    """The most that a wafer may have."""

    def table(self) -> Table:
        columns = _legal(self.few, self.many, self.area_mm2)
        names = tuple(name for name in PARAMETERS if name in (*self.few, *self.many))
        space = TableSpace(names, {name: columns[name] for name in names})
        bound, fluid, flit = _figures(columns, self.work)
        figures = {"bound": bound, "fluid": fluid, "flit": flit}
        optimistic = {
            name: bound[name] * (0.8 if name in ("latency_s", "energy_j") else 1.0)
            for name in ("latency_s", "energy_j", "area_mm2")
        }
        optimistic["tokens_per_s"] = 1 / optimistic["latency_s"]
        return Table(space, RUNGS, figures, optimistic)

    def problem(self, table: Table, budget: float = float("inf")) -> Problem:
        wanted = tuple(map(read_objective, self.objectives))
        return Problem(table.space, wanted, (), table.rungs, budget, table.optimist)


CASES = (
    Case(
        "prefill",
        ("clock_hz", "sram_ports", "router", "topology", "reticle_links", "spares"),
        ("macs", "noc_bits", "array"),
        Work(4e15, 2e10, 1e9, 3e9, 20000),
        ("latency_s", "energy_j"),
        30e3,
    ),
    Case(
        "decode",
        ("noc_bits", "router", "topology", "vector_lanes"),
        ("sram_bytes", "array", "dram", "dram_bandwidth", "dram_layers"),
        Work(1e13, 3e10, 4e10, 1e6, 20000),
        ("tokens_per_s", "min:area_mm2"),
        40e3,
    ),
    Case(
        "training",
        ("clock_hz", "sram_bytes", "noc_vcs", "router", "topology", "vector_lanes"),
        ("macs", "noc_bits", "array"),
        Work(3e16, 2e10, 4e10, 2e10, 40000),
        ("latency_s", "energy_j", "min:area_mm2"),
        30e3,
    ),
)


def _legal(few: Sequence[str], many: Sequence[str], area_mm2: float) -> dict[str, np.ndarray]:
    """Every design of the open parameters that fits; the others have their middle value."""
    domains: dict[str, Sequence[Value]] = {
        name: (values[0], values[-1]) if name in few else (values[len(values) // 2],)
        for name, values in PARAMETERS.items()
    }
    domains |= {name: PARAMETERS[name] for name in many}
    plain = domains | dict.fromkeys(_ONLY_STACKED, ("",))
    rows: list[tuple[Value, ...]] = []
    for word in domains["dram"]:
        chosen = (domains if word == "stacked" else plain) | {"dram": (word,)}
        rows += product(*chosen.values())
    columns = {
        name: np.array([np.nan if v == "" else v for v in column])
        for name, column in zip(PARAMETERS, zip(*rows, strict=True), strict=True)
    }
    fits = _area(columns) <= area_mm2
    return {name: column[fits] for name, column in columns.items()}


def _area(c: Mapping[str, np.ndarray]) -> Floats:
    """mm2 of all cores: arithmetic, memory, router, stacked DRAM's contacts."""
    core = (
        0.05
        + 4e-4 * c["macs"]
        + 1.2e-6 * c["sram_bytes"] * (1 + 0.08 * c["sram_ports"])
        + 2e-4 * c["noc_bits"] * (1 + 0.1 * c["noc_vcs"])
        + 1.5e-3 * c["vector_lanes"]
    )
    contacts = np.where(c["dram"] == "stacked", np.nan_to_num(c["dram_bandwidth"]) * 8e-10, 0)
    return core * c["array"] ** 2 * (1 + 0.02 * c["spares"]) + contacts


def _figures(c: Mapping[str, np.ndarray], work: Work) -> list[dict[str, np.ndarray]]:
    """At the three rungs."""
    cores = c["array"] ** 2
    stacked = c["dram"] == "stacked"
    capacity = cores * c["sram_bytes"]
    spilled = np.maximum(work.weight_bytes + work.state_bytes - 0.8 * capacity, 0)
    outside = np.where(stacked, np.nan_to_num(c["dram_bandwidth"], nan=1.0), 4e11)
    compute = work.flops / (2 * c["macs"] * cores * c["clock_hz"])
    vector = work.flops * 0.004 / (c["vector_lanes"] * cores * c["clock_hz"])
    read = (work.weight_bytes + work.state_bytes) / (cores * c["sram_ports"] * 16 * c["clock_hz"])
    memory = read + spilled / outside
    hops = c["array"] * np.where(c["topology"] == "torus", 0.5, 1.0)
    network = work.moved_bytes / (c["noc_bits"] / 8 * c["clock_hz"]) / np.sqrt(cores) * 8
    bound = np.maximum(np.maximum(compute + vector, memory), network)
    wait = work.steps * hops * 2 / c["clock_hz"]
    crowd = np.where(c["router"] == "xy", 0.6, 0.35) / np.sqrt(c["noc_vcs"] / 2)
    overlap = 0.6 * (compute + vector + memory + network - bound)
    fluid = bound + wait + overlap + crowd * network * 0.5
    rough = np.sin(3 * np.log2(c["macs"]) + 2 * np.log2(c["noc_bits"]) + np.sqrt(c["array"]))
    load = network / (bound + 1e-12)
    queues = 2 * crowd * network * load**2 * (1 + 128 / c["noc_bits"])
    seams = network * 1.5 * (1 - c["reticle_links"]) * (c["array"] > 100)
    tiles = (
        0.5
        * compute
        * (1 + rough)
        * np.where(c["sram_bytes"] < 2e5, 1.6, 1.0)
        / np.sqrt(c["sram_ports"])
    )
    uneven = np.sin(2.1 * np.log2(c["macs"]) + c["array"] / 17) * np.cos(
        1.3 * np.log2(c["noc_bits"]) + 0.9 * np.log2(c["sram_bytes"]) + c["spares"]
    )
    flit = (
        fluid * (1.7 + 0.4 * uneven - 0.3 * rough * load / (1 + load))
        + queues
        + seams
        + tiles
        + wait * load
    )
    dynamic = (
        work.flops * 0.4e-12 * (c["clock_hz"] / 1e9) ** 1.4
        + (work.weight_bytes + work.state_bytes) * 8 * 0.1e-12
        + spilled * 8 * np.where(stacked, 1.5e-12, 6e-12)
        + work.moved_bytes * cores * 8 * 0.08e-12 * (1 + c["noc_bits"] / 1024)
    )
    static = _area(c) * 0.06 + cores * 0.01
    found: list[dict[str, np.ndarray]] = []
    for latency, retried in ((bound, 0.0), (fluid, 0.02), (flit, 0.08)):
        energy = dynamic * (1 + retried * load) + static * latency
        latency = np.where(capacity * 40 + stacked * 1e12 < work.weight_bytes, np.nan, latency)
        found.append(
            {
                "latency_s": latency,
                "tokens_per_s": 1 / latency,
                "energy_j": energy,
                "power_w": energy / latency,
                "area_mm2": _area(c),
            }
        )
    return found


def true_losses(table: Table, objectives: Sequence[Objective]) -> Floats:
    """Of every design that can do the work, at the top. (designs, objectives)"""
    top = table.figures[table.rungs[-1].name]
    columns = np.array([one.sign * top[one.figure] for one in objectives]).T
    return columns[np.isfinite(columns).all(axis=1)]


def main() -> None:
    """Size, front, and how well the lower rungs rank the designs by time."""
    for case in CASES:
        table = case.table()
        front = nondominated(true_losses(table, tuple(map(read_objective, case.objectives))))
        ranks = [table.figures[rung.name]["latency_s"].argsort().argsort() for rung in table.rungs]
        bound, fluid = (np.corrcoef(rank, ranks[-1])[0, 1] for rank in ranks[:-1])
        print(f"{case.name}: {len(table.space.designs)} designs, {front.sum()} on the front of")
        print(f"  {', '.join(case.objectives)}; rank correlation {bound:.3f}, {fluid:.3f}")


if __name__ == "__main__":
    main()
