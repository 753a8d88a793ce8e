"""Where measurements are read from: tables of this package, or files of a folder.

The package's tables (measured/*.csv) carry their source in their first line. A folder holds the
files under the names and columns that docs/accuracy.md lists, beside each other or in `measured/`.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from ...ir.errors import Location, UserError

Record = dict[str, str]

CARRIED = Path(__file__).with_name("measured")


def carried(name: str) -> tuple[list[Record], str]:
    """The rows of a table of this package, and their source."""
    text = (CARRIED / name).read_text()
    return _records(text.splitlines()), text.splitlines()[0].removeprefix("# ")


def given(folder: Path, name: str, columns: Iterable[str]) -> list[Record]:
    """The rows of a file of a folder, none where it has no such file.

    Raises UserError for a file that cannot be read or lacks one of the columns.
    """
    path = next((p for p in (folder / name, folder / "measured" / name) if p.is_file()), None)
    if path is None:
        return []
    try:
        rows = _records(path.read_text().splitlines())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read: {error}", Location(str(path))) from None
    for column in columns:
        if rows and column not in rows[0]:
            raise UserError(f"expected a column '{column}'", Location(str(path)))
    return rows


def number(row: Record, column: str, name: str) -> float:
    """A positive number of a row, units behind it left out; raises UserError."""
    text = (row[column] or "").strip()
    try:
        value = float(text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/ "))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{name}: {column}: expected a number above zero, got {text!r}")
    return value


def whole(row: Record, column: str, name: str) -> int:
    """As `number`, a whole one."""
    value = number(row, column, name)
    if value != int(value):
        raise UserError(f"{name}: {column}: expected a whole number, got {row[column]!r}")
    return int(value)


def _records(lines: Iterable[str]) -> list[Record]:
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
