"""What kernels see of a GPU: rates of one multiprocessor, of L2 and of memory, in core cycles.

Peaks come from the core; `sustained` shares of them, and what software takes to start kernels and
blocks of threads, are the spec's.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...ir.hardware import Core, Hardware, Multiprocessors
from ..core import CoreWork, compute_dtype, matrix_dtype
from ..extents import Number


@dataclass(frozen=True)
class Device:
    """One GPU: a core of multiprocessors, and the memories of its die together."""

    core: Core
    parts: Multiprocessors
    memory_bytes_per_cycle: float
    """What programs reach of the memories' bandwidth."""

    @property
    def count(self) -> int:
        return self.parts.count

    @property
    def launch_cycles(self) -> float:
        """Of a kernel."""
        return self.core.software.launch_cycles

    @property
    def block_cycles(self) -> float:
        """To start a block of threads and fill its pipeline."""
        return self.core.software.block_cycles

    @property
    def l2_bytes(self) -> float:
        return self.core.sram.capacity_bytes

    def multiply_adds(self, dtype: str) -> float:
        """Of one multiprocessor a cycle, of matrices, as sustained."""
        peak = self.core.matrix_flops_per_cycle[matrix_dtype(self.core, dtype)] / 2
        return self.parts.sustained * self.core.software.sustained * peak / self.count

    def elements(self, dtype: str) -> float:
        """Elementwise results of one multiprocessor a cycle."""
        return self.core.vector_elements_per_cycle[compute_dtype(self.core, dtype)] / self.count

    def memory_cycles(self, bytes_: Number) -> Number:
        """To move bytes to or from memory."""
        return bytes_ / self.memory_bytes_per_cycle

    def l2_cycles(self, bytes_: Number) -> Number:
        """For all multiprocessors together to move bytes to or from L2, or, where L2 does not hold
        them, memory."""
        loads = bytes_ / (self.count * self.parts.load_bytes_per_cycle)
        fits = np.asarray(bytes_) <= self.l2_bytes
        return np.where(fits, loads, np.maximum(loads, self.memory_cycles(bytes_)))


@dataclass(frozen=True)
class Kernels:
    """What one operator's kernels take, one after the other: how many there are, what each waits
    for its launch, and the work of all behind that."""

    count: Number
    launch: float
    work: CoreWork

    @property
    def launch_cycles(self) -> Number:
        return self.count * self.launch

    @property
    def cycles(self) -> Number:
        return self.launch_cycles + self.work.cycles


def device_of(hardware: Hardware) -> Device | None:
    """The GPU that a die of some hardware is; None for cores without multiprocessors."""
    core, parts = hardware.core, hardware.core.multiprocessors
    if parts is None:
        return None
    memories = hardware.wafer.die.memories
    reached = sum((m.bandwidth_bytes_per_s or 0.0) * m.sustained for m in memories)
    return Device(core, parts, reached / core.clock_hz)


def in_registers(hardware: Hardware) -> Hardware:
    """The hardware as a kernel's arithmetic sees it: its operands are in registers."""
    die = hardware.wafer.die
    sram = replace(die.core.sram, read_bytes_per_cycle=np.inf, write_bytes_per_cycle=np.inf)
    core = replace(die.core, sram=sram)
    return replace(hardware, wafer=replace(hardware.wafer, die=replace(die, core=core)))
