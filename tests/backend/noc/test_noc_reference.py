"""Against BookSim2: every recorded case, the calibrations, and steady traffic."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from wscc.backend.noc.arrays import Timing
from wscc.backend.noc.case import Case, read_case
from wscc.backend.noc.compare import Row, compared, errors_of
from wscc.backend.noc.flows import flows_of
from wscc.backend.noc.network import mesh
from wscc.backend.noc.open_loop import steady_state
from wscc.backend.noc.simulate import Fidelity, simulate

SMALL_FLIT_HOPS = 250_000
"""Cases up to this size are checked flit by flit; `wscc noc --compare` checks all."""


@cache
def cases(folder: Path) -> list[Case]:
    return [read_case(path) for path in sorted((folder / "noc" / "phases").glob("*.json"))]


@cache
def rows(folder: Path, fidelity: Fidelity) -> list[Row]:
    return [compared(case, case.measured, fidelity) for case in cases(folder) if case.measured]


def test_every_finish_time_of_the_flit_simulator_is_the_recorded_one(reference: Path) -> None:
    checked = 0
    for case in cases(reference):
        outcome = simulate(case.network, case.flows, "bound")
        if case.measured is None or case.flows.flits @ outcome.routes.hops > SMALL_FLIT_HOPS:
            continue
        flit = simulate(case.network, case.flows, "flit")
        assert flit.finish.tolist() == case.measured.finish.tolist(), case.id
        assert flit.ready.tolist() == case.measured.ready.tolist(), case.id
        checked += 1
    assert checked >= 50


def test_the_bound_is_never_above_the_reference(reference: Path) -> None:
    for case in cases(reference):
        assert case.measured is not None
        bound = simulate(case.network, case.flows, "bound")
        assert bound.makespan <= case.measured.makespan, case.id
        assert np.all(bound.finish <= case.measured.finish), case.id
    assert np.mean([row.error for row in rows(reference, "bound")]) > -0.17


def test_the_fluid_simulator_is_within_its_error(reference: Path) -> None:
    found = rows(reference, "fluid")
    contended = [row for row in found if row.contended]
    assert len(found) == 128
    assert len(contended) > 80
    for chosen in (found, contended):
        errors = errors_of(chosen)
        assert errors.mean < 0.035
        assert errors.p95 < 0.12
        assert errors.finish < 0.1


def test_makespans_of_few_long_streams_are_the_recorded_ones(reference: Path) -> None:
    with open(reference / "noc" / "micro.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) > 190
    for row in table:
        assert makespan_of(row) == int(row["makespan"]), row


STREAMS = {
    "single_stream_3hop": [(0, 3)],
    "merge2_row": [(0, 3), (1, 3)],
    "merge3_row": [(0, 4), (1, 4), (2, 4)],
    "eject3": [(3, 4), (5, 4), (1, 4)],
    "cross_nocontention": [(3, 5), (1, 7)],
}


def makespan_of(row: dict[str, str]) -> int:
    timing = Timing(
        int(row["num_vcs"]),
        int(row["vc_buf_size"]),
        int(row["routing_delay"]),
        int(row["vc_alloc_delay"]),
        int(row["sw_alloc_delay"]),
        int(row["st_final_delay"]),
        speculative=row["speculative"] == "1",
    )
    network = mesh(int(row["mesh_w"]), int(row["mesh_h"]), timing, latency=int(row["link_lat"]))
    source, destination = zip(*STREAMS[row["test"]], strict=True)
    flits, packet = int(row["flits_per_stream"]), int(row["max_packet_flits"])
    flows = flows_of(source, destination, flits, packet_flits=packet)
    return simulate(network, flows, "flit").makespan


@pytest.mark.parametrize("place", [0, 1, 2])
def test_latency_under_uniform_traffic_is_the_recorded_one(reference: Path, place: int) -> None:
    with open(reference / "noc" / "steady.csv", newline="") as file:
        row = list(csv.DictReader(file))[place]
    assert (row["cfg"], row["pattern"], row["mode"]) == ("0", "uniform", "latency")
    rate = float(row["offered_flits_node_cycle"])
    found = steady_state(mesh(8, 8), "uniform", rate, 4, seed=1, warm_up=1000, measured=5000)
    assert found.lost == 0
    assert found.latency == pytest.approx(float(row["lat_mean"]), rel=0.03)
