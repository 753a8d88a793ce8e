"""Specs with something wrong in them: each must be a design, or refused with one message.

python benchmarks/fuzz_specs.py [--count 20000] [--seed 0] [--jobs 2] [--keep DIR]

Half are texts drawn from the language (spec_texts.py), half the shipped specs and the files that
they use with words, numbers, units and lines changed. Prints how many were designs and how many
were refused, and what must not be: other exceptions, more than two seconds, a message without line
and column, a misspelt field that nothing refuses. `--keep DIR` writes those specs there.
"""

import argparse
import contextlib
import io
import random
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from wscc.benchmarks.spec_texts import UNITS, WRONG_NUMBERS, misspelt, spec_texts
from wscc.cli.arguments import read_arguments
from wscc.cli.asked import Check
from wscc.cli.check import check
from wscc.frontend.hardware import parse as parser
from wscc.frontend.hardware import source_files
from wscc.frontend.hardware.fields import PARTS, SYSTEM, BlockSpec
from wscc.frontend.hardware.files import SHIPPED
from wscc.ir.errors import UserError

LONGEST_S = 2.0
"""Of the processor's time: a spec that takes longer hangs."""

BAD = ("crashed", "hung", "without place", "misspelt field accepted")

Files = Mapping[str, str]
"""Texts by file name, the spec first, then what it uses."""


class HungError(BaseException):
    """Raised in the middle of whatever takes too long; no handler of errors takes it."""


@dataclass(frozen=True)
class Outcome:
    """What checking a spec came to: a design, refused, or one of BAD; and the message."""

    kind: str
    message: str = ""


