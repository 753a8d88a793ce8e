"""What `specs/wse2.wsc` predicts for a Cerebras WSE-2, against published measurements.

    python benchmarks/wse2.py --reference DIR          every row of every file in DIR
    python benchmarks/wse2.py --reference DIR --fit    the software's two constants

DIR holds `wse2_llm_inference.csv` and `wse2_gemv.csv` (WaferLLM, arXiv 2502.04563) and
`cs2_gpt3_training.csv` (arXiv 2409.00287). WaferLLM's kernels pad a model to the mesh and treat
attention as one head; so do the rows here. The two constants are fitted on the prefill of
LLaMA3-8B, whose rows are marked; all other rows are predicted.
"""

import argparse
import csv
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import wscc
from scipy.optimize import root
from wscc.cli.pipeline import LoadedModel
from wscc.ir.hardware import Hardware
from wscc.ir.program import Phase, Program

CLOCK_HZ = 1.1e9
"""What WaferLLM's launchers divide cycles by, whatever the chip ran at."""


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model that a kernel pads."""

    hidden: int
    intermediate: int


SHAPES = {
    "LLaMA3-8B": Shape(4096, 14336),
    "LLaMA2-13B": Shape(5120, 13824),
    "CodeLLaMA-34B": Shape(8192, 22016),
    "QWen2-72B": Shape(8192, 29568),
}
FITTED = {("LLaMA3-8B", "prefill", 480), ("LLaMA3-8B", "prefill", 720)}
"""Rows that the constants are fitted on."""


@dataclass(frozen=True)
class Row:
    """One layer of a model on a square of cores, and the cycles that were measured."""

    model: str
    phase: Phase
    tokens: int
    side: int
    measured: float

    @property
    def fitted(self) -> bool:
        return (self.model, self.phase, self.side) in FITTED

    def padded(self, size: int) -> int:
        return -(-size // self.side) * self.side

    def program(self, hardware: Hardware) -> Program:
        """The padded layer, compiled onto the square."""
        shape, tokens = SHAPES[self.model], self.padded(self.tokens)
        hidden = self.padded(shape.hidden)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "float16",
            "vocab_size": 128256,
            "hidden_size": hidden,
            "intermediate_size": self.padded(shape.intermediate),
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": hidden,
        }
        model = _loaded(config, self.phase, tokens, layers=1)
        return wscc.compile(model, hardware, region=f"{self.side}x{self.side}")


def _loaded(
    config: dict[str, object],
    phase: Phase,
    tokens: int,
    batch: int = 1,
    layers: int | None = None,
) -> LoadedModel:
    """A model of `tokens` tokens a sequence, in the cache or to be computed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        return wscc.load_model(
            path, phase=phase, batch=batch, sequence=tokens, context=tokens, layers=layers
        )


def _records(path: Path) -> Iterator[dict[str, str]]:
    with path.open() as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def inference_rows(reference: Path) -> list[Row]:
    """WaferLLM's tables of prefill and decode."""
    return [
        Row(
            record["model"],
            "prefill" if record["phase"] == "prefill" else "decode",
            int(record["context_tokens"]),
            int(record["mesh_side_cores"]),
            float(record["cycles_per_layer_at_1.1GHz"]),
        )
        for record in _records(reference / "wse2_llm_inference.csv")
    ]


def with_software(hardware: Hardware, issue: float, launch: float) -> Hardware:
    """A wafer whose software has other overheads."""
    core = hardware.core
    software = dataclasses.replace(core.software, issue_cycles=issue, launch_cycles=launch)
    core = dataclasses.replace(core, software=software)
    die = dataclasses.replace(hardware.wafer.die, core=core)
    return dataclasses.replace(hardware, wafer=dataclasses.replace(hardware.wafer, die=die))


def fit(hardware: Hardware, rows: Sequence[Row]) -> tuple[float, float]:
    """The cycles to issue and to launch with which the fitted rows come out."""
    chosen = [(row, row.program(hardware)) for row in rows if row.fitted]

    def errors(constants: Sequence[float]) -> list[float]:
        changed = with_software(hardware, *constants)
        return [
            cycles(dataclasses.replace(p, hardware=changed)) / r.measured - 1 for r, p in chosen
        ]

    issue, launch = root(errors, (10.0, 200.0)).x
    return float(issue), float(launch)


