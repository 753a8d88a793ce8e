"""Spec files on disk: finding them, reading them, and the files that they `use`.

Nothing here imports lark or pint before a file is parsed, so that `source_files` stays cheap.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.errors import Location, UserError, nearest

if TYPE_CHECKING:
    from . import syntax
    from .tables import Table

SHIPPED = Path(__file__).parents[2] / "specs"
LANGUAGE_VERSION = 1
TABLE = ".csv"
"""How the name of a table ends; every other file that is used is a spec."""
MAX_BYTES = 150_000
"""Of a spec: one that names all 4,000 dead cores of a WSE-2 has 125,000, and is read in 1.5 s."""
MAX_PARTS = 500
"""Of a spec: each is built and checked, used or not, a wafer in 4 ms."""
MAX_FILES = 50
"""That one spec uses, directly or not; a file that two others use counts twice."""

_USE = re.compile(r'^[ \t]*use[ \t]+"([^"\r\n]*)"', re.MULTILINE)


@dataclass(frozen=True)
class SourceFile:
    """One parsed file: its statements by name, and the specs and tables that it uses by their names
    here."""

    name: str
    path: Path
    parameters: "Mapping[str, syntax.ParameterSyntax]"
    parts: "Mapping[str, syntax.Block | syntax.Copy]"
    system: "syntax.Block | None"
    constraints: "tuple[syntax.ConstraintSyntax, ...]"
    used: "Mapping[str, SourceFile]"
    lets: "Mapping[str, syntax.Let]"
    tables: "Mapping[str, Table]"


def find_spec(name: str) -> Path:
    """The file of that path, else the shipped spec of that name; raises UserError for neither."""
    path = Path(name)
    if os.path.isfile(path):
        return path
    shipped = {spec.stem: spec for spec in sorted(SHIPPED.glob("*.wsc"))}
    if name in shipped:
        return shipped[name]
    if os.path.isdir(name):
        raise UserError(f"'{name}' is a folder, expected a .wsc file")
    raise UserError(
        f"no file '{name}', and no shipped spec of that name ({', '.join(shipped)})"
        f"{nearest(name, shipped)}"
    )


def source_files(name: str | Path) -> list[Path]:
    """The spec file and, in order of first mention, every file that it uses, directly or not.

    Text is scanned, not parsed; a used file that does not exist is left out. Raises UserError
    where the spec itself is not found or not text.
    """
    found = [find_spec(str(name))]
    seen = {found[0].resolve()}
    for path in found:
        for used in () if path.suffix == TABLE else _USE.findall(read_text(path)):
            beside = _used_path(path, used)
            if beside is not None and beside.resolve() not in seen:
                seen.add(beside.resolve())
                found.append(beside)
    return found


def read_source(path: Path) -> SourceFile:
    """Parse a file and all that it uses; raises UserError."""
    return _read(path, (), [])


def _read(path: Path, above: tuple[Path, ...], read: list[Path]) -> SourceFile:
    """The same of a file that `above` lead to; `read` grows by each file that is read."""
    from . import syntax
    from .parse import parse

    name = str(path)
    read.append(path)
    statements = parse(read_text(path), name)
    _check_version(statements, name)
    chain = (*above, path)
    kept: dict[str, syntax.Statement] = {}
    for statement in statements:
        if isinstance(statement, syntax.ParameterSyntax | syntax.Let | syntax.Copy | syntax.Use):
            _keep(kept, statement.name, statement)
        elif isinstance(statement, syntax.Block):
            _keep(kept, statement.name or statement.kind, statement)
    system = kept.get("system")
    if not isinstance(system, syntax.Block) or system.kind != "system":
        system = None
    parts = {k: v for k, v in kept.items() if isinstance(v, syntax.Block | syntax.Copy)}
    if len(parts) > MAX_PARTS:
        raise UserError(f"a spec has at most {MAX_PARTS} parts", [*parts.values()][-1].location)
    used = {k: _read_used(v, chain, read) for k, v in kept.items() if isinstance(v, syntax.Use)}
    return SourceFile(
        name=name,
        path=path,
        parameters={k: v for k, v in kept.items() if isinstance(v, syntax.ParameterSyntax)},
        parts={k: v for k, v in parts.items() if v is not system},
        system=system,
        constraints=tuple(s for s in statements if isinstance(s, syntax.ConstraintSyntax)),
        used={k: v for k, v in used.items() if isinstance(v, SourceFile)},
        lets={k: v for k, v in kept.items() if isinstance(v, syntax.Let)},
        tables={k: v for k, v in used.items() if not isinstance(v, SourceFile)},
    )


def _keep(
    kept: "dict[str, syntax.Statement]",
    name: str,
    statement: "syntax.ParameterSyntax | syntax.Let | syntax.Copy | syntax.Use | syntax.Block",
) -> None:
    if name in kept:
        raise UserError(
            f"the name '{name}' is repeated, first given on line {kept[name].location.line}",
            statement.location,
        )
    kept[name] = statement


def _check_version(statements: "tuple[syntax.Statement, ...]", name: str) -> None:
    from . import syntax

    first = statements[0] if statements else None
    if not isinstance(first, syntax.Version):
        location = first.location if first else Location(name, 1, 1)
        raise UserError(
            f"expected 'wsc {LANGUAGE_VERSION}', the version of the language, before anything else",
            location,
        )
    if first.number != LANGUAGE_VERSION:
        raise UserError(
            f"version {first.number:g} of the language is not known, expected {LANGUAGE_VERSION}",
            first.location,
        )
    for again in statements[1:]:
        if isinstance(again, syntax.Version):
            raise UserError("the version is repeated", again.location)


def _read_used(
    use: "syntax.Use", chain: tuple[Path, ...], read: list[Path]
) -> "SourceFile | Table":
    path = _used_path(chain[-1], use.file)
    if path is None:
        known = sorted(spec.name for spec in {*chain[-1].parent.glob("*.wsc"), *SHIPPED.glob("*")})
        raise UserError(
            f"no file '{use.file}' beside this one or among the shipped specs"
            f"{nearest(use.file, known)}",
            use.location,
        )
    if path.suffix == TABLE:
        from .tables import read_table

        return read_table(path)
    if any(path.samefile(seen) for seen in chain):
        files = " -> ".join(str(seen) for seen in (*chain, path))
        raise UserError(f"files use each other in a cycle: {files}", use.location)
    if len(read) >= MAX_FILES:
        raise UserError(f"more than {MAX_FILES} files are used", use.location)
    return _read(path, chain, read)


def _used_path(user: Path, used: str) -> Path | None:
    """The file beside its user, else the shipped spec of that name, else None.

    os.path.isfile is False, where Path.is_file raises, for a name that no file can have.
    """
    candidates = (user.parent / used, SHIPPED / used)
    return next((path for path in candidates if os.path.isfile(path)), None)


def read_text(path: Path) -> str:
    """The text of a spec; raises UserError where it cannot be read, is too large or is no text."""
    return text_of(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """What is in a spec, and no more than `text_of` refuses as too large. Raises UserError."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UserError(f"cannot read the file: {reason}", Location(str(path))) from None


def text_of(content: bytes, name: str) -> str:
    """The text that a file of that name holds; lines end in line feeds. Raises UserError."""
    if len(content) > MAX_BYTES:
        raise UserError(f"a spec has at most {MAX_BYTES:,} bytes", Location(name, 1, 1))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        place = Location(name, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UserError("not a text file in UTF-8", place) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
