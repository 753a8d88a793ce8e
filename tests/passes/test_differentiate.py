"""Training graphs: run, they yield what torch differentiates out of the forward graph."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from wscc.ir.dims import size, symbol
from wscc.ir.errors import UserError, VerificationError
from wscc.ir.graph import Model, TensorType
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model, print_graph, print_model
from wscc.passes.canonical import training_form
from wscc.passes.differentiate import Differentiate
from wscc.passes.fuse import Fuse
from wscc.passes.manager import PassManager
from wscc.passes.optimize import Optimize

SIZES = {"batch": 2, "sequence": 5}

LAYER = """graph layer0 {
  input %hidden: float32[batch, sequence, 8] = carried hidden
  input %cos: float32[batch, sequence, 4] = shared cos
  input %sin: float32[batch, sequence, 4] = shared sin
  input %norm.weight: float32[8] = weight layers.*.norm.weight
  input %qkv.weight: float32[16, 8] = weight layers.*.qkv.weight
  input %o.weight: float32[8, 8] = weight layers.*.o.weight
  %x: float32[batch, sequence, 8] = norm(%hidden, %norm.weight) \
{indices = "bse,e->bse", function = "rms", over = "e", epsilon = 1e-05} @layers.*.norm
  %qkv: float32[batch, sequence, 16] = matmul(%x, %qkv.weight) \
{indices = "bse,fe->bsf"} @layers.*.qkv
  %heads: float32[batch, sequence, 4, 4] = reshape(%qkv) @layers.*
  %q: float32[batch, 2, sequence, 4] = slice(%heads) \
{indices = "bshd->bhsd", along = "h", start = 0, stop = 2} @layers.*
  %k: float32[batch, sequence, 1, 4] = slice(%heads) \
{indices = "bshd->bshd", along = "h", start = 2, stop = 3} @layers.*
  %v: float32[batch, 1, sequence, 4] = slice(%heads) \
{indices = "bshd->bhsd", along = "h", start = 3, stop = 4} @layers.*
  %k.pairs: float32[batch, sequence, 1, 2, 2] = reshape(%k) @layers.*
  %cos.pairs: float32[batch, sequence, 2, 2] = reshape(%cos) @layers.*
  %sin.pairs: float32[batch, sequence, 2, 2] = reshape(%sin) @layers.*
  %turned: float32[batch, 1, sequence, 2, 2] = rotary(%k.pairs, %cos.pairs, %sin.pairs) \
{indices = "bshpd,bspd,bspd->bhspd", pair = "p"} @layers.*
  %keys: float32[batch, 1, sequence, 4] = reshape(%turned) @layers.*
  %attention: float32[batch, sequence, 2, 4] = attention(%q, %keys, %v) \
{scale = 0.5, causal = true} @layers.*
  %joined: float32[batch, sequence, 8] = reshape(%attention) @layers.*
  %o: float32[batch, sequence, 8] = matmul(%joined, %o.weight) {indices = "bse,fe->bsf"} @layers.*.o
  %out: float32[batch, sequence, 8] = elementwise(%hidden, %o) \
{indices = "bse,bse->bse", expr = "a + gelu(b)"} @layers.*
  output %out = carried hidden
  output %keys = cache cache.*.key
}
"""

TINY = f"""model "tiny" phase=prefill dtype=float32
{LAYER}graph main {{
  input %input_ids: int64[batch, sequence] = data input_ids
  input %angles: float32[batch, sequence, 4] = data angles
  input %embed: float32[11, 8] = weight embed.weight
  %hidden: float32[batch, sequence, 8] = embedding(%input_ids, %embed) \
{{indices = "bs,ve->bse", rows = "v"}} @embed
  %cos: float32[batch, sequence, 4] = elementwise(%angles) {{indices = "bse->bse", expr = "cos(a)"}}
  %sin: float32[batch, sequence, 4] = elementwise(%angles) {{indices = "bse->bse", expr = "sin(a)"}}
  %last: float32[batch, sequence, 8] = repeat(%hidden, %cos, %sin) \
{{body = "layer0", first = 0, count = 3}} @layers.*
  %logits: float32[batch, sequence, 11] = matmul(%last, %embed) {{indices = "bse,fe->bsf"}} @head
  output %logits = data logits
}}
"""

# Layers of two kinds in turn. They hand on two values, one of which the last layer leaves unread;
# all read a value that depends on a parameter; one kind has a weight in common with all layers.
WOVEN = """model "woven" phase=prefill dtype=float32
graph even {
  input %h: float32[batch, sequence, 8] = carried h
  input %r: float32[batch, 8] = carried r
  input %extra: float32[batch, sequence, 8] = shared extra
  input %w: float32[8, 8] = weight layers.*.w
  input %common: float32[8] = weight common.weight
  %m: float32[batch, sequence, 8] = matmul(%h, %w) {indices = "bse,fe->bsf"}
  %t: float32[batch, sequence, 8] = elementwise(%m, %common, %extra) \
{indices = "bse,e,bse->bse", expr = "tanh(a) * b + c"}
  %u: float32[batch, sequence, 8] = elementwise(%t, %r) {indices = "bse,be->bse", expr = "a * b"}
  %s: float32[batch, 8] = reduce(%u) {indices = "bse->be", function = "sum", expr = "sigmoid(a)"}
  output %u = carried h
  output %s = carried r
}
graph odd {
  input %h: float32[batch, sequence, 8] = carried h
  input %r: float32[batch, 8] = carried r
  input %extra: float32[batch, sequence, 8] = shared extra
  input %bias: float32[8] = weight layers.*.bias
  input %only: int64[batch, sequence] = data input_ids
  %t: float32[batch, sequence, 8] = elementwise(%h, %bias, %extra, %only) \
{indices = "bse,e,bse,bs->bse", expr = "silu(a + b) * c + 0.1 * d"}
  output %t = carried h
  output %r = carried r
}
graph main {
  input %input_ids: int64[batch, sequence] = data input_ids
  input %start: float32[batch, 8] = data start
  input %embed: float32[11, 8] = weight embed.weight
  input %extra.weight: float32[8] = weight extra.weight
  input %unread: float32[8] = weight unread.weight
  input %head.weight: float32[11, 8] = weight head.weight
  %h.0: float32[batch, sequence, 8] = embedding(%input_ids, %embed) \
{indices = "bs,ve->bse", rows = "v"}
  %extra: float32[batch, sequence, 8] = elementwise(%h.0, %extra.weight) \
{indices = "bse,e->bse", expr = "a * b"}
  %h.1: float32[batch, sequence, 8], %r.1: float32[batch, 8] = repeat(%h.0, %start, %extra) \
{body = "even", first = 0, count = 2}
  %h.2: float32[batch, sequence, 8], %r.2: float32[batch, 8] = repeat(%h.1, %r.1, %extra) \
{body = "odd", first = 2, count = 2}
  %h.3: float32[batch, sequence, 8], %r.3: float32[batch, 8] = repeat(%h.2, %r.2, %extra) \
{body = "even", first = 4, count = 1}
  %first: float32[batch, sequence, 8] = elementwise(%h.3, %h.0) \
{indices = "bse,bse->bse", expr = "a + b"}
  %logits: float32[batch, sequence, 11] = matmul(%first, %head.weight) {indices = "bse,fe->bsf"}
  output %logits = data logits
}
"""

MODELS = {name: parse_model(text) for name, text in (("tiny", TINY), ("woven", WOVEN))}


def shape_of(type_: TensorType) -> list[int]:
    return [size(dim) for dim in type_.shape]


def random(type_: TensorType, generator: torch.Generator) -> Tensor:
    shape = shape_of(type_)
    if type_.dtype == "int64":
        return torch.randint(0, 11, shape, generator=generator)
    drawn = 0.3 * torch.randn(shape, generator=generator) + 0.1
    return drawn.to(getattr(torch, type_.dtype))


def state_of(model: Model) -> dict[str, Tensor]:
    """Random weights, data and labels for a model; states of an optimizer at their start."""
    generator = torch.Generator().manual_seed(0)
    bound = model.bind(SIZES)
    types = {**bound.sources("weight"), **bound.sources("data")}
    state = {source: random(types[source], generator) for source in sorted(types)}
    state["labels"] = torch.tensor([[3, 1, -100, 2, 7], [-100, 0, 10, -100, -100]])
    for source, type_ in bound.sources("state").items():
        parameter, _, what = source.rpartition(".")
        start = state[parameter] if what == "master" else torch.zeros(shape_of(type_))
        state[source] = start.to(getattr(torch, type_.dtype))
    return state


def by_torch(model: Model, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The loss of the forward graph, and what torch makes of it."""
    leaves = {
        source: value.clone().requires_grad_()
        if source.endswith((".weight", ".w", ".bias"))
        else value
        for source, value in state.items()
    }
    logits = run_model(model.bind(SIZES), leaves)["logits"]
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), state["labels"][:, 1:].flatten()
    )
    loss.backward()
    return loss, {s: leaf.grad for s, leaf in leaves.items() if leaf.requires_grad}


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_every_gradient_are_what_torch_says(name: str) -> None:
    model = MODELS[name]
    state = state_of(model)
    loss, theirs = by_torch(model, state)
    trained = Differentiate().run(model)
    trained.verify()
    outputs = run_model(trained.bind(SIZES), state)
    torch.testing.assert_close(outputs["loss"], loss)
    expected = {f"{source}.gradient": g for source, g in theirs.items() if g is not None}
    assert outputs.keys() == {"loss", *expected}
    for source, gradient in expected.items():
        torch.testing.assert_close(outputs[source], gradient)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_survives_being_printed_and_read_back(name: str) -> None:
    trained = Optimize().run(Differentiate().run(MODELS[name]))
    trained.verify()
    assert parse_model(print_model(trained)) == trained


