"""Texts of .wsc files drawn from the language: most of each is right, and some of it is not.

The parts and fields are those of the tables that specs are read by, so a new field is drawn at
once. fuzz_specs.py and the tests read the texts.
"""

import random
from collections.abc import Callable, Sequence, Set

from hypothesis import strategies as st
from wscc.backend.physics import PHYSICS
from wscc.frontend.hardware import fields
from wscc.frontend.hardware.fields import PARTS, SYSTEM, BlockSpec, FieldSpec, FieldType

MOST_FAULTS = 4
PIECES = 300
"""Of a text, about: those that are wrong are drawn from as many."""

NAMES = {
    "technology": ("n7", "own"),
    "software": ("csl",),
    "network": ("mesh",),
    "memory": ("hbm", "dram"),
    "core": ("pe", "qe"),
    "link": ("seam", "fabric"),
    "switch": ("nv",),
    "die": ("tile", "big"),
    "wafer": ("wse",),
    "node": ("dgx",),
}
"""The parts of a text, by kind, in the order in which they stand."""

NEEDED = ("n7", "pe", "mesh", "seam", "tile", "wse")
"""Those that every text has; n7 is in a file of its own."""

VALUES = {
    ("core", "technology"): ("n7",),
    ("core", "size"): ("200 um x 100 um", "1 mm x 1 mm"),
    ("core", "router"): ("mesh",),
    ("link", "bandwidth"): ("2 TB/s", "100 GB/s"),
    ("link", "share"): ("1.0", "0.5"),
    ("link", "latency"): ("100 ns", "rows * 1 ns"),
    ("link", "gap"): ("0.8 mm", "0 mm"),
    ("switch", "latency"): ("100 ns",),
    ("memory", "latency"): ("100 ns",),
    ("memory", "bandwidth"): ("1 TB/s", "rows * 100 GB/s"),
    ("die", "size"): ("17 mm x 30 mm", "rows * 10 mm x 20 mm"),
    ("die memory", "kind"): ("stacked", "beside"),
    ("die memory", "latency"): ("100 ns",),
    ("wafer memory", "kind"): ("external",),
    ("wafer memory", "via"): ("west",),
    ("wafer memory", "latency"): ("100 ns",),
    ("memory", "kind"): ("stacked", "beside"),
    ("wafer", "size"): ("215 mm x 215 mm",),
    ("wafer", "usable"): ("2 x 3",),
    ("wafer", "cores_in_use"): ("6", "rows * 2"),
    ("node", "cores_in_use"): ("6",),
    ("sram", "capacity"): ("48 KiB", "rows * 32 KiB"),
    ("sram", "reserved"): ("2 KiB", "1e3 B"),
}
"""Fields that would rarely fit the others if they were drawn by type."""

ALWAYS = (
    ("core", "router"), ("link", "bandwidth"), ("matrix", "fp16"), ("matrix", "fp32"),
    ("vector", "fp16"), ("vector", "fp32"), ("multiply_add", "fp16"), ("multiply_add", "fp32"),
    ("memory", "bandwidth"), ("die memory", "bandwidth"), ("wafer memory", "bandwidth"),
    ("wafer memory", "via"), ("defects", "density"), ("defects", "seed"),
)  # fmt: skip
"""Fields that may be left out, and that most texts need."""

