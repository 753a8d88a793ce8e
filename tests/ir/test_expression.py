"""Elementwise expressions: what the language admits, what it costs, what it means."""

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from wscc.ir.expression import (
    FUNCTIONS,
    Work,
    bind,
    evaluate,
    operands_of,
    parse,
    substitute,
    work,
)

BINARY = ("maximum", "minimum")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
SMOOTH = ("abs", "cos", "relu", "sigmoid", "silu", "sin", "softplus", "square", "tanh")


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, inner)
    return (
        st.tuples(st.sampled_from("+-*"), pairs).map(lambda x: f"({x[1][0]}) {x[0]} ({x[1][1]})")
        | st.tuples(st.sampled_from(SMOOTH), inner).map(lambda x: f"{x[0]}({x[1]})")
        | st.tuples(st.sampled_from(BINARY), pairs).map(lambda x: f"{x[0]}({x[1][0]}, {x[1][1]})")
        | inner.map(lambda text: f"-({text})")
        | st.tuples(st.sampled_from(COMPARISONS), pairs, pairs).map(chosen)
    )


def chosen(drawn: tuple[str, tuple[str, str], tuple[str, str]]) -> str:
    test, (a, b), (c, d) = drawn
    return f"where(({a}) {test} ({b}) and not ({a}) > 1, {c}, {d})"


LEAVES = st.sampled_from("abcd")
EXPRESSIONS = st.recursive(LEAVES, combined, max_leaves=6)
FLAT = st.tuples(LEAVES, st.sampled_from("+-*"), LEAVES).map(" ".join)
"""Without parentheses of their own."""


def values(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        "a.real",
        "a.__class__",
        "(1).__class__",
        "'a'",
        "b'a'",
        "f'{a}'",
        "None",
        "True",
        "a * False",
        "...",
        "1j",
        "foo(a)",
        "a(b)",
        "exp(a)(b)",
        "exp(x=a)",
        "exp(*a)",
        "exp(**a)",
        "a[0]",
        "a, b",
        "[a]",
        "{a}",
        "a if b else c",
        "a @ b",
        "a < b < c",
        "a is b",
        "a in b",
        "a & b",
        "nan",
        "width",
        "where(a, b)",
        "a << b",
        "~a",
        "+a",
        "lambda: a",
        "(a := b)",
        "[a for a in b]",
        "await a",
        "a = b",
        "import os",
        "ab",
        "A",
        "__import__('os')",
        "exp",
        "exp + a",
        "exp(exp)",
        "exp()",
        "exp(a, b)",
        "maximum(a)",
        "",
        "a +",
        "a; b",
    ],
)
def test_whatever_is_outside_the_language_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an expression|which no expression may"):
        parse(text)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_can_be_counted_and_run(name: str) -> None:
    text = f"{name}({', '.join('cab'[-FUNCTIONS[name].operands :])})"
    cost = work(text)
    assert cost.arithmetic + cost.functions >= 1
    operands = [torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([True, False])]
    assert torch.isfinite(evaluate(text, operands)).all()


def test_work_counts_each_operation_once() -> None:
    assert work("a") == Work(0, 0)
    assert work("a + b * c - d") == Work(3, 0)
    assert work("-a") == Work(1, 0)
    assert work("a / b") == Work(0, 1)
    assert work("rsqrt(a * 0.5 + 1e-05)") == Work(2, 1)
    assert work("exp((a - b) * 0.125)") == Work(2, 1)
    assert work("where(a > 0 and b <= context, a, -inf)") == Work(5, 0)
    assert work("not a or b or c") == Work(3, 0)


def test_a_quotient_rounded_down_is_a_division_and_a_rounding() -> None:
    assert work("a // b") == Work(1, 1)
    assert work("a % b") == Work(2, 1)


def test_a_silu_is_a_product_an_addition_an_exponential_and_a_reciprocal() -> None:
    assert work("silu(a)") == Work(2, 2)
    assert work("silu(a) * b") == Work(3, 2)


def test_a_square_is_a_product_and_another_power_a_function() -> None:
    assert work("a**2") == work("square(a)") == Work(1, 0)
    assert work("a**3") == Work(0, 1)
    assert work("a**b") == Work(0, 1)


def test_operands_are_the_letters_that_are_read() -> None:
    assert operands_of("silu(c) * a + exp(1e-05)") == ("a", "c")


@settings(deadline=None)
@given(EXPRESSIONS, st.dictionaries(LEAVES, EXPRESSIONS | FLAT, max_size=4))
def test_substitution_computes_what_its_parts_compute(
    outer: str, replacements: Mapping[str, str]
) -> None:
    operands = values(4)
    inner = [evaluate(replacements.get(letter, letter), operands) for letter in "abcd"]
    torch.testing.assert_close(
        evaluate(substitute(outer, replacements), operands), evaluate(outer, inner)
    )


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_substituting_once_costs_the_sum_of_both(outer: str, inner: str) -> None:
    one = f"({outer}) + z"
    total, a, b = work(substitute(one, {"z": inner})), work(one), work(inner)
    assert total == Work(a.arithmetic + b.arithmetic, a.functions + b.functions)


