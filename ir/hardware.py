"""The hardware as the compiler sees it: a tree of SI floats, all units checked and gone.

System > wafer > die > core; what those are made of is in technology.py. How a `.wsc` file becomes
this tree is in frontend/; what the tree costs in time, energy and area is in backend/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from .errors import VerificationError
from .technology import Link, Memory, Switch, Technology

Edge = Literal["north", "south", "east", "west"]


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

    kind: Literal["circuit", "wormhole"]
    width_bytes: float
    """Bytes over a link in one direction in a cycle."""
    hop_cycles: float
    ramp_cycles: float
    """Between a core and its router, each way."""
    multicast: bool
    virtual_channels: int = 1
    buffer_flits: int = 1
    """Of one virtual channel of one port."""


@dataclass(frozen=True)
class Software:
    """Overheads of the software stack on a core. At most two calibrated constants live here."""

    name: str
    issue_cycles: float
    """To issue one vector instruction."""
    launch_cycles: float
    """To start an operator or one communication step, or one kernel of a GPU."""
    block_cycles: float = 0.0
    """On a GPU, to start a block of threads and fill its pipeline."""
    host_cycles: float = 0.0
    """Of a call that launches kernels, on the host, while the device works on those before."""
    sustained: float = 1.0
    """Share of what products reach alone that they keep up in long runs."""
    dropout: bool = False
    """Whether training drops shares of attention at random, which model graphs leave out."""


@dataclass(frozen=True)
class Multiprocessors:
    """What a core is made of that stands for a whole GPU, and what of its peaks programs reach."""

    count: int
    load_bytes_per_cycle: float
    """That one multiprocessor takes from L2, which is the core's SRAM."""
    sustained: float = 1.0
    """Share of the matrix units' peak."""


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
    declared_area_m2: Mapping[str, float] = field(default_factory=dict[str, float])
    """Areas that the spec states instead of leaving them to be computed: `matrix`, `sram`,
    `router`, and `other`, which nothing computes."""
    multiprocessors: Multiprocessors | None = None
    """Of a GPU, whose tensors lie in the memories of its die."""

    @property
    def area_m2(self) -> float:
        return self.width_m * self.height_m

    @property
    def usable_bytes(self) -> float:
        return self.sram.capacity_bytes - self.sram.reserved_bytes


@dataclass(frozen=True)
class CorePatch:
    """A rectangle of a die's cores of another kind; its first row and column count from zero."""

    core: Core
    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Die:
    name: str
    core: Core
    rows: int
    columns: int
    """Cores; spare ones are not counted."""
    width_m: float
    height_m: float
    spare_rows: int = 0
    spare_columns: int = 0
    patches: tuple[CorePatch, ...] = ()
    memories: tuple[Memory, ...] = ()
    declared_area_m2: Mapping[str, float] = field(default_factory=dict[str, float])
    """Areas beside the cores that the spec states, by name: `io`, `other`, and `blank`, which holds
    nothing that leaks or that a defect could break: scribe lines, pads, seal rings."""
    power_w: float = 0.0
    """Nameplate power beside the cores that the spec states: input and output, for instance."""

    @property
    def area_m2(self) -> float:
        return self.width_m * self.height_m

    @property
    def declared_logic_m2(self) -> float:
        """Of the declared areas, those that are not blank."""
        return sum(m2 for name, m2 in self.declared_area_m2.items() if name != "blank")

    @property
    def kinds(self) -> tuple[tuple[Core, int], ...]:
        """Every kind of core and how many a die has; spare ones are not counted."""
        patched = sum(patch.rows * patch.columns for patch in self.patches)
        others = ((patch.core, patch.rows * patch.columns) for patch in self.patches)
        return (self.core, self.rows * self.columns - patched), *others


@dataclass(frozen=True)
class DiePatch:
    """A rectangle of a wafer's dies of another kind; its first row and column count from zero."""

    die: Die
    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class EdgeIO:
    """Ports on one edge of the wafer."""

    edge: Edge
    ports: int
    bandwidth_bytes_per_s: float
    """Of one port."""
    energy_j_per_byte: float = 0.0


