"""`wscc fmt`: the text of a spec laid out, in place or from standard input to standard output."""

import errno
import os
import stat
import sys
from pathlib import Path

from .. import __version__
from ..ir.errors import Location, UserError
from ..ir.store import write_text
from ..report.json_report import print_json
from .asked import Fmt

STANDARD_INPUT = "-"
_INPUT_NAME = "<stdin>"


def fmt(command: Fmt) -> int:
    """Lay a spec out; 1 where `--check` finds that it is not. Raises UserError."""
    from ..frontend.hardware.files import text_of
    from ..frontend.hardware.format import format_spec

    piped = command.file == STANDARD_INPUT
    name = _INPUT_NAME if piped else command.file
    content = _standard_input() if piped else _content(name)
    text = format_spec(text_of(content, name), name)
    changed = text.encode() != content
    written = changed and not piped and not command.check
    if written:
        _replace(name, text)
    if command.talk.json:
        report = {
            "schema": "wscc.fmt/1",
            "wscc_version": __version__,
            "file": name,
            "changed": changed,
            "written": written,
            "text": text if piped else None,
        }
        sys.stdout.write(print_json(report))
    elif piped and not command.check:
        sys.stdout.buffer.write(text.encode())
    else:
        sys.stdout.write(f"{name}: {_done(changed, written)}\n")
    return 1 if command.check and changed else 0


def _done(changed: bool, written: bool) -> str:
    if not changed:
        return "already formatted"
    return "formatted" if written else "would be formatted"


def _standard_input() -> bytes:
    from ..frontend.hardware.files import MAX_BYTES

    if sys.stdin is None:
        raise UserError("standard input is closed")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _content(name: str) -> bytes:
    from ..frontend.hardware.files import read_bytes

    if os.path.isdir(name):
        raise UserError(f"'{name}' is a folder, expected a .wsc file")
    if not os.path.isfile(name):
        raise UserError(f"no file '{name}'")
    return read_bytes(Path(name))


def _replace(name: str, text: str) -> None:
    """Write the file that is there anew, with its permissions; where it is a link, what it names.

    Raises UserError where it cannot be written.
    """
    path = Path(name).resolve()
    try:
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        write_text(path, text, stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be written: {reason}", Location(name)) from None
