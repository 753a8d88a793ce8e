"""What each part of a spec holds: its fields, what they measure, and what is not built yet.

read.py turns a block into SI values by these tables; build.py makes the tree from those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import units
from .units import Dimension

DTYPES = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp8": "float8_e4m3fn",
    "int8": "int8",
}
"""A dtype as a spec spells it, to torch's name."""

EDGES = ("north", "south", "east", "west")


@dataclass(frozen=True)
class Amount:
    """A quantity, more than zero unless `zero` is allowed, and at most `most`."""

    dimension: Dimension
    zero: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Duration:
    """Cycles or seconds, read as cycles or as seconds; the core's clock joins the two."""

    read_as: Dimension


@dataclass(frozen=True)
class Count:
    least: int = 1


@dataclass(frozen=True)
class Word:
    """One of some words; `later` are known and refused, with what is not built yet."""

    allowed: tuple[str, ...]
    later: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class PartOf:
    kind: str


@dataclass(frozen=True)
class Size:
    """Height x width."""


@dataclass(frozen=True)
class Shape:
    """Rows x columns."""


@dataclass(frozen=True)
class Grid:
    """`12 x 7 of tile joined stitched`; only dies are joined."""

    kind: str
    joined: bool = False


@dataclass(frozen=True)
class CountOf:
    kind: str


@dataclass(frozen=True)
class Spares:
    """`1 column` or `1 row`."""


FieldType: TypeAlias = (
    Amount | Duration | Count | Word | PartOf | Size | Shape | Grid | CountOf | Spares
)
REQUIRED = object()


@dataclass(frozen=True)
class FieldSpec:
    type: FieldType
    default: Any = REQUIRED


@dataclass(frozen=True)
class BlockSpec:
    """The fields and inner blocks of a part or block; a block of any name where `names` is None."""

    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    blocks: "Mapping[str, BlockSpec]" = field(default_factory=dict)
    later: Mapping[str, str] = field(default_factory=dict)
    """Names that are known and refused, with what is not built."""
    optional: bool = False
    named: bool = False
    names: tuple[str, ...] | None = None


def _by_dtype(dimension: Dimension, optional: bool = False) -> BlockSpec:
    fields = {dtype: FieldSpec(Amount(dimension), None) for dtype in DTYPES}
    return BlockSpec(fields, optional=optional)


def _amounts(dimension: Dimension, *names: str) -> dict[str, FieldSpec]:
    return {name: FieldSpec(Amount(dimension)) for name in names}


_YES_NO = Word(("yes", "no"))
_KNOWN_GOOD = "choosing known-good dies is not built yet"
_DRAWN = "drawing defects from a density is not built yet; name the dead cores and dies"

PARTS: Mapping[str, BlockSpec] = {
    "technology": BlockSpec(
        fields={
            "router": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True)),
            "wire": FieldSpec(Amount(units.JOULES_PER_BYTE_METRE, zero=True)),
            "leakage": FieldSpec(Amount(units.WATTS_PER_AREA, zero=True)),
            "defect_density": FieldSpec(Amount(units.DEFECTS_PER_AREA, zero=True), None),
        },
        blocks={
            "multiply_add": _by_dtype(units.JOULES),
            "sram": BlockSpec(_amounts(units.JOULES_PER_BYTE, "read", "write")),
        },
    ),
    "software": BlockSpec(
        fields={
            "issue": FieldSpec(Amount(units.CYCLES, zero=True)),
            "launch": FieldSpec(Amount(units.CYCLES, zero=True)),
        },
    ),
    "core": BlockSpec(
        fields={
            "technology": FieldSpec(PartOf("technology")),
            "software": FieldSpec(PartOf("software"), None),
            "size": FieldSpec(Size(), None),
            "clock": FieldSpec(Amount(units.HERTZ)),
            "function": FieldSpec(Duration(units.CYCLES), None),
            "control": FieldSpec(Amount(units.JOULES_PER_CYCLE, zero=True), None),
        },
        blocks={
            "matrix": _by_dtype(units.FLOPS_PER_CYCLE),
            "vector": _by_dtype(units.ELEMENTS_PER_CYCLE, optional=True),
            "sram": BlockSpec(
                {
                    "capacity": FieldSpec(Amount(units.BYTES)),
                    "reserved": FieldSpec(Amount(units.BYTES, zero=True), None),
                    **_amounts(units.BYTES_PER_CYCLE, "read", "write"),
                }
            ),
            "router": BlockSpec(
                {
                    "kind": FieldSpec(
                        Word(("circuit",), later={"wormhole": "wormhole is not built yet"})
                    ),
                    "width": FieldSpec(Amount(units.BYTES_PER_CYCLE)),
                    "hop": FieldSpec(Duration(units.CYCLES)),
                    "ramp": FieldSpec(Duration(units.CYCLES)),
                    "multicast": FieldSpec(_YES_NO),
                    "colours": FieldSpec(Count(), None),
                }
            ),
        },
    ),
    "link": BlockSpec(
        fields={
            "share": FieldSpec(Amount(units.NUMBER, most=1.0)),
            "latency": FieldSpec(Duration(units.SECONDS)),
            "energy": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True)),
            "gap": FieldSpec(Amount(units.METRES, zero=True), 0.0),
            "known_good": FieldSpec(Word(("no",), later={"yes": _KNOWN_GOOD}), "no"),
        },
    ),
    "die": BlockSpec(
        fields={
            "cores": FieldSpec(Grid("core")),
            "spares": FieldSpec(Spares(), (0, 0)),
            "size": FieldSpec(Size(), None),
        },
        later={
            "memory": "stacked memory is not built yet; memory of kind external, on a wafer, is",
            "network": "a network of its own for a die is not built yet; a core's router is",
        },
    ),
    "wafer": BlockSpec(
        fields={
            "size": FieldSpec(Size()),
            "dies": FieldSpec(Grid("die", joined=True)),
            "usable": FieldSpec(Shape(), None),
            "cores_in_use": FieldSpec(Count(), None),
        },
        blocks={
            "io": BlockSpec(
                {
                    "ports": FieldSpec(Count()),
                    "bandwidth": FieldSpec(Amount(units.BYTES_PER_SECOND)),
                },
                optional=True,
                named=True,
                names=EDGES,
            ),
            "memory": BlockSpec(
                {
                    "kind": FieldSpec(
                        Word(("external",), later={"stacked": "stacked is not built yet"})
                    ),
                    "via": FieldSpec(Word(EDGES)),
                    "capacity": FieldSpec(Amount(units.BYTES)),
                },
                optional=True,
                named=True,
            ),
            "defects": BlockSpec(later={"density": _DRAWN, "seed": _DRAWN}, optional=True),
        },
    ),
}

SYSTEM = BlockSpec(
    fields={"wafers": FieldSpec(CountOf("wafer"))},
    later={"switch": "a switch is not built yet", "link": "links of wafers are not built yet"},
)

PARTS_LATER = {"switch": "a switch", "gpu": "a GPU", "rack": "a rack", "network": "a network"}