@dataclass(frozen=True)
class DeadCore:
    die: tuple[int, int]
    core: tuple[int, int]


@dataclass(frozen=True)
class DeadLink:
    """The link on one side of a die, or of a core of it."""

    die: tuple[int, int]
    core: tuple[int, int] | None
    side: Edge


@dataclass(frozen=True)
class Wafer:
    """A grid of dies: on one wafer, or, as a `board`, the dies of a node."""

    name: str
    die: Die
    rows: int
    columns: int
    """Dies; spare ones are counted."""
    link: Link
    width_m: float
    height_m: float
    usable_rows: int
    usable_columns: int
    """Cores a program may be placed on: a rectangle from the north-west corner."""
    cores_in_use: int
    """Cores powered, spares and dead ones not counted."""
    io: tuple[EdgeIO, ...] = ()
    memories: tuple[Memory, ...] = ()
    dead_dies: tuple[tuple[int, int], ...] = ()
    dead_cores: tuple[DeadCore, ...] = ()
    dead_links: tuple[DeadLink, ...] = ()
    patches: tuple[DiePatch, ...] = ()
    switch: Switch | None = None
    """What the dies meet in; None: each is linked to its neighbours."""
    board: bool = False
    cores_needed: int | None = None
    """Cores that must work for the wafer to be a good one, where the spec says `cores_in_use`."""
    spare_dies: int = 0
    """Dies that may be dead on a good wafer."""
    regulator_efficiency: float = 1.0
    power_w: float = 0.0
    """Nameplate power beside the dies that the spec states, after the regulators."""
    cost_usd: float = 0.0
    """Of assembly, package, cooling and power delivery, where the spec states it."""

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
    def kinds(self) -> tuple[tuple[Die, int], ...]:
        """Every kind of die and how many there are, dead ones counted."""
        patched = sum(patch.rows * patch.columns for patch in self.patches)
        others = ((patch.die, patch.rows * patch.columns) for patch in self.patches)
        return (self.die, self.rows * self.columns - patched), *others

    def die_at(self, row: int, column: int) -> Die:
        """The die that stands at a place, dead or not."""
        for patch in self.patches:
            inside = patch.row <= row < patch.row + patch.rows
            if inside and patch.column <= column < patch.column + patch.columns:
                return patch.die
        return self.die

    @property
    def uniform(self) -> bool:
        """Whether all dies and all cores are of one kind."""
        return not self.patches and not self.die.patches

    @property
    def crossing_share(self) -> float:
        """Bandwidth of a joint of dies over that of the cores' links along its longer edge."""
        if self.link.share is not None:
            return self.link.share
        assert self.link.bandwidth_bytes_per_s is not None
        core, along = self.die.core, max(self.die.rows, self.die.columns)
        return self.link.bandwidth_bytes_per_s / (along * core.router.width_bytes * core.clock_hz)

    @property
    def usable_alive(self) -> int:
        """Cores of the usable rectangle that are alive; a die of another grid than most is usable
        as far as its place is."""
        dead = {*self.dead_dies}
        places = ((row, column) for row in range(self.rows) for column in range(self.columns))
        usable = {place: self._usable_of(*place) for place in places if place not in dead}
        lost = sum(
            core.core[0] < usable[core.die][0] and core.core[1] < usable[core.die][1]
            for core in self.dead_cores
            if core.die in usable
        )
        return sum(rows * columns for rows, columns in usable.values()) - lost

    def _usable_of(self, row: int, column: int) -> tuple[int, int]:
        """Rows and columns of the cores of a die that lie in the usable rectangle."""

        def within(usable: int, place: int, pitch: int, own: int) -> int:
            covered = max(0, usable - place * pitch)
            return own if covered >= pitch else min(covered, own)

        die = self.die_at(row, column)
        return (
            within(self.usable_rows, row, self.die.rows, die.rows),
            within(self.usable_columns, column, self.die.columns, die.columns),
        )


Comparison = Literal["<=", ">=", "<", ">"]


