"""What tests of specs share: a spec's text bound to a design, and what is said of a wrong one."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.hardware import HardwareSpace, load_hardware
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.physics import AREA, Function, NoPhysics, Physics

PhysicsOf = Callable[[Callable[[Any], float]], NoPhysics]
SpaceOf = Callable[..., HardwareSpace]
Bind = Callable[..., Hardware]
Refused = Callable[..., str]


@pytest.fixture
def physics_of() -> PhysicsOf:
    """A physics that knows areas and a power: parts without a size have an equal share."""
    kinds = ("core", "die", "wafer", "system")

    def of(power: Callable[[Any], float]) -> NoPhysics:
        return NoPhysics({"area": AREA, "power": Function("power", "W", kinds, power)})

    return of


@pytest.fixture
def physics() -> Physics:
    """What judges the specs of a test file; one that stubs it has a fixture of this name."""
    from wscc.backend.physics import PHYSICS

    return PHYSICS


@pytest.fixture
def space_of(tmp_path: Path, physics: Physics) -> SpaceOf:
    """`space_of(text)` is the space of a spec of that text, the file spec.wsc in `tmp_path`."""

    def of(text: str) -> HardwareSpace:
        (tmp_path / "spec.wsc").write_text(text)
        return replace(load_hardware(tmp_path / "spec.wsc"), physics=physics)

    return of


@pytest.fixture
def bind(space_of: SpaceOf) -> Bind:
    """`bind(text, lanes=4)` is one design of that space."""

    def bound(text: str, **values: str | float) -> Hardware:
        return space_of(text).bind(values)

    return bound


@pytest.fixture
def refused(bind: Bind, tmp_path: Path) -> Refused:
    """`refused(text)` is the message with its place, `spec.wsc:3:7: error: ..`."""

    def message(text: str, **values: str | float) -> str:
        with pytest.raises(UserError) as caught:
            bind(text, **values)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return message


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[[str, str, Iterable[tuple[float, ...]]], None]:
    """`write_table("macros.csv", "ports,area", rows)` writes a table beside the spec."""

    def write(name: str, columns: str, rows: Iterable[tuple[float, ...]]) -> None:
        lines = [columns, *(",".join(str(value) for value in row) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    return write


@pytest.fixture
def small() -> str:
    """A small spec that fits, for tests to add to: 2 x 3 dies of 4 x 5 cores of one kind."""
    return SMALL


SMALL = """\
wsc 1
use "n7.wsc" as n7
link seam { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
core pe {
  technology = n7; clock = 1 GHz; size = 200 um x 100 um
  matrix { fp16 = 8 flop/cycle }
  vector { fp16 = 1 element/cycle }
  sram { capacity = 32 KiB; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }
}
die tile { cores = 4 x 5 of pe; size = 1 mm x 1 mm }
wafer wse { size = 4 mm x 4 mm; dies = 2 x 3 of tile joined seam }
"""
