"""The design space of Theseus, counted by its own tables and rules."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import wscc
from wscc.frontend.hardware import HardwareSpace
from wscc.frontend.hardware.count import count

TABLES = Path(wscc.__path__[0]) / "benchmarks" / "theseus_tables.wsc"
ARCHITECTURE = ("capacity", "bandwidth", "macs", "width", "rows", "columns")


@pytest.fixture(scope="module")
def space(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> HardwareSpace:
    folder = tmp_path_factory.mktemp("theseus")
    for name in ("theseus_sram_macros.csv", "theseus_routers.csv"):
        shutil.copy(reference / name, folder)
    return wscc.load_hardware(shutil.copy(TABLES, folder))


def test_it_has_24_193_architectures_and_8_949_748_points(space: HardwareSpace) -> None:
    points, architectures = 0, set[tuple[float, ...]]()
    for batch in space.points():
        columns = np.stack([batch[name] for name in ARCHITECTURE], axis=1)
        points += len(columns)
        new = np.any(columns[1:] != columns[:-1], axis=1)
        architectures |= {*map(tuple, columns[[True, *new.tolist()]].tolist())}
    assert len(architectures) == 24_193
    assert points == 8_949_748


def test_every_point_of_a_part_of_it_is_judged_as_it_is_bound_alone(space: HardwareSpace) -> None:
    fixed = {"capacity": 128.0, "bandwidth": 1024.0, "rows": 24.0, "columns": 40.0, "width": 512.0}
    (batch,) = space.points(fixed)
    assert count(space, fixed).points == len(batch["macs"]) > 100
    verdicts = space.judge(batch)
    for row in range(0, len(batch["macs"]), 29):
        hardware = space.bind({name: float(column[row]) for name, column in batch.items()})
        assert all(line.holds for line in hardware.constraints) == verdicts.feasible[row]
