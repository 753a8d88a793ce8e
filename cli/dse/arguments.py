"""The command line of `wscc-dse`: flags of a search, and verbs on a study.

argparse splits and documents; every check and every message is ours.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.errors import UserError
from ...ir.result import FIDELITIES, Fidelity
from ..asked import Help
from ..model_options import DTYPES, STORED_DTYPES
from ..parser import (
    PHASES,
    Parser,
    add_sizes,
    add_talk,
    read_command,
    read_overrides,
    read_seed,
    read_talk,
)
from ..pins import one_of, whole
from .asked import (
    Asked,
    Combine,
    Compare,
    Engine,
    Enqueue,
    Export,
    Page,
    Pareto,
    Plot,
    Retry,
    Search,
    Show,
    Status,
)
from .workload import read_workloads

if TYPE_CHECKING:
    from ...dse.objective import Limit, Objective

MAX_WORKERS = 1 << 12
MAX_RETRIES = 100
MAX_TRIAL = 10**12

STRATEGIES = ("random", "sobol", "nsga2", "bo", "mfbo", "exhaustive", "certified")
COMBINES: tuple[Combine, ...] = ("separate", "weighted", "worst")
ENGINES: tuple[Engine, ...] = ("local", "ray")
OBJECTIVES = ("tokens_per_s", "power_nameplate_w")
"""What is searched for unless it is stated: speed, and what has to be fed and cooled for it."""

VERBS = {
    "status": "how far a study is; --watch: again and again",
    "pareto": "its best designs",
    "show": "everything of a trial",
    "enqueue": "have a design of yours evaluated",
    "retry": "try again what failed",
    "export": "trials as CSV or Parquet, best designs as .wsc files",
    "report": "one page: front, progress, what matters, best designs to download",
    "plot": "front, hypervolume against cost, parallel coordinates, importance",
    "compare": "studies with each other",
}


def read_arguments(arguments: Sequence[str]) -> Asked | Help:
    """The command that the arguments spell; raises UserError for a mistake."""
    return read_command(arguments, VERBS, _READERS)


def _search_parser() -> Parser:
    verbs = "\n".join(f"  {verb:<8} {what}" for verb, what in VERBS.items())
    parser = Parser(
        prog="wscc-dse",
        usage="wscc-dse --hw FILE --model CONFIG [flags]\n       wscc-dse VERB STUDY [flags]",
        description="Search the parameters that a .wsc file leaves open for the best designs. "
        "The same command again goes on where it stopped.",
        epilog=f"verbs on a study (each has its own --help):\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="the version of wscc")
    _add_what(parser.add_argument_group("what is searched"))
    _add_how(parser.add_argument_group("how"))
    add_talk(parser)
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--hw", metavar="FILE", help="a .wsc file with open parameters, or a shipped spec by name")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter held fixed")
    add("--model", metavar="CONFIG", help="a Hugging Face config.json, or the folder that holds it")
    add("--phase", default="prefill", metavar="PHASE", help=" or ".join(PHASES))
    add_sizes(group)
    add("--dtype", metavar="NAME", help=f"{', '.join((*DTYPES, *STORED_DTYPES))} (the config's)")
    add(
        "--workload",
        action="append",
        default=[],
        metavar="TEXT",
        help="one of several, as 'decode: model=llama.json, phase=decode, batch=8, weight=2'; "
        "what it does not state is taken from the flags",
    )
    add("--combine", default="separate", metavar="HOW", help="workloads: " + ", ".join(COMBINES))
    add(
        "--objective",
        action="append",
        default=[],
        metavar="FIGURE",
        help=f"of the report, or min:FIGURE, max:FIGURE ({', '.join(OBJECTIVES)})",
    )
    add("--constraint", action="append", default=[], metavar="TEXT", help="'power_w <= 15000'")


def _add_how(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--study", metavar="DIR", help="where trials are kept, or postgresql://... (SPEC-study)")
    add(
        "--budget",
        default="100",
        metavar="B",
        help="evaluations at the top fidelity, others counted by what they take, or a time: "
        "90s, 30m, 2h (100)",
    )
    add("--strategy", metavar="NAME", help=", ".join(STRATEGIES))
    add("--epsilon", metavar="X", help="certified: a front within this fraction of the best (0)")
    add(
        "--fidelity",
        default="fluid",
        metavar="LEVEL",
        help="the top: bound, fluid (default) or flit",
    )
    add("--seed", default="0", metavar="N", help="of whatever draws at random (0)")
    add("--workers", default="1", metavar="N", help="processes that evaluate (1)")
    add("--engine", default="local", metavar="NAME", help=" or ".join(ENGINES))
    add("--address", metavar="HOST:PORT", help="of a running Ray cluster (one is started here)")
    add("--timeout", metavar="S", help="of one evaluation: 90s, 30m (none)")
    add("--retries", default="1", metavar="N", help="of an evaluation whose worker dies (1)")
    add("--optuna-journal", metavar="FILE", help="mirror the study there, for optuna-dashboard")


def _read_search(values: argparse.Namespace) -> Search | Help:
    if values.version:
        from ... import __version__

        return Help(f"wscc-dse {__version__}\n", 0)
    if values.hw is None:
        raise UserError("--hw FILE is missing")
    workloads = read_workloads(values)
    objectives, limits = _wanted(values)
    engine = one_of("--engine", values.engine, ENGINES)
    if values.address is not None and engine != "ray":
        raise UserError("--address is of a Ray cluster, and needs --engine ray")
    strategy = values.strategy
    if strategy is not None:
        one_of("--strategy", strategy, STRATEGIES)
    return Search(
        hardware=values.hw,
        workloads=workloads,
        objectives=objectives,
        limits=limits,
        study=values.study or f"{Path(values.hw).stem}-study",
        talk=read_talk(values),
        combine=next(
            how for how in COMBINES if how == one_of("--combine", values.combine, COMBINES)
        ),
        overrides=read_overrides(values.set),
        budget=values.budget,
        strategy=strategy,
        epsilon=_epsilon(values.epsilon, strategy),
        fidelity=_fidelity(values.fidelity),
        seed=read_seed(values.seed),
        workers=whole("--workers", values.workers, MAX_WORKERS, least=0),
        engine="ray" if engine == "ray" else "local",
        address=values.address,
        timeout_s=None if values.timeout is None else seconds("--timeout", values.timeout),
        retries=whole("--retries", values.retries, MAX_RETRIES, least=0),
        journal=values.optuna_journal,
    )


def _fidelity(text: str) -> Fidelity:
    one_of("--fidelity", text, FIDELITIES)
    return next(known for known in FIDELITIES if known == text)


def _wanted(values: argparse.Namespace) -> "tuple[tuple[Objective, ...], tuple[Limit, ...]]":
    from ...dse.objective import read_limit, read_objective

    objectives = tuple(read_objective(text) for text in values.objective or OBJECTIVES)
    figures = [each.figure for each in objectives]
    for figure in figures:
        if figures.count(figure) > 1:
            raise UserError(f"--objective: {figure} is repeated")
    return objectives, tuple(read_limit(text) for text in values.constraint)


def _epsilon(text: str | None, strategy: str | None) -> float | None:
    if text is None:
        return None
    if strategy != "certified":
        raise UserError("--epsilon is of --strategy certified, which proves how near its front is")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value < 1:
        return value
    raise UserError(f"--epsilon: '{text}' is no number from 0 to 1")


_TIMES = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(what: str, text: str) -> float:
    """`90s`, `30m`, `2h`, or `90` as seconds; raises UserError."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _TIMES else (text, "s")
    try:
        value = float(number) * _TIMES[unit]
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value > 0:
        return value
    raise UserError(f"{what}: '{text}' is no time, expected 90s, 30m or 2h")


