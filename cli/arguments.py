"""The command line: which flags there are, read into the values of asked.py.

argparse splits and documents; every check and every message is ours.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from ..ir.errors import UserError, nearest
from ..ir.graph import Phase
from ..ir.result import FIDELITIES, Fidelity
from .asked import (
    Cache,
    Check,
    Command,
    Fmt,
    Help,
    Job,
    Noc,
    NocFidelity,
    Run,
    Show,
    Talk,
    Verify,
)
from .model_options import MAX_TOKENS, add_model_options, read_model_options
from .pins import one_of, read_pins, whole

MAX_BATCH = 1 << 20
MAX_LAYERS = 1 << 16
MAX_SEED = (1 << 31) - 1

PHASES: tuple[Phase, ...] = ("prefill", "decode", "train")
TOKENS = "2048"
VERIFIED_TOKENS = "16"
"""Of a sequence, and in the cache, unless stated: virtual devices take their time."""
TOLERANCE = "1e-5"
FIDELITIES_LATER = ("flit",)
NOC_FIDELITIES: tuple[NocFidelity, ...] = ("bound", "fluid", "flit")
MAX_BUDGET = 10**15

VERBS = {
    "check": "validate and summarize a spec",
    "fmt": "lay out the text of a spec",
    "show": "print the model graph",
    "noc": "simulate traffic on a network",
    "verify": "run the mapped program on virtual devices, compare with the unsplit model",
    "cache": "what is cached; clear it",
}
VERBS_LATER = ("validate", "diff")


class _Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors; help and version are commands of ours."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, **settings)
        self.add_argument("-h", "--help", action="store_true", help="this text")

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The values, with unknown flags refused by the nearest name."""
        found, unknown = self.parse_known_args(arguments)
        for argument in unknown:
            name = argument.partition("=")[0]
            if name.startswith("-"):
                raise UserError(f"unknown flag '{name}'{self._nearest_flag(name)}")
            raise UserError(f"unexpected argument '{argument}'")
        return found

    def _nearest_flag(self, name: str) -> str:
        """A hint: what the flag abbreviates, else what it looks like."""
        flags = list(self._option_string_actions)
        longer = [flag for flag in flags if len(name) > 3 and flag.startswith(name)]
        return f", did you mean '{longer[0]}'?" if longer else nearest(name, flags)


def read_arguments(arguments: Sequence[str]) -> Command:
    """The command that the arguments spell; raises UserError for a mistake."""
    if not arguments:
        return Help(_run_parser().format_help(), 2)
    verb = "" if arguments[0].startswith("-") else arguments[0]
    if verb in VERBS_LATER:
        raise UserError(f"'wscc {verb}' is not built yet")
    if verb not in _READERS:
        raise UserError(f"unknown command '{verb}'{nearest(verb, [*VERBS, *VERBS_LATER])}")
    make_parser, read = _READERS[verb]
    parser, rest = make_parser(), arguments[1:] if verb else arguments
    if "-h" in rest or "--help" in rest:
        return Help(parser.format_help(), 0)
    return read(parser.read(rest))


def _run_parser() -> _Parser:
    verbs = "\n".join(f"  {verb:<8} {what}" for verb, what in VERBS.items())
    parser = _Parser(
        prog="wscc",
        usage="wscc --hw FILE --model CONFIG [flags]\n       wscc COMMAND [flags]",
        description="Compile a large language model onto a wafer-scale chip and say what happens.",
        epilog=f"commands (each has its own --help):\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--version", action="store_true", help="the version of wscc")
    _add_job(parser)
    add("--fidelity", default="fluid", metavar="LEVEL", help="bound or fluid (default)")
    add("-o", dest="directory", metavar="DIR", help="write report.json and program.txt there")
    add("--no-cache", action="store_true", help="neither read nor write the cache")
    add("--print-after", metavar="PASS", help="print the program after a pass")
    add("--dump-ir", metavar="DIR", help="write the program after every pass there")
    _add_talk(parser)
    return parser


def _add_job(parser: argparse.ArgumentParser, tokens: str = TOKENS) -> None:
    add = parser.add_argument
    add("--hw", metavar="FILE", help="a .wsc file, or a shipped spec by name (wse2)")
    add("--model", metavar="CONFIG", help="a Hugging Face config.json, or the folder that holds it")
    add("--phase", default="prefill", metavar="PHASE", help=" or ".join(PHASES))
    _add_sizes(parser, tokens)
    add_model_options(parser)
    add("--region", metavar="RxC", help="rows x columns of cores of one stage of one replica")
    add("--mapping", metavar="PINS", help="pins, for instance dp=2,tp=420x420,pp=4,microbatch=1")
    add("--layers", metavar="N", help="only N repeated layers, no embedding or head")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the spec")
    add("--seed", default="0", metavar="N", help="of whatever draws at random (0)")


def _add_sizes(parser: argparse.ArgumentParser, tokens: str = TOKENS) -> None:
    add = parser.add_argument
    add("--batch", default="1", metavar="N", help="sequences in a step (1)")
    add("--sequence", default=tokens, metavar="N", help=f"tokens of a sequence ({tokens})")
    add("--context", default=tokens, metavar="N", help=f"tokens in the cache ({tokens})")


def _add_talk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "-v", dest="verbosity", action="count", default=0, help="say more (-vv: all)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no warnings")


def _read_run(values: argparse.Namespace) -> Run | Help:
    if values.version:
        from .. import __version__

        return Help(f"wscc {__version__}\n", 0)
    job = replace(_read_job(values), fidelity=_fidelity(values.fidelity))
    return Run(
        job,
        _talk(values),
        directory=values.directory,
        cache=not values.no_cache,
        print_after=values.print_after,
        dump_ir=values.dump_ir,
    )