def test_the_backward_graph_of_a_layer(golden: Callable[[str, str], None]) -> None:
    trained = Differentiate().run(MODELS["tiny"])
    golden("differentiate_layer.txt", print_graph(trained.graphs["layer0.backward"]))
    golden("differentiate_main.txt", print_graph(trained.main))


def test_a_layer_saves_what_its_backward_graph_reads_and_no_views() -> None:
    trained = Differentiate().run(MODELS["tiny"])
    forward, backward = trained.graphs["layer0"], trained.graphs["layer0.backward"]
    saved = [output.name for output in forward.outputs if output.role == "saved"]
    assert saved == ["hidden", "x", "q", "v", "turned", "attention", "o"]
    assert saved == [value.name for value in backward.inputs if value.role == "saved"]
    read = {name for op in backward.ops for name in op.operands}
    assert all(value.name in read for value in backward.inputs)


def test_a_part_of_something_saved_is_not_saved_once_more() -> None:
    text = TINY.replace(
        'expr = "a + gelu(b)"} @layers.*',
        'expr = "a + gelu(b)"} @layers.*\n  %power: float32[batch, sequence] = reduce(%qkv) '
        '{indices = "bse->bs", function = "sum", expr = "square(a)"}\n'
        "  %more: float32[batch, sequence, 8] = elementwise(%out, %power) "
        '{indices = "bse,bs->bse", expr = "a + b"}',
    ).replace("output %out", "output %more")
    model = parse_model(text)
    trained = Differentiate().run(model)
    saved = [output.name for output in trained.graphs["layer0"].outputs if output.role == "saved"]
    assert saved == ["hidden", "x", "qkv", "turned", "attention", "o"]
    state = state_of(model)
    gradient = run_model(trained.bind(SIZES), state)["layers.0.qkv.weight.gradient"]
    torch.testing.assert_close(gradient, by_torch(model, state)[1]["layers.0.qkv.weight"])


