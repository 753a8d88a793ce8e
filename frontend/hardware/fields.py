"""What each part of a spec holds: its fields and what they measure.

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
    allowed: tuple[str, ...]


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
    """`4 of wse joined fabric`; only wafers and nodes are joined."""

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
    optional: bool = False
    named: bool = False
    names: tuple[str, ...] | None = None
    places: bool = False
    """Whether other kinds may be placed in its grid."""


def _by_dtype(dimension: Dimension, optional: bool = False) -> BlockSpec:
    fields = {dtype: FieldSpec(Amount(dimension), None) for dtype in DTYPES}
    return BlockSpec(fields, optional=optional)


def _amounts(dimension: Dimension, *names: str) -> dict[str, FieldSpec]:
    return {name: FieldSpec(Amount(dimension)) for name in names}


def _optional(dimension: Dimension, *names: str) -> dict[str, FieldSpec]:
    """Fields of zero or more, None where they are not given."""
    return {name: FieldSpec(Amount(dimension, zero=True), None) for name in names}


_SHARE = Amount(units.NUMBER, most=1.0)
_YES_NO = Word(("yes", "no"))

_ROUTER = {
    "kind": FieldSpec(Word(("circuit", "wormhole"))),
    "width": FieldSpec(Amount(units.BYTES_PER_CYCLE)),
    "hop": FieldSpec(Duration(units.CYCLES)),
    "ramp": FieldSpec(Duration(units.CYCLES)),
    "multicast": FieldSpec(_YES_NO),
    "colours": FieldSpec(Count(), None),
    "virtual_channels": FieldSpec(Count(), 1),
    "buffer": FieldSpec(Count(), 1),
}
"""Of a core's `router` block, and of a `network` part."""

_MEMORY = {
    "kind": FieldSpec(Word(("stacked", "beside", "external"))),
    "via": FieldSpec(Word(EDGES), None),
    "capacity": FieldSpec(Amount(units.BYTES)),
    "bandwidth": FieldSpec(Amount(units.BYTES_PER_SECOND), None),
    "sustained": FieldSpec(_SHARE, 1.0),
    "latency": FieldSpec(Duration(units.SECONDS), 0.0),
    "energy": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True), 0.0),
    "edge": FieldSpec(Amount(units.METRES, zero=True), 0.0),
    "phy_area": FieldSpec(Amount(units.SQUARE_METRES, zero=True), 0.0),
    "power": FieldSpec(Amount(units.WATTS, zero=True), 0.0),
    "cost": FieldSpec(Amount(units.DOLLARS, zero=True), 0.0),
}
"""Of a `memory` part, of one stack, and of a `memory` block."""

_BOARD = {
    "cores_in_use": FieldSpec(Count(), None),
    "spares": FieldSpec(Spares(), (0, 0)),
    "switch": FieldSpec(PartOf("switch"), None),
    "regulator": FieldSpec(_SHARE, 1.0),
    "power": FieldSpec(Amount(units.WATTS, zero=True), 0.0),
    "cost": FieldSpec(Amount(units.DOLLARS, zero=True), 0.0),
}
"""Of a wafer and of a node."""

_ON_BOARD = {
    "io": BlockSpec(
        {
            "ports": FieldSpec(Count()),
            "bandwidth": FieldSpec(Amount(units.BYTES_PER_SECOND)),
            "energy": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True), 0.0),
        },
        optional=True,
        named=True,
        names=EDGES,
    ),
    "memory": BlockSpec(_MEMORY, optional=True, named=True),
    "defects": BlockSpec(
        {
            "density": FieldSpec(Amount(units.DEFECTS_PER_AREA, zero=True), None),
            "seed": FieldSpec(Count(least=0), None),
            "clustering": FieldSpec(Amount(units.NUMBER), None),
        },
        optional=True,
    ),
}
"""Blocks of a wafer and of a node."""