def cycles(program: Program) -> float:
    """Of one layer."""
    found = wscc.evaluate(program).cycles_per_layer
    assert found is not None
    return found


def print_inference(hardware: Hardware, rows: Sequence[Row]) -> None:
    """Cycles of a layer, and the ratios of two sides of the mesh."""
    found = {row: cycles(row.program(hardware)) for row in rows}
    print(f"{'layer':<14}{'phase':<9}{'side':>5}{'measured':>11}{'predicted':>11}{'error':>8}")
    for row, predicted in found.items():
        print(
            f"{row.model:<14}{row.phase:<9}{row.side:>5}{row.measured:>11.0f}{predicted:>11.0f}"
            f"{predicted / row.measured - 1:>+8.1%}{'  fitted' if row.fitted else ''}"
        )
    for a, b in combinations(rows, 2):
        if (a.model, a.phase) == (b.model, b.phase):
            measured, predicted = b.measured / a.measured, found[b] / found[a]
            print(
                f"{a.model:<14}{a.phase:<9}{f'{b.side} over {a.side}':<16}{measured:>11.3f}"
                f"{predicted:>11.3f}{predicted / measured - 1:>+8.1%}"
            )


def print_products(hardware: Hardware, reference: Path) -> None:
    """A vector times a square matrix, on the best region."""
    for record in _records(reference / "wse2_gemv.csv"):
        size = int(record["gemv"].split(",")[1].split("K")[0]) * 1024
        measured = float(record["cycles_at_1.1GHz"])
        result = wscc.op("matmul", hardware, dtype="float16", m=1, k=size, n=size)
        predicted = result.latency_s * CLOCK_HZ
        rows, columns = result.mapping.region
        print(
            f"{f'vector x {size}^2':<23}{f'{rows}x{columns}':>8}{measured:>8.0f}{predicted:>11.0f}"
            f"{predicted / measured - 1:>+8.1%}"
        )


def print_training(hardware: Hardware, reference: Path) -> None:
    """Tokens a second of GPT-3-like models whose weights are streamed."""
    for record in _records(reference / "cs2_gpt3_training.csv"):
        config: dict[str, object] = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "dtype": "float16",
            "vocab_size": 50257,
            "n_positions": int(record["seq"]),
            "n_embd": int(record["hidden"]),
            "n_layer": int(record["layers"]),
            "n_head": int(record["heads"]),
        }
        model = _loaded(config, "train", int(record["seq"]), int(record["batch"]))
        program = wscc.compile(model, hardware, mapping="streaming=yes")
        result, measured = wscc.evaluate(program), float(record["derived_tok_s"])
        strategy = program.mapping
        rows, columns = strategy.region
        print(
            f"{record['model']:<7}batch {record['batch']:<5}"
            f"{f'{strategy.dp} of {rows}x{columns}, {strategy.recompute}':<20}{measured:>8.0f}"
            f"{result.tokens_per_s:>11.0f}{result.tokens_per_s / measured - 1:>+8.1%}"
            f"  {result.mfu:.1%} of peak, measured"
            f" {float(record['derived_MFU_pct_of_7.5PF']):.1f}%"
        )


def main() -> None:
    """Print every row, predicted against measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="folder with measurements")
    parser.add_argument("--fit", action="store_true", help="fit the constants anew")
    parser.add_argument("--only", choices=("inference", "products", "training"))
    chosen = parser.parse_args()
    hardware = wscc.load_hardware("wse2").bind()
    rows = inference_rows(chosen.reference)
    if chosen.fit:
        issue, launch = fit(hardware, rows)
        print(f"fitted: issue {issue:.2f} cycles, launch {launch:.1f} cycles")
        hardware = with_software(hardware, issue, launch)
    if chosen.only in (None, "inference"):
        print_inference(hardware, rows)
    if chosen.only in (None, "products"):
        print_products(hardware, chosen.reference)
    if chosen.only in (None, "training"):
        print_training(hardware, chosen.reference)


if __name__ == "__main__":
    main()
