"""Tiny models in all the forms that the passes give them, and programs made of them by hand.

Fixtures yield them because test modules cannot import each other.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.frontend.model import load_model
from wscc.ir.graph import Model, Op, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Program, Stage, Strategy, Workload
from wscc.ir.text import parse_model
from wscc.passes.decompose import Decompose
from wscc.passes.fold_views import FoldViews
from wscc.passes.fuse import Fuse
from wscc.passes.lay_out import LayOut, mesh_of
from wscc.passes.pieces import Chain, chain_of
from wscc.passes.shard import Layout

TINY: dict[str, Any] = {
    "model_type": "llama",
    "torch_dtype": "float32",
    "vocab_size": 53,
    "hidden_size": 28,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
"""Sizes that hardly any mesh divides."""

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-one-kv-head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": 4},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3"},
}

TOKENS = 8
"""In the cache before a decode step, and in a prompt."""

State = dict[str, Any]


@dataclass(frozen=True)
class Tiny:
    """A tiny model: its graphs before and after the passes, and Hugging Face's own."""

    path: str
    values: Mapping[str, Any]
    _models: dict[Phase, Model] = field(default_factory=dict[Phase, Model])
    _folded: dict[Phase, Model] = field(default_factory=dict[Phase, Model])

    def unsplit(self, phase: Phase) -> Model:
        if phase not in self._models:
            self._models[phase] = load_model(self.path, phase)[1]
        return self._models[phase]

    def folded(self, phase: Phase) -> Model:
        """Decomposed and without views."""
        if phase not in self._folded:
            model = self.unsplit(phase).map(Fuse().run).map(Decompose().run)
            self._folded[phase] = FoldViews().run(model)
        return self._folded[phase]

    @cached_property
    def hugging_face(self) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        values = {name: value for name, value in self.values.items() if name != "torch_dtype"}
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**values), attn_implementation="eager"
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.05)
        return model.eval()

    def state_and_expected(self, phase: Phase, batch: int) -> tuple[State, State]:
        """Everything that the graph reads, and what Hugging Face's model yields from it."""
        import torch
        from transformers import DynamicCache

        generator = torch.Generator().manual_seed(batch)
        ids = torch.randint(0, self.values["vocab_size"], (batch, TOKENS + 1), generator=generator)
        places = torch.arange(TOKENS + 1).expand(batch, -1)
        cache = DynamicCache()
        named = (*self.hugging_face.named_parameters(), *self.hugging_face.named_buffers())
        state: State = {name: tensor.detach() for name, tensor in named}
        buffers = self.hugging_face.named_buffers()
        state |= {f"computed.{name}": buffer for name, buffer in buffers}
        # Tied weights are listed once, and the graph may name either.
        state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
        inputs = {"input_ids": ids[:, :TOKENS], "position_ids": places[:, :TOKENS]}
        with torch.no_grad():
            out = self.hugging_face(**inputs, past_key_values=cache, use_cache=True)
            if phase == "decode":
                state |= _caches(cache)
                inputs = {"input_ids": ids[:, TOKENS:], "position_ids": places[:, TOKENS:]}
                out = self.hugging_face(**inputs, past_key_values=cache, use_cache=True)
        return state | inputs, {"logits": out.logits, **_caches(cache)}


def _caches(cache: Any) -> State:
    return {
        f"cache.{at}.{name}": tensor.clone()
        for at, layer in enumerate(cache.layers)
        for name, tensor in (("key", layer.keys), ("value", layer.values))
    }


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors on one thread each: waking others takes longer than the work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """A tiny model by the name of its family, made once."""
    made: dict[str, Tiny] = {}

    def make(name: str) -> Tiny:
        if name not in made:
            values = TINY | FAMILIES[name]
            path = tmp_path_factory.mktemp("tiny") / "config.json"
            path.write_text(json.dumps(values))
            made[name] = Tiny(str(path), values)
        return made[name]

    return make


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, make_tiny: Callable[[str], Tiny]) -> Tiny:
    """Every tiny model in turn."""
    return make_tiny(request.param)


@dataclass(frozen=True)
class Split:
    """How a test wants a model to be mapped."""

    layout: Layout
    rows: int
    columns: int
    head_groups: int
    stages: int = 1


MakeProgram = Callable[[Model, Split, int], Program]