PARTS: Mapping[str, BlockSpec] = {
    "technology": BlockSpec(
        fields={
            "node": FieldSpec(Amount(units.METRES), None),
            "router": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True)),
            "wire": FieldSpec(Amount(units.JOULES_PER_BYTE_METRE, zero=True)),
            "leakage": FieldSpec(Amount(units.WATTS_PER_AREA, zero=True)),
            "tsv": FieldSpec(Amount(units.BYTES_PER_SECOND_PER_AREA), None),
            "defect_density": FieldSpec(Amount(units.DEFECTS_PER_AREA, zero=True), None),
            "yield_model": FieldSpec(Word(("murphy", "negative_binomial")), "murphy"),
            "clustering": FieldSpec(Amount(units.NUMBER), 10.0),
            "wafer_cost": FieldSpec(Amount(units.DOLLARS), None),
        },
        blocks={
            "multiply_add": _by_dtype(units.JOULES),
            "sram": BlockSpec(
                {
                    **_amounts(units.JOULES_PER_BYTE, "read", "write"),
                    "cell": FieldSpec(Amount(units.AREA_PER_BYTE), None),
                    "efficiency": FieldSpec(_SHARE, 1.0),
                    "port": FieldSpec(Amount(units.AREA_PER_BYTE, zero=True), 0.0),
                    **_optional(units.WATTS_PER_AREA, "leakage"),
                }
            ),
            "area": BlockSpec(
                {
                    **_by_dtype(units.SQUARE_METRES).fields,
                    **_optional(units.AREA_PER_BYTE, "router", "router_buffer"),
                    **_optional(units.SQUARE_METRES, "router_base"),
                },
                optional=True,
            ),
        },
    ),
    "software": BlockSpec(
        fields={
            "issue": FieldSpec(Amount(units.CYCLES, zero=True)),
            "launch": FieldSpec(Amount(units.CYCLES, zero=True)),
            "block": FieldSpec(Amount(units.CYCLES, zero=True), 0.0),
            "host": FieldSpec(Amount(units.CYCLES, zero=True), 0.0),
            "sustained": FieldSpec(_SHARE, 1.0),
            "dropout": FieldSpec(_YES_NO, "no"),
        },
    ),
    "network": BlockSpec(_ROUTER),
    "memory": BlockSpec(_MEMORY),
    "core": BlockSpec(
        fields={
            "technology": FieldSpec(PartOf("technology")),
            "software": FieldSpec(PartOf("software"), None),
            "router": FieldSpec(PartOf("network"), None),
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
            "multiprocessors": BlockSpec(
                {
                    "count": FieldSpec(Count()),
                    "load": FieldSpec(Amount(units.BYTES_PER_CYCLE)),
                    "sustained": FieldSpec(_SHARE, 1.0),
                },
                optional=True,
            ),
            "router": BlockSpec(_ROUTER, optional=True),
            "area": BlockSpec(
                _optional(units.SQUARE_METRES, "matrix", "vector", "sram", "router", "other"),
                optional=True,
            ),
        },
    ),
    "link": BlockSpec(
        fields={
            "share": FieldSpec(_SHARE, None),
            "bandwidth": FieldSpec(Amount(units.BYTES_PER_SECOND), None),
            "latency": FieldSpec(Duration(units.SECONDS)),
            "sustained": FieldSpec(_SHARE, 1.0),
            "energy": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True)),
            "gap": FieldSpec(Amount(units.METRES, zero=True), 0.0),
            "edge": FieldSpec(Amount(units.BYTES_PER_SECOND_PER_METRE), None),
            "phy_depth": FieldSpec(Amount(units.METRES, zero=True), 0.0),
            "known_good": FieldSpec(_YES_NO, "no"),
            "bonding_yield": FieldSpec(_SHARE, 1.0),
            "cost": FieldSpec(Amount(units.DOLLARS, zero=True), 0.0),
        },
    ),
    "switch": BlockSpec(
        fields={
            "ports": FieldSpec(Count()),
            "bandwidth": FieldSpec(Amount(units.BYTES_PER_SECOND)),
            "latency": FieldSpec(Duration(units.SECONDS)),
            "energy": FieldSpec(Amount(units.JOULES_PER_BYTE, zero=True), 0.0),
            "power": FieldSpec(Amount(units.WATTS, zero=True), 0.0),
            "count": FieldSpec(Count(), 1),
            "cost": FieldSpec(Amount(units.DOLLARS, zero=True), 0.0),
        },
    ),
    "die": BlockSpec(
        fields={
            "cores": FieldSpec(Grid("core")),
            "spares": FieldSpec(Spares(), (0, 0)),
            "size": FieldSpec(Size(), None),
            "memories": FieldSpec(CountOf("memory"), None),
            "power": FieldSpec(Amount(units.WATTS, zero=True), 0.0),
        },
        blocks={
            "memory": BlockSpec(_MEMORY, optional=True, named=True),
            "area": BlockSpec(
                _optional(units.SQUARE_METRES, "io", "other", "blank"), optional=True
            ),
        },
        places=True,
    ),
    "wafer": BlockSpec(
        fields={
            "size": FieldSpec(Size()),
            "dies": FieldSpec(Grid("die", joined=True)),
            "usable": FieldSpec(Shape(), None),
            **_BOARD,
        },
        blocks=_ON_BOARD,
        places=True,
    ),
    "node": BlockSpec(
        fields={
            "dies": FieldSpec(Grid("die", joined=True)),
            "size": FieldSpec(Size(), None),
            **_BOARD,
        },
        blocks=_ON_BOARD,
    ),
}

SYSTEM = BlockSpec(
    fields={
        "wafers": FieldSpec(CountOf("wafer"), None),
        "nodes": FieldSpec(CountOf("node"), None),
        "switch": FieldSpec(PartOf("switch"), None),
        "lifetime": FieldSpec(Amount(units.SECONDS), None),
        "electricity": FieldSpec(Amount(units.DOLLARS_PER_JOULE, zero=True), None),
        "utilization": FieldSpec(_SHARE, 1.0),
    },
)
