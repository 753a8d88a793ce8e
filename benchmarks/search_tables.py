"""Tables of whole spaces, every design judged by the compiler: what searches are compared on.

    python benchmarks/search_tables.py [CASE...] [--to benchmarks/tables]

A table takes minutes to an hour of one core; search_spaces.py reads it.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from wscc.dse.design import Columns, designs_of
from wscc.dse.evaluator import PROVEN
from wscc.dse.hardware_space import HardwareDesigns
from wscc.dse.mapped import Fidelity, MappedEvaluator
from wscc.dse.objective import read_objective
from wscc.dse.optimist import DesignOptimist
from wscc.dse.spec_texts import SpecTexts
from wscc.dse.table import Table, TableSpace
from wscc.dse.trial import Outcome
from wscc.dse.workloads import Task
from wscc.frontend.model import read_config
from wscc.ir.graph import Phase

HERE = Path(__file__).parent
FIGURES = (
    *("latency_s", "tokens_per_s", "energy_j", "tokens_per_j"),
    *("power_nameplate_w", "hardware.area_mm2", "cost_usd"),
)

MODEL = {
    "model_type": "llama", "torch_dtype": "float32", "vocab_size": 256, "hidden_size": 128,
    "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip
"""As small as the wafers of search_space.wsc."""


@dataclass(frozen=True)
class Case:
    """A workload, and the parameters that are not open in its space."""

    phase: Phase
    batch: int
    sequence: int
    fixed: Mapping[str, str | float]
    spec: str = "search_space.wsc"
    top: Fidelity = "fluid"


_NARROW = {"read": "16 B/cycle"}

CASES = {
    "prefill": Case("prefill", 1, 512, {}),
    "decode": Case("decode", 8, 512, _NARROW),
    "training": Case("train", 2, 64, _NARROW),
    "packets": Case("prefill", 1, 128, _NARROW, "packet_space.wsc", "flit"),
    "packets_training": Case("train", 1, 64, _NARROW, "packet_space.wsc", "flit"),
}


def table_of(case: Case, folder: Path) -> Table:
    """Every legal design of the space at every rung, with its optimistic figures."""
    (folder / "config.json").write_text(json.dumps(MODEL))
    spec = SpecTexts.of(str(HERE / case.spec))
    config = read_config(str(folder))
    task = Task("work", config, case.phase, case.batch, case.sequence, case.sequence)
    evaluator = MappedEvaluator(spec, (task,), tuple(sorted(case.fixed.items())), top=case.top)
    designs = HardwareDesigns(spec.load(), case.fixed)
    batches = list(designs.all())
    columns: Columns = {
        name: np.concatenate([batch[name] for batch in batches]) for name in designs.names
    }
    rows = designs_of(columns)
    figures: dict[str, dict[str, np.ndarray]] = {}
    seconds: dict[str, float] = {}
    for rung in evaluator.rungs:
        start = time.process_time()
        outcomes = [evaluator.evaluate(design, rung.name) for design in rows]
        seconds[rung.name] = (time.process_time() - start) / len(rows)
        print(f"  {rung.name}: {seconds[rung.name]:.3f} s a design of {len(rows)}", flush=True)
        figures[rung.name] = {
            name: np.array(
                [one.figures.get(name, np.nan) if able(one) else np.nan for one in outcomes]
            )
            for name in (*FIGURES, *(PROVEN + each for each in FIGURES if rung.proven))
        }
    rungs = tuple(
        replace(
            rung,
            cost=round(seconds[rung.name] / seconds[evaluator.rungs[-1].name], 3),
            proven=tuple(name for name in rung.proven if name in FIGURES),
        )
        for rung in evaluator.rungs
    )
    wanted = [read_objective(name) for name in FIGURES]
    found = DesignOptimist(designs, evaluator).optimistic(columns, wanted)
    best = {
        one.figure: np.where(np.isfinite(loss), one.sign * loss, np.nan)
        for one, loss in zip(wanted, found.T, strict=True)
    }
    return Table(TableSpace(designs.names, columns), rungs, known(figures), best)


def able(outcome: Outcome) -> bool:
    """Whether a design can do the work."""
    return outcome.state == "done"


def known(figures: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Without the columns that an evaluator leaves empty."""
    return {
        rung: {name: column for name, column in own.items() if not np.isnan(column).all()}
        for rung, own in figures.items()
    }


def main(arguments: list[str]) -> None:
    """Writes the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--to", type=Path, default=HERE / "tables")
    given = parser.parse_args(arguments)
    given.to.mkdir(exist_ok=True)
    for name in given.cases or CASES:
        print(name, flush=True)
        with TemporaryDirectory() as folder:
            table = table_of(CASES[name], Path(folder))
        table.write(given.to / f"{name}.csv.gz")


if __name__ == "__main__":
    main(sys.argv[1:])
