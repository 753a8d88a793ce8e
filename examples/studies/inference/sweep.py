"""Controlled sweeps of the inference study: `python sweep.py [NAME ...]` writes results/NAME.csv.

In each sweep one thing moves round one base design, and the mapping is searched anew each time.
"""

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluated import HERE, Row, Values, evaluated

BASE: Values = {
    "macs": 16,
    "read_bandwidth": "512 bit/cycle",
    "capacity": "1024 KiB",
    "link_width": "256 bit/cycle",
    "rows": 32,
    "columns": 40,
    "ratio": 0.5,
    "die_rows": 7,
    "die_columns": 8,
    "joint": "info_sow",
    "memory_at": "stack",
    "stack_bandwidth": "1 TB/s",
    "gpus": 7,
}
"""One wafer of 2.2 PFLOP/s with 73 GB of SRAM: cores whose SRAM brings all operands that their
multiply-adds take, as many as 15 kW feed."""
THREE_WAFERS: Values = {"gpus": 20}
"""That hold Llama-3.1-70B in SRAM."""

LLAMA = ("llama-prefill", "llama-decode")
MIXTRAL = ("mixtral-prefill", "mixtral-decode")
STACKS = ("0.25 TB/s", "0.5 TB/s", "1 TB/s", "2 TB/s", "4 TB/s")

ONE_REPLICA = "dp=1"
"""Replicas that share the edges of a wafer were taken to read the same experts when the tables were
made: they are kept to one."""


@dataclass(frozen=True)
class Point:
    """A design and a step to evaluate."""

    step: str
    label: str
    values: Values
    hardware: str = "space"
    mapping: str | None = None


def memory() -> Iterator[Point]:
    """Where weights and caches lie: in SRAM, behind the edges, in DRAM on the dies."""
    stacked: dict[str, Values] = {
        f"stack {each}": {"memory_at": "stack", "stack_bandwidth": each} for each in STACKS
    }
    for step in (*LLAMA, *MIXTRAL):
        pin = ONE_REPLICA if step == "mixtral-decode" else None
        yield Point(step, "edge", _plain(BASE) | {"memory_at": "edge"}, mapping=pin)
        for label, values in stacked.items():
            yield Point(step, label, BASE | values)
    for step in LLAMA:
        for place in ("sram", "edge"):
            values = _plain(BASE) | THREE_WAFERS | {"memory_at": place}
            yield Point(step, f"3 wafers, {place}", values)
        yield Point(step, "3 wafers, stack 1 TB/s", BASE | THREE_WAFERS)


def integration() -> Iterator[Point]:
    """How dies are joined, and the share of their links that crosses."""
    for step in LLAMA:
        for joint in ("stitched", "info_sow"):
            for ratio in (0.25, 0.5, 0.75, 1.0):
                yield Point(step, joint, BASE | {"joint": joint, "ratio": ratio})


CORES = {
    4: (64, 64, 128),
    8: (32, 64, 256),
    16: (32, 32, 256),
    32: (16, 32, 512),
    64: (16, 16, 512),
    128: (8, 16, 1024),
    256: (8, 8, 1024),
}
"""Multiply-adds of a core; rows and columns of a die of as many in all; bits of a link, as the root
of the multiply-adds, so that as much crosses the middle of a die."""
SQUARE: Values = {"die_rows": 8, "die_columns": 8, "gpus": 5}
OBLONG: Values = {"die_rows": 11, "die_columns": 6, "gpus": 5}
"""Dies of a wafer, by the shape of the die."""


def cores() -> Iterator[Point]:
    """The size of a core, with as many multiply-adds and as much SRAM on a die."""
    for step in LLAMA:
        for macs, (rows, columns, width) in CORES.items():
            core: Values = {
                "macs": macs,
                "capacity": f"{32 * macs} KiB",
                "read_bandwidth": f"{32 * macs} bit/cycle",
                "rows": rows,
                "columns": columns,
                "link_width": f"{width} bit/cycle",
            }
            yield Point(step, "fed", BASE | core | (SQUARE if rows == columns else OBLONG))
    for macs in (16, 32, 64, 128):
        yield Point("llama-decode", "SRAM of 16", BASE | {"macs": macs, "gpus": 7 * macs // 16})


LARGE: Values = {"memory_at": "stack", "macs": 256, "capacity": "2048 KiB"}
"""The space's defaults, with stacked DRAM: 15.8 PFLOP/s on a wafer, of which SRAM feeds a
sixteenth."""


def arrays() -> Iterator[Point]:
    """What an array of multiply-adds that hands operands on would change."""
    for step in LLAMA:
        yield Point(step, "operands from SRAM", LARGE)
        yield Point(step, "array", LARGE | {"array": 1})
        for macs in (16, 64, 256):
            rows, columns, width = CORES[macs]
            core: Values = {
                "array": 1,
                "macs": macs,
                "capacity": f"{32 * macs} KiB",
                "read_bandwidth": f"{32 * math.isqrt(macs)} bit/cycle",
                "rows": rows,
                "columns": columns,
                "link_width": f"{width} bit/cycle",
            }
            yield Point(step, "fed array", BASE | core | SQUARE)


LARGE_BATCH = "llama-decode-256"
EQUAL_PEAK: Values = {"joint": "stitched", "gpus": 32}
"""As many wafers of the base design, stitched, as give the peak of 32 A100."""


def clusters() -> Iterator[Point]:
    """GPUs, Cerebras' wafers, and five wafers of the base design."""
    for step in (*LLAMA, LARGE_BATCH, *MIXTRAL):
        yield Point(step, "32 A100", {"cluster": 4}, "a100")
        yield Point(step, "8 H100", {"cluster": 1}, "h100")
        yield Point(step, "5 wafers", BASE | EQUAL_PEAK)
    for model, counts in (("llama", (6, 5)), ("mixtral", (4, 3))):
        for phase in ("prefill", "decode"):
            for spec, count in zip(("wse2", "wse3"), counts, strict=True):
                label = f"{count} {spec.upper().replace('E', 'E-')}"
                values: Values = {"wafers": count}
                yield Point(f"{model}-{phase}", label, values, f"{spec}-cluster", "weights=sram")


SWEEPS = {each.__name__: each for each in (memory, integration, cores, arrays, clusters)}


def _plain(values: Values) -> Values:
    """Without what only stacked memory has."""
    return {name: value for name, value in values.items() if name != "stack_bandwidth"}


def rows_of(name: str) -> Iterator[Row]:
    """Every point of a sweep, evaluated."""
    for point in SWEEPS[name]():
        row = evaluated(point.hardware, point.step, point.values, point.mapping)
        yield {"label": point.label, **row, "mapping": point.mapping or ""}


def write(rows: list[Row], path: Path) -> None:
    """A table of rows that need not have the same columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def main(names: list[str]) -> None:
    """Run the sweeps of these names, or all."""
    for name in names or SWEEPS:
        found: list[Row] = []
        for row in rows_of(name):
            found.append(row)
            print(name, row["label"], row["step"], f"{row['tokens_per_s']:.0f} tokens/s")
            write(found, HERE / "results" / f"{name}.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
