"""The constants of the shipped specs that no source gives, fitted anew.

    python benchmarks/calibrate.py wse2            a software's issue and launch, in cycles
    python benchmarks/calibrate.py a100-operators --data DIR
    python benchmarks/calibrate.py a100-training [--data DIR]

Each is fitted on the rows that `wscc validate` marks as fitted, half of them at most, and on
nothing else; what the fit is worth is what `wscc validate` says of the others. The kernels of an
A100 need the whole files, of which this package carries a part.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import wscc
from scipy.optimize import minimize, root
from wscc.backend.gpu.device import Device
from wscc.backend.timing import Timing
from wscc.cli.validation.gpu_operators import KINDS, a100, measured, predicted_s
from wscc.cli.validation.gpu_training import NODES, fitted_steps, steps
from wscc.cli.validation.wafer import layers, wse2
from wscc.ir.hardware import Hardware, Software
from wscc.ir.program import Program

PEAK_BYTES_PER_S = 2.039e12
"""Of an A100's memory."""
STACKS = ("tensorrt", "pytorch")
ITERATIONS = {"a100-operators": 300, "a100-training": 60}


def with_software(hardware: Hardware, software: Software) -> Hardware:
    """A system whose cores run other software."""
    die = hardware.wafer.die
    die = replace(die, core=replace(die.core, software=software))
    return replace(hardware, wafer=replace(hardware.wafer, die=die))


def fit_wse2() -> None:
    """Cycles to issue an instruction and to launch a kernel, with which two rows come out."""
    hardware = wse2()
    chosen = [(row, row.program(hardware)) for row in layers(None) if row.fitted]

    def errors(constants: Sequence[float]) -> list[float]:
        issue, launch = constants
        software = replace(hardware.core.software, issue_cycles=issue, launch_cycles=launch)
        changed = with_software(hardware, software)
        found = [wscc.evaluate(replace(program, hardware=changed)) for _, program in chosen]
        return [
            each.cycles_per_layer / row.cycles - 1
            for each, (row, _) in zip(found, chosen, strict=True)
        ]

    issue, launch = root(errors, (10.0, 200.0)).x
    _show({"issue, cycles": issue, "launch, cycles": launch})


def fit_operators(folder: Path) -> None:
    """Launches of two stacks, a block's start, loads of L2, and the shares of the peaks of matrix
    units and memory: the least mean error over the fitted halves, each kind counting alike."""
    data = []
    for kind in KINDS:
        columns, fitted = measured(kind, folder)
        data.append({name: values[fitted] for name, values in columns.items()})
    device = a100("tensorrt")

    def loss(constants: np.ndarray) -> float:
        launches = dict[str, float](zip(STACKS, constants, strict=False))
        shared = constants[len(STACKS) :]
        if (constants <= 0).any() or (shared[2:] > 1).any():
            return np.inf
        total = 0.0
        for kind, columns in zip(KINDS, data, strict=True):
            one = changed_device(device, launches[kind.stack], *shared)
            error = np.log(predicted_s(kind, one, columns) / columns["latency"])
            total += float(np.abs(error).mean())
        return total

    start = np.array([3500.0, 30000.0, 4000.0, 32.0, 0.87, 0.8])
    best = minimize(
        loss, start, method="Nelder-Mead", options={"maxiter": ITERATIONS["a100-operators"]}
    ).x
    names = (
        *(f"launch of {stack}, cycles" for stack in STACKS),
        "block, cycles",
        "load, B/cycle",
        "sustained, matrix units",
        "sustained, memory",
    )
    _show(dict(zip(names, best, strict=True)))


def changed_device(
    device: Device, launch: float, block: float, load: float, matrix: float, memory: float
) -> Device:
    """A device with launch, block (cycles), load (bytes a cycle) and both sustained shares."""
    software = replace(device.core.software, launch_cycles=launch, block_cycles=block)
    parts = replace(device.parts, load_bytes_per_cycle=load, sustained=matrix)
    reached = memory * PEAK_BYTES_PER_S / device.core.clock_hz
    return Device(replace(device.core, software=software), parts, reached)


def fit_training(folder: Path | None) -> None:
    """A kernel's cycles on the host, the share that products keep up, and that of the links between
    nodes: the least mean error over the fitted steps, those of several nodes and the others
    counting alike."""
    chosen = [step for step in steps(folder) if step in fitted_steps()]
    programs = [step.program() for step in chosen]
    many = np.array([step.table == NODES for step in chosen])
    measured_s = np.array([step.measured_s for step in chosen])

    def loss(constants: np.ndarray) -> float:
        host, sustained, between = constants
        if host <= 0 or not 0 < sustained <= 1 or not 0 < between <= 1:
            return np.inf
        found = [step_s(program, host, sustained, between) for program in programs]
        error = np.abs(np.log(np.array(found) / measured_s))
        print(f"{host:10.0f}{sustained:8.4f}{between:8.4f}{error.mean() * 100:8.2f}%", flush=True)
        return float(error[many].mean() + error[~many].mean())

    simplex = [[120e3, 0.87, 0.5], [180e3, 0.87, 0.5], [120e3, 0.82, 0.5], [120e3, 0.87, 0.7]]
    options = {"maxiter": ITERATIONS["a100-training"], "initial_simplex": simplex}
    best = minimize(loss, simplex[0], method="Nelder-Mead", options=options).x
    names = ("host, cycles", "sustained, products", "sustained, between nodes")
    _show(dict(zip(names, best, strict=True)))


def step_s(program: Program, host: float, sustained: float, between: float) -> float:
    """Seconds of a step on a cluster with other constants, and nothing else of it."""
    hardware = program.hardware
    software = replace(hardware.core.software, host_cycles=host, sustained=sustained)
    assert hardware.link is not None
    link = replace(hardware.link, sustained=between)
    changed = replace(with_software(hardware, software), link=link)
    return Timing(replace(program, hardware=changed), "fluid").latency_s


def _show(constants: dict[str, float]) -> None:
    for name, value in constants.items():
        print(f"{name:28}{value:10.4g}")


def main() -> None:
    """Fit what the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("wse2", "a100-operators", "a100-training"))
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with measurements")
    chosen = parser.parse_args()
    if chosen.what == "wse2":
        fit_wse2()
    elif chosen.what == "a100-training":
        fit_training(chosen.data)
    elif chosen.data is None:
        parser.error("a100-operators needs --data DIR, a folder with the whole files")
    else:
        fit_operators(chosen.data)


if __name__ == "__main__":
    main()