def outcome(files: Files, folder: Path) -> Outcome:
    """What the first of the files comes to, which are written into the folder for it."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    try:
        return checked(folder / next(iter(files)))
    finally:
        for name in files:
            (folder / name).unlink()


def checked(spec: Path) -> Outcome:
    """What `wscc check` says of a file."""
    command = read_arguments(["check", str(spec), "--json", "--quiet"])
    assert isinstance(command, Check)
    try:
        with _limited(LONGEST_S), contextlib.redirect_stdout(io.StringIO()):
            check(command)
        return Outcome("design")
    except UserError as error:
        where = error.location
        placed = where is not None and where.line is not None and where.column is not None
        return Outcome("refused" if placed else "without place", error.message)
    except HungError:
        return Outcome("hung", f"more than {LONGEST_S} s")
    except Exception as error:
        return Outcome("crashed", f"{type(error).__name__}: {error} {_place(error)}")


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise HungError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def shipped() -> dict[str, Files]:
    """Every shipped spec that is a design, with the specs that it uses."""
    found: dict[str, Files] = {}
    for path in sorted(SHIPPED.glob("*.wsc")):
        texts = {used.name: used.read_text("utf-8") for used in source_files(path)}
        if "\nsystem" in texts[path.name]:
            found[path.stem] = texts
    return found


def mutated(files: Files, draw: random.Random) -> Files:
    """The files with one to three things wrong in one of them, the spec itself more often."""
    name = next(iter(files)) if draw.random() < 0.7 else draw.choice(list(files))
    text = files[name]
    for _ in range(draw.randint(1, 3)):
        text = draw.choice(MUTATIONS)(text, draw)
    return {**files, name: text}


def with_misspelt_field(files: Files, draw: random.Random) -> tuple[Files, str]:
    """The files with the name of one field or block misspelt in one of them, and what it became."""
    name = next(iter(files)) if draw.random() < 0.7 else draw.choice(list(files))
    text = files[name]
    names = _field_names(text, name)
    start, field = draw.choice(names)
    wrong = misspelt(field, draw.randrange(60))
    while wrong in _known_names():
        wrong += "e"
    line = text.count("\n", 0, start) + 1
    changed = text[:start] + wrong + text[start + len(field) :]
    return {**files, name: changed}, f"{field} as {wrong} in {name}, line {line}"


@lru_cache
def _field_names(text: str, name: str) -> tuple[tuple[int, str], ...]:
    """Where the fields and blocks inside blocks are named in a text, and how."""
    found: list[tuple[int, str]] = []
    depth, begins, before = 0, False, ""
    for word in parser.tokens(text, name):
        if word.type == "NAME" and depth and begins:
            found.append((word.start_pos or 0, str(word)))
        opens = word.type == "LBRACE" and before != "IN"
        depth += opens - (word.type == "RBRACE")
        if word.type == "LBRACE" and before == "IN":
            depth += 1
        begins = word.type == "_SEP" or opens
        before = word.type
    return tuple(found)


@lru_cache
def _known_names() -> frozenset[str]:
    def names(spec: BlockSpec) -> Iterator[str]:
        yield from (*spec.fields, *spec.blocks)
        for inner in spec.blocks.values():
            yield from names(inner)

    specs = (*PARTS.values(), SYSTEM)
    return frozenset(name for spec in specs for name in names(spec)) | frozenset(PARTS)


def _pieces(text: str, draw: random.Random) -> list[str]:
    if draw.random() < 0.3:
        return text.splitlines(keepends=True) or [""]
    return TOKEN.findall(text) or [""]


def _deleted(text: str, draw: random.Random) -> str:
    pieces = _pieces(text, draw)
    del pieces[draw.randrange(len(pieces))]
    return "".join(pieces)


def _doubled(text: str, draw: random.Random) -> str:
    pieces = _pieces(text, draw)
    pieces[draw.randrange(len(pieces))] *= 2
    return "".join(pieces)


def _swapped(text: str, draw: random.Random) -> str:
    pieces = _pieces(text, draw)
    i, j = draw.randrange(len(pieces)), draw.randrange(len(pieces))
    pieces[i], pieces[j] = pieces[j], pieces[i]
    return "".join(pieces)


def _repeated_elsewhere(text: str, draw: random.Random) -> str:
    pieces = _pieces(text, draw)
    pieces.insert(draw.randrange(len(pieces)), draw.choice(pieces))
    return "".join(pieces)


def _replaced(pattern: re.Pattern[str], by: tuple[str, ...], text: str, draw: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    match = draw.choice(found)
    return text[: match.start()] + draw.choice(by) + text[match.end() :]


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _misspelt_word(text: str, draw: random.Random) -> str:
    match = draw.choice(list(WORD.finditer(text)) or [None])
    if match is None:
        return text
    wrong = misspelt(match[0], draw.randrange(60))
    return text[: match.start()] + wrong + text[match.end() :]


TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z_]\w*|[0-9.]+|\s+|.', re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")
NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?")
UNIT = re.compile(r"(?<=[0-9] )[A-Za-z][\w/]*")
SPLICES = (
    "}", "{", "=", "x", "of", "'", '"', "wse", "pe", "(", ")", "..", ",", "when", "from", "in", "@",
    "\0", "\t", "é", "joined", "place 1 x 1 of pe at 0, 0\n", "dead die 0, 0;", "let", "\r", "#",
)  # fmt: skip
MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    _deleted,
    _doubled,
    _swapped,
    _repeated_elsewhere,
    _cut,
    _misspelt_word,
    partial(_replaced, TOKEN, SPLICES),
    partial(_replaced, NUMBER, (*WRONG_NUMBERS, "2", "7", "1000", "1e9")),
    partial(_replaced, UNIT, UNITS),
)


@dataclass
class Tally:
    """How often each outcome came out, and the specs for which it should not have."""

    kinds: Counter[str] = field(default_factory=Counter[str])
    bad: list[tuple[Outcome, Files]] = field(default_factory=list[tuple[Outcome, Files]])
    slowest_s: float = 0.0

    def add(self, found: Outcome, files: Files, seconds: float) -> None:
        self.kinds[found.kind] += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if found.kind in BAD:
            self.bad.append((found, files))

    def join(self, other: "Tally") -> None:
        self.kinds += other.kinds
        self.bad += other.bad
        self.slowest_s = max(self.slowest_s, other.slowest_s)


def fuzz(first_seed: int, count: int) -> Tally:
    """Check so many specs: half of them drawn, the others mutated, a fifth of these misspelt."""
    _remember_shipped()
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def try_out(files: Files) -> Outcome:
            began = perf_counter()
            found = outcome(files, folder)
            tally.add(found, files, perf_counter() - began)
            return found

        @seed(first_seed)
        @settings(
            max_examples=count // 2,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=HealthCheck.all(),
        )
        @given(spec_texts())
        def try_drawn(text: str) -> None:
            try_out({"spec.wsc": text})

        try_drawn()
        draw = random.Random(first_seed)
        specs = list(shipped().values())
        for at in range(count - count // 2):
            files = draw.choice(specs)
            if at % 5:
                try_out(mutated(files, draw))
                continue
            changed, what = with_misspelt_field(files, draw)
            if try_out(changed).kind == "design":
                tally.kinds["design"] -= 1
                tally.add(Outcome("misspelt field accepted", what), changed, 0.0)
    return tally


def _remember_shipped() -> None:
    """Parse a text that many specs use only once: the shipped files are not what is tried."""
    parser.parse = lru_cache(maxsize=64)(parser.parse)


def main() -> int:
    """Fuzz as the arguments say; 1 where something came out that must not."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--keep", type=Path, metavar="DIR")
    given = arguments.parse_args()
    began = perf_counter()
    tally = Tally()
    seeds = range(given.seed, given.seed + given.jobs)
    with ProcessPoolExecutor(given.jobs) as pool:
        for part in pool.map(fuzz, seeds, [given.count // given.jobs] * given.jobs):
            tally.join(part)
    for kind in ("design", "refused", *BAD):
        print(f"{tally.kinds[kind]:>7,}  {kind}")
    print(f"slowest {tally.slowest_s:.2f} s; all in {perf_counter() - began:.0f} s")
    for (kind, message), count in Counter((o.kind, o.message) for o, _ in tally.bad).most_common():
        print(f"{count:>7,}  {kind}: {message}")
    if given.keep is not None:
        for at, (_, files) in enumerate(tally.bad):
            folder = given.keep / str(at)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8", newline="")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
