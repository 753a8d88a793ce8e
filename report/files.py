"""The files that a run leaves in a folder: each written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ir.errors import Location, UserError
from ..ir.store import write_text
from .json_report import print_json


def check_folder(directory: str | Path) -> None:
    """Raise UserError where `directory` is not a folder and cannot become one; makes nothing."""
    if not str(directory):
        raise UserError("the name of the folder to write to is empty")
    path = Path(directory)
    for parent in (path, *path.parents):
        if parent.is_dir():
            return
        if parent.exists():
            raise UserError("is a file, expected a folder", Location(str(parent)))


def save_files(directory: str | Path, files: Mapping[str, str]) -> None:
    """Write texts by file name into a folder, which is made where there is none.

    Raises UserError where the folder or a file in it cannot be written.
    """
    folder = Path(directory)
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(folder / name, text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be written: {reason}", Location(str(folder))) from None


def save(report: Mapping[str, Any], others: Mapping[str, str], directory: str | Path) -> None:
    """Write report.json and other texts by file name: the program, the trace."""
    save_files(directory, {"report.json": print_json(report), **others})
