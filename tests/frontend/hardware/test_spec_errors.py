"""Each mistake in a spec is one message, to the letter, that points at the place."""

# ruff: noqa: E501  one mistake a line

from collections.abc import Callable

import pytest
from wscc.ir.hardware import Hardware

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
  vector { fp16 = 1 element/cycle }
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
    ("area(tile) <= 858 mm2", "pe.sram.capacity.x <= 3 B", "26:12", "core pe: sram: capacity has no fields"),
    ("io west {", "io west when stack == 3 {", "23:16", "the two sides differ: a word and a number"),
    ("core pe {", "core {", "7:1", "a core needs a name"),
    ("io west", "io wast", "23:3", "wafer wse: io is on one of north, south, east, west, got 'wast', did you mean 'west'?"),
    ("io west", "io", "23:3", "wafer wse: io needs a name, as in 'io west'"),
    ("system {", "system a {", "25:1", "a system has no name, got 'a'"),
    # Missing and repeated.
    ("  clock = 1 GHz\n", "", "7:1", "core pe: field clock is missing"),
    ("  matrix { fp16 = 8 flop/cycle }\n", "", "7:1", "core pe: block matrix is missing"),
    ("  size = 10 mm x 10 mm\n", "", "20:1", "wafer wse: field size is missing"),
    ("system { wafers = 1 of wse }", "system { }", "25:1", "system: expected one of wafers and nodes, got neither"),
    ("clock = 1 GHz", "clock = 1 GHz; clock = 2 GHz", "11:18", "core pe: field clock is repeated, first given on line 11"),
    ("param stack", "param cap", "4:7", "the name 'cap' is repeated, first given on line 3"),
    ("link seam", "link wse", "20:1", "the name 'wse' is repeated, first given on line 5"),
    ("matrix { fp16 = 8 flop/cycle }", "matrix { }", "12:3", "core pe: matrix: expected a figure for at least one of fp16, bf16, fp32, fp8, int8"),
    ("core pe {\n  technology = n7", "technology old { multiply_add { fp32 = 1 pJ }; sram { read = 1 pJ/B; write = 1 pJ/B }; router = 0 pJ/bit; wire = 0 pJ/bit/mm; leakage = 0 W/mm2 }\ncore pe {\n  technology = old", "8:1", "core pe: technology old gives no multiply_add energy for fp16"),
    # What depends on itself.
    ("clock = 1 GHz", "clock = 2 * hertz; hertz = clock", "11:30", "pe.clock depends on itself: pe.clock -> pe.hertz -> pe.clock"),
    ("param stack = off", "param a = b\nparam b = a\nparam stack = off", "4:11", "b depends on itself: b -> a -> b"),
    ("param stack = off", "param a = 1 when a == 1\nparam stack = off", "4:18", "a depends on itself: a -> a"),
    ("link seam {", "link seam when pe.clock > 1 GHz {", "5:16", "a condition names parameters and lets only"),
    ("link seam {", "link seam when 2 * stick > 1 {", "5:20", "a condition names parameters and lets only"),
    # Parameters.
    ("48 KiB in", "40 KiB in", "3:7", "parameter cap: the default is not in {32, 48} KiB"),
    ("{32, 48} KiB", "{32, 48} ns", "3:24", "the two sides differ: bytes and seconds"),
    ("off in {off, on}", "off in 1..3", "4:22", "the default is a word, the domain has a number"),
    ("param stack", "param n = 4 in 5..3\nparam stack", "4:16", "the domain 5..3 is empty: its ends are reversed"),
    ("io west {", "io west when stack == onn {", "23:25", "stack is never 'onn', expected one of {off, on}, did you mean 'on'?"),
    # What must fit.
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
    ("clock = 1 GHz", "dead die 0, 0; clock = 1 GHz", "11:3", "core pe: dead cores, dies and links stand in a wafer's 'defects { .. }'"),
    ("clock = 1 GHz", "clock = 1e-320 GHz", "11:11", "core pe: clock: the number is too small"),
    # Memory, networks, joints, systems.
    ("of pe }", "of pe; memory m { kind = stacked } }", "19:35", "die tile: memory m: field capacity is missing"),
    ("of pe }", "of pe; memory m { kind = stacked; capacity = 1 GB } }", "19:35", "die tile: memory m: field bandwidth is missing"),
    ("of pe }", "of pe; memory m { kind = external; capacity = 1 GB; bandwidth = 1 GB/s } }", "19:53", "die tile: memory m: external memory stands in a wafer or node"),
    ("of pe }", "of pe; memory m { kind = beside; via = west; capacity = 1 GB; bandwidth = 1 GB/s } }", "19:53", "die tile: memory m: only external memory is via an edge"),
    ("io west {", "memory m { kind = beside; capacity = 1 GB; bandwidth = 1 GB/s }\n  io west {", "23:21", "wafer wse: memory m: beside memory stands in a die"),
    ("io west {", "memory m { kind = external; capacity = 1 TB }\n  io west {", "23:21", "wafer wse: memory m: external memory needs 'via', an edge with io"),
    ("of pe }", "of pe; memories = 2 of dram }", "19:51", "unknown memory 'dram'"),
    ("of pe }", "of pe; memories = 2 of pe }", "19:51", "expected a memory, got core pe"),
    ("router {", "router = mesh\n  router {", "16:12", "unknown network 'mesh'"),
    ("core pe {", "network mesh { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = no }\ncore pe {\n  router = mesh", "18:3", "core pe: the router is given twice, as a network and as a block"),
    ("share = 1.0", "share = 1.0; bandwidth = 1 TB/s", "5:1", "link seam: expected one of share and bandwidth, got both"),
    ("share = 1.0; ", "", "5:1", "link seam: expected one of share and bandwidth, got neither"),
    ("share = 1.0;", "share = 1.0; known_good = maybe;", "5:39", "link seam: known_good: expected yes or no, got 'maybe'"),
    ("system { wafers = 1 of wse }", "link far { share = 1.0; latency = 1 us; energy = 1 pJ/bit }\nsystem { wafers = 2 of wse joined far }", "25:1", "link far: a link to a switch or between wafers needs a bandwidth, not a share"),
    ("1 of wse", "2 of wse; switch = nv", "25:38", "unknown switch 'nv'"),
    ("system {", "switch nv { ports = 8; bandwidth = 1 TB/s; latency = 1 us }\nsystem { switch = nv;", "26:10", "system: a switch needs a link to it, as in 'wafers = 16 of wse joined fabric'"),
    ("of wse }", "of wse; wafers = 1 of wse }", "25:29", "system: field wafers is repeated, first given on line 25; all wafers of a system are of one kind"),
    ("of wse }", "of wse; lifetime = 4 year }", "25:1", "system: field electricity is missing"),
    ("of wse }", "of wse; nodes = 2 of wse }", "25:42", "expected a node, got wafer wse"),
    ("system {", "gpu a { }\nsystem {", "25:1", "unknown kind of part 'gpu'"),
    # Places, defects, physics.
    ("of pe }", "of pe; place 2 x 3 of pe at 9, 0 }", "19:35", "die tile: 'place 2 x 3 of pe at 9, 0' reaches beyond its cores"),
    ("of pe }", "of pe; place 2 x 3 of pe at 0, 0; place 1 x 1 of pe at 1, 2 }", "19:62", "die tile: 'place 1 x 1 of pe at 1, 2' overlaps what is placed before"),
    ("io west {", "place 1 x 1 of tile at 4, 0\n  io west {", "23:3", "wafer wse: 'place 1 x 1 of tile at 4, 0' reaches beyond its dies"),
    ("io west {", "place 1 x 1 of pe at 0, 0\n  io west {", "23:18", "expected a die, got core pe"),
    ("clock = 1 GHz", "clock = 1 GHz; place 1 x 1 of pe at 0, 0", "11:18", "core pe: other cores are placed in a die, other dies in a wafer"),
    ("io west {", "defects { seed = 7 }\n  io west {", "23:3", "wafer wse: defects: field density is missing"),
    ("io west {", "defects { density = 1 defect/cm2 }\n  io west {", "23:3", "wafer wse: defects: defects drawn from a density need a seed"),
    ("io west {", "defects { dead link 0, 0 north }\n  io west {", "23:13", "die 0, 0 has no neighbour in the north"),
    ("io west {", "defects { dead link 0, 19 east of die 0, 0 }\n  io west {", "23:13", "core 0, 19 has no neighbour in the east"),
    ("io west {", "defects { dead link 0, 0 up }\n  io west {", "23:13", "expected 'dead die 11, 6', 'dead core 3, 5 of die 0, 2', 'dead link 3, 5 east', of a die, or 'dead link 3, 5 east of die 0, 2', of a core"),
    ("io west {", "spares = 4 row\n  io west {", "23:3", "wafer wse: no dies are left beside the spares"),
    ("area(tile) <= 858 mm2", "yeild(wse) >= 0.9", "26:12", "unknown function 'yeild', did you mean 'yield'?"),
    ("area(tile) <= 858 mm2", "cost(pe) <= 1 USD", "26:17", "cost() takes a die, wafer or node, system, got a core"),
    ("area(tile) <= 858 mm2", "area(1) <= 858 mm2", "26:12", "area() takes a core, die, wafer or node, system, by name"),
    ("area(tile) <= 858 mm2", "area(tile) == 858 mm2", "26:12", "a constraint compares with <=, >=, < or >, not =="),
    ("clock = 1 GHz", "clock = area(tile)", "11:11", "area() may be used in constraints only"),
    # Copies.
    ("system {", "wafer w = wse with { tile.pe.klock = 1 GHz }\nsystem {", "25:22", "core pe has no field 'klock', did you mean 'clock'?"),
    ("system {", "wafer w = wse with { tail.pe.clock = 1 GHz }\nsystem {", "25:22", "wafer wse has no part 'tail', did you mean 'tile'?"),
    ("system {", "wafer w = tile with { x = 1 }\nsystem {", "25:11", "expected a wafer, got die tile"),
    ("system {", "wafer v = w with { x = 1 }\nwafer w = v with { x = 1 }\nsystem {", "26:11", "v depends on itself: v -> w -> v"),
    ("clock = 1 GHz", "pe.clock = 1 GHz", "11:3", "expected the name of a field, got 'pe.clock': a dotted name belongs in a copy"),
    ("system {", "wafer w = wse with { io east { ports = 1 } }\nsystem {", "25:22", "a copy changes fields only, as in 'with { tile.pe.clock = 1.3 GHz }'"),
]  # fmt: skip