NUMBERS = ("1", "2", "3", "0.5", "12.5", "48", "1e3", "0.25")
WRONG_NUMBERS = (
    "0",
    "-1",
    "1e999",
    "1e308 * 1e308",
    "1 / 0",
    "1e-320",
    "9" * 400,
    "1.5",
    "on",
    "1e30",
)
UNITS = (
    "KiB", "GB/s", "B/cycle", "bit/cycle", "flop/cycle", "cycle", "ns", "mm", "mm2", "um2/bit", "W",
    "pJ/bit", "GHz", "USD", "year", "kWh", "row", "column", "defect/cm2", "GBs", "KB", "m9",
    "mm/mm",
)  # fmt: skip
WRONG_DOMAINS = (
    " in {1, 2} KiB", " in 4..1", " in pow2(3, 5)", " in {on}", " in {}",
    " in 0..1e300 step 1e-300",
)  # fmt: skip
DEAD = (
    "dead die 0, 1", "dead core 0, 0 of die 0, 0", "dead link 0, 0 east",
    "dead link 0, 0 east of die 0, 0",
)  # fmt: skip
WRONG_DEAD = (
    "dead core 9, 9 of die 0, 0", "dead link 0, 0 up", "dead core 0, 0", "dead wafer 0, 0",
    "dead die 0.5, 1e999", "dead die 9, 9",
)  # fmt: skip
WRONG_ITEMS = ("dead core 0, 0", "place 1 x 1 of pe at 0, 0", "nothing = 1", "x { }", "= 1", "{")
WORDS = ("on", "off", "yes", "no", "west", "x", "of", "joined", "circuit", "nothing", "in")
PLAIN = ("ratio", "side", "deep.er", "macros.area(1)", "pe.sram.capacity / 1 KiB", "sqrt(4)")
CALLS = ("max", "min", "sqrt", "floor", "ceil", "round", "log2", "area", "power", "macros.figure")
COMPARISONS = ("<=", ">=", "<", ">", "==", "!=")


def misspelt(name: str, at: int) -> str:
    """The name with two letters swapped, one doubled, or one left out."""
    at, kind = at % len(name), at % 3
    changed = {
        0: name[:at] + name[at : at + 2][::-1] + name[at + 2 :],
        1: name[:at] + name[at] + name[at:],
        2: name[:at] + name[at + 1 :],
    }[kind]
    return changed if changed not in ("", name) else f"{name}{name[-1]}"