@pytest.fixture(scope="session")
def wse2() -> Hardware:
    """The shipped wafer as it is."""
    return load_hardware("wse2").bind()


@pytest.fixture(scope="session")
def make_program(wse2: Hardware) -> MakeProgram:
    """A mapped program of a folded model for one batch, its stages cut between layers."""

    def make(model: Model, split: Split, batch: int) -> Program:
        sizes = {"batch": batch, "sequence": TOKENS, "context": TOKENS}
        chain = chain_of(model)
        mapped = LayOut(split.layout).run(chain)
        graphs = {n: MappedGraph(m.graph.bind(sizes), m.shardings) for n, m in mapped.items()}
        program = Program(
            model="tiny",
            parameters=0,
            layers=model.layers,
            flops=0,
            workload=Workload(model.phase, batch, TOKENS, TOKENS, "float32"),
            hardware=wse2,
            mapping=Strategy(
                1, split.stages, (split.rows, split.columns), split.layout, split.head_groups, batch
            ),
            mesh=mesh_of(split.rows, split.columns, split.head_groups, split.layout),
            graphs=graphs,
            stages=tuple(_stages(chain.bind(sizes), split.stages)),
        )
        program.verify()
        return program

    return make


def _stages(chain: Chain, count: int) -> Iterator[Stage]:
    """Layers one by one, dealt out evenly; every stage makes the shared values itself."""
    calls = [part for call in chain.calls for part in _layers(call)]
    first = (chain.shared,) if chain.shared else ()
    for at in range(count):
        start, stop = at * len(calls) // count, (at + 1) * len(calls) // count
        yield Stage((*first, *calls[start:stop]))


def _layers(call: Op) -> Iterator[Op]:
    """A call of several layers as calls of one each."""
    count, carried = call.integer("count"), call.results
    operands = call.operands
    layers = range(call.integer("first"), call.integer("first") + count)
    layers = layers[::-1] if call.attributes.get("reverse") else layers
    for layer in layers:
        last = layer == layers[-1]
        results = carried if last else tuple(f"{name}.{layer}" for name in carried)
        attributes = {**call.attributes, "first": layer, "count": 1}
        yield dataclasses.replace(call, operands=operands, results=results, attributes=attributes)
        operands = (*results, *operands[len(results) :])


