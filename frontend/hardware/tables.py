"""Tables of measured figures that a spec uses: a CSV file of numbers, its keys in front.

`macros.area_um2(32, 128)` is the figure of the row whose first columns are 32 and 128.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import Location, UserError, nearest

MAX_BYTES = 4_000_000
MAX_COLUMNS = 100
SHOWN = 60
"""Characters of a row that a message quotes."""
KEY_TOLERANCE = 1e-9
"""Relative: a key of 3 * 0.1 finds the row of 0.3."""


@dataclass(frozen=True)
class Table:
    """The columns of a file by name, as arrays of equal length."""

    path: Path
    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]

    def check(self, column: str, keys: int, location: Location | None) -> None:
        """Raise UserError for a column that is not there, and for keys that do not tell rows
        apart."""
        if column not in self.names:
            raise UserError(
                f"table {self.path.name} has no column '{column}'{nearest(column, self.names)}",
                location,
            )
        if keys > len(self.names):
            raise UserError(
                f"table {self.path.name} has {len(self.names)} columns, got {keys} keys", location
            )
        if not self._tells_apart(keys):
            raise UserError(
                f"table {self.path.name}: several rows have the same "
                + ", ".join(self.names[:keys]),
                location,
            )

    @cached_property
    def _tells_apart(self) -> Any:
        @lru_cache
        def tells(keys: int) -> bool:
            return len({*zip(*(c.tolist() for c in self.columns[:keys]), strict=True)}) == len(
                self.columns[0]
            )

        return tells

    @cached_property
    def _rows(self) -> dict[tuple[float, ...], int]:
        """Every leading run of keys to its row, the last where several rows share it."""
        rows = list(zip(*(column.tolist() for column in self.columns), strict=True))
        return {row[:keys]: at for at, row in enumerate(rows) for keys in range(1, len(row) + 1)}

    def figure(self, column: str, keys: Sequence[Any]) -> Any:
        """The figure of a row, nan where no row has these keys; keys may be arrays."""
        values = self.columns[self.names.index(column)]
        single = not any(isinstance(key, np.ndarray) for key in keys)
        if single and (at := self._rows.get(tuple(float(key) for key in keys))) is not None:
            return float(values[at])
        code, there = self._coded(keys)
        figures = np.full(self._codes(len(keys))[1], math.nan)
        figures[self._codes(len(keys))[0]] = values
        found = np.where(there, figures[np.where(there, code, 0)], math.nan)
        return float(found[0]) if single else found

    def _coded(self, keys: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """A number for each combination of keys, and whether each of them is in its column."""
        code, there = np.zeros(1, int), np.ones(1, bool)
        for key, column in zip(keys, self.columns, strict=False):
            known = np.unique(column)
            least = key - KEY_TOLERANCE * np.abs(key)
            at = np.searchsorted(known, least).clip(max=len(known) - 1)
            near = np.isclose(known[at], key, rtol=KEY_TOLERANCE, atol=0.0)
            code, there = code * len(known) + at, there & near
        return code, there

    def _codes(self, keys: int) -> tuple[np.ndarray, int]:
        """The number of each row's combination of keys, and how many combinations there are."""
        code, _ = self._coded(self.columns[:keys])
        return code, math.prod(len(np.unique(column)) for column in self.columns[:keys])


def read_table(path: Path) -> Table:
    """The table of a CSV file whose first line names its columns; raises UserError."""
    location = Location(str(path), 1, 1)
    names, *rows = _lines(path, location)
    if len(names.cells) > MAX_COLUMNS:
        raise UserError(f"a table has at most {MAX_COLUMNS} columns", location)
    for name in names.cells:
        if not name.isidentifier() or names.cells.count(name) > 1:
            raise UserError(f"'{name}' cannot name a column, or is repeated", location)
    if not rows:
        raise UserError("the table has no rows", location)
    wanted = len(names.cells)
    columns = [[_number(row, at, wanted, path) for row in rows] for at in range(wanted)]
    return Table(path, tuple(names.cells), tuple(np.array(column, float) for column in columns))


@dataclass(frozen=True)
class _Line:
    number: int
    cells: list[str]


def _lines(path: Path, location: Location) -> list[_Line]:
    """The lines of a table that are not empty, one or more."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"a table of more than {MAX_BYTES:,} bytes", location)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [_Line(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error):
        lines = []
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise UserError(f"cannot read the file: {reason}", location) from None
    if not lines:
        raise UserError("expected a table: a line of names, then lines of numbers", location)
    return lines


def _number(row: _Line, at: int, columns: int, path: Path) -> float:
    try:
        if len(row.cells) == columns and math.isfinite(number := float(row.cells[at])):
            return number
    except ValueError:
        pass
    written = ",".join(row.cells)
    shown = written if len(written) <= SHOWN else f"{written[:SHOWN]}.."
    raise UserError(
        f"expected {columns} numbers in the row '{shown}'", Location(str(path), row.number, 1)
    )
