"""Each mistake in a spec is one message, to the letter, that points at the place."""

# ruff: noqa: E501  one mistake a line

from pathlib import Path

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.ir.errors import UserError

SPEC = """\
wsc 1
use "n7.wsc" as n7
param cap = 48 KiB in {32, 48} KiB
param stack = off in {off, on}
link seam { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
software csl { issue = 10 cycle; launch = 200 cycle }
core pe {
  technology = n7
  software = csl
  size = 200 um x 100 um
  clock = 1 GHz
  matrix { fp16 = 8 flop/cycle }
  vector { fp16 = 4 element/cycle }
  function = 30 cycle
  sram { capacity = cap; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 2 ns; multicast = yes }
  control = 0 pJ/cycle
}
die tile { cores = 10 x 20 of pe }
wafer wse {
  size = 10 mm x 10 mm
  dies = 4 x 5 of tile joined seam
  io west { ports = 1; bandwidth = 1 GB/s }
}
system { wafers = 1 of wse }
constraint area(tile) <= 858 mm2
"""

MISTAKES = [
    # Syntax.
    ("system {", "system (", "25:8", "unexpected '(', expected 'when', '{' or a name"),
    ("clock = 1 GHz", "clock = ", "11:11", "unexpected end of the line, expected '(', a name, a number or an operator"),
    ("clock = 1 GHz", "clock 1 GHz", "11:9", "unexpected '1', expected '.', '=', 'when', '{' or a name"),
    ("control = 0 pJ/cycle\n}", "control = 0 pJ/cycle\n", "26:16", "unexpected '(', expected 'when' or '{'"),
    ("clock = 1 GHz", "clock = 1 @", "11:13", "unexpected character '@'"),
    ("858 mm2", "858 mm^2", "26:32", "unexpected character '^', expected a power without a sign, as in mm2"),
    ('use "n7.wsc"', 'use "n7.wsc', "2:5", "the text has no closing quote"),
    ("constraint area(tile) <= 858 mm2", "constraint area(tile)", "26:22", "unexpected end of the line, expected a comparison"),
    # Versions and files.
    ("wsc 1", "wsc 2", "1:5", "version 2 of the language is not known, expected 1"),
    ("wsc 1\n", "\n", "2:1", "expected 'wsc 1', the version of the language, before anything else"),
    ("wsc 1\n", "wsc 1\nwsc 1\n", "2:5", "the version is repeated"),
    ("n7.wsc", "n8.wsc", "2:1", "no file 'n8.wsc' beside this one or among the shipped specs, did you mean 'n7.wsc'?"),
    # Units and dimensions.
    ("1 GB/s", "1 GBs", "23:36", "unknown unit 'GBs', did you mean 'GB/s'?"),
    ("16 B/cycle", "16 B/cicle", "15:33", "unknown unit 'cicle' in 'B/cicle', did you mean 'cycle'?"),
    ("858 mm2", "858 mm2/tile", "26:26", "unknown unit 'tile' in 'mm2/tile'; a division by a name has blanks around '/'"),
    ("capacity = cap", "capacity = 5 KB", "15:21", "unknown unit 'KB', did you mean 'KiB'?"),
    ("capacity = cap", "capacity = 5 ns", "15:21", "core pe: sram: capacity: expected bytes, as in '48 KiB', got seconds"),
    ("clock = 1 GHz", "clock = 1", "11:11", "core pe: clock: expected hertz, as in '1.1 GHz', got a plain number"),
    ("hop = 1 cycle", "hop = 1 mm", "16:53", "core pe: router: hop: expected cycles or seconds, as in '2 cycle' or '100 ns', got metres"),
    ("clock = 1 GHz", "clock = 1 GHz + 1 ns", "11:19", "cannot add seconds to hertz"),
    ("<= 858 mm2", "<= 858 mm", "26:12", "the two sides differ: square metres and metres"),
    # Values.
    ("200 um x", "-200 um x", "10:10", "core pe: size: must be more than zero"),
    ("clock = 1 GHz", "clock = 0 GHz", "11:11", "core pe: clock: must be more than zero"),
    ("ports = 1;", "ports = 1.5;", "23:21", "wafer wse: io west: ports: expected a whole number, got 1.5"),
    ("ports = 1;", "ports = 0;", "23:21", "wafer wse: io west: ports: expected 1 to 10,000,000, got 0"),
    ("share = 1.0", "share = 1.5", "5:21", "link seam: share: must be at most 1, got 1.5"),
    ("clock = 1 GHz", "clock = 1 GHz / 0", "11:19", "division by zero"),
    ("clock = 1 GHz", "clock = 1e999 GHz", "11:11", "the number is too large"),
    ("multicast = yes", "multicast = yeah", "16:87", "core pe: router: multicast: expected yes or no, got 'yeah'"),
    ("latency = 1 cycle;", "latency = 1 cycle; gap = 3 mm;", "22:3", "wafer wse: 4 rows of die tile need 17 mm, the wafer is 10 mm high"),
    # Names.
    ("latency =", "latancy =", "5:26", "link seam has no field 'latancy', did you mean 'latency'?"),
    ("sram {", "srma {", "15:3", "core pe has no block 'srma', did you mean 'sram'?"),
    ("core pe", "cores pe", "7:1", "unknown kind of part 'cores', did you mean 'core'?"),
    ("10 x 20 of pe", "10 x 20 of pee", "19:31", "unknown core 'pee', did you mean 'pe'?"),
    ("joined seam", "joined tile", "22:31", "expected a link, got die tile"),
    ("clock = 1 GHz", "clock = pe.sram.red / 1 cycle", "11:11", "core pe: sram has no field 'red', did you mean 'read'?"),
    ("clock = 1 GHz", "clock = size", "11:11", "core pe: size is not a single number"),
    ("clock = 1 GHz", "clock = capp", "11:11", "unknown name 'capp', did you mean 'cap'?"),
    ("area(tile)", "aera(tile)", "26:12", "unknown function 'aera', did you mean 'area'?"),
    ("core pe {", "core {", "7:1", "a core needs a name"),
    ("io west", "io wast", "23:3", "wafer wse: io is on one of north, south, east, west, got 'wast', did you mean 'west'?"),
    ("io west", "io", "23:3", "wafer wse: io needs a name, as in 'io west'"),
    ("system {", "system a {", "25:1", "a system has no name, got 'a'"),
    # Missing and repeated.
    ("  clock = 1 GHz\n", "", "7:1", "core pe: field clock is missing"),
    ("  matrix { fp16 = 8 flop/cycle }\n", "", "7:1", "core pe: block matrix is missing"),
    ("  size = 10 mm x 10 mm\n", "", "20:1", "wafer wse: field size is missing"),
    ("system { wafers = 1 of wse }", "system { }", "25:1", "system: field wafers is missing"),
    ("clock = 1 GHz", "clock = 1 GHz; clock = 2 GHz", "11:18", "core pe: field clock is repeated, first given on line 11"),
    ("param stack", "param cap", "4:7", "the name 'cap' is repeated, first given on line 3"),
    ("link seam", "link wse", "20:1", "the name 'wse' is repeated, first given on line 5"),
    ("matrix { fp16 = 8 flop/cycle }", "matrix { }", "12:3", "core pe: matrix: expected a figure for at least one of fp16, bf16, fp32, fp8, int8"),
    ("matrix { fp16", "matrix { fp8", "7:1", "core pe: technology n7 gives no multiply_add energy for fp8"),
    # What depends on itself.
    ("clock = 1 GHz", "clock = 2 * hertz; hertz = clock", "11:30", "pe.clock depends on itself: pe.clock -> pe.hertz -> pe.clock"),
    ("param stack = off", "param a = b\nparam b = a\nparam stack = off", "4:11", "b depends on itself: b -> a -> b"),
    ("param stack = off", "param a = 1 when a == 1\nparam stack = off", "4:18", "a depends on itself: a -> a"),
    ("link seam {", "link seam when pe.clock > 1 GHz {", "5:16", "a condition names parameters only"),
    ("link seam {", "link seam when 2 * stick > 1 {", "5:20", "a condition names parameters only"),
    # Parameters.
    ("48 KiB in", "40 KiB in", "3:7", "parameter cap: the default is not in {32, 48} KiB"),
    ("{32, 48} KiB", "{32, 48} ns", "3:24", "the two sides differ: bytes and seconds"),
    ("off in {off, on}", "off in 1..3", "4:22", "the default is a word, the domain has a number"),
    ("param stack", "param n = 4 in 5..3\nparam stack", "4:16", "the domain 5..3 is empty: its ends are reversed"),
    ("io west {", "io west when stack == onn {", "23:25", "stack is never 'onn', expected one of {off, on}, did you mean 'on'?"),
    # What must fit.
    ("10 mm x 10 mm", "7 mm x 10 mm", "22:3", "wafer wse: 4 rows of die tile need 8 mm, the wafer is 7 mm high"),
    ("10 mm x 10 mm", "10 mm x 9 mm", "22:3", "wafer wse: 5 columns of die tile need 10 mm, the wafer is 9 mm wide"),
    ("of pe }", "of pe; size = 1 mm x 3 mm }", "19:12", "die tile: 10 rows of core pe need 2 mm, the die is 1 mm high"),
    ("of pe }", "of pe; spares = 20 column }", "19:35", "die tile: no cores are left beside the spares"),
    ("of pe }", "of pe; spares = 2 }", "19:44", "die tile: spares: expected rows or columns, as in '1 column', got a plain number"),
    ("io west {", "usable = 41 x 100\n  io west {", "23:3", "wafer wse: usable 41 x 100 exceeds the 40 x 100 cores made"),
    ("io west {", "cores_in_use = 4001\n  io west {", "23:3", "wafer wse: 4,001 cores in use exceed the 4,000 made and alive"),
    ("io west {", "defects { dead die 4, 0 }\n  io west {", "23:13", "wafer wse has no die 4, 0: it has 4 x 5, counted from zero"),
    ("io west {", "defects { dead core 3, 20 of die 0, 0 }\n  io west {", "23:13", "die tile has no core 3, 20: it has 10 x 20, counted from zero"),
    ("io west {", "defects { dead die 1, 0; dead die 1, 0 }\n  io west {", "23:3", "wafer wse: die 1, 0 is named dead twice"),
    ("10 x 20 of pe }\nwafer wse {\n  size = 10 mm x 10 mm", "1000000 x 20 of pe }\nwafer wse {\n  size = 1000 m x 1000 m", "22:3", "wafer wse: 400,000,000 cores, expected at most 10,000,000"),
    ("4 x 5 of tile joined seam", "1 x 1 of tile joined seam; defects { dead die 0, 0 }", "22:3", "wafer wse: no core that programs can use is alive"),
    ("io west {", "usable = 10 x 20; defects { dead die 0, 0 }\n  io west {", "22:3", "wafer wse: no core that programs can use is alive"),
    ("io west {", "memory m { kind = external; via = east; capacity = 1 TB }\n  io west {", "23:31", "wafer wse: memory m: via east, but the wafer has no io east"),
    ("capacity = cap", "capacity = cap; reserved = cap", "15:26", "core pe: the SRAM's reserved bytes leave nothing of its capacity"),
    ("clock = 1 GHz", "dead die 0, 0; clock = 1 GHz", "11:3", "core pe: dead cores and dies stand in a wafer's 'defects { .. }'"),
    ("clock = 1 GHz", "clock = 1e-320 GHz", "5:36", "the number is too large"),
    # Not built yet.
    ("kind = circuit", "kind = wormhole", "16:19", "core pe: router: kind: wormhole is not built yet, expected circuit"),
    ("of pe }", "of pe; memory m { kind = stacked } }", "19:35", "die tile: stacked memory is not built yet; memory of kind external, on a wafer, is"),
    ("share = 1.0;", "share = 1.0; known_good = yes;", "5:39", "link seam: known_good: choosing known-good dies is not built yet, expected no"),
    ("io west {", "defects { seed = 7 }\n  io west {", "23:13", "wafer wse: defects: drawing defects from a density is not built yet; name the dead cores and dies"),
    ("1 of wse", "2 of wse", "25:10", "system: several wafers are not built yet, expected 1"),
    ("of wse }", "of wse; wafers = 1 of wse }", "25:29", "system: more than one kind of wafer in a system is not built yet"),
    ("area(tile) <= 858 mm2", "yield(wse) >= 0.9", "26:12", "constraint uses yield(), which is not built yet"),
    ("area(tile) <= 858 mm2", "power(wse) <= 1 kW", "26:12", "constraint uses power(), which is not built yet"),
    ("system {", "gpu a { }\nsystem {", "25:1", "a GPU is not built yet"),
    ("clock = 1 GHz", "clock = area(tile)", "11:11", "area() may be used in constraints only"),
    # Copies.
    ("system {", "wafer w = wse with { tile.pe.klock = 1 GHz }\nsystem {", "25:22", "core pe has no field 'klock', did you mean 'clock'?"),
    ("system {", "wafer w = wse with { tail.pe.clock = 1 GHz }\nsystem {", "25:22", "wafer wse has no part 'tail', did you mean 'tile'?"),
    ("system {", "wafer w = tile with { x = 1 }\nsystem {", "25:11", "expected a wafer, got die tile"),
    ("system {", "wafer v = w with { x = 1 }\nwafer w = v with { x = 1 }\nsystem {", "26:11", "v depends on itself: v -> w -> v"),
    ("clock = 1 GHz", "pe.clock = 1 GHz", "11:3", "expected the name of a field, got 'pe.clock': a dotted name belongs in a copy"),
]  # fmt: skip


def refused(text: str, folder: Path) -> str:
    path = folder / "wafer.wsc"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_hardware(path).bind()
    return str(caught.value).replace(str(path), "wafer.wsc")


def test_the_spec_of_these_tests_is_right(tmp_path: Path):
    (tmp_path / "wafer.wsc").write_text(SPEC)
    load_hardware(tmp_path / "wafer.wsc").bind()


@pytest.mark.parametrize(("right", "wrong", "place", "message"), MISTAKES)
def test_a_mistake_is_named_where_it_is(
    right: str, wrong: str, place: str, message: str, tmp_path: Path
):
    assert right in SPEC
    error = refused(SPEC.replace(right, wrong, 1), tmp_path)
    assert error == f"wafer.wsc:{place}: error: {message}"
