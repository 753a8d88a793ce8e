"""The points of a space: listed are exactly those that can be bound, whatever their parameters
rest on."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from wscc.frontend.hardware import HardwareSpace
from wscc.ir.errors import UserError

SpaceOf = Callable[..., HardwareSpace]
Refused = Callable[..., str]

LISTED: dict[str, tuple[str, dict[str, list[float | str | None]]]] = {
    "choices, powers and steps": (
        "param a = 4 in pow2(1, 16)\nparam b = 2 in {1, 2, 5}\nparam c = x in {x, y}\n"
        "param d = 0.1 in 0.1..0.5 step 0.1\nparam e = 3\n",
        {"a": [1, 2, 4, 8, 16], "b": [1, 2, 5], "c": ["x", "y"], "d": [0.1, 0.2, 0.3, 0.4, 0.5]},
    ),
    "a constraint between parameters": (
        "param a = 1 in 1..6 step 1\nparam b = 1 in 1..6 step 1\nlet c = a * b\n"
        "constraint c <= 12\nconstraint a - b < 2\nconstraint 1 <= a / b + 0.5\n",
        {"a": [1, 2, 3, 4, 5, 6], "b": [1, 2, 3, 4, 5, 6]},
    ),
    "a domain that depends on another parameter": (
        "param a = 4 in 1..7 step 1\nparam b = 3 in floor(a / 2)..a step 1\n"
        "param c = 4 in pow2(max(b, 1), 8)\nparam d = 4 in {a, 2 * a}\n"
        "constraint b + c <= 9\n",
        {"a": [*range(1, 8)], "b": [*range(9)], "c": [*range(1, 9)], "d": [*range(1, 15)]},
    ),
    "a domain that is empty for some": (
        "param a = 4 in 1..7 step 1\nparam b = 5 in a..5 step 1\n",
        {"a": [*range(1, 8)], "b": [*range(1, 9)]},
    ),
    "parameters that exist only when others have a value": (
        "param stack = off in {off, on}\nparam height = 1 in 1..4 step 1 when stack == on\n"
        "param deep = 2 in 1..height step 1 when height > 2\nparam a = 2 in {1, 2}\n"
        "param word = x in {x, y} when deep == 2\n"
        "let volume = height * a\nconstraint volume <= 6 when stack == on\n",
        {
            "stack": ["off", "on"],
            "height": [None, 1, 2, 3, 4],
            "deep": [None, 1, 2, 3, 4],
            "a": [1, 2],
            "word": [None, "x", "y"],
        },
    ),
    "parameters that stand before those that they rest on": (
        "param b = 2 in a..4 step 1 when on == yes\nparam a = 2 in 1..3 step 1\n"
        "param on = yes in {yes, no}\nconstraint a + b <= 5 when on == yes\n",
        {"b": [None, 1, 2, 3, 4], "a": [1, 2, 3], "on": ["yes", "no"]},
    ),
    "a table without rows for some": (
        'use "macros.csv" as macros\nparam a = 1 in 1..5 step 1\n'
        "param b = 0.2 in 0.1..0.4 step 0.1\n"
        "let area = macros.area(a, b)\nparam c = 3 in 3..macros.area(a, b) step 1\n"
        "constraint area <= 7\n",
        {"a": [1, 2, 3, 4, 5], "b": [0.1, 0.2, 0.3, 0.4], "c": [3, 4, 5, 6, 7, 8, 9]},
    ),
    "values for which an expression is no number": (
        "param a = 5 in 1..5 step 1\nparam b = 1 in 1..5 step 1\nlet root = sqrt(a - b)\n"
        "let ratio = 1 / (a - 3)\nconstraint ratio + root <= 2\n",
        {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]},
    ),
    "a let that waits for a default of another": (
        "param a = 2 in 1..4 step 1\nparam twice = 2 * a\nlet more = twice + 1\n"
        "constraint more <= 7\n",
        {"a": [1, 2, 3, 4]},
    ),
}


def listed(space: HardwareSpace, limit: int) -> list[tuple[Any, ...]]:
    """The points of a space, None where a parameter does not exist."""
    found: list[tuple[Any, ...]] = []
    for columns in space.points(limit=limit):
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        found += [tuple(None if v in ("",) or v != v else v for v in row) for row in rows]
    return found


def brute_force(space: HardwareSpace, values: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    """All combinations that can be bound and meet their constraints."""
    for row in itertools.product(*values.values()):
        given_ = {name: value for name, value in zip(values, row, strict=True) if value is not None}
        try:
            design = space.bind(given_)
        except UserError:
            continue
        if design.parameters.keys() & values.keys() != given_.keys():
            continue
        if all(line.holds for line in design.constraints if not line.implied):
            yield row


@pytest.mark.parametrize("limit", [1 << 18, 3])
@pytest.mark.parametrize("kind", LISTED)
def test_exactly_those_points_are_listed_that_can_be_bound(
    kind: str, limit: int, small: str, space_of: SpaceOf, write_table: Callable[..., None]
):
    rows = [(a, b / 10, a + b) for a in range(1, 6) for b in range(1, 5) if a != b]
    write_table("macros.csv", "a,b,area", rows)
    lines, values = LISTED[kind]
    space = space_of(small + lines)
    found = listed(space, limit)
    expected = list(brute_force(space, values))
    assert len(expected) > 2

    def spelt(row: tuple[Any, ...]) -> str:
        return " ".join(f"{v:.9g}" if isinstance(v, float | int) else str(v) for v in row)

    assert sorted(map(spelt, found)) == sorted(map(spelt, expected))


def test_constraints_on_parts_and_physics_are_left_to_judge(small: str, space_of: SpaceOf):
    text = small.replace("32 KiB", "cap") + (
        "param cap = 16 KiB in {8, 16, 32} KiB\nlet held = pe.sram.capacity\nlet all = sram(wse)\n"
        "constraint held <= 16 KiB\nconstraint all >= 1.5 MB\n"
    )
    space = space_of(text)
    (columns,) = space.points()
    assert columns["cap"].tolist() == [8192, 16384, 32768]
    assert space.judge(columns).feasible.tolist() == [False, True, False]


def test_the_columns_of_points_stand_in_the_order_of_the_file(small: str, space_of: SpaceOf):
    space = space_of(small + LISTED["parameters that stand before those that they rest on"][0])
    assert {tuple(columns) for columns in space.points()} == {("b", "a", "on")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "param a = 1 in 0..1\n",
            "parameter a: the values of 0..1 cannot be listed without a step",
        ),
        (
            "param a = 1 in 1..b step 1\nparam b = 1 in 1..a step 1\n",
            "the values of parameters a and b cannot be listed, as they rest on each other",
        ),
    ],
)
def test_values_that_cannot_be_listed_are_refused(
    lines: str, message: str, small: str, space_of: SpaceOf
):
    with pytest.raises(UserError) as caught:
        list(space_of(small + lines).points())
    assert caught.value.message == message


# Domains that depend, and conditions on conditions.


def test_a_dependent_domain_is_that_of_the_other_values(small: str, space_of: SpaceOf):
    space = space_of(small + "param m = 8 in pow2(2, 64)\nparam n = 5 in floor(m / 2)..m step 1\n")
    assert space.bind(m=16, n=9).parameters["n"] == 9
    with pytest.raises(UserError, match=r"parameter n: 9 is not in floor\(m / 2\)\.\.m step 1"):
        space.bind(m=8, n=9)
    with pytest.raises(UserError, match=r"parameter n: the default is not in floor\(m / 2\)\.\.m"):
        space.bind(m=4)
    assert space.parameters["n"].depends
    assert not space.parameters["m"].depends


def test_a_parameter_may_rest_on_one_that_does_not_exist_by_default(small: str, space_of: SpaceOf):
    space = space_of(
        small + "param stack = off in {off, on}\nparam rows = 2 in 1..4 step 1 when stack == on\n"
        "param columns = rows in 1..rows step 1 when stack == on\n"
    )
    assert set(space.bind().parameters) == {"stack"}
    assert space.bind(stack="on", rows=3).parameters["columns"] == 3
    assert space.parameters["columns"].default == 2


def test_a_condition_on_what_does_not_exist_does_not_hold(small: str, space_of: SpaceOf):
    space = space_of(
        small + "param a = no in {no, yes}\nparam b = 2 in {1, 2} when a == yes\n"
        "param c = 3 in {3, 4} when b == 2\nparam d = 5 in {5, 6} when b != 2\n"
    )
    assert set(space.bind().parameters) == {"a"}
    assert set(space.bind(a="yes").parameters) == {"a", "b", "c"}
    assert set(space.bind(a="yes", b=1).parameters) == {"a", "b", "d"}
    with pytest.raises(UserError, match="parameter c exists only when b == 2"):
        space.bind(c=4)


def test_what_rests_on_a_parameter_that_does_not_exist_is_refused(small: str, refused: Refused):
    text = small.replace("8 flop/cycle", "height * 8 flop/cycle") + (
        "param stack = off in {off, on}\nparam height = 2 in 1..4 step 1 when stack == on\n"
    )
    assert refused(text) == ("spec.wsc:6:19: error: parameter height exists only when stack == on")
