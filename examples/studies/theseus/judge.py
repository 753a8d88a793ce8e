"""Judge the best designs of the studies of search.py by `fluid`.

    python judge.py [--rows 0 4 9] [--array 0|1] [--against a100 h100 cs2] [--studies FOLDER]

Of each study's front: for each system that it is held against the fastest design that draws no
more and the most frugal that is no slower, and the one with most tokens a joule, all at equal
peak; where one does not fit at `fluid`, the next. results/designs.csv gets a line each, designs/
the specs of KEPT rows, and results/fronts.csv the whole fronts as they were searched.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compare import HERE, Point, table

RESULTS = HERE / "results" / "designs.csv"
KEPT = ("0", "4", "9")
TRIES = 3
"""Designs judged for each aim before it is given up."""
COLUMNS = (
    "capacity", "read_bandwidth", "macs", "link_width", "rows", "columns", "ratio", "die_rows",
    "die_columns", "joint", "memory_at", "stack_bandwidth",
)  # fmt: skip
Trial = dict[str, Any]
Aim = Callable[[Point], tuple[float, ...]]


def aims(systems: list[Point]) -> dict[str, Aim]:
    """What is wanted of a design, the least first: beyond a limit by how much, then the figure."""
    found: dict[str, Aim] = {}
    for than in systems:
        found[f"fast-{than.name}"] = lambda p, than=than: (
            max(0.0, p.power_w / than.power_w - 1),
            -p.tokens_per_s,
        )
        found[f"frugal-{than.name}"] = lambda p, than=than: (
            max(0.0, 1 - p.tokens_per_s / than.tokens_per_s),
            p.power_w,
        )
    return found | {"efficient": lambda p: (-p.tokens_per_s / p.power_w,)}


def run(words: list[str]) -> Any:
    """The JSON that a command prints."""
    print(" ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


def scaled(name: str, trial: Trial, gpus: int) -> Point:
    """A trial at the peak of the A100s."""
    figures = trial["figures"]
    line = {key.removeprefix("hardware."): str(value) for key, value in figures.items()}
    return Point.of(name, line, gpus)


def judged(
    study: Path, row: dict[str, str], against: list[str], known: set[str]
) -> Iterator[dict[str, object]]:
    """A line for each design of a study that is judged; `known` are their trials."""
    _, number, _, array = study.name.split("-")
    gpus = int(row["gpus"])
    references = [r for r in table("results/references.csv") if r["row"] == number]
    every = [Point.of(r["system"], r, gpus) for r in references if r["system"] in against]
    systems = [point for point in every if point.fits]
    front = run(["wscc-dse", "pareto", str(study)])["front"]
    keep_front(number, array, front)
    specs = study / "front"
    shutil.rmtree(specs, ignore_errors=True)
    run(["wscc-dse", "export", str(study), "--wsc", str(specs)])
    for aim, of in aims(systems).items():
        for trial in sorted(front, key=lambda t: of(scaled(array, t, gpus)))[:TRIES]:
            if str(trial["trial"]) in known:
                break
            known.add(str(trial["trial"]))
            spec = specs / f"theseus-{trial['trial']}.wsc"
            line = {"row": number, "array": array, "trial": trial["trial"], "aim": aim}
            line |= fluid(spec, trial, row)
            yield line
            if line["feasible"]:
                if number in KEPT and aim in ("fast-a100", "frugal-a100"):
                    (HERE / "designs").mkdir(exist_ok=True)
                    shutil.copy(
                        spec,
                        HERE / "designs" / f"row-{number}-array-{array}-{aim.split('-')[0]}.wsc",
                    )
                break


def keep_front(row: str, array: str, front: list[Trial]) -> None:
    """The figures of a front by `bound`, in place of those known of the same study."""
    path = HERE / "results" / "fronts.csv"
    known = table("results/fronts.csv") if path.exists() else []
    others = (line for line in known if (line["row"], line["array"]) != (row, array))
    lines: list[dict[str, object]] = [dict(line) for line in others]
    figures = ("hardware.wafers", "hardware.peak_flops", "tokens_per_s", "power_w", "mfu")
    lines += [
        {"row": row, "array": array, "trial": trial["trial"]}
        | {name.removeprefix("hardware."): trial["figures"][name] for name in figures}
        for trial in front
    ]
    write(path, lines)


def fluid(spec: Path, trial: Trial, row: dict[str, str]) -> dict[str, object]:
    """What `fluid` says of a design, beside what `bound` said. Where the mapping that was found
    does not fit in a memory, so many stages are asked for as divide what it holds."""
    model = ["--model", str(HERE / f"gpt-{row['row']}.json")]
    flags = ["--phase", "train", "--batch", row["batch"], "--sequence", "2048", "--quiet"]
    report = run(["wscc", "--hw", str(spec), *model, *flags])
    if short := [line["demand"] / line["limit"] for line in report["infeasible"]]:
        stages = report["mapping"]["pp"] * 2 ** math.ceil(math.log2(max(short)))
        report = run(["wscc", "--hw", str(spec), *model, *flags, "--mapping", f"pp={stages}"])
    mapped = report["mapping"]
    return {
        "feasible": report["feasible"],
        "wafers": report["hardware"]["wafers"],
        "peak_flops": report["hardware"]["peak_flops"],
        **{name: report[name] for name in ("tokens_per_s", "power_w", "mfu", "energy_j")},
        **{f"searched_{name}": trial["figures"][name] for name in ("tokens_per_s", "power_w")},
        "mapping": f"dp={mapped['dp']},tp={mapped['region'][0]}x{mapped['region'][1]},"
        f"pp={mapped['pp']},microbatch={mapped['microbatch']},recompute={mapped['recompute']},"
        f"weights={mapped['weights_in']}",
        **{name: trial["design"].get(name, "") for name in COLUMNS},
    }


def main() -> None:
    """Judge what the options ask for, and keep what was judged before."""
    parser = argparse.ArgumentParser(description=__doc__)
    rows = table("workloads.csv")
    parser.add_argument("--rows", nargs="*", default=[row["row"] for row in rows])
    parser.add_argument("--array", default="01")
    parser.add_argument("--against", nargs="*", default=["a100"])
    parser.add_argument("--studies", type=Path, default=Path("studies"))
    options = parser.parse_args()
    for row in (row for row in rows if row["row"] in options.rows):
        for array in options.array:
            study = options.studies / f"row-{row['row']}-array-{array}"
            same = (x for x in judged_before() if (x["row"], x["array"]) == (row["row"], array))
            known = {str(line["trial"]) for line in same}
            for line in judged(study, row, options.against, known) if study.exists() else ():
                aim = {key: line[key] for key in ("row", "array", "aim")}
                before = [
                    x | {"aim": ""} if aim.items() <= x.items() else x for x in judged_before()
                ]
                write(RESULTS, [*before, line])


def judged_before() -> list[dict[str, object]]:
    """The lines of designs.csv."""
    lines = table("results/designs.csv") if RESULTS.exists() else []
    return [dict(line) for line in lines]


def write(path: Path, lines: list[dict[str, object]]) -> None:
    """All lines, by kind of core, row and trial."""
    order = sorted(lines, key=lambda x: (str(x["array"]), int(str(x["row"])), int(str(x["trial"]))))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(order)


if __name__ == "__main__":
    main()
