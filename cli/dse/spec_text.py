"""A spec's text with other defaults of its parameters, and how its parameters are written."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...report.study_data import Unit

if TYPE_CHECKING:
    from ...frontend.hardware import HardwareSpace
    from ...frontend.hardware.domain import Parameter
    from ...frontend.hardware.files import SourceFile

_DIGITS = (6, 9, 12, 15, 17)


def units_of(space: "HardwareSpace") -> dict[str, Unit]:
    """The unit that a spec writes each of its numbers in, the first of its default and domain; that
    of the SI where it writes none."""
    return {
        name: _unit(known, space.file)
        for name, known in space.parameters.items()
        if not isinstance(known.default, str)
    }


def _unit(known: "Parameter", file: "SourceFile") -> Unit:
    from ...frontend.hardware.units import Quantity, unit_name, unit_quantity

    assert isinstance(known.like, Quantity)
    for name in _written(file.parameters[known.name]):
        one = unit_quantity(name)
        if one.exponents == known.like.exponents:
            return Unit(name, float(one.magnitude))
    return Unit(unit_name(known.like))


def _written(tree: object) -> Iterator[str]:
    """The units in a syntax tree, in order."""
    from ...frontend.hardware.syntax import Number

    match tree:
        case Number(unit=str(unit)):
            yield unit
        case tuple():
            for part in tree:
                yield from _written(part)
        case _ if dataclasses.is_dataclass(tree):
            for field in dataclasses.fields(tree):
                yield from _written(getattr(tree, field.name))
        case _:
            pass


def number_text(value: float, unit: Unit) -> str:
    """A number in SI as the spec writes it, with as few digits as read back to the same number."""
    from ...frontend.hardware.units import quantity

    name = unit.name or None
    texts = [f"{value / unit.one:.{digits}g}" for digits in _DIGITS]
    exact = (text for text in texts if quantity(float(text), name).magnitude == value)
    text = next(exact, texts[-1])
    return f"{text} {unit.name}".rstrip()


def value_text(value: float | str, unit: Unit) -> str:
    """A value of a parameter as the spec writes it."""
    return value if isinstance(value, str) else number_text(value, unit)


def with_defaults(text: str, name: str, defaults: Mapping[str, str]) -> str:
    """The text of a spec with other defaults of some parameters, laid out as by `wscc fmt`.

    `defaults` are by parameter, as the language writes them; all else stays, comments included.
    `name` is the file's in messages. Raises UserError where it is no spec.
    """
    from ...frontend.hardware.format import format_spec

    pieces: list[str] = []
    at = 0
    for parameter, start, end in _defaults_in(text, name):
        if parameter in defaults:
            pieces += [text[at:start], defaults[parameter]]
            at = end
    return format_spec("".join((*pieces, text[at:])), name)


def _defaults_in(text: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Every parameter of a text, and where its default begins and ends."""
    from ...frontend.hardware.parse import parse, tokens

    parse(text, name)  # tokens() takes a text that ends too early.
    words = tokens(text, name)
    for at, word in enumerate(words):
        if word.type != "PARAM":
            continue
        parameter, first = words[at + 1], words[at + 3]
        ends = (w for w in range(at + 3, len(words)) if words[w].type in _BEHIND)
        last = words[next(ends, len(words)) - 1]
        yield str(parameter), first.start_pos or 0, last.end_pos or 0


_BEHIND = ("IN", "WHEN", "FROM", "_SEP")
"""What may stand behind a default."""
