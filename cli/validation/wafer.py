"""A Cerebras WSE-2: kernels of inference, and training of a CS-2 with streamed weights.

WaferLLM (arXiv 2502.04563) pads a model to the mesh and treats attention as one head; so do the
rows here. Its times are cycles over 1.1 GHz, which its launchers fix whatever the chip ran at, so
cycles are compared. Training: arXiv 2409.00287.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...ir.graph import Phase
from ...ir.hardware import Hardware
from ...ir.program import Program
from .. import pipeline
from ..operators import op
from .figure import Figure
from .models import gpt, llama, loaded
from .tables import Record, carried, given, number, whole

INFERENCE, PRODUCTS, TRAINING = (
    "wse2_llm_inference.csv",
    "wse2_gemv.csv",
    "cs2_gpt3_training.csv",
)
CLOCK_HZ = 1.1e9
"""What WaferLLM's launchers divide cycles by."""

SHAPES = {
    "LLaMA3-8B": (4096, 14336),
    "LLaMA2-13B": (5120, 13824),
    "CodeLLaMA-34B": (8192, 22016),
    "QWen2-72B": (8192, 29568),
}
"""Hidden and intermediate size of the models that WaferLLM ran."""

FITTED = {("LLaMA3-8B", "prefill", 480), ("LLaMA3-8B", "prefill", 720)}
"""Rows that the two constants of the software are fitted on."""


def wse2() -> Hardware:
    """The shipped spec."""
    return pipeline.load_hardware("wse2").bind()


@dataclass(frozen=True)
class Layer:
    """One layer of a model on a square of cores, and the cycles that were measured."""

    model: str
    phase: Phase
    tokens: int
    side: int
    cycles: float

    @property
    def fitted(self) -> bool:
        """Whether the software's constants were fitted on it."""
        return (self.model, self.phase, self.side) in FITTED

    def program(self, hardware: Hardware) -> Program:
        """The padded layer, compiled onto the square."""
        hidden, intermediate = (self._padded(size) for size in SHAPES[self.model])
        config = llama(hidden, intermediate, 1, 1, hidden, vocabulary=128256)
        model = loaded(config, self.phase, self._padded(self.tokens), layers=1)
        return pipeline.compile(model, hardware, region=f"{self.side}x{self.side}")

    def _padded(self, size: int) -> int:
        return -(-size // self.side) * self.side


def layers(folder: Path | None) -> list[Layer]:
    """WaferLLM's rows of prefill and decode, of models whose dimensions are known."""
    columns = ("model", "phase", "context_tokens", "mesh_side_cores", "cycles_per_layer_at_1.1GHz")
    rows = carried(INFERENCE)[0] if folder is None else given(folder, INFERENCE, columns)
    return [
        Layer(
            row["model"],
            "prefill" if row["phase"] == "prefill" else "decode",
            whole(row, "context_tokens", INFERENCE),
            whole(row, "mesh_side_cores", INFERENCE),
            number(row, "cycles_per_layer_at_1.1GHz", INFERENCE),
        )
        for row in rows
        if row["model"] in SHAPES
    ]


def inference(folder: Path | None) -> Iterator[Figure]:
    """Cycles of a layer, what a second region's side does to them, and products of a vector."""
    cohort, source = "WSE-2 inference", carried(INFERENCE)[1]
    hardware, known = wse2(), dict[tuple[str, Phase], tuple[Layer, float]]()
    for row in layers(folder):
        found = pipeline.evaluate(row.program(hardware)).cycles_per_layer
        name = f"{row.model} {row.phase}, {row.side} x {row.side}"
        yield Figure(cohort, name, "cycles/layer", row.cycles, found, row.fitted, source)
        before = known.setdefault((row.model, row.phase), (row, found))
        if before[0] is not row:
            name = f"{row.model} {row.phase}, {row.side} over {before[0].side}"
            ratio, measured = found / before[1], row.cycles / before[0].cycles
            fitted = row.fitted and before[0].fitted
            yield Figure(cohort, name, "ratio", measured, ratio, fitted, source)
    columns = ("gemv", "cycles_at_1.1GHz")
    for row in carried(PRODUCTS)[0] if folder is None else given(folder, PRODUCTS, columns):
        size = int(row["gemv"].split(",")[1].split("K")[0]) * 1024
        found = op("matmul", hardware, dtype="float16", m=1, k=size, n=size)
        name = f"vector x {size}^2, best region"
        cycles = number(row, "cycles_at_1.1GHz", PRODUCTS)
        yield Figure(cohort, name, "cycles", cycles, found.latency_s * CLOCK_HZ, False, source)


def training(folder: Path | None) -> Iterator[Figure]:
    """Tokens a second of GPT-3-like models; `streaming=yes` is pinned and nothing else."""
    columns = ("model", "layers", "hidden", "heads", "seq", "batch", "derived_tok_s")
    rows = carried(TRAINING)[0] if folder is None else given(folder, TRAINING, columns)
    hardware, source = wse2(), carried(TRAINING)[1]
    for row in rows:
        hidden, heads, count, tokens, batch = (
            whole(row, name, TRAINING) for name in ("hidden", "heads", "layers", "seq", "batch")
        )
        model = loaded(gpt(hidden, heads, count, tokens, 50257), "train", tokens, batch)
        program = pipeline.compile(model, hardware, mapping="streaming=yes")
        found = pipeline.evaluate(program).tokens_per_s
        yield _trained(row, number(row, "derived_tok_s", TRAINING), found, source)


def _trained(row: Record, measured: float, found: float, source: str) -> Figure:
    name = f"{row['model']}, batch {row['batch']}"
    return Figure("CS-2 training", name, "tokens/s", measured, found, False, source)
