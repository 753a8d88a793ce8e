"""The one result type of all fidelities: what the report's stable keys say.

Field names are the report's keys. What was not computed is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Fidelity = Literal["bound", "fluid", "flit"]
FIDELITIES: tuple[Fidelity, ...] = ("bound", "fluid", "flit")
FLIT_BUDGET_S = 60.0
"""Seconds that simulating a network cycle by cycle may take, unless more are asked for."""


@dataclass(frozen=True)
class Infeasibility:
    """What is short, where, and the changes that would make it fit."""

    resource: str
    where: str
    demand: float
    limit: float
    gap: float
    unit: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class ModelFigures:
    name: str
    parameters: int
    layers: int
    flops: int
    """Of the whole step, as traced; a multiply-add counts as two."""


@dataclass(frozen=True)
class HardwareFigures:
    name: str
    wafers: int
    dies: int
    cores: int
    area_mm2: float
    peak_flops: float
    """Dense FLOP/s of the whole system in the dtype of the workload."""
    sram_bytes: float
    dram_bytes: float
    unit: str = "wafer"
    """What `wafers` counts: wafers or nodes."""
    device: str = "core"
    """What `cores` counts: cores or GPUs."""


@dataclass(frozen=True)
class WorkloadFigures:
    phase: str
    batch: int
    sequence: int
    context: int
    dtype: str


@dataclass(frozen=True)
class MappingFigures:
    dp: int
    tp: int
    """Cores that share every layer: the devices of the region's mesh."""
    pp: int
    ep: int
    microbatch: int
    interleave: int
    recompute: str
    zero: int
    streaming: bool
    region: tuple[int, int]
    """Rows and columns of cores that one stage of one replica occupies."""
    stages: int
    objective: float | None
    """Of the placement: bytes times hops."""
    gap: float | None
    layout: str
    head_groups: int
    weights_in: str = "sram"
    """`sram`, `dram` or, streamed, `off-wafer`; a GPU's lie in its DRAM."""
    cache_in: str = "sram"


@dataclass(frozen=True)
class Bottleneck:
    kind: str
    where: str
    utilization: float
    """Busy time of that resource over the latency."""


@dataclass(frozen=True)
class MemoryFigures:
    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    optimizer_bytes: int
    peak_core_bytes: int
    core_capacity_bytes: int
    gradient_bytes: int = 0
    dram_bytes: int = 0
    """Of all this what lies in DRAM."""
    dram_capacity_bytes: int = 0
    """Of the DRAM that weights and caches may lie in, on all dies or behind all ports."""


@dataclass(frozen=True)
class NocFigures:
    max_link_utilization: float
    mean_link_utilization: float
    flows: int


@dataclass(frozen=True)
class OperatorFigures:
    """Time of one operator of the layer that repeats most, on the critical path."""

    name: str
    kind: str
    path: str
    cycles: float
    energy_j: float


@dataclass(frozen=True)
class TriedFigures:
    """A strategy that the search looked at."""

    dp: int
    pp: int
    region: tuple[int, int]
    layout: str
    head_groups: int
    microbatch: int
    bound_s: float
    core_bytes: int
    outcome: str
    ep: int = 1
    interleave: int = 1
    recompute: str = "none"
    zero: int = 0
    streaming: bool = False
    weights_in: str = "sram"
    cache_in: str = "sram"


@dataclass(frozen=True)
class Result:
    """Everything that an evaluation says. Seconds, watts, joules, bytes."""

    fidelity: Fidelity
    feasible: bool
    infeasible: tuple[Infeasibility, ...]
    model: ModelFigures
    hardware: HardwareFigures
    workload: WorkloadFigures
    mapping: MappingFigures
    latency_s: float
    tokens_per_s: float
    power_w: float
    power_peak_w: float
    power_nameplate_w: float
    energy_j: float
    mfu: float
    breakdown: Mapping[str, float]
    """Exposed seconds on the critical path by component; sums to `latency_s`."""
    energy: Mapping[str, float]
    """Joules of a step by component; sums to `energy_j`."""
    bottleneck: Bottleneck
    memory: MemoryFigures
    noc: NocFigures
    cycles_per_layer: float
    operators: tuple[OperatorFigures, ...] = ()
    tried: tuple[TriedFigures, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many other strategies the search dropped by their bounds, by reason."""
    limits: tuple[str, ...] = ()
    """What this fidelity leaves out or assumes, in words."""
    cost_usd: float | None = None
    """Of the system as made."""
    usd_per_million_tokens: float | None = None
    """At this step's pace and average power, over the system's life."""
