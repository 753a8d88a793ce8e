"""The command `wscc`: from arguments to an exit code, and what is said when something goes wrong.

0 done, 1 infeasible or a constraint broken, 2 the user's mistake, 3 an internal error,
130 interrupted.
"""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ..ir.errors import UserError
from .arguments import read_arguments
from .asked import Cache, Check, Diff, Fmt, Help, Noc, Run, Show, Talk, Validate, Verify

DONE, INFEASIBLE, MISTAKE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 130

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a standard output that takes no more; other files report their own."""

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


Asked = TypeVar("Asked")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `wscc` with `argv` (the process's arguments by default); returns the exit code."""
    return command_line("wscc", argv, read_arguments, lambda command: command.talk, _carry_out)


def command_line(
    program: str,
    argv: Sequence[str] | None,
    read: Callable[[Sequence[str]], Asked | Help],
    talk_of: Callable[[Asked], Talk],
    carry_out: Callable[[Asked], int],
) -> int:
    """Read a program's arguments and carry them out: its exit code, whatever goes wrong."""
    verbosity = 0
    _open_what_is_closed()
    try:
        command = read(sys.argv[1:] if argv is None else argv)
        if isinstance(command, Help):
            code = _help(command)
        else:
            talk = talk_of(command)
            verbosity = talk.verbosity
            with _logging(talk):
                code = carry_out(command)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(str(error), MISTAKE)
    except KeyboardInterrupt:
        return _fail(f"{program}: interrupted", INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        return DONE
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_ROOM:
            return _internal(program, error, verbosity)
        _discard_output()
        return _fail(f"error: standard output cannot be written: {error.strerror}", MISTAKE)
    except Exception as error:
        if _comes_from_an_interrupt(error):
            return _fail(f"{program}: interrupted", INTERRUPTED)
        return _internal(program, error, verbosity)


def _help(command: Help) -> int:
    stream = sys.stderr if command.code else sys.stdout
    stream.write(command.text)
    return command.code


def _carry_out(command: Run | Check | Diff | Fmt | Show | Cache | Noc | Validate | Verify) -> int:
    match command:
        case Run():
            from .run import run

            return run(command)
        case Diff():
            from .diff import diff

            return diff(command)
        case Noc():
            from .noc import noc

            return noc(command)
        case Validate():
            from .validate import validate

            return validate(command)
        case Verify():
            from .verify import verify

            return verify(command)
        case Fmt():
            from .fmt import fmt

            return fmt(command)
        case Check():
            from .check import check

            return check(command)
        case Show() | Cache():
            from . import commands

            return commands.carry_out(command)


@contextmanager
def _logging(talk: Talk) -> Iterator[None]:
    """Log to standard error while a command runs: warnings, with -v information, -vv everything.

    The logger is then as it was: whoever calls `main` in a program of theirs keeps their own.
    """
    logger = logging.getLogger("wscc")
    level, handlers = logger.level, list(logger.handlers)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.ERROR if talk.quiet else _LEVELS[min(talk.verbosity, 2)])
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code


def _comes_from_an_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt is behind an error: lazy imports of Transformers rename it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _internal(program: str, error: Exception, verbosity: int) -> int:
    if verbosity >= len(_LEVELS) - 1:
        traceback.print_exception(error)
    return _fail(
        f"{program}: internal error: {type(error).__name__}: {error}\n"
        "This is a fault of wscc, not of its input. Please report it with the command, its input "
        "files and what the same command prints with -vv.",
        INTERNAL,
    )


def _open_what_is_closed() -> None:
    """Python has no stream where the process was started with it closed; ours take it for one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _discard_output() -> None:
    """Whoever read our output has left: nothing more goes there, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
