"""The syntax tree of a .wsc file: what was written, where, and nothing about what it means.

Text to tree is parse.py; names and values are evaluate.py.
"""

from dataclasses import dataclass
from typing import TypeAlias

from ...ir.errors import Location


@dataclass(frozen=True)
class Number:
    """`48 KiB`; a plain number has no unit."""

    value: float
    unit: str | None
    location: Location


@dataclass(frozen=True)
class Reference:
    """`lanes`, `pe.clock`, `n7.defect_density`: also a word, where a word is expected."""

    path: tuple[str, ...]
    location: Location

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Call:
    """`area(tile)`, a physical quantity of a part; `max(a, b)`; `macros.area(capacity)`, a figure
    of a table."""

    function: Reference
    arguments: "tuple[Expression, ...]"
    location: Location


@dataclass(frozen=True)
class Chain:
    """Operands joined by `+ -` or by `* /`, evaluated left to right."""

    first: "Expression"
    rest: tuple[tuple[str, "Expression"], ...]
    location: Location


Expression: TypeAlias = Number | Reference | Call | Chain


@dataclass(frozen=True)
class Pair:
    """`215 mm x 215 mm`: rows, or height, come first."""

    first: Expression
    second: Expression
    location: Location


@dataclass(frozen=True)
class CountOf:
    """`4 of wse joined fabric`."""

    count: Expression
    part: Reference
    joint: Reference | None
    location: Location


@dataclass(frozen=True)
class GridOf:
    """`12 x 7 of tile joined stitched`."""

    grid: Pair
    part: Reference
    joint: Reference | None
    location: Location


FieldValue: TypeAlias = Expression | Pair | CountOf | GridOf


@dataclass(frozen=True)
class Condition:
    """`stack == on`."""

    left: Expression
    comparison: str
    right: Expression
    text: str
    location: Location


@dataclass(frozen=True)
class Choices:
    """`{32, 48, 64} KiB`."""

    values: tuple[Expression, ...]
    text: str
    location: Location


@dataclass(frozen=True)
class Powers:
    """`pow2(4, 64)`: the powers of two between two values."""

    low: Expression
    high: Expression
    text: str
    location: Location


@dataclass(frozen=True)
class Interval:
    """`90..154 step 16`; without a step every value between the ends is allowed."""

    low: Expression
    high: Expression
    step: Expression | None
    text: str
    location: Location


DomainSyntax: TypeAlias = Choices | Powers | Interval


@dataclass(frozen=True)
class Field:
    """`capacity = 48 KiB from "the source"`; a dotted path only in a copy's changes."""

    path: Reference
    value: FieldValue
    text: str
    source: str | None

    @property
    def name(self) -> str:
        return self.path.path[-1]

    @property
    def location(self) -> Location:
        return self.path.location


@dataclass(frozen=True)
class Dead:
    """`dead die 11, 6`, `dead core 3, 5 of die 0, 2` or `dead link 3, 5 east of die 0, 2`; rows
    and columns count from zero."""

    what: str
    at: tuple[float, float]
    side: str | None
    of: str | None
    of_at: tuple[float, float] | None
    location: Location


@dataclass(frozen=True)
class Place:
    """`place 4 x 7 of decode at 8, 0`: a rectangle of another kind of part, from its first row and
    column, which count from zero."""

    grid: Pair
    part: Reference
    row: Expression
    column: Expression
    text: str
    location: Location


@dataclass(frozen=True)
class Block:
    """A part (`core pe { .. }`) or a block inside one (`sram { .. }`, `io west { .. }`)."""

    kind: str
    name: str | None
    when: Condition | None
    items: "tuple[Item, ...]"
    location: Location

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


@dataclass(frozen=True)
class Copy:
    """`wafer fast = wse with { tile.pe.clock = 1.3 GHz }`."""

    kind: str
    name: str
    original: Reference
    changes: "tuple[Item, ...]"
    location: Location


Item: TypeAlias = Field | Block | Dead | Place


@dataclass(frozen=True)
class Version:
    number: float
    location: Location


@dataclass(frozen=True)
class Use:
    file: str
    name: str
    location: Location


@dataclass(frozen=True)
class ParameterSyntax:
    name: str
    default: Expression
    domain: DomainSyntax | None
    when: Condition | None
    source: str | None
    location: Location


@dataclass(frozen=True)
class Let:
    """`let area_um2 = height * width`: a value with a name, which nothing overrides."""

    name: str
    value: Expression
    source: str | None
    location: Location


@dataclass(frozen=True)
class ConstraintSyntax:
    left: Expression
    comparison: str
    right: Expression
    text: str
    when: Condition | None
    source: str | None
    location: Location


Statement: TypeAlias = Version | Use | ParameterSyntax | Let | ConstraintSyntax | Block | Copy
