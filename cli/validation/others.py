"""Traffic on a network beside a cycle-accurate simulator, and chips beside what is published."""

from collections.abc import Iterator
from pathlib import Path

from ...frontend.hardware.published import compare, published_figures
from .. import pipeline
from .figure import Figure

CHIPS = ("wse1", "wse2", "wse3", "dojo", "a100", "h100")


def network(folder: Path | None) -> Iterator[Figure]:
    """Cycles until the last message of a case has come, by the flow model (`fluid`)."""
    from ...backend.noc.case import read_case
    from ...backend.noc.simulate import simulate

    for path in [] if folder is None else _cases(folder):
        case = read_case(path)
        if case.measured is None:
            continue
        found = simulate(case.network, case.flows, "fluid").makespan
        measured = float(case.measured.makespan)
        yield Figure("network", case.id, "cycles", measured, float(found), False, "BookSim2")


def _cases(folder: Path) -> list[Path]:
    """Cases of `wscc noc`: in the folder, or where the reference data has them."""
    for place in (folder, folder / "phases", folder / "noc" / "phases"):
        if found := sorted(place.glob("*.json")):
            return found
    return []


def chips(folder: Path | None) -> Iterator[Figure]:
    """Counts, peaks, areas and powers of the shipped specs. A figure that a spec states in part
    is marked as one that was fitted."""
    from ...backend.physics.headline import headlines

    for name in CHIPS if folder is None else ():
        space = pipeline.load_hardware(name)
        lines = headlines(space.bind())
        computed = {key: (line.value, line.stated) for key, line in lines.items()}
        for line in compare(published_figures(space.file.path), computed):
            known = line.published
            yield Figure(
                "chips",
                f"{name} {known.figure}",
                known.unit or "1",
                known.value,
                line.computed,
                line.stated > 0,
                known.source,
            )
