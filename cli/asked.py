"""What the command line asks for, as plain frozen values: one class a command.

How arguments become these is arguments.py; what is then done, the modules beside it.
"""

from dataclasses import dataclass, field
from typing import Literal

from ..ir.graph import Phase
from ..ir.pins import Pins
from ..ir.result import FLIT_BUDGET_S, Fidelity
from .model_options import ModelOptions

NocFidelity = Literal["bound", "fluid", "flit"]


@dataclass(frozen=True)
class Talk:
    """How much is said, and in which form."""

    json: bool = False
    verbosity: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class Job:
    """Everything that decides what a run computes."""

    hardware: str
    model: str
    phase: Phase = "prefill"
    batch: int = 1
    sequence: int = 2048
    context: int = 2048
    options: ModelOptions = field(default_factory=ModelOptions)
    fidelity: Fidelity = "fluid"
    flit_budget_s: float = FLIT_BUDGET_S
    pins: Pins = field(default_factory=Pins)
    layers: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """`wscc --hw FILE --model CONFIG`."""

    job: Job
    talk: Talk
    directory: str | None = None
    cache: bool = True
    print_after: str | None = None
    dump_ir: str | None = None
    explain: bool = False


@dataclass(frozen=True)
class Check:
    """`wscc check FILE`; `count`: the points of its space."""

    hardware: str
    overrides: tuple[tuple[str, str], ...]
    talk: Talk
    count: bool = False


@dataclass(frozen=True)
class Fmt:
    """`wscc fmt FILE`; `-` is standard input. `check`: nothing is written."""

    file: str
    check: bool
    talk: Talk


@dataclass(frozen=True)
class Show:
    """`wscc show --model CONFIG`."""

    model: str
    talk: Talk
    phase: Phase = "prefill"
    batch: int = 1
    sequence: int = 2048
    context: int = 2048
    options: ModelOptions = field(default_factory=ModelOptions)
    directory: str | None = None
    cache: bool = True


@dataclass(frozen=True)
class Diff:
    """`wscc diff A B`: two reports or two specs; with a `job`, runs of it on the two specs."""

    before: str
    after: str
    talk: Talk
    job: Job | None = None
    cache: bool = True


@dataclass(frozen=True)
class Validate:
    """`wscc validate`; `data`: a folder of measurements, else those that are carried."""

    talk: Talk
    data: str | None = None
    cohort: str | None = None
    directory: str | None = None


@dataclass(frozen=True)
class Cache:
    """`wscc cache [clear]`."""

    clear: bool
    talk: Talk


@dataclass(frozen=True)
class Noc:
    """`wscc noc CASE.json` or `wscc noc --compare DIR`: one of the two is given."""

    case: str | None
    compare: str | None
    fidelity: NocFidelity
    budget: int | None
    talk: Talk


@dataclass(frozen=True)
class Verify:
    """`wscc verify --model CONFIG --hw FILE`."""

    job: Job
    tolerance: float
    talk: Talk
    cache: bool = True


@dataclass(frozen=True)
class Help:
    """What `--help`, `--version` or no arguments at all ask for: a text and an exit code."""

    text: str
    code: int


Command = Run | Check | Diff | Fmt | Show | Cache | Noc | Validate | Verify | Help
