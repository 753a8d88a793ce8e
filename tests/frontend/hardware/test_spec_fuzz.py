"""Whatever the text, a spec gives Hardware or one UserError, never another exception."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.frontend.hardware import load_hardware
from wscc.frontend.hardware.files import SHIPPED
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware

TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|[0-9.]+|\s+|.', re.DOTALL)
SPLICES = ["", "}", "{", "=", "-1", "0", "1e308", "1e999", "x", "of", "GBs", "'", '"', "wse", "pe"]
TEXT = {name: (SHIPPED / f"{name}.wsc").read_text() for name in ("n7", "n5", "wse2", "wse3")}
OPEN = (
    TEXT["wse2"]
    .replace(
        "software csl",
        "param cap = 48 KiB in {32, 48} KiB\nparam n = 4 in pow2(4, 64) when cap <= 48 KiB\n"
        "param j = stitched in {stitched, other}\nsoftware csl",
        1,
    )
    .replace("48 KiB          from", "cap from")
    .replace(
        "system {",
        "wafer fast = wse with { tile.pe.clock = 1.2 GHz; west.ports = 3 * n }\n"
        "constraint power(fast) <= 30 kW\nsystem {",
    )
    .replace("joined stitched", "joined j")
    .replace("memory host", "defects { dead core 3, 5 of die 0, 2; dead die 1, 6 }\n  memory host")
    .replace("850000 ", "800000 ")
)
TEXT["open"] = OPEN
LEFT_OUT = r"^  (vector \{.*?\n  \}|(software|size|function|control|  reserved) +=[^\n]*)\n"
LEAN = re.sub(LEFT_OUT, "", OPEN, flags=re.MULTILINE | re.DOTALL).replace(
    "wafer wse {", "wafer wse {\n  size = 215 mm x 215 mm"
)
TEXT["lean"] = LEAN


def outcome(text: str | bytes, folder: Path) -> Hardware | UserError:
    """Bind the text as a file; any other exception than UserError escapes and fails the test."""
    path = folder / "spec.wsc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return load_hardware(str(path)).bind(physics={"power": lambda _: 1.0})
    except UserError as error:
        return error


def mutated(text: str, seed: int) -> str:
    """The text with one to three tokens or lines deleted, doubled, swapped or replaced."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        pieces = text.splitlines(keepends=True) if rng.random() < 0.3 else TOKEN.findall(text)
        i, j = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        match rng.randrange(5):
            case 0:
                pieces[i] = ""
            case 1:
                pieces[i] *= 2
            case 2:
                pieces[i], pieces[j] = pieces[j], pieces[i]
            case 3:
                pieces[i] = rng.choice(SPLICES)
            case _:
                pieces[i] = pieces[j]
        text = "".join(pieces)
    return text


@pytest.mark.parametrize("text", [OPEN, LEAN], ids=["open", "lean"])
def test_the_specs_of_this_test_are_right(text: str, tmp_path: Path):
    assert isinstance(outcome(text, tmp_path), Hardware)


@pytest.mark.parametrize("name", TEXT)
def test_a_mutated_spec_gives_hardware_or_a_user_error(name: str, tmp_path: Path):
    for seed in range(60):
        outcome(mutated(TEXT[name], seed), tmp_path)


@pytest.mark.parametrize("name", ["n7", "open"])
def test_a_truncated_spec_gives_hardware_or_a_user_error(name: str, tmp_path: Path):
    for end in range(0, len(TEXT[name]), 37):
        outcome(TEXT[name][:end], tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(garbage=st.binary(max_size=200))
def test_garbage_gives_a_user_error(garbage: bytes, tmp_path: Path):
    assert isinstance(outcome(garbage, tmp_path), UserError)
    assert isinstance(outcome(b"wsc 1\n" + garbage, tmp_path), UserError)


NUMBERS = [
    "0",
    "-1",
    "-0",
    "1e308",
    "1e999",
    "1e-320",
    "1 / 0",
    "1e308 * 1e308",
    "0.1",
    "1.5",
    "on",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_any_number_in_any_field_gives_hardware_or_a_user_error(number: str, tmp_path: Path):
    figures = list(re.finditer(r"(?<== )[0-9.]+|(?<= x )[0-9]+(?= )", OPEN))
    assert len(figures) > 40
    for figure in figures:
        outcome(OPEN[: figure.start()] + number + OPEN[figure.end() :], tmp_path)


@pytest.mark.parametrize(
    "nested",
    [
        "param a = " + "(" * 5000 + "1" + ")" * 5000,
        "param a = " + "-" * 5000 + "1",
        "param a = 1" + " + 1" * 4000,
        "param a = 1" + " * 1 KiB" * 200,
        "core pe " + "{ sram " * 5000,
        "param a0 = 1\n" + "\n".join(f"param a{i + 1} = a{i}" for i in range(3000)),
        "\n".join(f"wafer a{i + 1} = a{i} with {{ x = 1 }}" for i in range(3000)),
        "technology t { " + "; ".join(f"f{i + 1} = f{i}" for i in range(3000)) + " }",
        "param a = " + "9" * 5000,
        "param a = 1 in 0..1e300 step 1e-300",
        "param a = 1 in pow2(1e-300, 1e300)",
    ],
)
def test_deep_and_long_specs_give_a_user_error(nested: str, tmp_path: Path):
    assert isinstance(outcome("wsc 1\n" + nested, tmp_path), UserError)