def test_saved_bytes_are_those_of_all_layers_and_of_what_lives_across_the_loss() -> None:
    trained = Differentiate().run(MODELS["tiny"])
    tokens = symbol("batch") * symbol("sequence")
    assert trained.graphs["layer0"].saved_bytes == tokens * (8 + 8 + 8 + 4 + 4 + 8 + 8) * 4
    assert [o.name for o in trained.main.outputs if o.role == "saved"] == [
        "cos", "sin", "last", "logits"
    ]  # fmt: skip
    assert trained.saved_bytes == tokens * (3 * 48 + 4 + 4 + 8 + 11) * 4
    assert (trained.layers, trained.parameters) == (3, MODELS["tiny"].parameters)


def test_training_counts_three_times_the_products_of_the_forward_pass() -> None:
    trained = Optimize().run(Differentiate().run(MODELS["tiny"]))
    assert trained.flops == 3 * MODELS["tiny"].flops


def test_products_whose_gradient_nobody_reads_are_not_counted() -> None:
    text = WOVEN.replace("%h.0: float32[batch, sequence, 8] = embedding(%input_ids, %embed) ", "")
    text = text.replace('{indices = "bs,ve->bse", rows = "v"}\n', "").replace(
        "input %start", "input %h.0: float32[batch, sequence, 8] = data h\n  input %start"
    )
    model = parse_model(text.replace("  input %embed: float32[11, 8] = weight embed.weight\n", ""))
    trained = Differentiate().run(model)
    trained.verify()
    state = state_of(model)
    _, theirs = by_torch(model, state)
    outputs = run_model(trained.bind(SIZES), state)
    for source in ("layers.0.w", "extra.weight", "common.weight", "layers.3.bias"):
        torch.testing.assert_close(outputs[f"{source}.gradient"], theirs[source])


