"""Hardware and results as text: read back as they were printed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.frontend.hardware import load_hardware
from wscc.ir.hardware import DeadCore, Hardware
from wscc.ir.result import Infeasibility, Result
from wscc.ir.tree import parse_tree, print_tree


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return load_hardware("wse2").bind()


def test_hardware_is_read_back_as_it_was_printed(hardware: Hardware) -> None:
    assert parse_tree(Hardware, print_tree(hardware)) == hardware


def test_hardware_with_dead_parts_is_read_back_as_it_was_printed(hardware: Hardware) -> None:
    wafer = dataclasses.replace(
        hardware.wafer,
        dead_dies=((0, 1), (2, 3)),
        dead_cores=(DeadCore((0, 0), (5, 6)), DeadCore((1, 0), (0, 0))),
    )
    damaged = dataclasses.replace(hardware, wafer=wafer, parameters={"size": 1.0, "name": 'a "b"'})
    assert parse_tree(Hardware, print_tree(damaged)) == damaged


def test_a_result_is_read_back_as_it_was_printed(sample_result: Result) -> None:
    assert parse_tree(Result, print_tree(sample_result)) == sample_result


@pytest.mark.parametrize(
    "words", ["plain", "a = b", "{", "}", "x {", 'quote "', "new\nline", "\u2028 \x85 \x1c", "%"]
)
def test_any_words_survive(sample_result: Result, words: str) -> None:
    short = Infeasibility(words, words, 2.0, 1.0, 1.0, "B", (words, words))
    result = dataclasses.replace(sample_result, infeasible=(short,), limits=(words,), power_w=3.0)
    assert parse_tree(Result, print_tree(result)) == result


@dataclass(frozen=True)
class Leaf:
    number: float
    words: str | None = None


@dataclass(frozen=True)
class Tree:
    count: int
    leaf: Leaf | None
    leaves: tuple[Leaf, ...]
    pairs: tuple[tuple[int, int], ...]
    mixed: tuple[int, float]
    table: Mapping[str, float] = field(default_factory=dict[str, float])


LEAVES = st.builds(Leaf, st.floats(allow_nan=False), st.none() | st.text())
TREES = st.builds(
    Tree,
    st.integers(),
    st.none() | LEAVES,
    st.lists(LEAVES, max_size=3).map(tuple),
    st.lists(st.tuples(st.integers(), st.integers()), max_size=2).map(tuple),
    st.tuples(st.integers(), st.floats(allow_nan=False)),
    st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
)


@settings(deadline=None)
@given(TREES)
def test_any_tree_is_read_back_as_it_was_printed(tree: Tree) -> None:
    assert parse_tree(Tree, print_tree(tree)) == tree


def test_a_whole_number_is_read_as_a_float_where_a_float_is_meant() -> None:
    leaf = parse_tree(Leaf, "Leaf {\n  number = 3\n}\n")
    assert type(leaf.number) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'Leaf {' on the first line"),
        ("Tree {\n}\n", "expected 'Leaf {' on the first line"),
        ("Leaf {\n  size = 3\n}\n", "Leaf has no field for the line 'size = 3'"),
        ("Leaf {\n  number 3\n}\n", "Leaf has no field for the line 'number 3'"),
        ("Leaf {\n  number = 3\n", "Leaf: the closing brace is missing"),
        ("Leaf {\n  number = 3\n}\n}\n", "text goes on after the tree: '}'"),
        ("Leaf {\n}\n", "Leaf: nothing says number"),
        ("Leaf {\n  number = three\n}\n", "Expecting value"),
    ],
)
def test_text_that_does_not_fit_the_type_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_tree(Leaf, text)
    assert message in str(raised.value)
