"""What clusters of GPUs and existing wafers of the peak of a row's A100s take to train it.

    python references.py [--rows 0 4 9] [--systems a100 cs2 ...]

One command of wscc a row and system, printed as it starts; results/references.csv gets the figures.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "references.csv"
A100, H100 = 312e12, 989.4e12
"""FLOP/s, dense, bfloat16 (NVIDIA's whitepapers)."""
FIGURES = (
    "feasible", "latency_s", "tokens_per_s", "power_w", "power_peak_w", "power_nameplate_w",
    "energy_j", "mfu",
)  # fmt: skip


def hardware(system: str, gpus: int) -> list[str]:
    """The flags of a system of at least the peak of so many A100s."""
    nodes = math.ceil(gpus * A100 / (8 * H100)) if system == "h100" else gpus // 8
    dojo = [str(HERE / "dojo_cluster.wsc"), "--set", f"gpus={gpus}"]
    return {
        "a100": ["a100", "--set", f"cluster={nodes}", "--set", "stack=megatron"],
        "a100-ideal": ["a100", "--set", f"cluster={nodes}", "--set", "stack=tensorrt"],
        "h100": ["h100", "--set", f"cluster={nodes}"],
        "cs2": [str(HERE / "cs2_cluster.wsc"), "--set", f"gpus={gpus}"],
        "cs3": [str(HERE / "cs3_cluster.wsc"), "--set", f"gpus={gpus}"],
        "dojo": dojo,
        "dojo-array": [*dojo, "--set", "array=1"],
    }[system]


SYSTEMS = ("a100", "a100-ideal", "h100", "cs2", "cs3", "dojo", "dojo-array")


def workloads() -> Iterator[dict[str, str]]:
    """The rows of Theseus' table."""
    with (HERE / "workloads.csv").open() as file:
        yield from csv.DictReader(file)


def command(system: str, row: dict[str, str]) -> list[str]:
    """The run of a row on a system."""
    model = str(HERE / f"gpt-{row['row']}.json")
    flags = ["--phase", "train", "--batch", row["batch"], "--sequence", "2048"]
    return ["wscc", "--hw", *hardware(system, int(row["gpus"])), "--model", model, *flags]


def figures(system: str, row: dict[str, str]) -> dict[str, object]:
    """What a run reports, a line of the results."""
    words = command(system, row)
    print(" ".join(words), file=sys.stderr, flush=True)
    run = subprocess.run([*words, "--json", "--quiet"], capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        raise SystemExit(run.stderr)
    report = json.loads(run.stdout)
    short = [
        f"{line['resource']}: {line['demand'] / line['limit']:.2f} times what there is"
        for line in report["infeasible"]
    ]
    mapped = report["mapping"]
    return {
        "row": row["row"],
        "system": system,
        "units": report["hardware"]["wafers"],
        "peak_flops": report["hardware"]["peak_flops"],
        **{name: report[name] for name in FIGURES},
        "short": "; ".join(short),
        "mapping": f"dp={mapped['dp']},tp={mapped['region'][0]}x{mapped['region'][1]},"
        f"pp={mapped['pp']},microbatch={mapped['microbatch']},recompute={mapped['recompute']},"
        f"weights={mapped['weights_in']}",
        "limited_by": report["bottleneck"]["kind"],
    }


def main() -> None:
    """Run what the options ask for, and keep what was known of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[row["row"] for row in workloads()])
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=SYSTEMS)
    options = parser.parse_args()
    known: dict[tuple[str, str], dict[str, object]] = {}
    if RESULTS.exists():
        with RESULTS.open() as file:
            known = {(line["row"], line["system"]): dict(line) for line in csv.DictReader(file)}
    for row in workloads():
        for system in options.systems if row["row"] in options.rows else ():
            known[row["row"], system] = figures(system, row)
            write(known)


def write(known: dict[tuple[str, str], dict[str, object]]) -> None:
    """All lines, by row and system."""
    RESULTS.parent.mkdir(exist_ok=True)
    order = sorted(known, key=lambda key: (int(key[0]), SYSTEMS.index(key[1])))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(known[order[0]]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(known[key] for key in order)


if __name__ == "__main__":
    main()
