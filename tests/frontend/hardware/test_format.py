"""How a spec is laid out: what is kept, what lines up, where blocks break."""

import re
from pathlib import Path

import pytest
from wscc.frontend.hardware.files import SHIPPED
from wscc.frontend.hardware.format import WIDTH, format_spec, meaning
from wscc.frontend.hardware.parse import parse
from wscc.ir.errors import UserError


def laid(text: str) -> str:
    """The text laid out, which a second time stays as it is."""
    once = format_spec(text, "a.wsc")
    assert format_spec(once, "a.wsc") == once
    return once


def lines(*written: str) -> str:
    return "".join(f"{line}\n" for line in written)


@pytest.mark.parametrize("text", ["", "\n\n", " \t", "\r\n"])
def test_nothing_stays_nothing(text: str) -> None:
    assert laid(text) == ""


def test_statements_take_a_line_each_and_blocks_are_indented() -> None:
    text = "wsc 1;param a=1\ncore pe{\nclock=1 GHz;sram{\ncapacity=1 KiB\n}}\nsystem{ }"
    assert laid(text) == lines(
        "wsc 1",
        "param a = 1",
        "core pe {",
        "  clock = 1 GHz",
        "  sram {",
        "    capacity = 1 KiB",
        "  }",
        "}",
        "system { }",
    )


def test_no_more_than_one_blank_line_stays_and_none_at_the_ends() -> None:
    text = "\n\nwsc 1\n\n\n\nlink a {\n\n\nshare = 1\n \n\t\nenergy = 2 pJ/bit\n\n}\n\n\n"
    assert laid(text) == lines(
        "wsc 1", "", "link a {", "  share = 1", "", "  energy = 2 pJ/bit", "}"
    )


def test_comments_stay_where_they_are() -> None:
    text = """\
    # above
wsc 1 # behind
link a { # behind a brace
# in front
share = 1; # behind a semicolon

   #last, with 'quotes" and { braces
} # behind the end

# at the end"""
    assert laid(text) == lines(
        "# above",
        "wsc 1  # behind",
        "link a {  # behind a brace",
        "  # in front",
        "  share = 1  # behind a semicolon",
        "",
        "  #last, with 'quotes\" and { braces",
        "}  # behind the end",
        "",
        "# at the end",
    )


def test_a_block_of_comments_alone_keeps_them() -> None:
    assert laid("core pe { # one\n}\ncore qe {\n# two\n}") == lines(
        "core pe {  # one", "}", "core qe {", "  # two", "}"
    )


def test_operators_stand_apart_and_signs_do_not() -> None:
    text = "param a=-1+2*( - b-3 KiB/4)/max( a ,- 2 )in{1 ,-2}KiB when(a)>=b.c"
    assert laid(text) == lines(
        "param a = -1 + 2 * (-b - 3 KiB / 4) / max(a, -2) in {1, -2} KiB when (a) >= b.c"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90 .. 154 step 16", "90..154 step 16"),
        ("-1 .. f( 2*a )", "-1..f(2 * a)"),
        ("0.5..4 TB", "0.5..4 TB"),
        ("2*a..4*b", "2 * a .. 4 * b"),
        ("1..2 step a*b", "1..2 step a * b"),
        ("pow2 ( 4,64 ) KiB", "pow2(4, 64) KiB"),
    ],
)
def test_domains_are_written_in_one_way(text: str, expected: str) -> None:
    assert laid(f"param a = 1 in {text}") == f"param a = 1 in {expected}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size=1 mm x 2 mm", "size = 1 mm x 2 mm"),
        ("size=12x7", "size = 12 x 7"),
        ("dies=12x 7 of tile joined seam", "dies = 12 x 7 of tile joined seam"),
        ("place 4x 7 of decode at 8 ,0", "place 4 x 7 of decode at 8, 0"),
        ("dead core 3,5 of die 0 ,2", "dead core 3, 5 of die 0, 2"),
        ("a . b=1 e3", "a.b = 1 e3"),
        ("clock=1e3 Hz", "clock = 1e3 Hz"),
        ('a=b from"c  d"', 'a = b from "c  d"'),
        ("io west when a==b{ports=1}", "io west when a == b { ports = 1 }"),
    ],
)
def test_words_of_an_item_stand_apart(text: str, expected: str) -> None:
    assert laid(f"wafer w {{\n{text}\n}}") == lines("wafer w {", f"  {expected}", "}")