class Writer:
    """Writes one text; the pieces whose numbers are in `faults` are wrong."""

    def __init__(self, draw: random.Random, faults: Set[int]) -> None:
        self._draw = draw
        self._faults = faults
        self._pieces = 0
        self._names = {
            kind: [name for name in names if name in NEEDED or draw.random() < 0.3]
            for kind, names in NAMES.items()
        }

    def text(self) -> str:
        """A whole text: what it declares, uses and asks for."""
        lines = ["wsc 1", 'use "n7.wsc" as n7', *self.some(self.use, 1)]
        lines += ["param rows = 2 in {1, 2, 3}", "param word = on in {on, off}"]
        lines += [self.parameter(name) for name in ("ratio", "deep") if self.often()]
        lines += [self.let(name) for name in ("side", "derived") if self.often()]
        lines += [
            self.part(kind, name)
            for kind, names in self._names.items()
            for name in names
            if name != "n7"
        ]
        lines += [*self.some(self.copy, 1), self.system(), *self.some(self.constraint, 3)]
        if self.wrong():
            lines.remove(self.one_of(lines))
        if self.wrong():
            lines.append(self.one_of(lines))
        return self.one_of(("\n", "\n", "\r\n", " ; ")).join(lines) + self.one_of(("\n", ""))

    def wrong(self) -> bool:
        self._pieces += 1
        return self._pieces in self._faults

    def often(self) -> bool:
        return self._draw.random() < 0.25

    def one_of(self, choices: Sequence[str]) -> str:
        return self._draw.choice(choices)

    def some(self, make: Callable[[], str], most: int) -> list[str]:
        return [make() for _ in range(self._draw.randint(0, most))]

    def name(self, name: str) -> str:
        if not self.wrong():
            return name
        return self.one_of(
            (misspelt(name, self._draw.randrange(30)), "x", "nothing", f"n7.{name}", f"{name}.x")
        )

    def named(self, kind: str) -> str:
        """The name of a part of a kind, one of the text's where it has any."""
        return self.name(self.one_of(self._names[kind] or NAMES[kind]))

    def use(self) -> str:
        if self.wrong():
            return f'use "{self.one_of(("nowhere.wsc", "spec.wsc", "", ".", "n7"))}" as a'
        return f'use "{self.one_of(("n5.wsc", "wse2.wsc"))}" as {self.name("a")}'

    def parameter(self, name: str) -> str:
        domains = (" in {1, 2, 4}", " in pow2(1, 64)", " in 1..4", " in 1..rows * 4 step 1", "")
        domain = self.one_of(WRONG_DOMAINS if self.wrong() else domains)
        when = self.one_of(("", "", "", f" when {self.condition()}"))
        default = self.one_of(("4", "1 KiB", "rows", "on") if self.wrong() else ("1", "2"))
        return f"param {self.name(name)} = {default}{domain}{when}{self.source()}"

    def let(self, name: str) -> str:
        return f"let {self.name(name)} = {self.expression('1', 3)}{self.source()}"

    def copy(self) -> str:
        original = self.one_of(("die", "wafer", "core", "link"))
        named = f"{self.name(original)} {self.name('fast')} = {self.named(original)}"
        return f"{named} with {{ {self.change(original)} }}"

    def change(self, kind: str) -> str:
        path = {
            "wafer": "tile.pe.clock", "die": "pe.clock", "core": "clock", "link": "latency",
        }[kind]  # fmt: skip
        path = ".".join(self.name(part) for part in path.split("."))
        right = "1 cycle" if kind == "link" else "1.3 GHz"
        return f"{path} = {self.one_of(WRONG_NUMBERS) if self.wrong() else right}"

    def system(self) -> str:
        joined = "fabric" in self._names["link"]
        counts = ["1 of wse"] + ["2 of wse joined fabric"] * joined
        counts += ["rows of dgx joined fabric"] * (joined and "dgx" in self._names["node"])
        count = self.one_of(counts)
        field = "nodes" if "dgx" in count else "wafers"
        skip = () if self.wrong() else ("wafers", "nodes", "switch", "electricity", "lifetime")
        items = [f"{self.name(field)} = {count}", *self.fields(SYSTEM, "system", skip)]
        return f"system {{ {'; '.join(items)} }}"

    def constraint(self) -> str:
        if self.wrong():
            left, right = self.expression("1", 2), self.value_of("1")
            return f"constraint {left} {self.one_of(COMPARISONS)} {right}"
        function = PHYSICS.functions[self.one_of(tuple(PHYSICS.functions))]
        kind = self.one_of(tuple(function.of))
        part = "system" if kind == "system" else self.named(kind)
        when = self.one_of(("", "", f" when {self.condition()}"))
        return (
            f"constraint {self.name(function.name)}({part}) {self.one_of(COMPARISONS[:4])} "
            f"{self.value_of(function.unit or '1')}{when}"
        )

    def condition(self) -> str:
        if self.wrong():
            right = self.one_of(("on", "off", "2", "1 KiB", "onn", "pe.clock"))
            return f"{self.one_of(('word', 'rows', 'ratio'))} {self.one_of(COMPARISONS)} {right}"
        return self.one_of(("word == on", "word != off", "rows <= 2", "rows * 2 > 2"))

    def source(self) -> str:
        return self.one_of(("", "", ' from "a # table; of {figures}"'))

    def part(self, kind: str, name: str) -> str:
        when = f" when {self.condition()}" if self.wrong() else ""
        return f"{self.name(kind)} {self.name(name)}{when} {self.block(PARTS[kind], kind)}"

    def block(self, spec: BlockSpec, kind: str) -> str:
        """The fields and inner blocks of a part or block, on one line or several."""
        skip = () if self.wrong() else ("share", "via") if kind != "wafer memory" else ("share",)
        items = self.fields(spec, kind, skip)
        drawn = {name for name, inner in spec.blocks.items() if not inner.optional or self.often()}
        drawn |= {"io"} if "io" in spec.blocks and "memory" in drawn else set()
        for name, inner in spec.blocks.items():
            if name in drawn and (kind, name) not in ALWAYS:
                items.append(self.inner(kind, name, inner))
        if spec.places and self.often():
            items += self.place(kind)
        if kind == "defects":
            items += self.some(self.dead, 2)
        if self.wrong():
            items.append(self.one_of(WRONG_ITEMS))
        return "{\n" + "\n".join(items) + "\n}" if self.often() else f"{{ {'; '.join(items)} }}"

    def inner(self, kind: str, name: str, wanted: BlockSpec) -> str:
        named = ""
        if wanted.named:
            named = f" {self.name('west' if wanted.names else 'host')}"
        within = f"{'wafer' if kind == 'node' else kind} {name}" if name == "memory" else name
        return f"{self.name(name)}{named} {self.block(wanted, within)}"

    def fields(self, spec: BlockSpec, kind: str, skip: Sequence[str] = ()) -> list[str]:
        found: list[str] = []
        for name, wanted in spec.fields.items():
            needed = wanted.default is fields.REQUIRED or (kind, name) in ALWAYS
            drawn = not self.wrong() if needed else self.often() and self.is_there(wanted.type)
            if name not in skip and drawn:
                found += [self.field(kind, name, wanted)] * (2 if self.wrong() else 1)
        return found

    def is_there(self, wanted: FieldType) -> bool:
        """Whether the text has parts of the kind that a field names."""
        named = isinstance(wanted, fields.PartOf | fields.CountOf)
        return not named or bool(self._names[wanted.kind])

    def field(self, kind: str, name: str, wanted: FieldSpec) -> str:
        known = VALUES.get((kind, name))
        value = self.one_of(known) if known and not self.wrong() else self.value(wanted.type)
        return f"{self.name(name)} = {value}{self.source()}"

    def value(self, wanted: FieldType) -> str:
        """What a field of a type may say; now and then what another may."""
        if self.wrong():
            return self.one_of(
                (*WORDS, "1 x 2", "2 of pe", "1 x 1 of pe joined seam", *WRONG_NUMBERS)
            )
        match wanted:
            case fields.Amount(dimension, _, most):
                unit = dimension.example.partition(" ")[2]
                return self.one_of(("1", "0.5")) if most else self.expression(unit, 1)
            case fields.Duration():
                return self.expression(self.one_of(("cycle", "ns")), 1)
            case fields.Count():
                return self.one_of(("1", "2", "4", "rows", "floor(2.5)"))
            case fields.Word(allowed):
                return self.name(self.one_of(allowed))
            case fields.PartOf(kind):
                return self.named(kind)
            case fields.Size():
                return f"{self.expression('mm', 1)} x {self.expression('mm', 1)}"
            case fields.Shape():
                return "2 x 3"
            case fields.Grid(kind, joined):
                joint = f" joined {self.named('link')}" if joined else ""
                rows, columns = self.one_of(("2", "rows", "4")), self.one_of(("3", "4"))
                return f"{rows} x {columns} of {self.named(kind)}{joint}"
            case fields.CountOf(kind):
                return f"{self.one_of(('1', '2', 'rows'))} of {self.named(kind)}"
            case fields.Spares():
                return self.one_of(("1 column", "1 row", "0 row", "2 column"))

    def expression(self, unit: str, depth: int) -> str:
        """A value of a unit; `1` stands for a plain number."""
        if depth == 0 or not self.often():
            return self.value_of(unit)
        inner = self.expression(unit, depth - 1)
        factor = self.one_of(PLAIN) if self.wrong() else self.one_of(("rows", "2", "(1 + rows)"))
        form = (
            "{call}({inner}, {inner})"
            if self.wrong()
            else self.one_of(
                (
                    "{inner} * {factor}",
                    "{inner} / {factor}",
                    "max({inner}, {inner})",
                    "{inner} + {inner}",
                    "({inner})",
                )
            )
        )
        return form.format(inner=inner, factor=factor, call=self.one_of(CALLS))

    def value_of(self, unit: str) -> str:
        number = self.one_of(WRONG_NUMBERS) if self.wrong() else self.one_of(NUMBERS)
        if self.wrong():
            return f"{number} {self.one_of(UNITS)}"
        return number if unit in ("", "1") else f"{number} {unit}"

    def place(self, kind: str) -> list[str]:
        others = self._names["core" if kind == "die" else "die"][1:]
        if not others and not self.wrong():
            return []
        rows = self.one_of(("9", "0", "-1", "1.5")) if self.wrong() else self.one_of(("1", "rows"))
        part = self.name(self.one_of(others or ("nothing",)))
        return [f"place {rows} x 1 of {part} at 0, {self.one_of('012')}"]

    def dead(self) -> str:
        return self.one_of(WRONG_DEAD if self.wrong() else DEAD)


@st.composite
def spec_texts(draw: st.DrawFn) -> str:
    """A text of the language: every kind of statement and part, and some pieces wrong."""
    faults = draw(st.frozensets(st.integers(1, PIECES), max_size=MOST_FAULTS))
    return Writer(draw(st.randoms(use_true_random=True)), faults).text()
