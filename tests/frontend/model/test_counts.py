"""Parameters, operations and layers of a graph are those of the model, exactly."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.lower import lower
from wscc.frontend.model.trace import trace
from wscc.ir.dims import Dim, symbol
from wscc.ir.graph import Graph, Model, Phase
from wscc.ir.text import print_model
from wscc.passes.fuse import Fuse

EXAMPLES = Path(__file__).parents[3] / "examples"

BATCH, SEQUENCE, CONTEXT = (symbol(name) for name in ("batch", "sequence", "context"))

PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
}
MISTRAL_V1_PARAMETERS = 7_241_732_096


def config_values(name: str) -> dict[str, Any]:
    return dict(read_config(str(EXAMPLES / name)).values)


def closed_formula(values: dict[str, Any], phase: Phase) -> Dim:
    """2 FLOPs for each weight of a matrix product and token, 4 B H S T D for attention."""
    hidden, inner = values["hidden_size"], values["intermediate_size"]
    heads, layers = values["num_attention_heads"], values["num_hidden_layers"]
    groups = values.get("num_key_value_heads", heads)
    width = values.get("head_dim", hidden // heads)
    projections = 2 * hidden * heads * width + 2 * hidden * groups * width + 3 * hidden * inner
    weights = layers * projections + hidden * values["vocab_size"]
    queries = 1 if phase == "decode" else SEQUENCE
    keys = CONTEXT + 1 if phase == "decode" else SEQUENCE
    return BATCH * queries * (2 * weights) + BATCH * queries * keys * (4 * heads * width * layers)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_flops_of_a_published_model_are_exact(name: str) -> None:
    config = read_config(str(EXAMPLES / name))
    model = lower_config(config, "decode")
    assert model.name == name
    assert model.parameters == PUBLISHED[name]
    assert model.flops == closed_formula(dict(config.values), "decode")
    assert model.layers == config.layers


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.rglob("*.json")), ids=lambda path: path.parent.name
)
def test_every_example_is_read_without_a_remark(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_config(str(path))
    assert not caplog.records


@pytest.mark.parametrize("side", [420, 480, 660, 720])
def test_the_padded_configs_fill_their_mesh(side: int) -> None:
    config = read_config(str(EXAMPLES / "waferllm" / f"llama3-8b-{side}.json"))
    assert config.dtype == "float16"
    assert config.values["hidden_size"] == config.values["head_dim"]
    assert config.values["hidden_size"] % side == config.values["intermediate_size"] % side == 0


def test_a_larger_vocabulary_is_all_that_mistral_v3_has_more_than_v1() -> None:
    added = 2 * 4096 * (32768 - 32000)
    assert PUBLISHED["mistral-7b-v0.3"] - added == MISTRAL_V1_PARAMETERS


def test_tiny_models_have_the_parameters_and_flops_that_hugging_face_has(case: Any) -> None:
    parameters = sum(parameter.numel() for parameter in case.hf.parameters())
    for phase in ("prefill", "decode"):
        model = case.graph(phase)
        assert model.parameters == parameters
        assert model.flops == closed_formula(dict(case.config.values), phase)


def anonymous(graph: Graph) -> list[object]:
    """A graph's inputs, operators and outputs with values called by their place."""
    places = {name: at for at, name in enumerate(graph.types)}
    return [
        *((value.type, value.role) for value in graph.inputs if value.role != "shared"),
        *(
            (op.kind, [places[n] for n in op.operands], op.types, dict(op.attributes), op.path)
            for op in graph.ops
        ),
        *((places[output.name], output.role, output.source) for output in graph.outputs),
    ]


def expanded(model: Model) -> list[object]:
    """The operators of every layer in order."""
    return [anonymous(body) for body, _, count in model.runs() for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "phase"),
    [("llama", "prefill"), ("qwen2-sliding", "prefill"), ("qwen3-mixed", "decode")],
)
def test_one_traced_layer_of_a_kind_stands_for_all_of_them(
    name: str, phase: Phase, make_case: Callable[[str], Any]
) -> None:
    case = make_case(name)
    short = case.graph(phase)
    traced = trace(case.config, phase, whole=True)
    assert len(traced.stacks[0].traced) == case.config.layers
    whole = lower(traced, case.config, phase)
    assert expanded(short) == expanded(whole)
    assert short.parameters == whole.parameters
    assert short.flops == whole.flops


def runs_of(model: Model) -> list[tuple[str, int, int]]:
    return [(body.name, first, count) for body, first, count in model.runs()]


def test_alternating_kinds_of_layers_are_runs_of_the_same_graphs(
    make_case: Callable[[str], Any],
) -> None:
    assert runs_of(make_case("llama").graph("decode")) == [("layer0", 0, 3)]
    assert runs_of(make_case("qwen2-sliding").graph("decode")) == [
        ("layer0", 0, 1),
        ("layer1", 1, 2),
    ]
    assert runs_of(make_case("qwen3-mixed").graph("prefill")) == [
        ("layer0", 0, 2),
        ("layer1", 2, 1),
        ("layer0", 3, 1),
    ]


def test_tied_embeddings_are_one_weight_under_the_name_of_the_embedding(
    make_case: Callable[[str], Any],
) -> None:
    main = make_case("llama-tied").graph("prefill").main
    weights = [value.source for value in main.inputs if value.role == "weight"]
    assert weights == ["model.embed_tokens.weight", "model.norm.weight"]
    assert main.producers["lm_head"].operands[1] == "embed_tokens.weight"


def test_the_graph_of_a_decoded_token_reads_like_this(
    make_case: Callable[[str], Any], golden: Callable[[str, str], None]
) -> None:
    model = dataclasses.replace(make_case("qwen2").graph("decode"), name="qwen2")
    golden("qwen2-decode.txt", print_model(model))
    golden("qwen2-decode-fused.txt", print_model(model.map(Fuse().run)))