def test_neighbouring_fields_line_up_and_others_do_not() -> None:
    text = """\
core pe {
  technology = n7
  clock = 1.1 GHz from "a"
  size = 228 um x 170 um from "b"
  matrix { fp16 = 8 flop/cycle }

  control = 1 pJ/cycle from "c"
  # a comment ends a run
  area { other = 1 mm2 }
  io west { ports = 12 }
  sram {
    read = 1 B/cycle
    capacity = 1 KiB
  }
}"""
    assert laid(text) == lines(
        "core pe {",
        "  technology = n7",
        '  clock      = 1.1 GHz         from "a"',
        '  size       = 228 um x 170 um from "b"',
        "  matrix     { fp16 = 8 flop/cycle }",
        "",
        '  control = 1 pJ/cycle from "c"',
        "  # a comment ends a run",
        "  area { other = 1 mm2 }",
        "  io west { ports = 12 }",
        "  sram {",
        "    read     = 1 B/cycle",
        "    capacity = 1 KiB",
        "  }",
        "}",
    )


def test_blocks_line_up_with_fields_only_where_they_fit_then() -> None:
    block = f"sram {{ {'; '.join(f'f{at} = 1 cycle' for at in range(6))} }}"
    assert len(f"  {block}") == 93
    assert laid(lines("core pe {", "field = n7", "a = 1", block, "}")) == lines(
        "core pe {", "  field = n7", "  a     = 1", f"  {block.replace('sram', 'sram ')}", "}"
    )
    assert laid(lines("core pe {", "a_long_field = n7", "a = 1", block, "}")) == lines(
        "core pe {", "  a_long_field = n7", "  a            = 1", f"  {block}", "}"
    )


def test_parameters_line_up() -> None:
    text = lines(
        "param a = 1 in {1, 2}",
        "param bcd = 16 KiB in {1, 2} KiB",
        'let e = 1 from "f"',
        'let gh = 12 from "i"',
    )
    assert laid(text) == lines(
        "param a   = 1      in {1, 2}",
        "param bcd = 16 KiB in {1, 2} KiB",
        'let e  = 1  from "f"',
        'let gh = 12 from "i"',
    )


def test_comments_behind_neighbours_line_up_where_there_is_room() -> None:
    long = "# " + "x" * 80
    text = lines(
        "param a = 1 # one",
        "param bc = 12 # two",
        "param d = 3",
        "",
        "param e = 12345678 # e",
        f"param f = 1 {long}",
    )
    assert laid(text) == lines(
        "param a  = 1   # one",
        "param bc = 12  # two",
        "param d  = 3",
        "",
        "param e = 12345678  # e",
        f"param f = 1  {long}",
    )


def test_a_block_on_one_line_stays_on_one_while_it_fits() -> None:
    fitting = f"link seam {{ latency = 1 cycle; name = {'a' * 60} }}"
    too_wide = fitting.replace(" }", "a" * (WIDTH - len(fitting)) + "a }")
    assert laid(fitting) == fitting + "\n"
    assert laid(too_wide).splitlines()[:2] == ["link seam {", "  latency = 1 cycle"]
    assert laid(fitting.replace(" }", "\n}")).count("\n") == 4


def test_only_the_block_that_is_too_wide_breaks() -> None:
    inner = f"sram {{ a = {'b' * 40} }}"
    text = f"core pe {{ {inner}; {inner.replace('sram', 'area')} }}"
    assert laid(text) == lines("core pe {", f"  {inner}", f"  {inner.replace('sram', 'area')}", "}")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.wsc")), ids=lambda path: path.stem)
def test_a_shipped_spec_is_laid_out_and_is_so_again_without_its_blanks(path: Path) -> None:
    text = path.read_text("utf-8")
    ragged = re.sub(r'("[^"\n]*"|#[^\n]*)|[ ]{2,}', lambda found: found[1] or " ", text)
    assert meaning(parse(ragged, "a.wsc")) == meaning(parse(text, "a.wsc"))
    assert laid(ragged) == text


def test_what_is_no_spec_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"^a\.wsc:2:10: error: unexpected end of the file"):
        format_spec("wsc 1\ncore pe {\n", "a.wsc")
