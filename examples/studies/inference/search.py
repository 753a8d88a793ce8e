"""The searches of the inference study: `python search.py FOLDER [STUDY ...]` makes or goes on with
the studies in a folder, each by the command that it prints.

Every search is begun, given a few designs like that of the sweeps (`wscc-dse enqueue`), and goes on
until its budget is spent.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluated import EXAMPLES, HERE, STEPS
from wscc.cli.dse.main import main as wscc_dse

FLAGS = "--objective tokens_per_s --objective power_w --seed 1 --timeout 120s"
WEIGHT = round(STEPS["llama-decode"].steps_per_request / STEPS["llama-prefill"].steps_per_request)
"""Decode steps for a prefill step in a mix of requests."""
BOTH = (
    "--workload 'prefill: phase=prefill, batch=4' "
    f"--workload 'decode: phase=decode, batch=32, weight={WEIGHT}' --combine weighted"
)
STUDIES = {
    "llama-decode": "--model {llama} --phase decode --batch 32 --budget 36",
    "llama-prefill": "--model {llama} --phase prefill --batch 4 --strategy bo --budget 60",
    "llama-both": "--model {llama} " + BOTH + " --budget 20",
    "mixtral-both": "--model {mixtral} "
    + BOTH
    + " --set memory_at=stack --strategy bo --budget 10",
}
"""Mixtral's weights lie on the dies: behind the edges replicas were taken to read the same experts.
A prompt's step is evaluated about as fast as it is bounded, so its search takes no bounds."""
CORE = "macs=16 read_bandwidth=512bit/cycle link_width=256bit/cycle ratio=0.5 rows=32"
OBLONG = f"{CORE} capacity=1024KiB columns=40 die_rows=7 die_columns=8"
SQUARE = f"{CORE} capacity=512KiB columns=32 die_rows=8 die_columns=8"
STARTS = (
    f"{OBLONG} joint=info_sow memory_at=stack stack_bandwidth=0.5TB/s",
    f"{OBLONG} joint=info_sow memory_at=stack stack_bandwidth=2TB/s",
    f"{OBLONG} joint=stitched memory_at=stack stack_bandwidth=1TB/s",
    f"{SQUARE} joint=info_sow memory_at=stack stack_bandwidth=1TB/s",
    f"{SQUARE} joint=stitched memory_at=stack stack_bandwidth=2TB/s",
)
"""Designs that searches are given."""


def search(folder: Path, name: str) -> None:
    """Make one study, or go on with it."""
    models = {model: EXAMPLES / STEPS[f"{model}-decode"].model for model in ("llama", "mixtral")}
    flags = f"--hw {HERE / 'space.wsc'} {STUDIES[name].format(**models)} {FLAGS}"
    study = folder / name
    if not study.exists():
        _run(shlex.split(f"{flags} --study {study} --quiet --budget 1"))
        held = "memory_at=stack " if "--set memory_at=stack" in flags else ""
        for start in STARTS:
            _run(["enqueue", str(study), *start.replace(held, "").split()])
    _run(shlex.split(f"{flags} --study {study}"))


def _run(arguments: Sequence[str]) -> None:
    print("wscc-dse", shlex.join(arguments), flush=True)
    wscc_dse(arguments)


def main(arguments: Sequence[str]) -> None:
    """Run the searches of these names, or all, one after the other."""
    if not arguments:
        raise SystemExit(__doc__)
    folder = Path(arguments[0])
    for name in arguments[1:] or STUDIES:
        search(folder, name)


if __name__ == "__main__":
    main(sys.argv[1:])
