"""Prefill and decode on wafers of their own, or on the same: reads the tables of results/, writes
results/pairs.csv.

A request takes `seconds(phase)` of a system of one design: its steps' times, shared by the
sequences of a batch. If a resource (kilowatts, wafers, dollars) is divided as the phases need it, a
pair serves 1 / (r(a) seconds(prefill, a) + r(b) seconds(decode, b)) requests a second for a unit of
it, where r is what a system of a design takes; one design for both has a = b.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evaluated import HERE, PROMPT, STEPS, Row
from sweep import BASE, write

PHASES = ("prefill", "decode")
RESOURCES: Mapping[str, tuple[str, float]] = {
    "kW of nameplate power": ("power_nameplate_w", 1e3),
    "wafer of 46,225 mm2": ("area_mm2", 46225.0),
    "1,000 USD of silicon": ("cost_usd", 1e3),
    "PFLOP/s of peak": ("peak_flops", 1e15),
}
"""By what a system takes, the column, and one unit of it."""
CACHE_BYTES_PER_TOKEN = {
    "llama": 2 * 80 * 8 * 128 * 2,
    "mixtral": 2 * 32 * 8 * 128 * 2,
}
"""Keys and values of every layer, 8 heads of 128, bfloat16."""
SWEPT = ("memory", "integration", "cores")
"""Sweeps whose designs join those of the searches."""
POOLS = ("llama", "mixtral", "llama, array=1")
"""Of whose designs the best are taken: those without reuse of operands, and those with."""


@dataclass(frozen=True)
class Design:
    """A design that was evaluated in one phase or both."""

    name: str
    model: str
    takes: Row
    """What a system of it takes, by column."""
    latency_s: Mapping[str, float]
    """Of a step, by phase."""
    energy_j: Mapping[str, float]

    def seconds(self, phase: str) -> float:
        """Of the whole system, for one request."""
        return self.latency_s[phase] * STEPS[f"{self.model}-{phase}"].steps_per_request

    def joules(self, phase: str) -> float:
        """For one request."""
        return self.energy_j[phase] * STEPS[f"{self.model}-{phase}"].steps_per_request

    def taken(self, phase: str, resource: str) -> float:
        """Units of a resource times seconds that a request takes."""
        column, unit = RESOURCES[resource]
        return self.seconds(phase) * float(self.takes[column]) / unit


def designs(pool: str) -> list[Design]:
    """All that searches and sweeps evaluated for a model, but for what breaks a constraint."""
    model, _, array = pool.partition(", ")
    if array:
        return [d for d in _swept(model, "arrays") if d.takes["array"]]
    return [*_searched(model), *(each for name in SWEPT for each in _swept(model, name))]


def table(name: str) -> list[Row]:
    """The rows of results/NAME.csv."""
    with (HERE / "results" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _searched(model: str) -> Iterator[Design]:
    for row in table("searches"):
        if row["study"].startswith(model):
            done = [phase for phase in PHASES if row.get(f"{phase}.latency_s")]
            yield Design(
                f"{row['study']} {row['trial']}",
                model,
                row,
                {phase: float(row[f"{phase}.latency_s"]) for phase in done},
                {phase: float(row[f"{phase}.energy_j"]) for phase in done},
            )


def _swept(model: str, name: str) -> Iterator[Design]:
    """Designs of a sweep, each from its rows of both phases."""
    rows: dict[tuple[str, ...], list[Row]] = {}
    for row in table(name):
        if (
            row["step"] in [f"{model}-{phase}" for phase in PHASES]
            and not row["breaks"]
            and not row["lacks"]
        ):
            values = tuple(row[parameter] for parameter in BASE)
            rows.setdefault((row["label"], *values), []).append(row)
    for own in rows.values():
        by_phase = {STEPS[row["step"]].phase: row for row in own}
        yield Design(
            f"sweep {name}: {_moved(own[0])}",
            model,
            own[0],
            {phase: float(row["latency_s"]) for phase, row in by_phase.items()},
            {phase: float(row["energy_j"]) for phase, row in by_phase.items()},
        )


def _moved(row: Row) -> str:
    """The parameters in which a design of a sweep differs from the base design."""
    moved = (f"{k}={row[k]}" for k, v in BASE.items() if row[k] and row[k] != str(v))
    return ", ".join(["array=1"] * bool(row.get("array")) + [*moved]) or "the base design"


def compared(pool: str, resource: str) -> Row:
    """The best pair and the best single design, for a unit of a resource."""
    found = designs(pool)
    prefill, decode = (
        min((d for d in found if phase in d.latency_s), key=lambda d: d.taken(phase, resource))
        for phase in PHASES
    )
    both = [d for d in found if len(d.latency_s) == len(PHASES)]
    single = min(both, key=lambda d: sum(d.taken(phase, resource) for phase in PHASES))
    apart = prefill.taken("prefill", resource), decode.taken("decode", resource)
    together = sum(single.taken(phase, resource) for phase in PHASES)
    return {
        "pool": pool,
        "resource": resource,
        "prefill_design": prefill.name,
        "decode_design": decode.name,
        "share_for_prefill": apart[0] / sum(apart),
        "pair_requests_per_s": 1 / sum(apart),
        "single_design": single.name,
        "single_requests_per_s": 1 / together,
        "gain": together / sum(apart),
        "pair_joules_per_request": prefill.joules("prefill") + decode.joules("decode"),
        "single_joules_per_request": sum(single.joules(phase) for phase in PHASES),
        "cache_bytes_per_s": PROMPT * CACHE_BYTES_PER_TOKEN[found[0].model] / sum(apart),
    }


def main() -> None:
    """Compare pairs and single designs of both models, for every resource."""
    found = [compared(pool, name) for pool in POOLS for name in RESOURCES]
    write(found, HERE / "results" / "pairs.csv")


if __name__ == "__main__":
    main()
