"""The hardware as the compiler sees it: a tree of SI floats, all units checked and gone.

System > wafer > die > core. How a `.wsc` file becomes this tree is in frontend/; what the tree
costs in time, energy and area is in backend/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from .errors import VerificationError


@dataclass(frozen=True)
class Technology:
    """Energies and densities of a process; a dtype is spelt as torch spells it (`float16`)."""

    name: str
    multiply_add_energy_j: Mapping[str, float]
    """One fused multiply-add (two FLOPs), by dtype."""
    sram_read_energy_j_per_byte: float
    sram_write_energy_j_per_byte: float
    router_energy_j_per_byte: float
    """Through one router: buffers, crossbar, control; the wire is apart."""
    wire_energy_j_per_byte_m: float
    """Joule for a byte over a metre."""
    leakage_w_per_m2: float


@dataclass(frozen=True)
class Sram:
    capacity_bytes: float
    reserved_bytes: float
    """Held by code, stacks and buffers of the runtime; not available to tensors."""
    read_bytes_per_cycle: float
    write_bytes_per_cycle: float


@dataclass(frozen=True)
class Router:
    """One router a core; `circuit` is statically routed, one word a cycle a link a direction."""

    kind: Literal["circuit"]
    width_bytes: float
    """Bytes over a link in one direction in a cycle."""
    hop_cycles: float
    ramp_cycles: float
    """Between a core and its router, each way."""
    multicast: bool


@dataclass(frozen=True)
class Software:
    """Overheads of the software stack on a core. At most two calibrated constants live here."""

    name: str
    issue_cycles: float
    """To issue one vector instruction."""
    launch_cycles: float
    """To launch one communication step."""


@dataclass(frozen=True)
class Core:
    name: str
    clock_hz: float
    width_m: float
    height_m: float
    technology: Technology
    matrix_flops_per_cycle: Mapping[str, float]
    """Peak of the multiply-add unit by dtype; a multiply-add is two FLOPs."""
    vector_elements_per_cycle: Mapping[str, float]
    """Elementwise results a cycle by dtype."""
    function_cycles: float
    """Steps of a scalar function (exponential, division, root), a cycle each for one element."""
    sram: Sram
    router: Router
    software: Software
    control_energy_j_per_cycle: float
    """Clock tree, sequencing and instruction fetch of a busy core."""

    @property
    def area_m2(self) -> float:
        return self.width_m * self.height_m

    @property
    def usable_bytes(self) -> float:
        return self.sram.capacity_bytes - self.sram.reserved_bytes


@dataclass(frozen=True)
class Link:
    """What joins two neighbouring dies."""

    name: str
    share: float
    """Bandwidth across the joint over the bandwidth of the cores' own links."""
    latency_s: float
    """Of one crossing, in place of a hop inside the die."""
    energy_j_per_byte: float


@dataclass(frozen=True)
class Die:
    name: str
    core: Core
    rows: int
    columns: int
    """Cores; spare columns are not counted."""
    width_m: float
    height_m: float


@dataclass(frozen=True)
class EdgeIO:
    """Ports on one edge of the wafer."""

    edge: Literal["north", "south", "east", "west"]
    ports: int
    bandwidth_bytes_per_s: float
    """Of one port."""


@dataclass(frozen=True)
class ExternalMemory:
    """Memory off the wafer, behind the ports of one edge."""

    name: str
    via: str
    capacity_bytes: float


@dataclass(frozen=True)
class DeadCore:
    die: tuple[int, int]
    core: tuple[int, int]


@dataclass(frozen=True)
class Wafer:
    name: str
    die: Die
    rows: int
    columns: int
    """Dies."""
    link: Link
    width_m: float
    height_m: float
    usable_rows: int
    usable_columns: int
    """Cores a program may be placed on: a rectangle from the north-west corner."""
    cores_in_use: int
    """Cores powered, spares and dead ones not counted."""
    io: tuple[EdgeIO, ...] = ()
    memories: tuple[ExternalMemory, ...] = ()
    dead_dies: tuple[tuple[int, int], ...] = ()
    dead_cores: tuple[DeadCore, ...] = ()

    @property
    def core_rows(self) -> int:
        return self.rows * self.die.rows

    @property
    def core_columns(self) -> int:
        return self.columns * self.die.columns

    @property
    def area_m2(self) -> float:
        return self.width_m * self.height_m

    @property
    def usable_alive(self) -> int:
        """Cores of the usable rectangle that are alive."""

        def usable(first: int, high: int, second: int, wide: int) -> int:
            rows = max(0, min(self.usable_rows - first, high))
            return rows * max(0, min(self.usable_columns - second, wide))

        high, wide = self.die.rows, self.die.columns
        dead = sum(usable(r * high, high, c * wide, wide) for r, c in self.dead_dies)
        for core in self.dead_cores:
            row, column = core.die[0] * high + core.core[0], core.die[1] * wide + core.core[1]
            dead += usable(row, 1, column, 1)
        return self.usable_rows * self.usable_columns - dead


Comparison = Literal["<=", ">=", "<", ">"]


@dataclass(frozen=True)
class Constraint:
    """A line `constraint left <= right`, with both sides' values in SI units."""

    text: str
    left: float
    comparison: Comparison
    right: float

    @property
    def holds(self) -> bool:
        return {
            "<=": self.left <= self.right,
            ">=": self.left >= self.right,
            "<": self.left < self.right,
            ">": self.left > self.right,
        }[self.comparison]


@dataclass(frozen=True)
class Hardware:
    """One design: a system of equal wafers, and the parameters that were chosen for it."""

    name: str
    wafers: int
    wafer: Wafer
    parameters: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    constraints: tuple[Constraint, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict[str, str])
    """What holds where the spec says nothing, by part and field, in words."""

    @property
    def core(self) -> Core:
        return self.wafer.die.core

    @property
    def dies(self) -> int:
        return self.wafers * (self.wafer.rows * self.wafer.columns - len(self.wafer.dead_dies))

    @property
    def cores(self) -> int:
        return self.wafers * self.wafer.cores_in_use

    @cached_property
    def sram_bytes(self) -> float:
        return self.cores * self.core.sram.capacity_bytes

    def peak_flops(self, dtype: str) -> float:
        """Dense FLOP/s of the whole system in `dtype`."""
        return self.cores * self.core.matrix_flops_per_cycle[dtype] * self.core.clock_hz

    def verify(self) -> None:
        """Raise VerificationError for a tree whose parts contradict each other."""
        wafer, die = self.wafer, self.wafer.die
        if wafer.usable_rows > wafer.core_rows or wafer.usable_columns > wafer.core_columns:
            raise VerificationError(
                f"wafer {wafer.name}: the usable rectangle of {wafer.usable_rows} x "
                f"{wafer.usable_columns} cores exceeds the {wafer.core_rows} x "
                f"{wafer.core_columns} made"
            )
        if wafer.cores_in_use > wafer.core_rows * wafer.core_columns:
            raise VerificationError(f"wafer {wafer.name}: more cores in use than are made")
        for row, column in wafer.dead_dies:
            if not (0 <= row < wafer.rows and 0 <= column < wafer.columns):
                raise VerificationError(f"wafer {wafer.name}: no die {row}, {column}")
        for dead in wafer.dead_cores:
            if not (0 <= dead.core[0] < die.rows and 0 <= dead.core[1] < die.columns):
                raise VerificationError(f"die {die.name}: no core {dead.core[0]}, {dead.core[1]}")
