"""Training steps on clusters of A100 as `specs/a100.wsc` predicts them, against measured ones.

    python benchmarks/a100_training.py --reference DIR        every row
    python benchmarks/a100_training.py --reference DIR --fit  the constants of the spec

DIR/measured holds `a100_megatron_sc21.csv` (Narayanan et al., SC 2021, table 1),
`a100_selective_recompute.csv` (Korthikanti et al., arXiv 2205.05198, table 5) and
`a100_vtrain_multi_node.csv` (Megatron-DeepSpeed, ground truth of vTrain, arXiv 2312.12391). All are
GPT models of sequences of 2048 tokens and a vocabulary of 51,200, with the strategy that was
measured. Of each file a random half of the rows (seed 0) may fix constants; they are three: a
kernel's time on the host and the share that products keep up (software megatron), and what
collectives reach of InfiniBand.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import wscc
from scipy.optimize import minimize
from wscc.backend.timing import Timing
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program

SEED = 0
NODE = 8
"""GPUs."""
SEQUENCE, VOCABULARY = 2048, 51200


@dataclass(frozen=True)
class Row:
    """A training step that was measured."""

    cohort: str
    hidden: int
    heads: int
    layers: int
    batch: int
    tp: int
    dp: int
    pp: int
    microbatch: int
    interleave: int
    recompute: str
    measured_s: float

    @property
    def name(self) -> str:
        return (
            f"{self.hidden:5} x {self.layers:3}  dp={self.dp} tp={self.tp} pp={self.pp} "
            f"microbatch={self.microbatch} interleave={self.interleave} {self.recompute}"
        )

    @property
    def mapping(self) -> str:
        """As `--mapping` takes it."""
        return (
            f"dp={self.dp},tp=1x{self.tp},pp={self.pp},microbatch={self.microbatch},"
            f"interleave={self.interleave},recompute={self.recompute},zero=0"
        )

    @property
    def config(self) -> Mapping[str, object]:
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": self.hidden,
            "n_head": self.heads,
            "n_layer": self.layers,
            "n_inner": 4 * self.hidden,
            "n_positions": SEQUENCE,
            "vocab_size": VOCABULARY,
            "activation_function": "gelu_new",
            "torch_dtype": "float16",
            "tie_word_embeddings": True,
        }

    def program(self) -> Program:
        """The step, compiled as it was measured."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(self.config))
            model = wscc.load_model(path, "train", batch=self.batch, sequence=SEQUENCE)
        nodes = -(-self.dp * self.tp * self.pp // NODE)
        cluster = wscc.load_hardware("a100").bind({"cluster": nodes, "stack": "megatron"})
        return wscc.compile(model, cluster, mapping=self.mapping)


def rows(folder: Path) -> list[Row]:
    """All rows of all files."""
    return [*_sc21(folder), *_selective(folder), *_multi_node(folder)]


def _sc21(folder: Path) -> Iterator[Row]:
    for line in _lines(folder / "a100_megatron_sc21.csv"):
        tp, pp = int(line["TP"]), int(line["PP"])
        yield Row(
            "SC 2021",
            *(int(line[name]) for name in ("hidden", "heads", "layers", "batch_seqs")),
            tp=tp,
            dp=int(line["n_A100_80GB"]) // (tp * pp),
            pp=pp,
            microbatch=int(line["microbatch"]),
            interleave=int(line["virtual_stages_per_device"]),
            recompute="full",
            measured_s=float(line["derived_iter_time_s(full recompute, seq2048, V51200)"]),
        )


def _selective(folder: Path) -> Iterator[Row]:
    for line in _lines(folder / "a100_selective_recompute.csv"):
        words = line["model"].split()
        hidden, layers, heads = (
            int(next(w[1:] for w in words if w[0] == letter)) for letter in "hLa"
        )
        tp, pp = int(line["TP"]), int(line["PP"])
        for recompute, column in (
            ("full", "iter_s_full_recompute"),
            ("selective", "iter_s_seqpar_selective"),
        ):
            yield Row(
                "arXiv 2205.05198",
                hidden,
                heads,
                layers,
                int(line["batch"]),
                tp=tp,
                dp=int(line["n_A100"]) // (tp * pp),
                pp=pp,
                microbatch=int(line["microbatch"]),
                interleave=int(line["interleave_m"]),
                recompute=recompute,
                measured_s=float(line[column]),
            )


def _multi_node(folder: Path) -> Iterator[Row]:
    for line in _lines(folder / "a100_vtrain_multi_node.csv"):
        yield Row(
            "multi-node",
            *(int(line[x]) for x in ("hidden size", "attention heads", "# layers", "global batch")),
            tp=int(line["tensor parallelism"]),
            dp=int(line["data parallelism"]),
            pp=int(line["pipeline parallelism"]),
            microbatch=int(line["micro batch"]),
            interleave=1,
            recompute="full",
            measured_s=float(line["iteration time (ms)"]) / 1e3,
        )


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def fitted(every: Sequence[Row]) -> np.ndarray:
    """Which rows may fix constants: half of each cohort."""
    chosen = np.zeros(len(every), dtype=bool)
    rng = np.random.default_rng(SEED)
    for cohort in dict.fromkeys(row.cohort for row in every):
        own = np.array([at for at, row in enumerate(every) if row.cohort == cohort])
        chosen[rng.permutation(own)[: len(own) // 2]] = True
    return chosen


def report(every: Sequence[Row]) -> None:
    """Print every row, then the errors of each cohort, on both halves."""
    chosen = fitted(every)
    errors: list[float] = []
    for row, one in zip(every, chosen, strict=True):
        seconds = wscc.evaluate(row.program()).latency_s
        errors.append(seconds / row.measured_s - 1)
        half = "fitted" if one else "held out"
        print(
            f"{row.cohort:18}{row.name:62}{row.measured_s:8.2f} s{seconds:8.2f} s"
            f"{errors[-1] * 100:+7.1f}%  {half}",
            flush=True,
        )
    error = np.abs(errors) * 100
    names = [row.cohort for row in every]
    print(f"\n{'cohort':18}{'half':9}{'rows':>6}{'mean':>9}{'median':>9}{'worst':>9}")
    for cohort in dict.fromkeys(names):
        own = np.array([name == cohort for name in names])
        for half, taken in (("all", own), ("fitted", own & chosen), ("held out", own & ~chosen)):
            e = error[taken]
            shown = "".join(f"{figure:8.1f}%" for figure in (e.mean(), np.median(e), e.max()))
            print(f"{cohort:18}{half:9}{taken.sum():6}{shown}")


def changed(hardware: Hardware, host: float, sustained: float, between: float) -> Hardware:
    """A cluster with other constants: cycles of a kernel on the host, the share that products keep
    up, and that of the links between nodes."""
    die = hardware.wafer.die
    software = replace(die.core.software, host_cycles=host, sustained=sustained)
    die = replace(die, core=replace(die.core, software=software))
    assert hardware.link is not None
    link = replace(hardware.link, sustained=between)
    return replace(hardware, wafer=replace(hardware.wafer, die=die), link=link)


def step_s(program: Program, hardware: Hardware) -> float:
    """Seconds of a step on other hardware of the same shape, and nothing else of it."""
    return Timing(replace(program, hardware=hardware), "fluid").latency_s


def fit(every: Sequence[Row]) -> None:
    """Print the constants that make the mean error least over the fitted half of each cohort: the
    multi-node rows, and the others together, count alike."""
    chosen = [row for row, one in zip(every, fitted(every), strict=True) if one]
    programs = [row.program() for row in chosen]
    many = np.array([row.cohort == "multi-node" for row in chosen])

    def loss(constants: np.ndarray) -> float:
        host, sustained, between = constants
        if host <= 0 or not 0 < sustained <= 1 or not 0 < between <= 1:
            return np.inf
        errors = [
            np.log(step_s(program, changed(program.hardware, *constants)) / row.measured_s)
            for row, program in zip(chosen, programs, strict=True)
        ]
        error = np.abs(errors)
        print(f"{host:10.0f}{sustained:8.4f}{between:8.4f}{error.mean() * 100:8.2f}%", flush=True)
        return float(error[many].mean() + error[~many].mean())

    simplex = [[120e3, 0.87, 0.5], [180e3, 0.87, 0.5], [120e3, 0.82, 0.5], [120e3, 0.87, 0.7]]
    options = {"maxiter": 60, "initial_simplex": simplex}
    best = minimize(loss, simplex[0], method="Nelder-Mead", options=options).x
    names = ("host, cycles", "sustained, products", "sustained, between nodes")
    for name, value in zip(names, best, strict=True):
        print(f"{name:28}{value:10.4g}")


def main() -> None:
    """Read the arguments and print what they ask for."""
    parser = argparse.ArgumentParser(description="Training on A100s, predicted and measured.")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    parser.add_argument("--fit", action="store_true", help="print the constants of the spec")
    arguments = parser.parse_args()
    every = rows(arguments.reference / "measured")
    (fit if arguments.fit else report)(every)


if __name__ == "__main__":
    main()