@dataclass(frozen=True)
class Constraint:
    """A line `constraint left <= right`, with both sides' values in SI units; or, `implied`, a
    limit of geometry that no line states."""

    text: str
    left: float
    comparison: Comparison
    right: float
    unit: str = ""
    """The SI unit of both sides, as a spec spells units; nothing for plain numbers."""
    implied: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is met; of a batch of points, of each."""
        match self.comparison:
            case "<=":
                return self.left <= self.right
            case ">=":
                return self.left >= self.right
            case "<":
                return self.left < self.right
            case ">":
                return self.left > self.right


@dataclass(frozen=True)
class Economy:
    """What a system's time costs, for dollars a token."""

    lifetime_s: float
    electricity_usd_per_j: float
    utilization: float = 1.0
    """Share of its life in which the system does the work in question."""


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
    link: Link | None = None
    """Between wafers; None: they share nothing."""
    switch: Switch | None = None
    """What wafers meet in; None: each is linked to its neighbours in a ring."""
    economy: Economy | None = None

    @property
    def core(self) -> Core:
        return self.wafer.die.core

    @property
    def core_bytes(self) -> float:
        """What a core holds of tensors: in its SRAM or, of a GPU, in the memories of its die."""
        if self.core.multiprocessors is None:
            return self.core.usable_bytes
        return sum(memory.capacity_bytes for memory in self.wafer.die.memories)

    @property
    def dies(self) -> int:
        return self.wafers * (self.wafer.rows * self.wafer.columns - len(self.wafer.dead_dies))

    @property
    def cores(self) -> int:
        return self.wafers * self.wafer.cores_in_use

    @cached_property
    def cores_by_kind(self) -> tuple[tuple[Core, float], ...]:
        """Every kind of core and how many of the system's are in use.

        On a wafer of several kinds the dead ones are taken to be spread evenly over the kinds.
        """
        made = [(core, n * dies) for die, dies in self.wafer.kinds for core, n in die.kinds]
        total, used = sum(count for _, count in made), self.wafers * self.wafer.cores_in_use
        return tuple((core, count * used / total) for core, count in made)

    @cached_property
    def sram_bytes(self) -> float:
        return sum(count * core.sram.capacity_bytes for core, count in self.cores_by_kind)

    @cached_property
    def dram_bytes(self) -> float:
        """Of all memory apart from SRAM."""
        on_dies = sum(
            dies * memory.capacity_bytes
            for die, dies in self.wafer.kinds
            for memory in die.memories
        )
        return self.wafers * (on_dies + sum(m.capacity_bytes for m in self.wafer.memories))

    def peak_flops(self, dtype: str) -> float:
        """Dense FLOP/s of the whole system in `dtype`; kinds of core without it count nothing."""
        return sum(
            count * core.matrix_flops_per_cycle.get(dtype, 0.0) * core.clock_hz
            for core, count in self.cores_by_kind
        )

    def verify(self) -> None:
        """Raise VerificationError for a tree whose parts contradict each other."""
        wafer = self.wafer
        if wafer.usable_rows > wafer.core_rows or wafer.usable_columns > wafer.core_columns:
            raise VerificationError(
                f"wafer {wafer.name}: the usable rectangle of {wafer.usable_rows} x "
                f"{wafer.usable_columns} cores exceeds the {wafer.core_rows} x "
                f"{wafer.core_columns} made"
            )
        if wafer.cores_in_use > sum(n * dies for d, dies in wafer.kinds for _, n in d.kinds):
            raise VerificationError(f"wafer {wafer.name}: more cores in use than are made")
        for row, column in wafer.dead_dies:
            if not (0 <= row < wafer.rows and 0 <= column < wafer.columns):
                raise VerificationError(f"wafer {wafer.name}: no die {row}, {column}")
        for dead in wafer.dead_cores:
            die = wafer.die_at(*dead.die)
            if not (0 <= dead.core[0] < die.rows and 0 <= dead.core[1] < die.columns):
                raise VerificationError(f"die {die.name}: no core {dead.core[0]}, {dead.core[1]}")
