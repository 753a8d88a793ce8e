"""The trials of a study as one table: a row a trial, for a spreadsheet or a data frame.

Values and figures are in SI; what a trial does not have is empty.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ir.errors import Location, UserError
from .study_data import TrialRow

FIXED = (
    "trial",
    "fidelity",
    "state",
    "seconds",
    "attempts",
    "note",
    "reason",
    "worker",
    "on_front",
)


def columns(trials: Sequence[TrialRow], best: frozenset[int]) -> dict[str, list[Any]]:
    """The table by column: FIXED, then `design.NAME` and `figure.NAME`; None where empty.

    `best`: the numbers of the trials on the front.
    """
    found: dict[str, list[Any]] = {
        "trial": [trial.number for trial in trials],
        "fidelity": [trial.fidelity for trial in trials],
        "state": [trial.state for trial in trials],
        "seconds": [trial.seconds for trial in trials],
        "attempts": [trial.attempts for trial in trials],
        "note": [trial.note for trial in trials],
        "reason": [trial.reason for trial in trials],
        "worker": [trial.worker for trial in trials],
        "on_front": [trial.number in best for trial in trials],
    }
    found |= _spread("design", [trial.values for trial in trials])
    return found | _spread("figure", [trial.figures for trial in trials])


def _spread(prefix: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {f"{prefix}.{name}": [row.get(name) for row in rows] for name in names}


def csv_text(table: Mapping[str, Sequence[Any]]) -> str:
    """A table as CSV (RFC 4180), numbers with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table)
    writer.writerows(zip(*(map(_written, column) for column in table.values()), strict=True))
    return out.getvalue()


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


def write_parquet(table: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Write a table as Apache Parquet; raises UserError without pyarrow, or where it cannot."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("--parquet needs pyarrow: pip install 'wscc[parquet]'") from None
    beside = path.with_name(f".{path.name}.part")
    try:
        pyarrow.parquet.write_table(pyarrow.table(dict(table)), beside)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be written: {reason}", Location(str(path))) from None