def test_a_model_with_a_filled_cache_is_refused() -> None:
    text = TINY.replace(
        "  input %cos: float32[batch", "  input %old: float32[4] = cache cache.*.key\n"
        "  input %cos: float32[batch", 1
    )  # fmt: skip
    with pytest.raises(UserError, match="tiny: a step against a filled cache cannot be trained"):
        Differentiate().run(parse_model(text))


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(UserError, match="tiny: no logits"):
        Differentiate().run(parse_model(TINY.replace("data logits", "data hidden")))


def test_a_value_that_no_graph_saves_is_named() -> None:
    trained = Differentiate().run(MODELS["tiny"])
    forward = trained.graphs["layer0"]
    outputs = tuple(output for output in forward.outputs if output.name != "turned")
    broken = replace(
        trained, graphs={**trained.graphs, "layer0": replace(forward, outputs=outputs)}
    )
    with pytest.raises(
        VerificationError, match=r"layer0.backward: nothing saves saved.\*.turned as"
    ):
        broken.verify()


def test_a_large_model_is_differentiated_in_no_time() -> None:
    layers = [LAYER.replace("layer0", f"layer{kind}") for kind in range(8)]
    head, tail = TINY.split(LAYER)
    runs = [
        f"  %h.{n}: float32[batch, sequence, 8] = repeat(%h.{n - 1}, %cos, %sin) "
        f'{{body = "layer{n % 8}", first = {n}, count = 1}}\n'
        for n in range(126)
    ]
    before, after = tail.split("  %last: ")
    text = (
        head + "".join(layers) + before.replace("%hidden:", "%h.-1:") + "".join(runs)
        + after[after.index("\n") + 1 :].replace("%last", "%h.125")
    ).replace("h.-1", "h.start")  # fmt: skip
    model = parse_model(text)
    began = time.process_time()
    trained = Optimize().run(Differentiate().run(model))
    spent = time.process_time() - began
    trained.verify()
    assert trained.layers == 126
    assert trained.flops == 3 * model.flops
    assert spent < 0.5


# The optimizer


