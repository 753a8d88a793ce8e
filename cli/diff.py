"""`wscc diff A B`: what changed between two reports or two specs, and what it did."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..ir.errors import Location, UserError
from ..report.difference import difference, table
from ..report.json_report import SCHEMA, print_json
from . import pipeline
from .asked import Diff, Run


def diff(command: Diff) -> int:
    """Print the difference; raises UserError, also where the two cannot be compared."""
    names = (command.before, command.after)
    before, after = (_object(command, name) for name in names)
    if before["schema"] != after["schema"]:
        raise UserError(
            f"wscc diff: {names[0]} is {_kind(before)}, {names[1]} {_kind(after)}; "
            "expected two of a kind"
        )
    made = difference(before, after)
    sys.stdout.write(print_json(made) if command.talk.json else table(made, names))
    return 0


def _kind(made: dict[str, Any]) -> str:
    return "a report" if made["schema"] == SCHEMA else "a spec"


def _object(command: Diff, name: str) -> dict[str, Any]:
    """The report at a path, or what is known of a spec: its facts, or a run on it."""
    path = Path(name)
    if (path / "report.json").is_file():
        path /= "report.json"
    if path.suffix == ".json":
        return _report(path)
    if command.job is None:
        from .check import report

        space = pipeline.load_hardware(name)
        bound = space.bind()
        parts = {key: part for key, part in asdict(bound).items() if key != "constraints"}
        return report(space, bound) | {"hardware": _plain(parts)}
    from .run import evaluated

    job = replace(command.job, hardware=name)
    return evaluated(Run(job, command.talk, cache=command.cache)).report


def _plain(part: Any) -> Any:
    """A tree of hardware without lists: parts by their names, places as how many they are."""
    if isinstance(part, dict):
        return {name: _plain(inner) for name, inner in part.items()}
    if not isinstance(part, tuple | list):
        return part
    if not all(isinstance(each, dict) for each in part):
        return len(part)
    named = {str(each.get("name", each.get("edge", at))): each for at, each in enumerate(part)}
    return {name: _plain(inner) for name, inner in named.items()}


def _report(path: Path) -> dict[str, Any]:
    where = Location(str(path))
    try:
        made = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where) from None
    except ValueError as error:
        raise UserError(f"is no JSON: {error}", where) from None
    if not isinstance(made, dict) or made.get("schema") != SCHEMA:
        raise UserError(f"is no report of wscc: expected the schema {SCHEMA}", where)
    return made
