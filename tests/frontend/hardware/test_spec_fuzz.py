"""Whatever the text, a spec gives a design or one UserError with its place, and soon."""

# ruff: noqa: E501  one text a line

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from time import process_time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.benchmarks.fuzz_specs import (
    BAD,
    Files,
    Outcome,
    checked,
    mutated,
    outcome,
    shipped,
    with_misspelt_field,
)
from wscc.benchmarks.spec_texts import spec_texts
from wscc.frontend.hardware import parse as parser
from wscc.frontend.hardware.files import MAX_BYTES, MAX_FILES

SPECS = shipped()
LIMIT_S = 2.0
"""Of the processor's time, for a spec however it is made."""


@pytest.fixture(autouse=True, scope="module")
def parsed_once() -> Iterator[None]:
    """The shipped files that are used again and again are parsed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "parse", lru_cache(maxsize=64)(parser.parse))
        yield


on_files = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of(text: str, folder: Path) -> Outcome:
    return outcome({"spec.wsc": text}, folder)


def refused(text: str, folder: Path) -> str:
    """The message of a text that must be refused, with its place, in time."""
    began = process_time()
    found = of(text, folder)
    assert process_time() - began < LIMIT_S
    assert found.kind == "refused", found
    return found.message


@pytest.mark.parametrize("name", SPECS)
def test_what_is_mutated_is_right(name: str, tmp_path: Path) -> None:
    assert outcome(SPECS[name], tmp_path) == Outcome("design")


@settings(on_files, max_examples=150)
@given(text=spec_texts())
def test_a_drawn_spec_is_a_design_or_refused_with_its_place(text: str, tmp_path: Path) -> None:
    found = of(text, tmp_path)
    assert found.kind not in BAD, found


@settings(on_files, max_examples=200)
@given(name=st.sampled_from(sorted(SPECS)), seed=st.integers(0, 1 << 30))
def test_a_mutated_spec_is_a_design_or_refused_with_its_place(
    name: str, seed: int, tmp_path: Path
) -> None:
    found = outcome(mutated(SPECS[name], random.Random(seed)), tmp_path)
    assert found.kind not in BAD, found


@settings(on_files, max_examples=100)
@given(name=st.sampled_from(sorted(SPECS)), seed=st.integers(0, 1 << 30))
def test_a_misspelt_field_is_refused(name: str, seed: int, tmp_path: Path) -> None:
    files, what = with_misspelt_field(SPECS[name], random.Random(seed))
    assert outcome(files, tmp_path).kind == "refused", what


@settings(on_files, max_examples=60)
@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused_with_its_place(garbage: bytes, tmp_path: Path) -> None:
    for content in (garbage, b"wsc 1\n" + garbage):
        (tmp_path / "garbage.wsc").write_bytes(content)
        assert checked(tmp_path / "garbage.wsc").kind == "refused"


def test_a_field_of_a_block_that_does_not_exist_is_spelt_right_all_the_same(tmp_path: Path) -> None:
    text = (
        SPECS["wse2"]["wse2.wsc"]
        .replace("wsc 1\n", "wsc 1\nparam host = no in {yes, no}\n", 1)
        .replace("memory host {", "memory host when host == yes {")
    )
    assert text.count("when") == 1
    assert outcome({**SPECS["wse2"], "wse2.wsc": text}, tmp_path).kind == "design"
    text = text.replace("capacity = 1.5 TB", "capacitty = 1.5 TB")
    found = outcome({**SPECS["wse2"], "wse2.wsc": text}, tmp_path)
    assert (
        found.message == "wafer wse: memory host has no field 'capacitty', did you mean 'capacity'?"
    )


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("wafers      = 1", "waers = 1"), ("cores_in_use = 25", "cores_ni_use = 25")],
)
def test_a_field_of_a_part_that_no_one_uses_is_spelt_right_in_a_used_file(
    field: str, wrong: str, tmp_path: Path
) -> None:
    files = {"spec.wsc": SPECS["wse2"]["wse2.wsc"] + '\nuse "dojo.wsc" as dojo\n'}
    dojo = SPECS["dojo"]["dojo.wsc"]
    assert field in dojo
    assert outcome({**files, "dojo.wsc": dojo}, tmp_path) == Outcome("design")
    found = outcome({**files, "dojo.wsc": dojo.replace(field, wrong)}, tmp_path)
    assert found.kind == "refused"
    assert "did you mean" in found.message


def wse2(right: str = "", wrong: str = "", more: str = "") -> str:
    """The shipped WSE-2 with one text in place of another, and with more lines behind it."""
    text = SPECS["wse2"]["wse2.wsc"]
    assert right in text
    return f"{text.replace(right, wrong, 1)}\n{more}"


def many(count: int, line: Callable[[int], str]) -> str:
    return "\n".join(line(at) for at in range(count))


PLACED = "core qe = pe with { clock = 1 GHz }\n" + "die two { cores = 100 x 100 of pe; "
DRAWN = "defects {{ density = {} defect/cm2; seed = 1 }}\n  io west {{"

REFUSED_SOON = {
    "deep parentheses": ("param a = " + "(" * 5000 + "1" + ")" * 5000, "brackets nest more than 50 deep"),
    "many signs": ("param a = " + "-" * 5000 + "1", "unexpected '-'"),
    "deep blocks": ("core pe " + "{ sram " * 5000, "brackets nest more than 50 deep"),
    "a number beyond all": ("param a = 1e999", "the number is too large"),
    "a number of many digits": ("param a = " + "9" * 100_000, "a name, number or unit has at most 200"),
    "a long name": ("param " + "a" * 100_000 + " = 1", "a name, number or unit has at most 200"),
    "a long path": ("param a = " + "b." * 50_000 + "b", "a name, number or unit has at most 200"),
    "a long unit": ("param a = 1 " + "m/" * 50_000 + "m", "a name, number or unit has at most 200"),
    "a long product": ("param a = 1" + " * 1 KiB" * 2000, "the number is too large"),
    "a text without end": ('param a = 1 from "' + "x y " * 30_000, "the text has no closing quote"),
    "parameters in a chain": (many(1000, lambda i: f"param a{i + 1} = a{i}"), "the file describes no system"),
    "systems": ("system { wafers = 1 of wse }\n" * 1000, "the name 'system' is repeated"),
    "many uses": (many(1000, lambda i: f'use "n7.wsc" as n{i}'), "more than 50 files are used"),
    "bytes that are no text": ("\0\1\2" * 1000, "unexpected character"),
    "too many bytes": ("#" * MAX_BYTES, "a spec has at most 150,000 bytes"),
    "many parts": (many(600, lambda i: f"die d{i} {{ cores = 3 x 3 of pe }}"), "a spec has at most 500 parts"),
    "copies": (
        wse2(more=many(600, lambda i: f"wafer w{i} = wse with {{ tile.pe.clock = 1 GHz }}")),
        "a spec has at most 500 parts",
    ),
    "rectangles": (
        wse2(more=PLACED + many(300, lambda i: f"place 1 x 1 of qe at {i % 100}, {i // 100}") + "\n}"),
        "die two: place: more than 200 rectangles",
    ),
    "many cores": (wse2("66 x 154 of pe", "10000000 x 10000000 of pe"), "wafer wse: 8,400,000,000,000,000 cores"),
    "many defects": (wse2("io west {", DRAWN.format("1e9")), "wafer wse: defects: the density kills more than 100,000"),
    "fields": (wse2("control =", many(1000, lambda i: f"f{i} = {i}") + "\ncontrol ="), "core pe has no field 'f0'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED_SOON.values(), ids=REFUSED_SOON)
def test_what_is_deep_long_or_large_is_refused_soon(
    text: str, message: str, tmp_path: Path
) -> None:
    found = refused(text if "wsc 1\n" in text else f"wsc 1\n{text}", tmp_path)
    assert found.startswith(message)
    assert len(found) < 300


READ_SOON = {
    "lets that double": "let a0 = 1\n" + many(50, lambda i: f"let a{i + 1} = a{i} + a{i}"),
    "conditions that double": "param a0 = 1\n"
    + many(50, lambda i: f"param a{i + 1} = a{i} + 0 * a{i} in 1..2 when a{i} + a{i} == 2"),
    "a long sum": "let a = 1" + " + 1" * 4000,
    "blanks": "constraint 1 " + " " * 100_000 + "<= 2",
    "copies of copies": "wafer w0 = wse with { }\n"
    + many(90, lambda i: f"wafer w{i + 1} = w{i} with {{ tile.pe.clock = 1 GHz }}"),
    "a long interval": "param a = 1 in 0..1e300 step 1e-300",
    "constraints": many(400, lambda i: f"constraint power(wse) <= {i + 99} kW"),
    "a long line": "# " + "x" * 100_000,
}


@pytest.mark.parametrize("more", READ_SOON.values(), ids=READ_SOON)
def test_what_is_long_and_right_is_read_soon(more: str, tmp_path: Path) -> None:
    began = process_time()
    assert of(wse2(more=more), tmp_path) == Outcome("design")
    assert process_time() - began < LIMIT_S


def test_a_file_of_50_mb_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "large.wsc", "wb") as file:
        file.truncate(50_000_000)
    began = process_time()
    error = checked(tmp_path / "large.wsc")
    assert process_time() - began < 0.5
    assert error.message == "a spec has at most 150,000 bytes"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.wsc": 'wsc 1\nuse "a.wsc" as a'}, "files use each other in a cycle"),
        (
            {"a.wsc": 'wsc 1\nuse "b.wsc" as b', "b.wsc": 'wsc 1\nuse "a.wsc" as a'},
            "files use each other in a cycle",
        ),
        ({"a.wsc": 'wsc 1\nuse "." as a'}, "no file '.' beside this one"),
        ({"a.wsc": 'wsc 1\nuse "b.wsc" as b', "b.wsc": "\0\1"}, "unexpected character"),
        ({"a.wsc": 'wsc 1\nuse "b.csv" as b', "b.csv": "\0\1"}, "'\0\1' cannot name a column"),
        (
            {"a.wsc": 'wsc 1\nuse "b.csv" as b', "b.csv": "a," * 500_000 + "a"},
            "a table has at most 100 columns",
        ),
    ],
)
def test_a_use_that_leads_nowhere_is_refused_soon(
    files: Files, message: str, tmp_path: Path
) -> None:
    began = process_time()
    found = outcome(files, tmp_path)
    assert process_time() - began < LIMIT_S
    assert (found.kind, found.message[: len(message)]) == ("refused", message)


def test_files_that_each_use_two_of_the_next_are_refused_soon(tmp_path: Path) -> None:
    files = {
        f"f{at}.wsc": f'wsc 1\nuse "f{at + 1}.wsc" as a\nuse "f{at + 1}.wsc" as b'
        for at in range(30)
    }
    found = outcome({**files, "f30.wsc": "wsc 1"}, tmp_path)
    assert found == Outcome("refused", f"more than {MAX_FILES} files are used")
