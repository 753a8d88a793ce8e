"""Trees with round figures, and the technologies of the shipped specs, for tests of the physics."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.ir.hardware import Core, Die, Router, Software, Sram, Wafer
from wscc.ir.technology import Densities, Link, Technology

MakeCore = Callable[..., Core]

ROUND = Densities(
    multiply_add_m2={"float16": 300e-12, "float32": 1500e-12},
    sram_cell_m2_per_byte=0.2e-12,
    sram_efficiency=0.5,
    sram_port_m2_per_byte=50e-12,
    router_m2_per_byte=40e-12,
    router_buffer_m2_per_byte=20e-12,
    router_base_m2=160e-12,
    tsv_bytes_per_s_per_m2=4e18,
)
"""A 16-bit unit takes 300 um2; a byte 0.4 um2; 1 TB/s of vias 0.25 mm2."""


@pytest.fixture(scope="session")
def make_core() -> MakeCore:
    """A core with the figures of WSE-2's, ROUND densities, and fields of it changed; `sram` and
    `router` are changes of those parts: `make_core(router={"virtual_channels": 4})`."""
    technology = Technology("round", {}, 1e-12, 1e-12, 1e-13, 1e-9, 5e4, densities=ROUND)
    core = Core(
        name="pe",
        clock_hz=1.1e9,
        width_m=170e-6,
        height_m=228e-6,
        technology=technology,
        matrix_flops_per_cycle={"float16": 8.0, "float32": 2.0},
        vector_elements_per_cycle={"float16": 4.0, "float32": 1.0},
        function_cycles=12.0,
        sram=Sram(48 * 1024.0, 2048.0, 16.0, 8.0),
        router=Router("circuit", 4.0, 1.0, 2.0, multicast=True),
        software=Software("none", 0.0, 0.0),
        control_energy_j_per_cycle=0.0,
    )

    def make(
        sram: dict[str, Any] | None = None, router: dict[str, Any] | None = None, **changes: Any
    ) -> Core:
        parts = {
            "sram": replace(core.sram, **(sram or {})),
            "router": replace(core.router, **(router or {})),
        }
        return replace(core, **parts, **changes)

    return make


@pytest.fixture(scope="session")
def core(make_core: MakeCore) -> Core:
    return make_core()


@pytest.fixture(scope="session")
def stitched() -> Link:
    return Link("stitched", 1.0, 1e-9, 1e-12)


@pytest.fixture(scope="session")
def tile(core: Core) -> Die:
    """WSE-2's: 66 x 154 cores on 17 x 30 mm."""
    return Die("tile", core, 66, 154, width_m=30e-3, height_m=17e-3)


@pytest.fixture(scope="session")
def wse(tile: Die, stitched: Link) -> Wafer:
    """WSE-2's: 12 x 7 dies on a square of 215 mm, 750 x 994 cores of them used."""
    return Wafer("wse", tile, 12, 7, stitched, 0.215, 0.215, 750, 994, 850_000)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Technology]:
    """The technology of a shipped spec by its file's name: `shipped("n7")`."""
    spec = """
    wsc 1
    use "{name}.wsc" as {name}
    core pe {{
      technology = {name}; clock = 1 GHz; matrix {{ fp16 = 2 flop/cycle }}
      sram {{ capacity = 32 KiB; read = 8 B/cycle; write = 8 B/cycle }}
      router {{
        kind = circuit; width = 32 bit/cycle; hop = 1 cycle; ramp = 1 cycle; multicast = no
      }}
    }}
    link joint {{ share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }}
    die tile {{ cores = 8 x 8 of pe }}
    wafer w {{ size = 50 mm x 50 mm; dies = 2 x 2 of tile joined joint }}
    system {{ wafers = 1 of w }}
    """
    folder = tmp_path_factory.mktemp("technologies")

    def load(name: str) -> Technology:
        path = folder / f"of_{name}.wsc"
        path.write_text(spec.format(name=name), encoding="utf-8")
        return load_hardware(str(path)).bind().core.technology

    return load
