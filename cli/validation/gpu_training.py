"""Training steps of GPT models on clusters of A100, with the strategy that was measured.

Megatron-LM (Narayanan et al., SC 2021, table 1), Megatron-LM with full recomputation and with
selective recomputation and sequence parallelism (Korthikanti et al., arXiv 2205.05198, table 5),
and Megatron-DeepSpeed on several nodes (ground truth of vTrain, arXiv 2312.12391). Sequences of
2048 tokens, a vocabulary of 51,200.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...ir.errors import UserError
from ...ir.program import Program
from .. import pipeline
from .figure import Figure
from .models import gpt, loaded
from .tables import Record, carried, given, number, whole

TABLE = "a100_training.csv"
NODE = 8
"""GPUs."""
SEQUENCE, VOCABULARY = 2048, 51200

MEGATRON, SELECTIVE, NODES = "Megatron-LM", "Megatron-LM, selective", "Megatron-DeepSpeed, nodes"
SOURCES = {
    MEGATRON: "SC 2021, table 1",
    SELECTIVE: "arXiv 2205.05198, table 5",
    NODES: "arXiv 2312.12391, ground truth of vTrain",
}


@dataclass(frozen=True)
class Step:
    """A training step that was measured."""

    table: str
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
        return f"{self.table}: {self.hidden} x {self.layers}, batch {self.batch}, {self.mapping}"

    @property
    def mapping(self) -> str:
        """As `--mapping` takes it."""
        return (
            f"dp={self.dp},tp=1x{self.tp},pp={self.pp},microbatch={self.microbatch},"
            f"interleave={self.interleave},recompute={self.recompute},zero=0"
        )

    def program(self, mapping: str | None = None) -> Program:
        """The step, compiled as it was measured unless another mapping is stated."""
        config = gpt(self.hidden, self.heads, self.layers, SEQUENCE, VOCABULARY)
        nodes = -(-self.dp * self.tp * self.pp // NODE)
        cluster = pipeline.load_hardware("a100").bind({"cluster": nodes, "stack": "megatron"})
        model = loaded(config, "train", SEQUENCE, self.batch)
        return pipeline.compile(
            model, cluster, mapping=self.mapping if mapping is None else mapping
        )


def training(folder: Path | None) -> Iterator[Figure]:
    """Seconds of a step."""
    for step in steps(folder):
        yield predicted(step)


def predicted(step: Step) -> Figure:
    """One step beside its measurement."""
    found = pipeline.evaluate(step.program()).latency_s
    fitted, source = step in fitted_steps(), SOURCES[step.table]
    name, measured = step.name, step.measured_s
    return Figure("GPU training", name, "s", measured, found, fitted, source, step.table)


def steps(folder: Path | None) -> list[Step]:
    """The rows of all three tables."""
    if folder is None:
        return [_carried(row) for row in carried(TABLE)[0]]
    return [*_megatron(folder), *_selective(folder), *_nodes(folder)]


@cache
def fitted_steps() -> frozenset[Step]:
    """Rows that may have fixed the three constants of the cluster: half of each table, drawn with
    seed 0."""
    return frozenset(_carried(row) for row in carried(TABLE)[0] if row["fitted"] == "yes")


def _carried(row: Record) -> Step:
    names = ("hidden", "heads", "layers", "batch", "tp", "dp", "pp", "microbatch", "interleave")
    whole_numbers = {name: whole(row, name, TABLE) for name in names}
    seconds = number(row, "measured_s", TABLE)
    return Step(row["table"], **whole_numbers, recompute=row["recompute"], measured_s=seconds)


def _megatron(folder: Path) -> Iterator[Step]:
    file = "a100_megatron_sc21.csv"
    seconds = "derived_iter_time_s(full recompute, seq2048, V51200)"
    for row in given(folder, file, ("hidden", "TP", "PP", "n_A100_80GB", seconds)):
        tp, pp = whole(row, "TP", file), whole(row, "PP", file)
        yield Step(
            MEGATRON,
            *(whole(row, name, file) for name in ("hidden", "heads", "layers", "batch_seqs")),
            tp=tp,
            dp=whole(row, "n_A100_80GB", file) // (tp * pp),
            pp=pp,
            microbatch=whole(row, "microbatch", file),
            interleave=whole(row, "virtual_stages_per_device", file),
            recompute="full",
            measured_s=number(row, seconds, file),
        )


def _selective(folder: Path) -> Iterator[Step]:
    file = "a100_selective_recompute.csv"
    ways = {"full": "iter_s_full_recompute", "selective": "iter_s_seqpar_selective"}
    for row in given(folder, file, ("model", "TP", "PP", "n_A100", *ways.values())):
        words = {word[0]: word[1:] for word in row["model"].split()[1:]}
        if not {"h", "L", "a"} <= words.keys():
            raise UserError(f"{file}: model: expected 'h6144 L48 a64', got {row['model']!r}")
        tp, pp = whole(row, "TP", file), whole(row, "PP", file)
        for recompute, column in ways.items():
            yield Step(
                SELECTIVE,
                *(whole(words, letter, file) for letter in "haL"),
                batch=whole(row, "batch", file),
                tp=tp,
                dp=whole(row, "n_A100", file) // (tp * pp),
                pp=pp,
                microbatch=whole(row, "microbatch", file),
                interleave=whole(row, "interleave_m", file),
                recompute=recompute,
                measured_s=number(row, column, file),
            )


def _nodes(folder: Path) -> Iterator[Step]:
    file = "a100_vtrain_multi_node.csv"
    shape = ("hidden size", "attention heads", "# layers", "global batch")
    for row in given(folder, file, (*shape, "iteration time (ms)")):
        yield Step(
            NODES,
            *(whole(row, name, file) for name in shape),
            tp=whole(row, "tensor parallelism", file),
            dp=whole(row, "data parallelism", file),
            pp=whole(row, "pipeline parallelism", file),
            microbatch=whole(row, "micro batch", file),
            interleave=1,
            recompute="full",
            measured_s=number(row, "iteration time (ms)", file) / 1e3,
        )