def _read_job(values: argparse.Namespace, where: str = "") -> Job:
    for name, what in (("hw", "FILE"), ("model", "CONFIG")):
        if getattr(values, name) is None:
            raise UserError(f"{where}--{name} {what} is missing")
    phase = _phase(values.phase)
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
        overrides=_overrides(values.set),
        seed=_seed(values.seed),
    )


def _verify_parser() -> _Parser:
    parser = _Parser(
        prog="wscc verify",
        description="Run a mapped program on virtual devices with random weights, and compare "
        "every output with that of the model run unsplit.",
    )
    _add_job(parser, VERIFIED_TOKENS)
    add = parser.add_argument
    add("--tolerance", default=TOLERANCE, metavar="X", help=f"of the relative error ({TOLERANCE})")
    add("--no-cache", action="store_true", help="do not use the cache")
    _add_talk(parser)
    return parser


def _read_verify(values: argparse.Namespace) -> Verify:
    job = _read_job(values, "wscc verify: ")
    return Verify(job, _tolerance(values.tolerance), _talk(values), cache=not values.no_cache)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < 1:
        return value
    raise UserError(f"--tolerance: '{text}' is no number from 0 to 1")


def _check_parser() -> _Parser:
    parser = _Parser(prog="wscc check", description="Validate a spec and summarize it.")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .wsc file or a shipped spec")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--count", action="store_true", help="how many points its space has, and how many hold"
    )
    _add_talk(parser)
    return parser


def _read_check(values: argparse.Namespace) -> Check:
    if values.file is None:
        raise UserError("wscc check: FILE is missing")
    return Check(values.file, _overrides(values.set), _talk(values), values.count)


def _fmt_parser() -> _Parser:
    parser = _Parser(prog="wscc fmt", description="Lay out the text of a spec, in place.")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .wsc file; - is standard input")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if it would")
    _add_talk(parser)
    return parser


def _read_fmt(values: argparse.Namespace) -> Fmt:
    if values.file is None:
        raise UserError("wscc fmt: FILE is missing")
    return Fmt(values.file, values.check, _talk(values))


def _show_parser() -> _Parser:
    parser = _Parser(
        prog="wscc show",
        description="Print what a config holds and does by kind of layer, and its graph.",
    )
    parser.add_argument("--model", metavar="CONFIG", help="a config.json or its folder")
    parser.add_argument("--phase", default="prefill", metavar="PHASE", help=" or ".join(PHASES))
    _add_sizes(parser)
    add_model_options(parser)
    parser.add_argument(
        "-o",
        dest="directory",
        metavar="DIR",
        help="write model.txt, model.json and model.svg there",
    )
    parser.add_argument("--no-cache", action="store_true", help="do not use the cache")
    _add_talk(parser)
    return parser


def _read_show(values: argparse.Namespace) -> Show:
    if values.model is None:
        raise UserError("wscc show: --model CONFIG is missing")
    return Show(
        model=values.model,
        talk=_talk(values),
        phase=_phase(values.phase),
        batch=whole("--batch", values.batch, MAX_BATCH),
        sequence=whole("--sequence", values.sequence, MAX_TOKENS),
        context=whole("--context", values.context, MAX_TOKENS),
        options=read_model_options(values),
        directory=values.directory,
        cache=not values.no_cache,
    )


def _noc_parser() -> _Parser:
    parser = _Parser(
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
    _add_talk(parser)
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
        talk=_talk(values),
    )


def _cache_parser() -> _Parser:
    parser = _Parser(prog="wscc cache", description="List what is cached, or clear it.")
    parser.add_argument("action", nargs="?", metavar="clear", help="remove every entry")
    _add_talk(parser)
    return parser


def _read_cache(values: argparse.Namespace) -> Cache:
    if values.action not in (None, "clear"):
        raise UserError(
            f"wscc cache: unknown action '{values.action}'{nearest(values.action, ['clear'])}"
        )
    return Cache(values.action == "clear", _talk(values))


def _talk(values: argparse.Namespace) -> Talk:
    if values.quiet and values.verbosity:
        raise UserError("--quiet and -v contradict each other")
    return Talk(values.json, values.verbosity, values.quiet)


def _phase(text: str) -> Phase:
    _built("--phase", text, PHASES, ())
    return next(phase for phase in PHASES if phase == text)


def _fidelity(text: str) -> Fidelity:
    found = _built("--fidelity", text, FIDELITIES, FIDELITIES_LATER)
    return "bound" if found == "bound" else "fluid"


def _built(flag: str, text: str, known: tuple[str, ...], later: tuple[str, ...]) -> str:
    if text in later:
        raise UserError(f"{flag} {text} is not built yet, expected {' or '.join(known)}")
    return one_of(flag, text, known)


def _layers(text: str | None) -> int | None:
    return None if text is None else whole("--layers", text, MAX_LAYERS)


def _seed(text: str) -> int:
    return whole("--seed", text, MAX_SEED, least=0)


def _overrides(items: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise UserError(f"--set: '{item}' is no parameter, expected name=value")
        if name in found:
            raise UserError(f"--set: the parameter '{name}' is repeated")
        found[name] = value
    return tuple(found.items())


_READERS: dict[str, tuple[Callable[[], _Parser], Callable[[argparse.Namespace], Command]]] = {
    "": (_run_parser, _read_run),
    "check": (_check_parser, _read_check),
    "fmt": (_fmt_parser, _read_fmt),
    "show": (_show_parser, _read_show),
    "cache": (_cache_parser, _read_cache),
    "noc": (_noc_parser, _read_noc),
    "verify": (_verify_parser, _read_verify),
}
