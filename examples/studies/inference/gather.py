"""What the searches found, in one table: `python gather.py STUDY ...` writes results/searches.csv,
a row for every design that was evaluated at `fluid`. A study is called by what it searched for
(llama-prefill, llama-both)."""

import csv
import sys
import tempfile
from pathlib import Path

from evaluated import HERE, Row
from sweep import write
from wscc.cli.dse.main import main as wscc_dse

SHARED = ("hardware.wafers", "hardware.peak_flops", "hardware.area_mm2", "cost_usd")
OF_STEP = ("latency_s", "tokens_per_s", "energy_j", "power_w", "mapping.dp", "mapping.pp")


def main(studies: list[str]) -> None:
    """Export the studies, and keep of every trial what the other scripts read."""
    rows = [row for study in studies for row in _rows(Path(study))]
    write(rows, HERE / "results" / "searches.csv")


def _rows(study: Path) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "trials.csv")
        wscc_dse(["export", str(study), "--csv", str(table), "--quiet"])
        with table.open(encoding="utf-8") as file:
            trials = [row for row in csv.DictReader(file) if _counts(row)]
    return [_row(study.name, trial) for trial in trials]


def _counts(trial: Row) -> bool:
    return trial["fidelity"] == "fluid" and trial["state"] == "done"


def _row(study: str, trial: Row) -> Row:
    """One trial; of a study of both phases the figures of each are under its name."""
    both = study.endswith("both")
    phases = ("prefill", "decode") if both else (study.rpartition("-")[2],)
    row: Row = {"study": study, "trial": trial["trial"], "on_front": trial["on_front"]}
    row |= {name: trial[name] for name in trial if name.startswith("design.")}
    of_any = f"figure.{phases[0]}/" if both else "figure."
    row |= {name.rpartition(".")[2]: _number(trial[of_any + name]) for name in SHARED}
    row["power_nameplate_w"] = _number(trial["figure.power_nameplate_w"])
    for phase in phases:
        of_phase = f"figure.{phase}/" if both else "figure."
        for name in OF_STEP:
            row[f"{phase}.{name.rpartition('.')[2]}"] = _number(trial[of_phase + name])
    return row


def _number(text: str) -> float:
    return float(text) if text else float("nan")


if __name__ == "__main__":
    main(sys.argv[1:])
