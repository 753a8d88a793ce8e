"""Kernels of an A100 as `specs/a100.wsc` predicts them, against published measurements.

    python benchmarks/a100_operators.py --reference DIR        errors of every cohort
    python benchmarks/a100_operators.py --reference DIR --fit  the constants of the spec

Of each cohort a random half of the rows (seed 0) may fix constants; errors are printed of that half
and of the other one. The constants are five for TensorRT-LLM's rows: a kernel's launch and a
block's start (software), and what of their peaks the matrix units, L2 and the memory reach
(hardware). LLMCompass' rows were run from PyTorch, whose launch is one more.
"""

import argparse
import csv
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wscc
from scipy.optimize import minimize
from wscc.backend.gpu.attention import Shape, attention
from wscc.backend.gpu.device import Device, Kernels, device_of
from wscc.backend.gpu.products import product

SEED = 0
HEAD = 128.0
PEAK_BYTES_PER_S = 2.039e12

STACKS: tuple[str, ...] = ("tensorrt", "pytorch")
SHARED = ("block, cycles", "load, B/cycle", "sustained, matrix units", "sustained, memory")

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cohort:
    """Measurements of one kind: their file, the software that ran them, and how each is predicted
    from the file's columns."""

    name: str
    file: str
    stack: str
    kernels: Callable[[Device, Columns], Kernels]
    unit_s: float = 1e-3


def _product(device: Device, row: Columns) -> Kernels:
    return product(device, "bfloat16", row["m"], row["n"], row["k"])


def _context(device: Device, row: Columns) -> Kernels:
    tokens = row["isl"]
    heads, groups = row["num_heads"], row["num_key_value_heads"]
    shape = Shape(row["batch_size"], heads, groups, tokens, tokens, HEAD, HEAD)
    return attention(device, "bfloat16", shape)


def _generation(device: Device, row: Columns) -> Kernels:
    keys = row["isl"] + row["step"]
    heads, groups = row["num_heads"], row["num_key_value_heads"]
    shape = Shape(row["batch_size"], heads, groups, np.ones_like(keys), keys, HEAD, HEAD)
    return attention(device, "bfloat16", shape)


COHORTS = (
    Cohort("GEMM slice", "a100_gemm_slice_ms.csv", "tensorrt", _product),
    Cohort("GEMM LLMCompass", "a100_gemm_llmcompass.csv", "pytorch", _product),
    Cohort("context attention", "a100_context_attention_hd128_ms.csv", "tensorrt", _context),
    Cohort(
        "generation attention", "a100_generation_attention_hd128_ms.csv", "tensorrt", _generation
    ),
)


def read(cohort: Cohort, folder: Path) -> Columns:
    """The columns of numbers of a cohort, the latency in seconds."""
    with (folder / "measured" / cohort.file).open() as file:
        rows = list(csv.DictReader(file))
    numbers = [name for name in rows[0] if "dtype" not in name and name != "throughput"]
    columns = {n: np.array([float(r[n].removesuffix("ms")) for r in rows]) for n in numbers}
    return columns | {"latency": columns["latency"] * cohort.unit_s}


def fitted_half(count: int) -> np.ndarray:
    """Which rows may fix constants."""
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(SEED).permutation(count)[: count // 2]] = True
    return chosen


def predicted_s(cohort: Cohort, device: Device, columns: Columns) -> np.ndarray:
    """Seconds of every row."""
    return np.asarray(cohort.kernels(device, columns).cycles) / device.core.clock_hz


def a100(stack: str) -> Device:
    """The shipped spec with one of its software stacks."""
    device = device_of(wscc.load_hardware("a100").bind({"stack": stack}))
    assert device is not None
    return device


def report(folder: Path) -> None:
    """Print relative errors by cohort, on both halves."""
    print(f"{'cohort':22}{'half':9}{'rows':>6}{'median':>9}{'mean':>9}{'95%':>9}{'worst':>9}")
    for cohort in COHORTS:
        columns = read(cohort, folder)
        error = np.abs(predicted_s(cohort, a100(cohort.stack), columns) / columns["latency"] - 1)
        fitted = fitted_half(len(error))
        for half, rows in (("fitted", fitted), ("held out", ~fitted)):
            e = error[rows] * 100
            figures = (np.median(e), e.mean(), np.percentile(e, 95), e.max())
            shown = "".join(f"{figure:8.1f}%" for figure in figures)
            print(f"{cohort.name:22}{half:9}{rows.sum():6}{shown}")


def changed(
    device: Device, launch: float, block: float, load: float, matrix: float, memory: float
) -> Device:
    """A device with launch, block (cycles), load (bytes a cycle) and both sustained shares."""
    software = dataclasses.replace(device.core.software, launch_cycles=launch, block_cycles=block)
    parts = dataclasses.replace(device.parts, load_bytes_per_cycle=load, sustained=matrix)
    reached = memory * PEAK_BYTES_PER_S / device.core.clock_hz
    core = dataclasses.replace(device.core, software=software)
    return Device(core, parts, reached)


def fit(folder: Path) -> None:
    """Print the constants that make the mean error least over the fitted halves, each cohort
    counting alike."""
    device = a100("tensorrt")
    data = {cohort.name: _half(read(cohort, folder)) for cohort in COHORTS}

    def loss(constants: np.ndarray) -> float:
        launches = dict[str, float](zip(STACKS, constants, strict=False))
        shared = constants[len(STACKS) :]
        if (constants <= 0).any() or (shared[2:] > 1).any():
            return np.inf
        total = 0.0
        for cohort in COHORTS:
            one = changed(device, launches[cohort.stack], *shared)
            columns = data[cohort.name]
            error = np.log(predicted_s(cohort, one, columns) / columns["latency"])
            total += float(np.abs(error).mean())
        return total

    start = np.array([3500.0, 30000.0, 4000.0, 32.0, 0.87, 0.8])
    best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 300}).x
    names = (*(f"launch, {stack}" for stack in STACKS), *SHARED)
    for name, value in zip(names, best, strict=True):
        print(f"{name:28}{value:10.4g}")


def _half(columns: Columns) -> Columns:
    rows = fitted_half(len(columns["latency"]))
    return {name: values[rows] for name, values in columns.items()}


def main() -> None:
    """Read the arguments and print what they ask for."""
    parser = argparse.ArgumentParser(description="Kernels of an A100, predicted and measured.")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    parser.add_argument("--fit", action="store_true", help="print the constants of the spec")
    arguments = parser.parse_args()
    (fit if arguments.fit else report)(arguments.reference)


if __name__ == "__main__":
    main()