def _verb(name: str, *, trials: str = "") -> Parser:
    """A parser of a verb on one study."""
    parser = Parser(prog=f"wscc-dse {name}", description=f"{VERBS[name].capitalize()}.")
    parser.add_argument("study", metavar="STUDY", nargs="?", help="its folder, or its URL")
    if trials:
        parser.add_argument("trials", metavar="TRIAL", nargs=trials, help="a trial's number")
    return parser


def _study(values: argparse.Namespace, verb: str) -> str:
    if values.study is None:
        raise UserError(f"wscc-dse {verb}: STUDY is missing")
    return values.study


def _status_parser() -> Parser:
    parser = _verb("status")
    parser.add_argument("--watch", action="store_true", help="show it anew until it is interrupted")
    add_talk(parser)
    return parser


def _read_status(values: argparse.Namespace) -> Status:
    talk = read_talk(values)
    if values.watch and talk.json:
        raise UserError("--watch and --json contradict each other: --json prints one object")
    return Status(_study(values, "status"), talk, values.watch)


def _pareto_parser() -> Parser:
    parser = _verb("pareto")
    parser.add_argument("--fidelity", metavar="LEVEL", help="the front of another (the top)")
    add_talk(parser)
    return parser


def _read_pareto(values: argparse.Namespace) -> Pareto:
    return Pareto(_study(values, "pareto"), read_talk(values), values.fidelity)


