"""What the parsers of `wscc` and `wscc-dse` share: unknown flags, and flags that both take."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from ..ir.errors import UserError, nearest
from ..ir.graph import Phase
from .asked import Help, Talk
from .pins import one_of, whole

MAX_BATCH = 1 << 20
MAX_SEED = (1 << 31) - 1

PHASES: tuple[Phase, ...] = ("prefill", "decode", "train")
TOKENS = "2048"


class Parser(argparse.ArgumentParser):
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


Read = TypeVar("Read")


def read_command(
    arguments: Sequence[str],
    verbs: Mapping[str, str],
    readers: Mapping[str, tuple[Callable[[], Parser], Callable[[argparse.Namespace], Read]]],
) -> Read | Help:
    """The command that the arguments spell, of `readers` by verb ("": without one); raises
    UserError for a mistake."""
    if not arguments:
        return Help(readers[""][0]().format_help(), 2)
    verb = "" if arguments[0].startswith("-") else arguments[0]
    if verb not in readers:
        raise UserError(f"unknown command '{verb}'{nearest(verb, verbs)}")
    make_parser, read = readers[verb]
    parser, rest = make_parser(), arguments[1:] if verb else arguments
    if "-h" in rest or "--help" in rest:
        return Help(parser.format_help(), 0)
    return read(parser.read(rest))


def add_sizes(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, tokens: str = TOKENS
) -> None:
    """Give a parser the flags of a step's sizes."""
    add = parser.add_argument
    add("--batch", default="1", metavar="N", help="sequences in a step (1)")
    add("--sequence", default=tokens, metavar="N", help=f"tokens of a sequence ({tokens})")
    add("--context", default=tokens, metavar="N", help=f"tokens in the cache ({tokens})")


def add_talk(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags of `Talk`."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "-v", dest="verbosity", action="count", default=0, help="say more (-vv: all)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no warnings")


def read_talk(values: argparse.Namespace) -> Talk:
    """How much is said; raises UserError."""
    if values.quiet and values.verbosity:
        raise UserError("--quiet and -v contradict each other")
    return Talk(values.json, values.verbosity, values.quiet)


def read_phase(text: str) -> Phase:
    """One of PHASES; raises UserError."""
    one_of("--phase", text, PHASES)
    return next(phase for phase in PHASES if phase == text)


def read_seed(text: str) -> int:
    """A seed of `--seed`; raises UserError."""
    return whole("--seed", text, MAX_SEED, least=0)


def read_overrides(items: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Parameters of a spec by name, of `--set`; raises UserError."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise UserError(f"--set: '{item}' is no parameter, expected name=value")
        if name in found:
            raise UserError(f"--set: the parameter '{name}' is repeated")
        found[name] = value
    return tuple(found.items())