MISFITS = [
    ("10 mm x 10 mm", "7 mm x 10 mm", "wafer wse: the height of its dies and gaps"),
    ("10 mm x 10 mm", "10 mm x 9 mm", "wafer wse: the width of its dies and gaps"),
    ("of pe }", "of pe; size = 2.5 mm x 1.9 mm }", "die tile: the width of its cores"),
    ("200 um x 100 um", "200 um x 50 um", "core pe: the area of its parts"),
    ("energy = 0.2 pJ/bit }", "energy = 0.2 pJ/bit; gap = 0.6 mm }", "wafer wse: the width of its dies and gaps"),
]  # fmt: skip
"""Designs that cannot be made, which is for the physics to say."""


def test_the_spec_of_these_tests_is_right(bind: Callable[..., Hardware]):
    assert all(constraint.holds for constraint in bind(SPEC).constraints)


@pytest.mark.parametrize(("right", "wrong", "place", "message"), MISTAKES)
def test_a_mistake_is_named_where_it_is(
    right: str, wrong: str, place: str, message: str, refused: Callable[..., str]
):
    assert right in SPEC
    error = refused(SPEC.replace(right, wrong, 1))
    assert error == f"spec.wsc:{place}: error: {message}"


@pytest.mark.parametrize(("right", "wrong", "broken"), MISFITS)
def test_what_does_not_fit_is_a_design_that_breaks_a_limit(
    right: str, wrong: str, broken: str, bind: Callable[..., Hardware]
):
    assert right in SPEC
    constraints = bind(SPEC.replace(right, wrong, 1)).constraints
    assert [c.text for c in constraints if c.implied and not c.holds] == [broken]