def test_operands_that_swap_names_do_not_capture_each_other() -> None:
    assert substitute("a - b", {"a": "b", "b": "a"}) == "b - a"
    assert substitute("a * b", {"a": "b + c", "b": "a"}) == "(b + c) * a"


def test_substitution_keeps_the_exponents_of_numbers_and_the_names_of_functions() -> None:
    replaced = dict.fromkeys("abcdefghijklmnopqrstuvwxy", "z")
    assert substitute("exp(a) + 1e-05", replaced) == "exp(z) + 1e-05"
    assert evaluate(substitute("a + 2.e-5", {"e": "b"}), [torch.zeros(())]) == 2e-5


def test_a_negative_replacement_keeps_its_sign_under_a_power() -> None:
    assert evaluate(substitute("a**2", {"a": "-3"}), []) == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("silu(a) * b", lambda a, b: functional.silu(a) * b),
        ("gelu(a)", lambda a, b: functional.gelu(a)),
        ("gelu_tanh(a)", lambda a, b: functional.gelu(a, approximate="tanh")),
        ("softplus(a) - b / 3", lambda a, b: functional.softplus(a) - b / 3),
        ("exp((a - b) * 0.125)", lambda a, b: torch.exp((a - b) * 0.125)),
        ("rsqrt(square(a) + 1e-06)", lambda a, b: torch.rsqrt(a.square() + 1e-6)),
        ("maximum(a, b) - minimum(a, b)", lambda a, b: (a - b).abs()),
        ("a**2 + -b", lambda a, b: a**2 - b),
        ("log(exp(a)) + sqrt(abs(b))", lambda a, b: a + b.abs().sqrt()),
        ("reciprocal(a) + tanh(b) + sigmoid(a)", lambda a, b: 1 / a + b.tanh() + a.sigmoid()),
        ("maximum(a, 0)", lambda a, b: a.clamp(min=0)),
        ("minimum(0.5, a)", lambda a, b: a.clamp(max=0.5)),
        ("relu(a) * cos(b) + sin(a)", lambda a, b: a.relu() * b.cos() + a.sin()),
        ("where(a > b, a, b)", torch.maximum),
        ("where(a >= 0, 1, 0) + where(a < 0, 2, 0)", lambda a, b: 2 - (a >= 0).long()),
        ("a <= b", torch.le),
        ("a == b or a != b", lambda a, b: torch.ones(5, dtype=torch.bool)),
        ("not (a > 0 and b > 0)", lambda a, b: ~((a > 0) & (b > 0))),
        ("a // 0.3 + a % 0.3", lambda a, b: a // 0.3 + torch.remainder(a, 0.3)),
        ("b % -a", lambda a, b: torch.remainder(b, -a)),
        (
            "floor(a) + ceil(b) - round(a) * trunc(b)",
            lambda a, b: a.floor() + b.ceil() - a.round() * b.trunc(),
        ),
        ("sign(a) * erf(b) + atan(a)", lambda a, b: a.sign() * b.erf() + a.atan()),
        ("expm1(a) + log1p(abs(b)) + exp2(a)", lambda a, b: a.expm1() + b.abs().log1p() + a.exp2()),
        ("log2(abs(a)) * 2 ** b", lambda a, b: a.abs().log2() * 2**b),
        ("where(a > 0, a, -inf)", lambda a, b: a.masked_fill(a <= 0, -torch.inf)),
    ],
)
def test_an_expression_means_what_torch_means(text: str, expected: object) -> None:
    assert callable(expected)
    a, b = values(2)
    torch.testing.assert_close(evaluate(text, [a, b]), expected(a, b))


def test_the_symbols_of_dimensions_are_numbers_once_they_are_bound() -> None:
    assert operands_of("a + context - 2 * sequence") == ("a",)
    assert substitute("a + context", {"a": "b * 2"}) == "(b * 2) + context"
    assert bind("a + context - 2 * sequence", {"context": 5}) == "a + 5 - 2 * sequence"
    assert evaluate(bind("a * (context + 1)", {"context": 5}), [torch.tensor(2)]) == 12
    with pytest.raises(ValueError, match="dimension context is not bound to a number"):
        evaluate("a + context", [torch.zeros(2)])


def test_a_number_alone_is_an_expression() -> None:
    assert evaluate("-1.5", []) == -1.5
    assert math.isclose(evaluate("2 * 3 / 4", []), 1.5)
