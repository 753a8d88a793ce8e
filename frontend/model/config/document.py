"""A JSON file read with care: one message for whatever is wrong, and where each key stands.

What a config must say is none of this module's business: see checks.py.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ....ir.errors import Location, UserError

KeyPath = tuple[str, ...]
"""The keys that lead to a value: `("text_config", "hidden_size")`."""

LARGEST_BYTES = 4 << 20
"""Far more than the largest published config (2 MB, with a table of its vocabulary)."""

LONGEST_NUMBER = 400
DEEPEST = 64

_TAGGED = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
"""How Transformers writes numbers that JSON lacks: `{"__float__": "Infinity"}`."""


@dataclass(frozen=True)
class Document:
    """An object of JSON and the text that it stands in."""

    file: Path
    text: str
    values: dict[str, Any]

    def locate(self, path: KeyPath) -> Location:
        """Where a key stands; of a key that is absent, where the object does that lacks it."""
        at = None
        while path and (at := self._offsets.get(path)) is None:
            path = path[:-1]
        if at is None:
            return Location(str(self.file))
        return _location(self.file, self.text, at)

    @cached_property
    def _offsets(self) -> dict[KeyPath, int]:
        """Where every key stands; of a key that is given twice, where it last does."""
        return dict(_keys(self.text))


def read_document(path: str) -> Document:
    """The JSON object in a file, or in the config.json of a folder.

    Raises UserError, at the line and column where there is one.
    """
    file = _find(path)
    text = _read(file)
    return Document(file, text, _parse(text, file))


def _find(path: str) -> Path:
    file = Path(path)
    try:
        if file.is_dir():
            if not (file / "config.json").is_file():
                raise UserError("no config.json in this folder", Location(path))
            return file / "config.json"
        if not file.exists():
            raise UserError("no such file", Location(path))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", Location(path)) from None
    if not file.is_file():
        raise UserError("not a file", Location(path))
    return file


def _read(file: Path) -> str:
    where = Location(str(file))
    try:
        if (size := file.stat().st_size) > LARGEST_BYTES:
            raise UserError(
                f"not a config: {size >> 20} MiB, and none is over {LARGEST_BYTES >> 20} MiB", where
            )
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not a text file in UTF-8", where) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where) from None


class _GivenTwiceError(Exception):
    """An object has a key twice, with different values."""


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        values = json.loads(
            text, parse_int=_integer, parse_constant=_TAGGED.get, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        where = Location(str(file), error.lineno, error.colno)
        raise UserError(f"not valid JSON: {error.msg}", where) from None
    except RecursionError:
        raise UserError("not a config: nested too deeply", Location(str(file))) from None
    except _GivenTwiceError:
        path, at = next(_given_twice(text))
        message = f"{shown_path(path)} is given twice, with different values"
        raise UserError(message, _location(file, text, at)) from None
    if not isinstance(values, dict):
        kinds = {list: "a list", str: "a string", int: "a number", float: "a number"}
        kind = kinds.get(type(values), json.dumps(values))
        where = Location(str(file), 1, 1)
        raise UserError(f"not a config: {kind} instead of an object", where)
    if _deeper(values, DEEPEST):
        raise UserError("not a config: nested too deeply", Location(str(file)))
    return values


def _integer(text: str) -> int | float:
    """An integer; one that no computer can count to is as good as infinite."""
    if len(text) > LONGEST_NUMBER:
        return float("-inf") if text[0] == "-" else float("inf")
    return int(text)


def _object(pairs: Sequence[tuple[str, Any]]) -> Any:
    values = dict(pairs)
    if len(values) < len(pairs) and any(repr(values[key]) != repr(v) for key, v in pairs):
        raise _GivenTwiceError
    if len(pairs) == 1 and pairs[0][0] == "__float__":
        return _TAGGED.get(pairs[0][1], values) if isinstance(pairs[0][1], str) else values
    return values


def _given_twice(text: str) -> Iterator[tuple[KeyPath, int]]:
    """The keys that stand twice in an object, inner objects first as they are parsed."""
    seen: set[KeyPath] = set()
    for path, at in _keys(text):
        if path in seen:
            yield path, at
        seen.add(path)


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[\[\]{},]')


def _keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """The keys of all objects and the offsets at which they begin; lists count their items."""
    path: list[str | int] = []
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "{":
                path.append("")
            case "[":
                path.append(0)
            case "}" | "]":
                path.pop()
            case ",":
                if path and isinstance(last := path[-1], int):
                    path[-1] = last + 1
            case _ if token[1]:
                path[-1] = json.loads(token[0].removesuffix(token[1]))
                yield tuple(map(str, path)), token.start()
            case _:
                pass


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested in more than so many levels."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)


def _location(file: Path, text: str, at: int) -> Location:
    line = text.count("\n", 0, at) + 1
    return Location(str(file), line, at - text.rfind("\n", 0, at))


def shown(value: Any) -> str:
    """A value as a message names it: short, on one line, as JSON writes it where it is one word."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def shown_path(path: KeyPath) -> str:
    """A key with those that lead to it: `text_config.hidden_size`."""
    return repr(".".join(path))[1:-1]
