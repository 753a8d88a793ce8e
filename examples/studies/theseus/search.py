"""Search Theseus' space for wafers that train its workloads at the peak of a row's A100s.

    python search.py [--rows 0 4 9] [--array 0|1] [--budget 12] [--strategy bo] [--fidelity bound]
                     [--seeds 10] [--studies FOLDER]

One study a row, by commands of wscc-dse, which are printed: the rows in their order, each begun
with designs of the front of the row before, as a wafer that is good at one is seldom bad at the
next. They are judged by `bound`, which in training is within some per cent of `fluid` and takes a
quarter of its time; judge.py judges the best by `fluid`. `--array 1` lets the lanes of a core hand
operands on (theseus.wsc). Done again it goes on.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LEAST = 0.3
"""Of the tokens a second of the A100s: slower designs are of no interest, little as they draw."""


def table(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def command(row: dict[str, str], options: argparse.Namespace, budget: int) -> list[str]:
    """The search of a row."""
    references = table(HERE / "results" / "references.csv")
    (a100,) = (r for r in references if r["row"] == row["row"] and r["system"] == "a100")
    least = f"{LEAST * float(a100['tokens_per_s']):.4g}"
    return [
        *("wscc-dse", "--hw", "theseus", "--set", f"gpus={row['gpus']}", "--set", "surplus=1.1"),
        *("--set", f"array={options.array}", "--model", str(HERE / f"gpt-{row['row']}.json")),
        *("--phase", "train", "--batch", row["batch"], "--sequence", "2048"),
        *("--objective", "tokens_per_s", "--objective", "power_w"),
        *("--constraint", f"tokens_per_s >= {least}", "--strategy", options.strategy),
        *("--fidelity", options.fidelity, "--workers", "0", "--budget", str(budget)),
        *("--study", str(folder(row, options))),
    ]


def folder(row: dict[str, str], options: argparse.Namespace, earlier: int = 0) -> Path:
    """Where the study of a row is, or of so many rows before it."""
    return options.studies / f"row-{int(row['row']) - earlier}-array-{options.array}"


def run(words: list[str], *, may_fail: bool = False) -> str:
    """What a command prints."""
    print(" ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) and not may_fail:
        raise SystemExit(done.returncode)
    return done.stdout


def seed(study: Path, before: Path, options: argparse.Namespace) -> None:
    """Enqueue designs spread over an earlier study's front and, of array cores, those of seeds.csv,
    but for what this row's peak rules out."""
    specs = study / "before"
    shutil.rmtree(specs, ignore_errors=True)
    run(["wscc-dse", "export", str(before), "--wsc", str(specs)])
    front = json.loads(run(["wscc-dse", "pareto", str(before), "--json"]))["front"]
    front = sorted(front, key=lambda trial: trial["figures"]["tokens_per_s"])
    step = max(1.0, (len(front) - 1) / (options.seeds - 1))
    places = (round(at * step) for at in range(options.seeds))
    chosen = {at for at in places if at < len(front)}
    designs = [[str(specs / f"theseus-{front[at]['trial']}.wsc")] for at in sorted(chosen)]
    for line in table(HERE / "seeds.csv") if options.array else ():
        designs.append([f"{name}={value}" for name, value in line.items() if value])
    for words in designs:
        run(["wscc-dse", "enqueue", str(study), *words], may_fail=True)


def main() -> None:
    """Search the rows that the options name."""
    parser = argparse.ArgumentParser(description=__doc__)
    rows = table(HERE / "workloads.csv")
    parser.add_argument("--rows", nargs="*", default=[row["row"] for row in rows])
    parser.add_argument("--array", type=int, choices=(0, 1), default=0)
    parser.add_argument("--budget", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=10, help="designs of the row before (10)")
    parser.add_argument("--strategy", default="bo")
    parser.add_argument("--fidelity", default="bound")
    parser.add_argument("--studies", type=Path, default=Path("studies"))
    options = parser.parse_args()
    for row in (row for row in rows if row["row"] in options.rows):
        study, before = folder(row, options), folder(row, options, earlier=1)
        if before.exists() and not study.exists():
            run(command(row, options, 1))
            seed(study, before, options)
        run(command(row, options, options.budget))


if __name__ == "__main__":
    main()
