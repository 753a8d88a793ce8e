"""What the command line of `wscc-dse` asks for, as plain frozen values: one class a command."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...ir.graph import Phase
from ...ir.result import Fidelity
from ..asked import Talk

if TYPE_CHECKING:
    from ...dse.objective import Limit, Objective

Combine = Literal["separate", "weighted", "worst"]
Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Work:
    """One step of a model that every design is judged on."""

    name: str
    """Empty where it is the only one."""
    model: str
    phase: Phase = "prefill"
    batch: int = 1
    sequence: int = 2048
    context: int = 2048
    dtype: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Search:
    """`wscc-dse --hw FILE --model CONFIG`: a study begun, or gone on with."""

    hardware: str
    workloads: tuple[Work, ...]
    objectives: "tuple[Objective, ...]"
    study: str
    talk: Talk
    limits: "tuple[Limit, ...]" = ()
    combine: Combine = "separate"
    overrides: tuple[tuple[str, str], ...] = ()
    budget: str = "100"
    strategy: str | None = None
    epsilon: float | None = None
    fidelity: Fidelity = "fluid"
    """The top, at which the front is reported."""
    seed: int = 0
    workers: int = 1
    engine: Engine = "local"
    address: str | None = None
    """Of a running Ray cluster."""
    timeout_s: float | None = None
    retries: int = 1
    journal: str | None = None
    """An Optuna journal that mirrors the study."""


@dataclass(frozen=True)
class Status:
    """`wscc-dse status STUDY`; `watch`: again and again."""

    study: str
    talk: Talk
    watch: bool = False


@dataclass(frozen=True)
class Pareto:
    """`wscc-dse pareto STUDY`; `fidelity`: of another rung than the top."""

    study: str
    talk: Talk
    fidelity: str | None = None


@dataclass(frozen=True)
class Show:
    """`wscc-dse show STUDY TRIAL`."""

    study: str
    trial: int
    talk: Talk


@dataclass(frozen=True)
class Enqueue:
    """`wscc-dse enqueue STUDY name=value...` or `... file.wsc`."""

    study: str
    talk: Talk
    values: tuple[tuple[str, str], ...] = ()
    file: str | None = None
    fidelity: str | None = None


@dataclass(frozen=True)
class Retry:
    """`wscc-dse retry STUDY [TRIAL...]`: all that failed or were lost, where none is named."""

    study: str
    trials: tuple[int, ...]
    talk: Talk


@dataclass(frozen=True)
class Export:
    """`wscc-dse export STUDY`: a table of every trial, the best designs as specs."""

    study: str
    talk: Talk
    csv: str | None = None
    parquet: str | None = None
    specs: str | None = None


@dataclass(frozen=True)
class Plot:
    """`wscc-dse plot STUDY -o DIR`."""

    study: str
    directory: str
    talk: Talk


@dataclass(frozen=True)
class Page:
    """`wscc-dse report STUDY -o DIR`."""

    study: str
    directory: str
    talk: Talk


@dataclass(frozen=True)
class Compare:
    """`wscc-dse compare STUDY STUDY...`; `directory`: where a plot goes."""

    studies: tuple[str, ...]
    talk: Talk
    directory: str | None = None


Reading = Status | Pareto | Show | Export | Page | Plot | Compare
Changing = Enqueue | Retry
Asked = Search | Reading | Changing
