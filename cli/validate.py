"""`wscc validate`: what is predicted beside what was measured, and how far they are apart."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..ir.errors import Location, UserError
from ..report import validation as report
from ..report.files import check_folder, save_files
from ..report.json_report import print_json
from .asked import Validate
from .validation import figures
from .validation.figure import Figure, errors


def validate(command: Validate) -> int:
    """Predict every figure and print the errors by cohort; raises UserError."""
    folder = None if command.data is None else Path(command.data)
    if folder is not None and not folder.is_dir():
        raise UserError("--data: no such folder", Location(str(folder)))
    if command.directory is not None:
        check_folder(command.directory)
    found = _predicted(command, folder)
    if not found:
        raise UserError(
            f"there is no measurement that wscc knows in {folder}; docs/accuracy.md names the files"
            if folder is not None
            else f"no figures of the cohort '{command.cohort}' are carried; give --data DIR"
        )
    made = to_json(found)
    if command.directory is not None:
        files = {"validation.json": print_json(made), "parity.svg": report.parity_svg(made)}
        save_files(command.directory, files)
    sys.stdout.write(print_json(made) if command.talk.json else report.table(made))
    return 0


def _predicted(command: Validate, folder: Path | None) -> list[Figure]:
    found: list[Figure] = []
    if command.talk.quiet or not sys.stderr.isatty():
        return list(figures(folder, command.cohort))
    from rich.console import Console

    with Console(stderr=True).status("predicting") as status:
        for figure in figures(folder, command.cohort):
            found.append(figure)
            status.update(f"{len(found)} figures: {figure.cohort}, {figure.name}")
    return found


def to_json(found: Sequence[Figure]) -> dict[str, Any]:
    """The object of schema `wscc.validation/1`: errors are shares, not per cent."""
    names = dict.fromkeys(figure.cohort for figure in found)
    return {
        "schema": "wscc.validation/1",
        "wscc_version": __version__,
        "cohorts": [_cohort(name, [f for f in found if f.cohort == name]) for name in names],
        "figures": [asdict(figure) | {"error": figure.error} for figure in found],
    }


def _cohort(name: str, found: Sequence[Figure]) -> dict[str, Any]:
    """Errors of a cohort, and of each kind of its figures where there are several."""
    kinds = dict.fromkeys(figure.kind for figure in found)
    parts = {kind: _halves([f for f in found if f.kind == kind]) for kind in kinds}
    return {"name": name, **_halves(found), "kinds": parts if len(parts) > 1 else {}}


def _halves(found: Sequence[Figure]) -> dict[str, Any]:
    """Errors of all figures, of those that may have fixed constants, and of those that were never
    looked at for one."""
    halves = {
        "all": found,
        "fitted": [figure for figure in found if figure.fitted],
        "predicted": [figure for figure in found if not figure.fitted],
    }
    return {half: asdict(errors(chosen)) if chosen else None for half, chosen in halves.items()}
