"""The command `wscc-dse`: from arguments to an exit code.

0 done, 1 nothing feasible was found or evaluations kept failing, 2 the user's mistake, 3 an
internal error, 130 interrupted.
"""

import sys
from collections.abc import Sequence

from ..main import command_line
from .arguments import read_arguments
from .asked import Asked, Compare, Enqueue, Export, Page, Pareto, Plot, Retry, Search, Show, Status


def main(argv: Sequence[str] | None = None) -> int:
    """Run `wscc-dse` with `argv` (the process's arguments by default); returns the exit code."""
    return command_line("wscc-dse", argv, read_arguments, lambda asked: asked.talk, _carry_out)


def _carry_out(asked: Asked) -> int:
    match asked:
        case Search():
            from .search import search

            return search(asked)
        case Status() | Pareto() | Show():
            from . import reading

            return reading.carry_out(asked)
        case Enqueue() | Retry():
            from . import changing

            return changing.carry_out(asked)
        case Export():
            from .export import export

            return export(asked)
        case Page():
            from .page import report

            return report(asked)
        case Plot() | Compare():
            from . import plotting

            return plotting.carry_out(asked)


if __name__ == "__main__":
    sys.exit(main())
