"""`wscc noc`: one case of network traffic, or a folder of them against their recorded results."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

from .. import __version__
from ..ir.errors import Location, UserError
from ..report.json_report import print_json
from .asked import Noc

if TYPE_CHECKING:
    from ..backend.noc.compare import Row
    from ..backend.noc.simulate import Outcome

HOTTEST = 5
WORST = 5


def noc(command: Noc) -> int:
    """Run a case, or compare a folder; raises UserError."""
    if command.case is not None:
        _one(command, Path(command.case))
    elif command.compare is not None:
        _compare(command, Path(command.compare))
    return 0


@contextmanager
def _shown(command: Noc) -> Iterator[Callable[[str], None]]:
    """Shows what is going on, unless quiet or not on a terminal."""
    if command.talk.quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling the simulator") as status:
        yield status.update


def _one(command: Noc, path: Path) -> None:
    from ..backend.noc.case import read_case
    from ..backend.noc.compare import warm_up
    from ..backend.noc.simulate import BUDGET, simulate

    case = read_case(path)
    with _shown(command) as show:
        warm_up(command.fidelity)

        def progress(done: int, count: int) -> None:
            show(f"{done} of {count} messages have arrived")

        began = process_time()
        try:
            outcome = simulate(
                case.network,
                case.flows,
                command.fidelity,
                budget=command.budget or BUDGET,
                progress=progress,
            )
        except UserError as error:
            raise UserError(error.message, Location(str(path))) from None
        seconds = process_time() - began
    measured = case.measured
    figures = {
        "schema": "wscc.noc/1",
        "wscc_version": __version__,
        "id": case.id,
        "family": case.family,
        "kind": case.kind,
        "fidelity": outcome.fidelity,
        "makespan": outcome.makespan,
        "reference": None if measured is None else measured.makespan,
        "error": None if measured is None else outcome.makespan / measured.makespan - 1,
        "seconds": seconds,
        "messages": case.flows.count,
        "pieces": outcome.pieces,
        "distinct_pieces": outcome.distinct,
        "finish": outcome.finish.tolist(),
        "hottest": [
            {"channel": name, "flits": flits, "busy": busy}
            for name, flits, busy in outcome.hottest(HOTTEST)
        ],
    }
    if command.talk.json:
        sys.stdout.write(print_json(figures))
    else:
        sys.stdout.write("\n".join(_lines(case.id, outcome, figures["error"], seconds)) + "\n")


def _lines(name: str, outcome: "Outcome", error: float | None, seconds: float) -> Iterator[str]:
    import numpy as np

    network = outcome.network
    yield (
        f"{name}: {network.width} x {network.height} routers, {outcome.flows.count} messages, "
        f"{int(outcome.flows.flits.sum())} flits"
    )
    beside = "" if error is None else f", {error:+.2%} against the recorded result"
    yield f"  makespan   {outcome.makespan} cycles at '{outcome.fidelity}'{beside}"
    if outcome.flows.count:
        low, middle, high = np.percentile(outcome.finish, [0, 50, 95]).round().astype(int)
        yield f"  finish     first {low}, median {middle}, 95th percentile {high}"
    if outcome.fidelity != "bound" and outcome.distinct < outcome.pieces:
        yield (
            f"  simulated  {outcome.distinct} of {outcome.pieces} independent pieces; "
            "the others are copies of them"
        )
    yield f"  took       {seconds:.3f} s of CPU time"
    for channel, flits, busy in outcome.hottest(HOTTEST):
        yield f"  hottest    {channel:<16} {flits:>9} flits, busy {busy:6.1%}"


def _compare(command: Noc, folder: Path) -> None:
    from ..backend.noc.case import read_case
    from ..backend.noc.compare import compared, errors_of, warm_up
    from ..backend.noc.simulate import BUDGET

    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise UserError(f"--compare: {folder} cannot be read: {error.strerror}") from None
    if not paths:
        raise UserError(f"--compare: there is no case (*.json) in {folder}")
    rows: list[Row] = []
    budget = command.budget or BUDGET
    with _shown(command) as show:
        compiling = warm_up(command.fidelity)
        for number, path in enumerate(paths):
            show(f"{number} of {len(paths)} cases: {path.stem}")
            case = read_case(path)
            if case.measured is None:
                raise UserError("has no result to compare with", Location(str(path)))
            try:
                rows.append(compared(case, case.measured, command.fidelity, budget))
            except UserError as error:
                raise UserError(error.message, Location(str(path))) from None
    if not command.talk.json:
        sys.stdout.write("\n".join(_table(command.fidelity, rows, compiling)) + "\n")
        return
    keys = ("id", "family", "kind", "makespan", "reference", "error", "seconds")
    errors = errors_of(rows)
    figures = {
        "cases": [{key: getattr(row, key) for key in keys} for row in rows],
        "mape_makespan": errors.mean,
        "p95_makespan": errors.p95,
        "mape_finish": errors.finish,
    }
    sys.stdout.write(print_json(figures))


def _table(fidelity: str, rows: Sequence["Row"], compiling: float) -> Iterator[str]:
    from ..backend.noc.compare import errors_of

    groups: list[tuple[str, list[Row]]] = [("all cases", list(rows))]
    groups.append(("contended cases", [row for row in rows if row.contended]))
    for part in ("kind", "family"):
        for name in sorted({getattr(row, part) for row in rows}):
            chosen = [row for row in rows if getattr(row, part) == name]
            groups.append((f"{part} {name}", chosen))
    yield f"'{fidelity}' against the recorded results, error of the makespan and of finish times"
    yield ""
    yield f"{'':<20} cases    mean  median     p95  finish"
    for name, chosen in groups:
        if chosen:
            found = errors_of(chosen)
            yield (
                f"{name:<20} {found.cases:>5} {found.mean:>7.2%} {found.median:>7.2%} "
                f"{found.p95:>7.2%} {found.finish:>7.2%}"
            )
    yield ""
    for row in sorted(rows, key=lambda row: -abs(row.error))[:WORST]:
        yield (
            f"worst  {row.id:<32} {row.makespan:>9} for {row.reference:>9} cycles, {row.error:+.2%}"
        )
    took, recorded = sum(row.seconds for row in rows), sum(row.reference_seconds for row in rows)
    yield ""
    speed = f": {recorded / took:.0f} times faster" if recorded and took else ""
    steps = sum(row.steps for row in rows)
    rate = f", {steps / took:.1e} steps a second" if steps and took else ""
    yield (
        f"took {took:.2f} s of CPU time, recorded for the reference {recorded:.2f} s{speed}{rate} "
        f"(without {compiling:.1f} s to load or compile the simulator)"
    )