def _show_parser() -> Parser:
    parser = _verb("show", trials="?")
    add_talk(parser)
    return parser


def _read_show(values: argparse.Namespace) -> Show:
    study = _study(values, "show")
    if values.trials is None:
        raise UserError("wscc-dse show: TRIAL is missing")
    return Show(study, _trial(values.trials), read_talk(values))


def _trial(text: str) -> int:
    return whole("TRIAL", text, MAX_TRIAL, least=0)


def _enqueue_parser() -> Parser:
    parser = _verb("enqueue")
    add = parser.add_argument
    add(
        "design",
        metavar="NAME=VALUE | FILE.wsc",
        nargs="*",
        help="parameters, the others at the spec's defaults; or a spec whose defaults are meant",
    )
    add("--fidelity", metavar="LEVEL", help="at which it is evaluated (the top)")
    add_talk(parser)
    return parser


def _read_enqueue(values: argparse.Namespace) -> Enqueue:
    study, talk, given = _study(values, "enqueue"), read_talk(values), values.design
    if not given:
        raise UserError("wscc-dse enqueue: a design is missing, NAME=VALUE... or FILE.wsc")
    files = [text for text in given if "=" not in text]
    if not files:
        return Enqueue(study, talk, read_overrides(given), fidelity=values.fidelity)
    if len(given) > 1:
        raise UserError(f"wscc-dse enqueue: '{files[0]}' is no NAME=VALUE, nor the only argument")
    return Enqueue(study, talk, file=files[0], fidelity=values.fidelity)


def _retry_parser() -> Parser:
    parser = _verb("retry", trials="*")
    add_talk(parser)
    return parser


def _read_retry(values: argparse.Namespace) -> Retry:
    trials = tuple(_trial(text) for text in values.trials)
    return Retry(_study(values, "retry"), trials, read_talk(values))


def _export_parser() -> Parser:
    parser = _verb("export")
    add = parser.add_argument
    add("--csv", metavar="FILE", help="every trial, a row each")
    add("--parquet", metavar="FILE", help="the same; needs the extra wscc[parquet]")
    add("--wsc", metavar="DIR", help="the best designs, a .wsc file each")
    add_talk(parser)
    return parser


def _read_export(values: argparse.Namespace) -> Export:
    study = _study(values, "export")
    if not any((values.csv, values.parquet, values.wsc)):
        raise UserError("wscc-dse export: say where: --csv FILE, --parquet FILE or --wsc DIR")
    return Export(study, read_talk(values), values.csv, values.parquet, values.wsc)


def _report_parser() -> Parser:
    parser = _verb("report")
    parser.add_argument("-o", dest="directory", metavar="DIR", help="where study.html goes")
    add_talk(parser)
    return parser


def _read_report(values: argparse.Namespace) -> Page:
    study = _study(values, "report")
    return Page(study, _directory(values, "report"), read_talk(values))


def _directory(values: argparse.Namespace, verb: str) -> str:
    if values.directory is None:
        raise UserError(f"wscc-dse {verb}: -o DIR is missing")
    return values.directory


def _plot_parser() -> Parser:
    parser = _verb("plot")
    parser.add_argument("-o", dest="directory", metavar="DIR", help="where the pictures go")
    add_talk(parser)
    return parser


def _read_plot(values: argparse.Namespace) -> Plot:
    study = _study(values, "plot")
    return Plot(study, _directory(values, "plot"), read_talk(values))


def _compare_parser() -> Parser:
    parser = Parser(prog="wscc-dse compare", description=f"{VERBS['compare'].capitalize()}.")
    parser.add_argument("studies", metavar="STUDY", nargs="*", help="two or more, of one problem")
    parser.add_argument("-o", dest="directory", metavar="DIR", help="plot them there too")
    add_talk(parser)
    return parser


def _read_compare(values: argparse.Namespace) -> Compare:
    if len(values.studies) < 2:
        raise UserError("wscc-dse compare: two studies or more are needed")
    return Compare(tuple(values.studies), read_talk(values), values.directory)


_Reader = Callable[[argparse.Namespace], Asked | Help]

_READERS: dict[str, tuple[Callable[[], Parser], _Reader]] = {
    "": (_search_parser, _read_search),
    "status": (_status_parser, _read_status),
    "pareto": (_pareto_parser, _read_pareto),
    "show": (_show_parser, _read_show),
    "enqueue": (_enqueue_parser, _read_enqueue),
    "retry": (_retry_parser, _read_retry),
    "export": (_export_parser, _read_export),
    "report": (_report_parser, _read_report),
    "plot": (_plot_parser, _read_plot),
    "compare": (_compare_parser, _read_compare),
}
