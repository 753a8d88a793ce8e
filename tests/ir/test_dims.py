"""Dimensions: a ring with exact integer arithmetic, read back as they are printed."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.ir.dims import SYMBOLS, Dim, Polynomial, bind, parse_dim, product, size, symbol

SMALL = st.integers(-9, 9)


def dims_of(depth: st.SearchStrategy[int] = SMALL) -> st.SearchStrategy[Dim]:
    leaves: st.SearchStrategy[Dim] = depth | st.sampled_from(SYMBOLS).map(symbol)
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1])
            | st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1])
        ),
        max_leaves=6,
    )


DIMS = dims_of()
SIZES = st.fixed_dictionaries({name: st.integers(0, 50) for name in SYMBOLS})
SOME_SIZES = st.dictionaries(st.sampled_from(SYMBOLS), st.integers(0, 50))


def constants_inside(dim: Dim) -> bool:
    return isinstance(dim, Polynomial) and all(monomial == () for monomial, _ in dim.terms)


@settings(deadline=None)
@given(DIMS, DIMS, DIMS)
def test_sums_and_products_obey_the_laws_of_a_ring(a: Dim, b: Dim, c: Dim) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a + 0 == a == a * 1
    assert a * 0 == 0 == a - a
    assert a - b == -(b - a) == a + -b


@settings(deadline=None)
@given(DIMS)
def test_a_dimension_is_read_back_as_it_was_printed(dim: Dim) -> None:
    assert parse_dim(str(dim)) == dim


@settings(deadline=None)
@given(DIMS, DIMS, SIZES)
def test_binding_first_or_last_gives_the_same(a: Dim, b: Dim, sizes: Mapping[str, int]) -> None:
    assert bind(a + b, sizes) == bind(a, sizes) + bind(b, sizes)
    assert bind(a * b, sizes) == bind(a, sizes) * bind(b, sizes)


@settings(deadline=None)
@given(DIMS, SOME_SIZES, SIZES)
def test_binding_in_two_steps_is_binding_at_once(
    dim: Dim, some: Mapping[str, int], others: Mapping[str, int]
) -> None:
    assert bind(bind(dim, some), others) == bind(dim, {**others, **some})


@settings(deadline=None)
@given(DIMS, SIZES)
def test_what_holds_no_symbol_is_a_plain_integer(dim: Dim, sizes: Mapping[str, int]) -> None:
    assert type(bind(dim, sizes)) is int
    assert type(dim - dim) is int
    assert type(size(bind(dim, sizes))) is int
    assert not constants_inside(dim)


def test_printing_puts_the_highest_degree_first_and_signs_between() -> None:
    batch, context = symbol("batch"), symbol("context")
    dim = batch * (context - 1) * 2 - context + 5
    assert str(dim) == "2*batch*context - 2*batch - 1*context + 5"


def test_equal_dimensions_are_equal_keys() -> None:
    batch, context = symbol("batch"), symbol("context")
    assert {batch * context: 1}[context * batch] == 1


def test_the_product_of_no_dimensions_is_one() -> None:
    assert product([]) == 1
    assert product([2, symbol("batch"), 3]) == symbol("batch") * 6


def test_only_the_three_symbols_exist() -> None:
    with pytest.raises(ValueError, match="no dimension is called 'width', only batch, context"):
        symbol("width")


def test_an_unbound_dimension_has_no_size() -> None:
    with pytest.raises(ValueError, match=r"dimension context \+ 1 is not bound to a number"):
        size(symbol("context") + 1)


@pytest.mark.parametrize(
    "text", ["batch / 2", "2.5", "batch**2", "f(batch)", "'batch'", "width", "", "batch +", "True"]
)
def test_whatever_is_no_polynomial_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a dimension|no dimension is called"):
        parse_dim(text)