LAYER = """model "layer" phase=decode dtype=float32
graph layer {
  input %hidden: float32[batch, 1, 32] = carried hidden
  input %cos: float32[batch, 1, 8] = shared cos
  input %sin: float32[batch, 1, 8] = shared sin
  input %keys: float32[batch, 2, context, 8] = cache cache.*.key
  input %values: float32[batch, 2, context, 8] = cache cache.*.value
  input %norm.weight: float32[32] = weight layers.*.norm.weight
  input %q.weight: float32[32, 32] = weight layers.*.q.weight
  input %k.weight: float32[16, 32] = weight layers.*.k.weight
  input %v.weight: float32[16, 32] = weight layers.*.v.weight
  input %o.weight: float32[32, 32] = weight layers.*.o.weight
  input %norm2.weight: float32[32] = weight layers.*.norm2.weight
  input %up.weight: float32[40, 32] = weight layers.*.up.weight
  input %down.weight: float32[32, 40] = weight layers.*.down.weight
  %x: float32[batch, 1, 32] = norm(%hidden, %norm.weight) {indices = "bse,e->bse", function = "rms", over = "e", epsilon = 1e-05} @layers.*.norm
  %q: float32[batch, 1, 32] = matmul(%x, %q.weight) {indices = "bse,fe->bsf"} @layers.*.q
  %k: float32[batch, 1, 16] = matmul(%x, %k.weight) {indices = "bse,fe->bsf"} @layers.*.k
  %v: float32[batch, 1, 16] = matmul(%x, %v.weight) {indices = "bse,fe->bsf"} @layers.*.v
  %q.pairs: float32[batch, 1, 4, 2, 4] = reshape(%q)
  %k.pairs: float32[batch, 1, 2, 2, 4] = reshape(%k)
  %cos.pairs: float32[batch, 1, 2, 4] = reshape(%cos)
  %sin.pairs: float32[batch, 1, 2, 4] = reshape(%sin)
  %q.turned: float32[batch, 4, 1, 2, 4] = rotary(%q.pairs, %cos.pairs, %sin.pairs) {indices = "bshpd,bspd,bspd->bhspd", pair = "p"}
  %k.turned: float32[batch, 2, 1, 2, 4] = rotary(%k.pairs, %cos.pairs, %sin.pairs) {indices = "bshpd,bspd,bspd->bhspd", pair = "p"}
  %q.heads: float32[batch, 4, 1, 8] = reshape(%q.turned)
  %k.heads: float32[batch, 2, 1, 8] = reshape(%k.turned)
  %v.split: float32[batch, 1, 2, 8] = reshape(%v)
  %v.heads: float32[batch, 2, 1, 8] = transpose(%v.split) {order = [0, 2, 1, 3]}
  %all.keys: float32[batch, 2, context + 1, 8] = concat(%keys, %k.heads) {indices = "bhsd,bhsd->bhsd", along = "s"}
  %all.values: float32[batch, 2, context + 1, 8] = concat(%values, %v.heads) {indices = "bhsd,bhsd->bhsd", along = "s"}
  %mix: float32[batch, 1, 4, 8] = attention(%q.heads, %all.keys, %all.values) {scale = 0.5, causal = true} @layers.*.attention
  %mix.flat: float32[batch, 1, 32] = reshape(%mix)
  %o: float32[batch, 1, 32] = matmul(%mix.flat, %o.weight) {indices = "bse,fe->bsf"} @layers.*.o
  %mid: float32[batch, 1, 32] = elementwise(%hidden, %o) {indices = "bse,bse->bse", expr = "a + b"}
  %x2: float32[batch, 1, 32] = norm(%mid, %norm2.weight) {indices = "bse,e->bse", function = "rms", over = "e", epsilon = 1e-05} @layers.*.norm2
  %up: float32[batch, 1, 40] = matmul(%x2, %up.weight) {indices = "bse,fe->bsf"} @layers.*.up
  %act: float32[batch, 1, 40] = elementwise(%up) {indices = "bsf->bsf", expr = "silu(a)"}
  %down: float32[batch, 1, 32] = matmul(%act, %down.weight) {indices = "bse,fe->bsf"} @layers.*.down
  %out: float32[batch, 1, 32] = elementwise(%mid, %down) {indices = "bse,bse->bse", expr = "a + b"}
  output %out = carried hidden
  output %all.keys = cache cache.*.key
  output %all.values = cache cache.*.value
}
graph main {
  input %ids: int64[batch, 1] = data ids
  input %angle: float32[batch, 1, 4] = data angle
  input %table: float32[50, 32] = weight table
  %embedding: float32[batch, 1, 32] = embedding(%ids, %table) {indices = "bs,ve->bse", rows = "v"}
  %both: float32[batch, 1, 8] = concat(%angle, %angle) {indices = "bse,bse->bse", along = "e"}
  %cos: float32[batch, 1, 8] = elementwise(%both) {indices = "bse->bse", expr = "cos(a)"}
  %sin: float32[batch, 1, 8] = elementwise(%both) {indices = "bse->bse", expr = "sin(a)"}
  %hidden: float32[batch, 1, 32] = repeat(%embedding, %cos, %sin) {body = "layer", first = 0, count = 2} @layers.*
  %logits: float32[batch, 1, 50] = matmul(%hidden, %table) {indices = "bse,ve->bsv"}
  output %logits = data logits
}
"""  # noqa: E501


@pytest.fixture(scope="session")
def layer_model() -> Model:
    """Two layers in the manner of Llama, written by hand, for one decode step."""
    model = parse_model(LAYER)
    model.verify()
    return model


@pytest.fixture(scope="session")
def prompt_model() -> Model:
    """The same layers for a prompt: no cache comes in."""
    import re

    text = LAYER.replace("phase=decode", "phase=prefill")
    text = re.sub(r"  (input %(keys|values)|%all\.\w+:).*\n", "", text)
    text = text.replace("%all.keys", "%k.heads").replace("%all.values", "%v.heads")
    text = re.sub(r"\[batch, 1, ", "[batch, sequence, ", text)
    text = re.sub(r"\[batch, (2|4), 1, ", r"[batch, \1, sequence, ", text)
    model = parse_model(text.replace("int64[batch, 1]", "int64[batch, sequence]"))
    model.verify()
    return model


@pytest.fixture(scope="session")
def make_split() -> type[Split]:
    return Split
