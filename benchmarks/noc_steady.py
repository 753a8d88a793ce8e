"""Latency and throughput of steady traffic beside BookSim2's: a table on standard output.

python benchmarks/noc_steady.py DIR [SEED]

DIR holds steady.csv and saturation.csv (docs/network.md). Latency is compared up to 70% of the
highest load that BookSim2 found good; throughput where the network is driven at 1.3 times the
load that the busiest channel can carry.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from wscc.backend.noc.arrays import Timing
from wscc.backend.noc.network import Network, mesh
from wscc.backend.noc.open_loop import Steady, steady_state

FRACTION = 0.7
LEAST_PACKETS = 40_000


def network_of(row: dict[str, str]) -> Network:
    """The mesh of a row of steady.csv."""
    side = int(row["k"])
    timing = Timing(
        vcs=int(row["num_vcs"]),
        buffer_flits=int(row["vc_buf_size"]),
        routing=int(row["routing_delay"]),
        vc_allocation=int(row["vc_alloc_delay"]),
        switch_allocation=int(row["sw_alloc_delay"]),
        traversal=int(row["st_final_delay"]),
        credit=int(row["credit_delay"]),
        speculative=row["speculative"] == "1",
    )
    return mesh(side, side, timing, latency=int(row["link_lat"]))


def driven(row: dict[str, str], seed: int) -> Steady:
    """Our measurement of a row, over enough cycles for a stable mean."""
    network, flits = network_of(row), int(row["pkt_flits"])
    rate = float(row["offered_flits_node_cycle"])
    cycles = int(min(20_000, max(4000, LEAST_PACKETS * flits / (rate * network.terminals))))
    return steady_state(
        network,
        row["pattern"],
        rate,
        flits,
        seed=seed,
        warm_up=cycles // 2 if row["mode"] == "throughput" else 2000,
        measured=cycles,
        hotspots=tuple(int(node) for node in row["hotspots"].replace(";", " ").split()),
    )


def main(folder: str, seed: str = "0") -> None:
    """Prints one line a measurement and the errors of all."""
    with open(Path(folder) / "saturation.csv", newline="") as file:
        good = {row["cfg"]: float(row["highest_good_frac"]) for row in csv.DictReader(file)}
    with open(Path(folder) / "steady.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    errors: dict[str, list[float]] = {"latency": [], "throughput": []}
    print("measure     k pattern   flits vcs buf   rate    ours  BookSim2   error")
    for row in rows:
        mode = row["mode"]
        if mode == "latency" and (
            row["stable"] != "1.0"
            or float(row["frac_of_bound"]) > FRACTION * good.get(row["cfg"], 1.0)
        ):
            continue
        found = driven(row, int(seed))
        ours = found.latency if mode == "latency" else found.accepted
        theirs = float(row["lat_mean" if mode == "latency" else "accepted_avg"])
        errors[mode].append(ours / theirs - 1)
        print(
            f"{mode:<10} {row['k']:>2} {row['pattern']:<9} {row['pkt_flits']:>5} "
            f"{row['num_vcs']:>3} {row['vc_buf_size']:>3} "
            f"{float(row['offered_flits_node_cycle']):6.3f} {ours:7.3f} {theirs:9.3f} "
            f"{errors[mode][-1]:+7.2%}",
            flush=True,
        )
    for mode, found in errors.items():
        size = np.abs(found)
        print(f"{mode}: {len(found)} rows, mean error {size.mean():.2%}, most {size.max():.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
