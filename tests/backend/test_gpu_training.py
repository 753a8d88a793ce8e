"""Training on GPUs: which maps are one kernel, what host and dropout add, and published layers."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from wscc.backend.bound import graph_bound
from wscc.backend.cost import Costing
from wscc.backend.fluid import graph_run
from wscc.backend.gpu.fusion import Fused, kernels_of
from wscc.frontend.hardware import load_hardware
from wscc.frontend.model import load_model
from wscc.ir.graph import Graph, Op
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Layout
from wscc.ir.text import parse_model
from wscc.passes.canonical import canonical_training_form, training_form
from wscc.passes.lay_out import LayOut, mesh_of
from wscc.passes.manager import PassManager
from wscc.passes.pieces import chain_of
from wscc.passes.recompute import Recompute

LAYERS = 2
GPT_22B = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 6144,
    "n_head": 64,
    "n_layer": LAYERS,
    "n_inner": 24576,
    "n_positions": 2048,
    "vocab_size": 51200,
    "activation_function": "gelu_new",
    "torch_dtype": "float16",
}

NORMED = """model "normed" phase=prefill dtype=float16
graph main {
  input %x: float16[64, 512] = data x
  input %y: float16[64, 512] = data y
  input %w: float16[512] = weight w
  %sum: float16[64, 512] = elementwise(%x, %y) {indices = "se,se->se", expr = "a + b"} @residual
  %total: float32[64] = reduce(%sum) {indices = "se->s", function = "sum", expr = "a"} @norm
  %centre: float16[64, 512] = elementwise(%sum, %total) {indices = "se,s->se", expr = "a - b"} @norm
  %squares: float32[64] = reduce(%centre) {indices = "se->s", function = "sum", expr = "square(a)"} @norm
  %scaled: float16[64, 512] = elementwise(%centre, %squares, %w) {indices = "se,s,e->se", expr = "a * b * c"} @norm
  %columns: float16[512] = reduce(%scaled) {indices = "se->e", function = "sum", expr = "a"} @norm
  output %scaled = data scaled
  output %sum = data sum
  output %columns = data columns
}
"""  # noqa: E501

BETWEEN = """model "between" phase=prefill dtype=float16
graph main {
  input %x: float16[64, 64] = data x
  %once: float16[64, 64] = elementwise(%x) {indices = "se->se", expr = "exp(a)"} @a
  %product: float16[64, 64] = matmul(%once, %x) {indices = "se,et->st"} @b
  %twice: float16[64, 64] = elementwise(%once, %product) {indices = "se,se->se", expr = "a + b"} @a
  output %twice = data twice
}
"""


def kernels(text: str) -> dict[str, Fused]:
    return dict(kernels_of(parse_model(text).main, ()))


@pytest.fixture(scope="module")
def megatron() -> Hardware:
    return load_hardware("a100").bind({"stack": "megatron"})


def changed(hardware: Hardware, **software: float) -> Hardware:
    """A cluster with other overheads of its software."""
    die = hardware.wafer.die
    core = replace(die.core, software=replace(die.core.software, **software))
    return replace(hardware, wafer=replace(hardware.wafer, die=replace(die, core=core)))


Layer = Callable[[Layout, bool], dict[str, MappedGraph]]
"""Forward and backward graphs of a layer in a layout, recomputed as a whole or not."""


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Layer:
    path = tmp_path_factory.mktemp("gpt") / "config.json"
    path.write_text(json.dumps(GPT_22B))
    return cache(lambda layout, again: _layer(path, layout, again))


def _layer(path: Path, layout: Layout, again: bool) -> dict[str, MappedGraph]:
    manager = PassManager()
    model = training_form(load_model(str(path), "train")[1], manager)
    model = manager.apply(Recompute(whole=True), model) if again else model
    chain = chain_of(canonical_training_form(model, manager)).first_layers(LAYERS)
    sizes = {"batch": 4, "sequence": 2048}
    mapped = LayOut(layout).run(chain)
    return {
        name.removeprefix("layer0.").replace("layer0", "forward"): MappedGraph(
            mapped[name].graph.bind(sizes), mapped[name].shardings
        )
        for name in ("layer0", "layer0.backward")
    }


def milliseconds(hardware: Hardware, mapped: MappedGraph, layout: Layout) -> float:
    """Of a graph on eight GPUs."""
    costs = Costing(hardware, mapped, mesh_of(1, 8, 8, layout).sizes).costs()
    return graph_run(mapped, costs).cycles / hardware.core.clock_hz * 1e3


def test_a_norm_is_one_kernel_and_a_sum_down_the_columns_another() -> None:
    found = [[op.result for op in kernel.ops] for kernel in kernels(NORMED).values()]
    assert found == [["sum"], ["total", "centre", "squares", "scaled"], ["columns"]]


def test_what_only_a_kernel_reads_is_not_written() -> None:
    norm = kernels(NORMED)["total"]
    assert (norm.read, norm.written) == (("sum", "w"), ("scaled",))


def test_a_kernel_starts_when_all_that_it_reads_is_there() -> None:
    """A map behind a product does not join the one before it."""
    found = [[op.result for op in kernel.ops] for kernel in kernels(BETWEEN).values()]
    assert found == [["once"], ["twice"]]


def test_every_map_is_in_one_kernel(layer: Layer) -> None:
    graph = layer("matvec", True)["backward"].graph
    found = [op.result for kernel in kernels_of(graph, ()).values() for op in kernel.ops]
    maps = [op.result for op in graph.ops if op.kind in ("elementwise", "mask", "reduce")]
    assert sorted(found) == sorted(maps)


def test_a_layer_is_run_again_as_a_whole_and_its_scores_once(layer: Layer) -> None:
    def products(graph: Graph) -> list[Op]:
        return [op for op in graph.ops if op.kind == "matmul"]

    forward, alone = (products(layer("matvec", False)[x].graph) for x in ("forward", "backward"))
    again = products(layer("matvec", True)["backward"].graph)
    assert len(again) == len(forward) + len(alone) - 1


def test_a_host_that_is_slow_sets_the_pace(megatron: Hardware, layer: Layer) -> None:
    mapped = layer("matvec", False)["forward"]
    slow = changed(megatron, host_cycles=1e7)
    costs = Costing(slow, mapped, mesh_of(1, 8, 8, "matvec").sizes).costs()
    launched = sum(float(cost.host_cycles) for cost in costs)
    assert float(graph_bound(mapped, costs).cycles) == launched
    assert launched <= graph_run(mapped, costs).cycles < 1.1 * launched


def test_a_host_that_is_fast_is_not_noticed(megatron: Hardware, layer: Layer) -> None:
    mapped = layer("matvec", False)["backward"]
    times = [
        milliseconds(changed(megatron, host_cycles=host), mapped, "matvec") for host in (0.0, 1e3)
    ]
    assert times[1] == pytest.approx(times[0], rel=1e-3)


def test_dropout_reads_and_writes_the_scores_once_more(megatron: Hardware, layer: Layer) -> None:
    mapped = layer("matvec", False)["forward"]
    sizes = mesh_of(1, 8, 8, "matvec").sizes

    def moved(hardware: Hardware) -> float:
        costs = Costing(hardware, mapped, sizes).costs()
        return sum(float(cost.work.memory_bytes) for cost in costs)

    scores = 4 * 64 / 8 * 2048**2
    assert moved(megatron) - moved(changed(megatron, dropout=False)) == pytest.approx(5 * scores)


@pytest.mark.parametrize(
    ("layout", "again", "forward_ms", "backward_ms"),
    [("matvec", True, 7.7, 19.5), ("matvec", False, 7.7, 13.2), ("sequence", False, 7.2, 13.1)],
)
def test_layers_of_22_billion_parameters_take_what_was_measured(
    megatron: Hardware,
    layer: Layer,
    layout: Layout,
    again: bool,
    forward_ms: float,
    backward_ms: float,
) -> None:
    """On 8 A100, Korthikanti et al., arXiv 2205.05198, table 4."""
    graphs = layer(layout, again)
    assert milliseconds(megatron, graphs["forward"], layout) == pytest.approx(forward_ms, rel=0.1)
    both = milliseconds(megatron, graphs["backward"], layout)
    assert both == pytest.approx(backward_ms, rel=0.15)