def theirs_after(state: dict[str, Tensor], gradients: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters after steps of torch.optim.AdamW on given gradients."""
    leaves = {name: state[name].clone().requires_grad_() for name in gradients[0]}
    adam = torch.optim.AdamW(
        leaves.values(), lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1
    )
    for step in gradients:
        for name, gradient in step.items():
            leaves[name].grad = gradient.to(leaves[name].dtype)
        adam.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


ADAM = Optimize(rate=0.01, beta1=0.8, beta2=0.95, epsilon=1e-6, decay=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_adam_are_those_of_torch(name: str) -> None:
    trained = ADAM.run(Differentiate().run(MODELS[name])).bind(SIZES)
    state = start = state_of(trained)
    gradients: list[dict[str, Tensor]] = []
    losses: list[float] = []
    for _ in range(3):
        outputs = run_model(trained, state)
        losses.append(float(outputs.pop("loss")))
        found = {s: outputs.pop(s) for s in [*outputs] if s.endswith(".gradient")}
        gradients.append({s.removesuffix(".gradient"): g for s, g in found.items()})
        assert outputs.keys() == set(trained.sources("state")) | gradients[-1].keys()
        state = {**state, **outputs}
    assert int(state["step"]) == 3
    assert losses[0] > losses[1] > losses[2]
    for source, parameter in theirs_after(start, gradients).items():
        torch.testing.assert_close(state[source], parameter)


def bfloat16(model: Model) -> Model:
    text = print_model(model).replace("float32[", "bfloat16[")
    return parse_model(text.replace("dtype=float32", "dtype=bfloat16"))


def test_bfloat16_parameters_have_a_master_copy_and_take_16_bytes_each() -> None:
    trained = ADAM.run(Differentiate().run(bfloat16(MODELS["tiny"]))).bind(SIZES)
    gradients = sum(
        int(str(graph.types[o.name].bytes)) * count
        for graph, count in ((trained.main, 1), (trained.graphs["layer0.backward"], 3))
        for o in graph.outputs
        if o.role == "gradient"
    )
    weights, states = (
        sum(int(str(t.bytes)) for s, t in trained.sources(role).items() if s != "step")
        for role in ("weight", "state")
    )
    count = trained.parameters
    assert (weights, gradients, states) == (2 * count, 2 * count, 12 * count)


def test_the_master_copy_is_updated_and_rounded() -> None:
    model = bfloat16(MODELS["tiny"])
    trained = ADAM.run(Differentiate().run(model)).bind(SIZES)
    state = state_of(trained)
    outputs = run_model(trained, state)
    name = "layers.1.o.weight"
    masters = {name: state[f"{name}.master"]}
    expected = theirs_after(masters, [{name: outputs[f"{name}.gradient"]}])[name]
    torch.testing.assert_close(outputs[f"{name}.master"], expected)
    assert outputs[name].dtype == torch.bfloat16
    assert torch.equal(outputs[name], outputs[f"{name}.master"].bfloat16())


def test_gradient_descent_keeps_no_states() -> None:
    model = MODELS["woven"]
    trained = Optimize("sgd", rate=0.1).run(Differentiate().run(model))
    trained.verify()
    assert not trained.sources("state")
    state = state_of(model)
    outputs = run_model(trained.bind(SIZES), state)
    for source in ("layers.4.w", "common.weight", "embed.weight"):
        expected = state[source] - 0.1 * outputs[f"{source}.gradient"]
        torch.testing.assert_close(outputs[source], expected)


def test_updates_follow_the_number_of_the_step_in_the_graph_of_operators() -> None:
    dag = Optimize().run(Differentiate().run(MODELS["tiny"])).main.dag
    assert list(dag.predecessors("layer0.update.0")) == ["step.next"]


def test_no_optimizer_leaves_the_gradients() -> None:
    trained = Differentiate().run(MODELS["tiny"])
    assert Optimize("none").run(trained) is trained


def test_only_a_model_with_gradients_has_an_optimizer() -> None:
    with pytest.raises(UserError, match="tiny: only a model with gradients has an optimizer"):
        Optimize().run(MODELS["tiny"])


def test_the_training_form_fuses_before_it_differentiates() -> None:
    manager = PassManager()
    trained = training_form(MODELS["tiny"], manager)
    assert list(manager.seconds) == ["fuse", "split_scores", "differentiate", "optimize"]
    assert trained == Optimize().run(Differentiate().run(MODELS["tiny"].map(Fuse().run)))
