"""One step of a model on one design, evaluated: what the other scripts of this study call."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import wscc
from wscc.cli.pipeline import LoadedModel
from wscc.ir.graph import Phase
from wscc.ir.result import Result

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1]
PROMPT = 2048
"""Tokens of a prompt, and of the cache that a token is generated behind."""
GENERATED = 512
"""Tokens that are generated for a prompt."""


@dataclass(frozen=True)
class Step:
    """A step of a model, for `batch` sequences."""

    model: str
    phase: Phase
    batch: int

    @property
    def steps_per_request(self) -> float:
        """How many such steps a request takes: a share of one prompt's, or of every token's."""
        return (1 if self.phase == "prefill" else GENERATED) / self.batch


LLAMA, MIXTRAL = "llama-3.1-70b", "mixtral-8x7b"
STEPS = {
    "llama-prefill": Step(LLAMA, "prefill", 4),
    "llama-decode": Step(LLAMA, "decode", 32),
    "llama-decode-256": Step(LLAMA, "decode", 256),
    "mixtral-prefill": Step(MIXTRAL, "prefill", 4),
    "mixtral-decode": Step(MIXTRAL, "decode", 32),
}

Values = dict[str, float | str]
Row = dict[str, Any]


@lru_cache
def loaded(step: Step) -> LoadedModel:
    """The graph of a step's model."""
    return wscc.load_model(EXAMPLES / step.model, step.phase, step.batch, PROMPT, PROMPT)


@lru_cache
def space(hardware: str) -> Any:
    """A spec of this folder, or a shipped one."""
    own = HERE / f"{hardware}.wsc"
    return wscc.load_hardware(own if own.exists() else hardware)


def evaluated(
    hardware: str, step: str, values: Values | None = None, mapping: str | None = None
) -> Row:
    """Figures of a step on a design at `fluid`; `mapping` pins parts of the strategy."""
    design = space(hardware).bind(**(values or {}))
    program = wscc.compile(loaded(STEPS[step]), design, mapping)
    result = wscc.evaluate(program)
    return {"hardware": hardware, "step": step, **(values or {}), **_figures(result)}


def _figures(result: Result) -> Row:
    broken = [each for each in result.infeasible if each.resource == "constraint"]
    short = [each for each in result.infeasible if each.resource != "constraint"]
    return {
        "wafers": result.hardware.wafers,
        "peak_flops": result.hardware.peak_flops,
        "sram_bytes": result.hardware.sram_bytes,
        "area_mm2": result.hardware.area_mm2,
        "cost_usd": result.cost_usd,
        "power_nameplate_w": result.power_nameplate_w,
        "latency_s": result.latency_s,
        "tokens_per_s": result.tokens_per_s,
        "power_w": result.power_w,
        "energy_j": result.energy_j,
        "mfu": result.mfu,
        **result.breakdown,
        "dp": result.mapping.dp,
        "pp": result.mapping.pp,
        "microbatch": result.mapping.microbatch,
        "weights_in": result.mapping.weights_in,
        "cache_in": result.mapping.cache_in,
        "breaks": "; ".join(each.where for each in broken),
        "lacks": "; ".join(f"{each.resource} of {each.where}" for each in short),
    }
