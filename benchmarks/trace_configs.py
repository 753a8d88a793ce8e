"""Every config of a folder at full size: is there a graph, of what, and what did making it cost?

A process for every config and phase reads the config, traces and lowers it (in training also
differentiates it) without any cache, as a first run of `wscc` does. FLOPs are those of one step.

    python benchmarks/trace_configs.py FOLDER --phase decode --only Qwen3-8B --json table.json
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PHASES = ("prefill", "decode", "train")
SIZES = {"batch": 1, "sequence": 2048, "context": 2048}
TIME_LIMIT_S = 200


@dataclass(frozen=True)
class Row:
    """What became of one config in one phase; `reason` is empty where there is a graph.

    `cpu_s` and `peak_mib` are of the whole process, imports included; `operators` are those of
    every graph once, `symbolic` is whether one trace serves all sizes.
    """

    config: str
    phase: str
    reason: str = ""
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    symbolic: bool = False
    operators: int = 0
    kinds: int = 0
    parameters: int = 0
    flops: int = 0

    def __str__(self) -> str:
        cost = f"{self.config:38} {self.phase:8} {self.cpu_s:6.1f} {self.peak_mib:6.0f}"
        if self.reason:
            return f"{cost} {self.reason}"
        counts = f"{self.kinds:5} {self.operators:6} {self.parameters:17,} {self.flops:11.4e}"
        return f"{cost} {'ok' if self.symbolic else 'ok, these sizes'} {counts}"


HEADER = (
    f"{'config':38} {'phase':8} {'cpu s':>6} {'MiB':>6}    {'kinds':>5} {'ops':>6} "
    f"{'parameters':>17} {'FLOPs':>11}"
)


def measured(path: str, phase: str) -> Row:
    """The row of one config, made in this process."""
    from wscc.cli import pipeline
    from wscc.ir.errors import UserError
    from wscc.ir.graph import Phase

    of: dict[str, Phase] = {"prefill": "prefill", "decode": "decode", "train": "train"}
    row = Row(Path(path).stem, phase)
    try:
        model = pipeline.trace(pipeline.read_config(path, None), of[phase], SIZES)
        symbolic = model.symbolic
        if phase == "train":
            model = pipeline.clean(model)
    except UserError as error:
        return Row(row.config, phase, f"refused: {error}", *_spent())
    flops = model.bind(SIZES).flops
    assert isinstance(flops, int)
    return Row(
        row.config,
        phase,
        "",
        *_spent(),
        symbolic,
        sum(len(graph.ops) for graph in model.graphs.values()),
        len(model.graphs) - 1,
        model.parameters,
        flops,
    )


def _spent() -> tuple[float, float]:
    """CPU seconds and peak MiB of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return round(used.ru_utime + used.ru_stime, 1), round(used.ru_maxrss / unit)


def row_of(path: Path, phase: str) -> Row:
    """The row of one config, made in a process of its own."""
    command = [sys.executable, __file__, str(path), "--phase", phase, "--one"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return Row(path.stem, phase, f"stopped after {TIME_LIMIT_S} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Row(path.stem, phase, f"failed: {last}")
    return Row(**json.loads(done.stdout.strip().splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of configs")
    parser.add_argument("--phase", choices=PHASES, action="append", help="only this one")
    parser.add_argument("--only", default="", help="only configs whose names contain one of these")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        logging.disable()
        print(json.dumps(asdict(measured(str(given.folder), given.phase[0]))))
        return
    wanted = given.only.split(",")
    rows: list[Row] = []
    print(HEADER)
    for path in sorted(given.folder.glob("*.json")):
        if any(part in path.stem for part in wanted):
            for phase in given.phase or PHASES:
                rows.append(row_of(path, phase))
                print(rows[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
