"""A training graph, run, yields the loss and every gradient that Hugging Face and torch yield."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from wscc.frontend.model import lower_config
from wscc.ir.graph import Model
from wscc.ir.interpreter import run_model
from wscc.passes.differentiate import Differentiate
from wscc.passes.fuse import Fuse

TOLERANCE = 1e-5
BATCH, TOKENS = 2, 9

Values = dict[str, Tensor]


def inputs_of(vocabulary: int) -> Values:
    """Tokens and labels; some labels are of the kind that does not count."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (BATCH, TOKENS), generator=generator)
    labels = ids.clone()
    labels[0, :3] = labels[1, -2] = -100
    positions = torch.arange(TOKENS).expand(BATCH, TOKENS)
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def theirs(hf: Any, inputs: Values) -> Values:
    """The loss, and the gradient of every parameter that has one, by Hugging Face and torch."""
    hf.zero_grad()
    loss = hf(**inputs, use_cache=False).loss
    loss.backward()
    named = {name: parameter.grad for name, parameter in hf.named_parameters()}
    gradients = {f"{name}.gradient": g.clone() for name, g in named.items() if g is not None}
    hf.zero_grad()
    return {"loss": loss.detach(), **gradients}


def ours(case: Any, model: Model, inputs: Values) -> Values:
    trained = Differentiate().run(model)
    trained.verify()
    bound = trained.bind({"batch": BATCH, "sequence": TOKENS})
    return run_model(bound, {**case.state, **inputs})


def worst_error(found: Values, expected: Values) -> tuple[float, str]:
    """The largest relative error and what has it.

    A gradient that is zero but for rounding (of the biases of keys, which a softmax ignores) must
    be so on both sides: less than the millionth part of the largest.
    """
    zero = 1e-6 * max(float(value.norm()) for value in expected.values())
    errors = {
        name: float((found[name].reshape(value.shape) - value).norm() / value.norm())
        for name, value in expected.items()
        if max(float(value.norm()), float(found[name].norm())) > zero
    }
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst


def test_loss_and_every_gradient_are_those_of_hugging_face(case: Any) -> None:
    model = case.graph("train")
    inputs = inputs_of(case.values["vocab_size"])
    expected = theirs(case.hf, inputs)
    for graph in (model, model.map(Fuse().run)):
        found = ours(case, graph, inputs)
        assert found.keys() == expected.keys()
        error, worst = worst_error(found, expected)
        assert error < TOLERANCE, worst


def test_training_counts_three_times_the_products_of_the_forward_pass(case: Any) -> None:
    model = case.graph("train")
    trained = Differentiate().run(model.map(Fuse().run))
    assert trained.flops == 3 * model.flops
    assert trained.parameters == sum(p.numel() for p in case.hf.parameters())


def test_labels_that_do_not_count_have_no_part_in_the_loss(
    make_case: Callable[[str], Any],
) -> None:
    case = make_case("llama")
    inputs = inputs_of(case.values["vocab_size"])
    other = {**inputs, "labels": inputs["labels"].clone()}
    other["labels"][:, 0] = 0
    first, second = (ours(case, case.graph("train"), given)["loss"] for given in (inputs, other))
    assert torch.equal(first, second)


def test_in_bfloat16_gradients_are_as_near_as_rounding_allows(
    make_case: Callable[[str], Any],
) -> None:
    case = make_case("llama")
    model = lower_config(replace(case.config, dtype="bfloat16"), "train").map(Fuse().run)
    inputs = inputs_of(case.values["vocab_size"])
    expected = theirs(case.hf, inputs)
    state = {n: t if n.endswith("inv_freq") else t.bfloat16() for n, t in case.state.items()}
    trained = Differentiate().run(model).bind({"batch": BATCH, "sequence": TOKENS})
    found = run_model(trained, {**state, **inputs})
    assert {value.dtype for name, value in found.items() if name != "loss"} == {torch.bfloat16}
    assert worst_error({n: v.float() for n, v in found.items()}, expected)[0] < 0.1
