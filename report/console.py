"""A result as a table that a person reads in ten seconds.

What was mapped where, how long it takes, what it draws, what it holds, what limits it and what
would help; first of all, what does not fit. Plain ASCII, so that any terminal shows it.
"""

import textwrap
from typing import TextIO

from rich.console import Console
from rich.text import Text

from ..ir.result import Result
from .lines import headline, rows, shortage

PLAIN_WIDTH = 100
"""Characters a line where the report does not go to a terminal."""

_LABEL_WIDTH = 16


class _Console(Console):
    """Rich's console, which leaves it to the caller what to do when the reader has left."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled


def print_report(result: Result, file: TextIO, notes: bool = False) -> None:
    """Print the report; `notes` adds what the fidelity leaves out or assumes."""
    console = _Console(file=file, highlight=False)
    width = console.width if console.is_terminal else PLAIN_WIDTH

    def write(text: str, style: str = "", indent: int = 0) -> None:
        spaces = " " * indent
        for line in textwrap.wrap(text, width, initial_indent=spaces, subsequent_indent=spaces):
            console.print(Text(line, style=style), soft_wrap=True)

    write(headline(result), "bold")
    for short in result.infeasible:
        write(shortage(short), "bold red", indent=2)
        for change in short.changes:
            write(f"would fit: {change}", indent=4)
    console.print()
    for label, text in rows(result):
        lines = textwrap.wrap(text, width - _LABEL_WIDTH) or [""]
        console.print(Text(f"  {label:<{_LABEL_WIDTH - 2}}", "cyan") + lines[0], soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(" " * _LABEL_WIDTH + line), soft_wrap=True)
    for note in result.limits if notes else ():
        write(f"note: {note}", "dim", indent=2)
