"""One program on hardware that is better in one respect, each evaluated anew.

Nothing is mapped again, and what the better part takes in area and power is left out: this says
what limits a program, not what to build.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..ir.hardware import Core, Hardware, Wafer
from ..ir.program import Program
from ..ir.result import Fidelity, Result
from ..ir.technology import Link, Memory, Switch
from .evaluate import evaluate


@dataclass(frozen=True)
class Variant:
    """A change of the hardware, in words that follow 'with'."""

    words: str
    change: Callable[[Hardware], Hardware]


def what_if(program: Program, fidelity: Fidelity) -> Iterator[tuple[str, Result]]:
    """The results of all variants that are not the hardware itself."""
    for variant in VARIANTS:
        changed = variant.change(program.hardware)
        if changed != program.hardware:
            yield variant.words, evaluate(replace(program, hardware=changed), fidelity)


def _core(change: Callable[[Core], Core]) -> Callable[[Hardware], Hardware]:
    """A change of the core of all dies but those of other kinds."""

    def changed(hardware: Hardware) -> Hardware:
        die = hardware.wafer.die
        die = replace(die, core=change(die.core))
        return replace(hardware, wafer=replace(hardware.wafer, die=die))

    return changed


def _wafer(change: Callable[[Wafer], Wafer]) -> Callable[[Hardware], Hardware]:
    return lambda hardware: replace(hardware, wafer=change(hardware.wafer))


def _doubled(rates: Mapping[str, float]) -> dict[str, float]:
    return {dtype: 2 * rate for dtype, rate in rates.items()}


def _faster(link: Link) -> Link:
    bandwidth = link.bandwidth_bytes_per_s
    return replace(
        link,
        share=None if link.share is None else 2 * link.share,
        bandwidth_bytes_per_s=None if bandwidth is None else 2 * bandwidth,
    )


def _wider(switch: Switch | None) -> Switch | None:
    if switch is None:
        return None
    return replace(switch, bandwidth_bytes_per_s=2 * switch.bandwidth_bytes_per_s)


def _memory(memory: Memory) -> Memory:
    bandwidth = memory.bandwidth_bytes_per_s
    return replace(memory, bandwidth_bytes_per_s=None if bandwidth is None else 2 * bandwidth)


def _faster_memories(wafer: Wafer) -> Wafer:
    """Of dies and of the wafer, and the ports that the wafer's are behind."""
    die = replace(wafer.die, memories=tuple(_memory(each) for each in wafer.die.memories))
    io = tuple(
        replace(port, bandwidth_bytes_per_s=2 * port.bandwidth_bytes_per_s) for port in wafer.io
    )
    return replace(wafer, die=die, io=io, memories=tuple(_memory(each) for each in wafer.memories))


def _between_wafers(hardware: Hardware) -> Hardware:
    link = None if hardware.link is None else _faster(hardware.link)
    return replace(hardware, link=link, switch=_wider(hardware.switch))


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "matrix units twice as fast",
        _core(lambda c: replace(c, matrix_flops_per_cycle=_doubled(c.matrix_flops_per_cycle))),
    ),
    Variant(
        "vector units twice as fast",
        _core(
            lambda c: replace(c, vector_elements_per_cycle=_doubled(c.vector_elements_per_cycle))
        ),
    ),
    Variant(
        "twice the ports of the SRAM",
        _core(
            lambda c: replace(
                c,
                sram=replace(
                    c.sram,
                    read_bytes_per_cycle=2 * c.sram.read_bytes_per_cycle,
                    write_bytes_per_cycle=2 * c.sram.write_bytes_per_cycle,
                ),
            )
        ),
    ),
    Variant(
        "links between cores twice as wide",
        _core(lambda c: replace(c, router=replace(c.router, width_bytes=2 * c.router.width_bytes))),
    ),
    Variant(
        "hops that take half the cycles",
        _core(lambda c: replace(c, router=replace(c.router, hop_cycles=c.router.hop_cycles / 2))),
    ),
    Variant(
        "launches that take half the cycles",
        _core(
            lambda c: replace(
                c,
                software=replace(
                    c.software,
                    launch_cycles=c.software.launch_cycles / 2,
                    host_cycles=c.software.host_cycles / 2,
                ),
            )
        ),
    ),
    Variant(
        "instructions issued in half the cycles",
        _core(
            lambda c: replace(
                c, software=replace(c.software, issue_cycles=c.software.issue_cycles / 2)
            )
        ),
    ),
    Variant(
        "links between dies twice as fast",
        _wafer(lambda w: replace(w, link=_faster(w.link), switch=_wider(w.switch))),
    ),
    Variant("memories and their ports twice as fast", _wafer(_faster_memories)),
    Variant("links between wafers or nodes twice as fast", _between_wafers),
)
