"""Programs at every fidelity: what simulating the network cycle by cycle adds to flows.

    python benchmarks/flit_programs.py [--models] [--budget SECONDS]

Prints cycles of some phases on Theseus' routers at `fluid` (for collectives its closed forms) and
`flit`, then a row a program: seconds of a step at every fidelity, and of its evaluation at `flit`.
Models of 8 billion parameters, which take minutes to compile, only with `--models`.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import wscc
from wscc.backend import collectives
from wscc.backend.collectives import Line
from wscc.backend.flit_costs import Joined
from wscc.backend.flit_network import FlitNetwork
from wscc.backend.handover import together
from wscc.backend.network import Flows, fabric_of
from wscc.backend.network_fluid import fluid
from wscc.ir.hardware import Hardware
from wscc.ir.result import FIDELITIES

EXAMPLES = Path(__file__).parents[1] / "examples"

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "dtype": "bfloat16",
    "vocab_size": 2000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}

Case = tuple[str, dict[str, Any], str | None]
"""A spec, sizes of a step, pins."""

SMALL_CASES: tuple[Case, ...] = (
    ("theseus", {"phase": "decode", "batch": 8, "context": 512}, "tp=16x16,dp=1,pp=1"),
    ("theseus", {"phase": "decode", "batch": 8, "context": 512}, "tp=22x46,dp=1,pp=1"),
    ("theseus", {"phase": "prefill", "sequence": 512}, "tp=16x16,dp=1,pp=1"),
    ("theseus", {"phase": "prefill", "sequence": 512}, "tp=64x64,dp=1,pp=1"),
    ("theseus", {"phase": "prefill", "sequence": 512}, "tp=128x128,dp=1,pp=1"),
    ("theseus", {"phase": "prefill", "batch": 12, "sequence": 512}, "tp=64x64,dp=1,pp=3"),
    ("theseus", {"phase": "train", "batch": 8, "sequence": 128}, "tp=64x46,dp=8,pp=1"),
    ("dojo", {"phase": "decode", "batch": 8, "context": 512}, "tp=8x32,dp=1,pp=1"),
    ("dojo", {"phase": "prefill", "sequence": 512}, "tp=36x32,dp=1,pp=1"),
    ("wse2", {"phase": "prefill", "sequence": 512}, "tp=64x64,dp=1,pp=1"),
)
MODEL_CASES: tuple[Case, ...] = (
    ("theseus", {"phase": "decode", "batch": 8, "context": 2048}, None),
    ("theseus", {"phase": "prefill", "sequence": 2048}, None),
    ("theseus", {"phase": "train", "batch": 32, "sequence": 2048}, None),
)


def main() -> None:
    """Parse, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--budget", type=float, default=600.0)
    given = parser.parse_args()
    theseus = wscc.load_hardware("theseus").bind()
    _flows(theseus)
    _collectives(theseus)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "small" / "config.json"
        config.parent.mkdir()
        config.write_text(json.dumps(SMALL))
        for case in SMALL_CASES:
            _row(config, case, given.budget)
    if given.models:
        for case in MODEL_CASES:
            _row(EXAMPLES / "llama-3.1-8b" / "config.json", case, given.budget)


def _passed(
    side: tuple[int, int], move: tuple[int, int], words: int, word_bytes: float, left: int = 0
) -> Flows:
    """A rectangle's blocks to one so many rows and columns away."""
    row, column = np.divmod(np.arange(side[0] * side[1]), side[1])
    column, bytes_ = column + left, np.full(len(row), words * word_bytes)
    return Flows(row, column, row + move[0], column + move[1], bytes_, np.zeros(len(row)))


def _flows(hardware: Hardware) -> None:
    fabric = fabric_of(hardware.wafer)
    for words in (64, 256, 1024):
        turning = _passed((4, 4), (5, 2), words, fabric.word_bytes, left=4)
        for name, sent in (
            *((f"row of {n}", _passed((1, n), (0, n), words, fabric.word_bytes))
              for n in (1, 2, 4, 8, 16)),
            ("square that turns", turning),
            ("both", together([_passed((4, 4), (0, 4), words, fabric.word_bytes), turning])),
        ):  # fmt: skip
            network = FlitNetwork.of(hardware)
            network.finish_s(fabric, sent)
            network.simulate(600.0)
            both = (
                float(found.max()) * hardware.core.clock_hz
                for found in (fluid(fabric, sent), network.finish_s(fabric, sent))
            )
            _compared(f"{name}, {words} words", *both)


def _collectives(hardware: Hardware) -> None:
    """On lines within a die."""
    for kind in ("all_reduce", "reduce_scatter", "all_gather"):
        for cores, words in ((2, 256), (8, 4), (8, 256), (8, 1024), (23, 4), (23, 256), (23, 1024)):
            network = FlitNetwork.of(hardware)
            joined = Joined(hardware, network, cores, 1, float(words), 10**6)
            joined.cycles(kind)
            network.simulate(600.0)
            closed = getattr(collectives, kind)(hardware, Line(cores, 10**6), float(words)).cycles
            _compared(f"{kind}, {cores} cores, {words} words", float(closed), joined.cycles(kind))


def _compared(name: str, flows: float, flits: float) -> None:
    print(f"{name:<40} {flows:>8.0f} {flits:>8.0f}  {flits / flows - 1:+.1%}", flush=True)


def _row(config: Path, case: Case, budget_s: float) -> None:
    spec, sizes, pins = case
    model = wscc.load_model(str(config), **sizes)
    program = wscc.compile(model, wscc.load_hardware(spec).bind(), mapping=pins)
    found: dict[str, tuple[float, float]] = {}
    notes: tuple[str, ...] = ()
    for fidelity in FIDELITIES:
        began = process_time()
        result = wscc.evaluate(program, fidelity, budget_s)
        found[fidelity] = result.latency_s, process_time() - began
        notes = tuple(note for note in result.limits if " phases judged " in note)
    over = found["flit"][0] / found["fluid"][0] - 1
    rows, columns = program.mapping.region
    print(
        f"{program.model:<16} {spec:<8} {sizes['phase']:<8} {rows}x{columns} "
        f"pp={program.mapping.pp} dp={program.mapping.dp} "
        + " ".join(f"{name} {latency:.4g} s" for name, (latency, _) in found.items())
        + f"  flit {over:+.1%} over fluid, evaluated in {found['flit'][1]:.1f} s",
        *notes,
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    main()
