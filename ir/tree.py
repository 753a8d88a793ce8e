"""Text form of plain dataclass trees (hardware, result): printed by type, parsed back by type.

A scalar, and a tuple or mapping of scalars, prints as a JSON literal, a dataclass as a block, a
tuple of dataclasses as blocks of the same name. Graphs and programs have a denser form of their
own in text.py.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def print_tree(value: object) -> str:
    """A dataclass instance as indented text that `parse_tree` reads back."""
    return "\n".join(_block(type(value).__name__, value, "")) + "\n"


def _block(head: str, value: object, indent: str) -> Iterator[str]:
    yield f"{indent}{head} {{"
    yield from _fields(value, indent + "  ")
    yield f"{indent}}}"


def _fields(value: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _block(field.name, inner, indent)
        elif isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]):
            for item in inner:
                yield from _block(field.name, item, indent)
        else:
            yield f"{indent}{field.name} = {json.dumps(_plain(inner), ensure_ascii=False)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def parse_tree(cls: type[T], text: str) -> T:
    """Read back what `print_tree` wrote; raises ValueError with the line that does not fit."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or lines[0] != f"{cls.__name__} {{":
        raise ValueError(f"expected '{cls.__name__} {{' on the first line")
    value, rest = _parse_fields(cls, lines, 1)
    if rest != len(lines):
        raise ValueError(f"text goes on after the tree: {lines[rest]!r}")
    return value


def _parse_fields(cls: type[T], lines: list[str], at: int) -> tuple[T, int]:
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at] != "}":
        line = lines[at]
        name, assigned, literal = line.partition(" = ")
        if assigned and name in hints:
            found[name] = _typed(hints[name], json.loads(literal))
            at += 1
        elif line.endswith(" {") and line[:-2] in hints:
            name = line[:-2]
            inner, at = _parse_fields(_dataclass_in(hints[name]), lines, at + 1)
            if typing.get_origin(hints[name]) is tuple:
                found[name] = (*found.get(name, ()), inner)
            else:
                found[name] = inner
        else:
            raise ValueError(f"{cls.__name__} has no field for the line {line!r}")
    if at == len(lines):
        raise ValueError(f"{cls.__name__}: the closing brace is missing")
    missing = sorted(_required(cls) - set(found))
    if missing:
        raise ValueError(f"{cls.__name__}: nothing says {', '.join(missing)}")
    return cls(**found), at + 1


def _required(cls: Any) -> set[str]:
    """The fields without a default."""
    nothing = dataclasses.MISSING
    return {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is nothing and field.default_factory is nothing
    }


def _dataclass_in(hint: Any) -> Any:
    """The dataclass inside `X`, `tuple[X, ...]` or `X | None`."""
    if dataclasses.is_dataclass(hint):
        return hint
    for argument in typing.get_args(hint):
        if dataclasses.is_dataclass(argument):
            return argument
    raise ValueError(f"{hint} holds no dataclass")


def _typed(hint: Any, value: Any) -> Any:
    """JSON arrays become the tuples that the hint asks for; numbers the floats."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = [option for option in typing.get_args(hint) if option is not type(None)]
        return _typed(inner[0], value) if len(inner) == 1 else value
    if origin is tuple and isinstance(value, list):
        arguments = typing.get_args(hint)
        of = arguments[0] if arguments[-1] is Ellipsis else None
        return tuple(_typed(of or arguments[i], item) for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
