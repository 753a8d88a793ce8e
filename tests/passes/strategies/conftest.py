"""Tiny models mapped by strategies of every kind: programs cut by hand, and training steps run.

Fixtures yield them because test modules cannot import each other.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import wscc
from wscc.cli.pipeline import LoadedModel
from wscc.ir.graph import Op, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Layout, Program, Recompute, Stage, Strategy, Workload
from wscc.ir.random_state import random_state
from wscc.ir.virtual_replicas import Replicas
from wscc.ir.virtual_training import Trained, run_training
from wscc.passes.canonical import canonical_form, canonical_training_form, training_form
from wscc.passes.lay_out import LayOut, mesh_of
from wscc.passes.manager import PassManager
from wscc.passes.pieces import Chain, chain_of
from wscc.passes.recompute import Recompute as RunAgain
from wscc.passes.spread_experts import SpreadExperts
from wscc.passes.units import joined, units_of
from wscc.passes.verify_batches import Batches

TOKENS = 6

GROUPED: dict[str, Any] = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 29,
    "hidden_size": 20,
    "intermediate_size": 19,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
}
"""Sizes that hardly any mesh divides."""

CONFIGS: dict[str, dict[str, Any]] = {
    "tied": {
        "model_type": "gpt2",
        "torch_dtype": "float32",
        "vocab_size": 29,
        "n_embd": 20,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 32,
        "n_inner": 19,
    },
    "grouped": GROUPED,
    "experts": GROUPED
    | {
        "model_type": "mixtral",
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
    },
    "many experts": GROUPED
    | {
        "model_type": "qwen3_moe",
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 9,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    },
    "shared experts": {
        "model_type": "deepseek_v3",
        "torch_dtype": "float32",
        "vocab_size": 29,
        "hidden_size": 20,
        "intermediate_size": 19,
        "moe_intermediate_size": 9,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_shared_experts": 1,
        "n_routed_experts": 8,
        "routed_scaling_factor": 2.5,
        "kv_lora_rank": 8,
        "q_lora_rank": 10,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 6,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
        "max_position_embeddings": 32,
    },
}


@dataclass(frozen=True)
class Case:
    """A strategy; `ends` says behind how many pieces (layers, what is before and behind them)
    each part of the pipeline but the last one ends."""

    layout: Layout = "matmul"
    region: tuple[int, int] = (1, 1)
    head_groups: int = 1
    ends: tuple[int, ...] = ()
    interleave: int = 1
    dp: int = 1
    ep: int = 1
    microbatches: int = 1
    zero: int = 0
    streaming: bool = False
    recompute: Recompute = "none"
    sequences: int = 1
    """Of a micro-batch."""

    @property
    def batch(self) -> int:
        return self.dp * self.microbatches * self.sequences

    @property
    def strategy(self) -> Strategy:
        return Strategy(
            dp=self.dp,
            pp=(len(self.ends) + 1) // self.interleave,
            region=self.region,
            layout=self.layout,
            head_groups=self.head_groups,
            microbatch=self.sequences,
            recompute=self.recompute,
            ep=self.ep,
            interleave=self.interleave,
            zero=self.zero,
            streaming=self.streaming,
        )


Make = Callable[..., tuple[LoadedModel, Program]]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Phase], LoadedModel]:
    """A step of one of the configs, each traced once."""

    @cache
    def traced(name: str, phase: Phase) -> LoadedModel:
        path = tmp_path_factory.mktemp("strategies") / "config.json"
        path.write_text(json.dumps(CONFIGS[name]))
        return wscc.load_model(path, phase, 1, TOKENS, TOKENS)

    return traced


@pytest.fixture(scope="module")
def make(load: Callable[[str, Phase], LoadedModel], wse2: Hardware) -> Make:
    """A model and its program by the fields of a case, cut by hand."""

    @cache
    def laid_out(
        name: str, phase: Phase, layout: Layout, recompute: Recompute, spread: bool
    ) -> tuple[Chain, dict[str, MappedGraph]]:
        model, manager = load(name, phase).model, PassManager()
        if phase == "train":
            model = training_form(model, manager)
            model = manager.apply(RunAgain(), model) if recompute == "full" else model
            chain = chain_of(canonical_training_form(model, manager))
        else:
            chain = chain_of(canonical_form(model, manager))
        chain = SpreadExperts().run(chain) if spread else chain
        return chain, LayOut(layout).run(chain)

    def made(name: str, phase: Phase, **fields: Any) -> tuple[LoadedModel, Program]:
        case = Case(**fields)
        chain, mapped = laid_out(name, phase, case.layout, case.recompute, case.ep > 1)
        sizes = {"batch": case.sequences, "sequence": TOKENS, "context": TOKENS}
        model = load(name, phase)
        workload = Workload(phase, case.batch, TOKENS, TOKENS, model.workload.dtype)
        program = Program(
            model=name,
            parameters=0,
            layers=chain.layers,
            flops=0,
            workload=workload,
            hardware=wse2,
            mapping=case.strategy,
            mesh=mesh_of(*case.region, case.head_groups, case.layout, case.ep),
            graphs={n: MappedGraph(m.graph.bind(sizes), m.shardings) for n, m in mapped.items()},
            stages=tuple(stages(chain.bind(sizes), case)),
            given=chain.given,
        )
        return dataclasses.replace(model, workload=workload), program

    return made


def stages(chain: Chain, case: Case) -> Iterator[Stage]:
    """The parts of a chain, dealt out to the stages in turn."""
    units = units_of(chain)
    ends = (*case.ends, len(units))
    parts = [units[a:b] for a, b in zip((0, *ends), ends, strict=False)]
    assert all(parts)
    for at in range(case.strategy.pp):
        own = parts[at :: case.strategy.pp]
        calls = [
            *(call for part in own for unit in part for call in unit.forward),
            *(call for part in own[::-1] for unit in part[::-1] for call in unit.backward),
            *(call for part in own for unit in part for call in unit.update),
        ]
        yield Stage((*_shared(chain), *joined(calls)))


def _shared(chain: Chain) -> tuple[Op, ...]:
    return () if chain.shared is None else (chain.shared,)


Train = Callable[..., Trained]


@pytest.fixture(scope="session")
def train() -> Train:
    """A training step run on random values: a model, its program, replicas of a kind."""

    def run(model: LoadedModel, program: Program, replicas: Replicas | None = None) -> Trained:
        unsplit = training_form(model.model, PassManager())
        batches = Batches(unsplit, program.workload, program.mapping.microbatch)
        state = random_state(unsplit, batches.sizes)
        states = [batches.part(state, at) for at in range(batches.count)]
        return run_training(program, states, replicas)

    return run
