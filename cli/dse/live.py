"""A search while it runs, on standard error: a view that changes in place where a person watches a
terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...dse.coordinator import Progress
from ...dse.trial import ENDED
from ...report.quantities import count, percent
from ...report.study_data import duration
from ...report.study_table import StudyStatus, front_lines, spent_lines
from ..asked import Talk
from .opened import Opened
from .reading import status_of

if TYPE_CHECKING:
    from rich.console import RenderableType

FRAME_S = 0.5
LINE_S = 10.0
"""How long a view, and a line, stand at least."""
SHARE = 0.02
"""Of the time, at most, that reading the study for the view may take."""
MOST_BEST = 8

OnChange = Callable[[Progress], None]


class Meter:
    """Measures the pace of one run of a study."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before: float | None = None
        self._ended = 0

    def text(self, progress: Progress) -> str:
        """`35% of the budget, 12.0 trials/min, 3 min 20 s left`."""
        ran_s = max(time.monotonic() - self._began, 1e-9)
        if self._before is None:
            self._before = progress.share
        done = progress.share - self._before
        left = f", {duration(ran_s * (1 - progress.share) / done)} left" if done > 0 else ""
        rate = 60 * self._ended / ran_s
        return f"{percent(progress.share)} of the budget, {rate:.3g} trials/min{left}"

    def count(self, progress: Progress) -> None:
        """Take note of a trial that has ended."""
        self._ended += progress.trial is not None and progress.trial.state in ENDED


@contextmanager
def preparing(talk: Talk) -> Iterator[None]:
    """Say that a search is being prepared, where a person watches a terminal."""
    if talk.quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status("reading the model, mapping it onto the spec's defaults"):
        yield


@contextmanager
def watching(study: Opened, talk: Talk) -> Iterator[OnChange]:
    """What the coordinator calls whenever something changed, as long as it runs."""
    if talk.quiet:
        yield lambda _: None
        return
    meter = Meter()

    def now() -> StudyStatus:
        return status_of(Opened(study.name, study.store))

    if not sys.stderr.isatty():

        def write(progress: Progress) -> None:
            sys.stderr.write(f"{progress_line(now(), meter.text(progress))}\n")
            sys.stderr.flush()

        yield _Seldom(meter, write, LINE_S)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def show(progress: Progress) -> None:
            live.update(_view(now(), progress, meter.text(progress)), refresh=True)

        yield _Seldom(meter, show, FRAME_S)


class _Seldom:
    """Shows a change at most every so many seconds, and so that it takes little of the time."""

    def __init__(self, meter: Meter, show: OnChange, every_s: float) -> None:
        self._meter = meter
        self._show = show
        self._every_s = every_s
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        self._meter.count(progress)
        began = time.monotonic()
        if began < self._next:
            return
        self._show(progress)
        ended = time.monotonic()
        self._next = ended + max(self._every_s, (ended - began) / SHARE)


def progress_line(status: StudyStatus, pace: str) -> str:
    """How far a search is, on one line: `12 done at fluid; front 4, hypervolume 0.610; ...`."""
    done = [(name, status.counts.get((name, "done"), 0)) for name in status.head.fidelities]
    parts = [f"{count(number)} done at {name}" for name, number in done if number] or ["none done"]
    failed = sum(number for (_, state), number in status.counts.items() if state == "failed")
    parts += [f"{count(failed)} failed"] if failed else []
    return f"{', '.join(parts)}; front {_front(status)}; {pace}"


def _front(status: StudyStatus) -> str:
    share = "" if status.hypervolume is None else f", hypervolume {status.hypervolume:.3f}"
    return f"{count(len(status.front))}{share}"


def _view(status: StudyStatus, progress: Progress, pace: str) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=1.0, completed=progress.share, width=40), pace)
    head = status.head
    best = front_lines(head, status.front[:MOST_BEST]) if status.front else ()
    lines = [*spent_lines(status), f"  front        {_front(status)}", "", *best]
    title = Text(f"{head.name}: {head.strategy} on {head.hardware}", "bold")
    return Group(title, bar, Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
