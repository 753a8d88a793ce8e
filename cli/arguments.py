"""The command line: which flags there are, read into the values of asked.py.

argparse splits and documents; every check and every message is ours.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..ir.errors import UserError, nearest
from ..ir.result import FIDELITIES, FLIT_BUDGET_S
from .asked import (
    Cache,
    Check,
    Command,
    Diff,
    Fmt,
    Help,
    Job,
    Noc,
    NocFidelity,
    Run,
    Show,
    Validate,
    Verify,
)
from .model_options import MAX_TOKENS, add_model_options, read_model_options
from .parser import (
    MAX_BATCH,
    PHASES,
    TOKENS,
    Parser,
    add_sizes,
    add_talk,
    read_command,
    read_overrides,
    read_phase,
    read_seed,
    read_talk,
)
from .pins import one_of, read_pins, whole

MAX_LAYERS = 1 << 16

VERIFIED_TOKENS = "16"
"""Of a sequence, and in the cache, unless stated: virtual devices take their time."""
TOLERANCE = "1e-5"
NOC_FIDELITIES: tuple[NocFidelity, ...] = ("bound", "fluid", "flit")
MAX_BUDGET = 10**15
MAX_FLIT_BUDGET_S = 10**7

VERBS = {
    "check": "validate and summarize a spec",
    "fmt": "lay out the text of a spec",
    "show": "print the model graph",
    "noc": "simulate traffic on a network",
    "verify": "run the mapped program on virtual devices, compare with the unsplit model",
    "diff": "two reports or two specs side by side",
    "validate": "predictions beside measurements",
    "cache": "what is cached; clear it",
}


def read_arguments(arguments: Sequence[str]) -> Command:
    """The command that the arguments spell; raises UserError for a mistake."""
    return read_command(arguments, VERBS, _READERS)


def _run_parser() -> Parser:
    verbs = "\n".join(f"  {verb:<8} {what}" for verb, what in VERBS.items())
    parser = Parser(
        prog="wscc",
        usage="wscc --hw FILE --model CONFIG [flags]\n       wscc COMMAND [flags]",
        description="Compile a large language model onto a wafer-scale chip and say what happens.",
        epilog=f"commands (each has its own --help):\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--version", action="store_true", help="the version of wscc")
    _add_job(parser)
    _add_fidelity(parser)
    add(
        "-o",
        dest="directory",
        metavar="DIR",
        help="write report.html, report.json, trace.json, program.txt",
    )
    add("--explain", action="store_true", help="what limits the run, and what would help")
    add("--no-cache", action="store_true", help="neither read nor write the cache")
    add("--print-after", metavar="PASS", help="print the program after a pass")
    add("--dump-ir", metavar="DIR", help="write the program after every pass there")
    add_talk(parser)
    return parser


def _add_job(parser: argparse.ArgumentParser, tokens: str = TOKENS, hardware: bool = True) -> None:
    add = parser.add_argument
    if hardware:
        add("--hw", metavar="FILE", help="a .wsc file, or a shipped spec by name (wse2)")
    add("--model", metavar="CONFIG", help="a Hugging Face config.json, or the folder that holds it")
    add("--phase", default="prefill", metavar="PHASE", help=" or ".join(PHASES))
    add_sizes(parser, tokens)
    add_model_options(parser)
    add("--region", metavar="RxC", help="rows x columns of cores of one stage of one replica")
    add("--mapping", metavar="PINS", help="pins, for instance dp=2,tp=420x420,pp=4,microbatch=1")
    add("--layers", metavar="N", help="only N repeated layers, no embedding or head")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the spec")
    add("--seed", default="0", metavar="N", help="of whatever draws at random (0)")


def _add_fidelity(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--fidelity", default="fluid", metavar="LEVEL", help="bound, fluid (default) or flit")
    budget = f"seconds that flit may simulate the network ({FLIT_BUDGET_S:.0f})"
    add("--flit-budget", metavar="N", help=budget)


def _read_run(values: argparse.Namespace) -> Run | Help:
    if values.version:
        from .. import __version__

        return Help(f"wscc {__version__}\n", 0)
    job = _with_fidelity(_read_job(values), values)
    return Run(
        job,
        read_talk(values),
        directory=values.directory,
        cache=not values.no_cache,
        print_after=values.print_after,
        dump_ir=values.dump_ir,
        explain=values.explain,
    )


def _read_job(values: argparse.Namespace, where: str = "") -> Job:
    for name, what in (("hw", "FILE"), ("model", "CONFIG")):
        if getattr(values, name) is None:
            raise UserError(f"{where}--{name} {what} is missing")
    phase = read_phase(values.phase)
    batch = whole("--batch", values.batch, MAX_BATCH)
    pins = read_pins(values.mapping, values.region, phase)
    pins.check_batch(batch)
    return Job(
        hardware=values.hw,
        model=values.model,
        phase=phase,
        batch=batch,
        sequence=whole("--sequence", values.sequence, MAX_TOKENS),
        context=whole("--context", values.context, MAX_TOKENS),
        options=read_model_options(values),
        pins=pins,
        layers=_layers(values.layers),
        overrides=read_overrides(values.set),
        seed=read_seed(values.seed),
    )


def _verify_parser() -> Parser:
    parser = Parser(
        prog="wscc verify",
        description="Run a mapped program on virtual devices with random weights, and compare "
        "every output with that of the model run unsplit.",
    )
    _add_job(parser, VERIFIED_TOKENS)
    add = parser.add_argument
    add("--tolerance", default=TOLERANCE, metavar="X", help=f"of the relative error ({TOLERANCE})")
    add("--no-cache", action="store_true", help="do not use the cache")
    add_talk(parser)
    return parser


def _read_verify(values: argparse.Namespace) -> Verify:
    job = _read_job(values, "wscc verify: ")
    return Verify(job, _tolerance(values.tolerance), read_talk(values), cache=not values.no_cache)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < 1:
        return value
    raise UserError(f"--tolerance: '{text}' is no number from 0 to 1")


def _check_parser() -> Parser:
    parser = Parser(prog="wscc check", description="Validate a spec and summarize it.")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .wsc file or a shipped spec")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--count", action="store_true", help="how many points its space has, and how many hold"
    )
    add_talk(parser)
    return parser


def _read_check(values: argparse.Namespace) -> Check:
    if values.file is None:
        raise UserError("wscc check: FILE is missing")
    return Check(values.file, read_overrides(values.set), read_talk(values), values.count)


def _fmt_parser() -> Parser:
    parser = Parser(prog="wscc fmt", description="Lay out the text of a spec, in place.")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .wsc file; - is standard input")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if it would")
    add_talk(parser)
    return parser


def _read_fmt(values: argparse.Namespace) -> Fmt:
    if values.file is None:
        raise UserError("wscc fmt: FILE is missing")
    return Fmt(values.file, values.check, read_talk(values))


def _show_parser() -> Parser:
    parser = Parser(
        prog="wscc show",
        description="Print what a config holds and does by kind of layer, and its graph.",
    )
    parser.add_argument("--model", metavar="CONFIG", help="a config.json or its folder")
    parser.add_argument("--phase", default="prefill", metavar="PHASE", help=" or ".join(PHASES))
    add_sizes(parser)
    add_model_options(parser)
    parser.add_argument(
        "-o",
        dest="directory",
        metavar="DIR",
        help="write model.txt, model.json and model.svg there",
    )
    parser.add_argument("--no-cache", action="store_true", help="do not use the cache")
    add_talk(parser)
    return parser


def _read_show(values: argparse.Namespace) -> Show:
    if values.model is None:
        raise UserError("wscc show: --model CONFIG is missing")
    return Show(
        model=values.model,
        talk=read_talk(values),
        phase=read_phase(values.phase),
        batch=whole("--batch", values.batch, MAX_BATCH),
        sequence=whole("--sequence", values.sequence, MAX_TOKENS),
        context=whole("--context", values.context, MAX_TOKENS),
        options=read_model_options(values),
        directory=values.directory,
        cache=not values.no_cache,
    )


def _noc_parser() -> Parser:
    parser = Parser(
        prog="wscc noc",
        usage="wscc noc CASE.json [flags]\n       wscc noc --compare DIR [flags]",
        description="Simulate traffic on a network, or compare a folder of cases with their "
        "recorded results.",
    )
    add = parser.add_argument
    add("case", metavar="CASE.json", nargs="?", help="a case, see docs/network.md")
    add("--compare", metavar="DIR", help="every case of a folder against its recorded result")
    add("--fidelity", default="fluid", metavar="LEVEL", help="bound, fluid (default) or flit")
    add("--budget", metavar="N", help="most steps of a simulation (2000000000)")
    add_talk(parser)
    return parser


def _read_noc(values: argparse.Namespace) -> Noc:
    if values.case is None and values.compare is None:
        raise UserError("wscc noc: CASE.json or --compare DIR is missing")
    if values.case is not None and values.compare is not None:
        raise UserError("wscc noc: CASE.json and --compare exclude each other")
    one_of("--fidelity", values.fidelity, NOC_FIDELITIES)
    return Noc(
        case=values.case,
        compare=values.compare,
        fidelity=next(level for level in NOC_FIDELITIES if level == values.fidelity),
        budget=None if values.budget is None else whole("--budget", values.budget, MAX_BUDGET),
        talk=read_talk(values),
    )


def _cache_parser() -> Parser:
    parser = Parser(prog="wscc cache", description="List what is cached, or clear it.")
    parser.add_argument("action", nargs="?", metavar="clear", help="remove every entry")
    add_talk(parser)
    return parser


def _read_cache(values: argparse.Namespace) -> Cache:
    if values.action not in (None, "clear"):
        raise UserError(
            f"wscc cache: unknown action '{values.action}'{nearest(values.action, ['clear'])}"
        )
    return Cache(values.action == "clear", read_talk(values))


def _diff_parser() -> Parser:
    parser = Parser(
        prog="wscc diff",
        usage="wscc diff A B [--model CONFIG [flags of a run]]",
        description="What differs between two reports, or two specs; with a model, what it does to "
        "a run of it.",
    )
    names = "a report.json or the folder of one, a .wsc file, or a shipped spec"
    parser.add_argument("before", metavar="A", nargs="?", help=names)
    parser.add_argument("after", metavar="B", nargs="?", help="another one")
    _add_job(parser, hardware=False)
    _add_fidelity(parser)
    parser.add_argument("--no-cache", action="store_true", help="do not use the cache")
    add_talk(parser)
    return parser


def _read_diff(values: argparse.Namespace) -> Diff:
    if values.before is None or values.after is None:
        raise UserError("wscc diff: expected two reports or specs")
    values.hw = values.before
    job = None
    if values.model is not None:
        job = _with_fidelity(_read_job(values, "wscc diff: "), values)
    return Diff(values.before, values.after, read_talk(values), job, not values.no_cache)


def _validate_parser() -> Parser:
    parser = Parser(
        prog="wscc validate",
        description="Predict what was measured on silicon, and print how far off it is.",
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="measurements of a folder in place of those carried here")
    add("--cohort", metavar="NAME", help="only one kind of measurements, such as gpu-training")
    add("-o", dest="directory", metavar="DIR", help="write validation.json and parity.svg there")
    add_talk(parser)
    return parser


def _read_validate(values: argparse.Namespace) -> Validate:
    return Validate(read_talk(values), values.data, values.cohort, values.directory)


def _with_fidelity(job: Job, values: argparse.Namespace) -> Job:
    one_of("--fidelity", values.fidelity, FIDELITIES)
    found = next(level for level in FIDELITIES if level == values.fidelity)
    if values.flit_budget is None:
        return replace(job, fidelity=found)
    if found != "flit":
        raise UserError(f"--flit-budget has no meaning at fidelity {found}")
    budget_s = whole("--flit-budget", values.flit_budget, MAX_FLIT_BUDGET_S)
    return replace(job, fidelity=found, flit_budget_s=float(budget_s))


def _layers(text: str | None) -> int | None:
    return None if text is None else whole("--layers", text, MAX_LAYERS)


_READERS: dict[str, tuple[Callable[[], Parser], Callable[[argparse.Namespace], Command]]] = {
    "": (_run_parser, _read_run),
    "check": (_check_parser, _read_check),
    "fmt": (_fmt_parser, _read_fmt),
    "show": (_show_parser, _read_show),
    "diff": (_diff_parser, _read_diff),
    "cache": (_cache_parser, _read_cache),
    "noc": (_noc_parser, _read_noc),
    "validate": (_validate_parser, _read_validate),
    "verify": (_verify_parser, _read_verify),
}
