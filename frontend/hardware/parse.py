"""Text to syntax tree, and what was wrong with the text in a person's words.

The grammar is grammar.lark; the tree's types are syntax.py.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.tree import Meta
from lark.visitors import v_args

from ...ir.errors import Location, UserError
from . import syntax

MAX_NESTING = 50
"""Brackets inside brackets; a spec needs five."""

MAX_WORD = 200
"""Characters of a name, a number or a unit."""

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "UNIT": "a unit",
    "STRING": "a text in quotes",
    "SIGN": "an operator",
    "TIMES": "an operator",
    "COMPARISON": "a comparison",
    "_SEP": "the end of the line",
    "$END": "the end of the line",
    "EQUAL": "'='",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "DOT": "'.'",
    "__ANON_0": "'..'",
    "_X": "'x'",
}
"""What the grammar's terminals are called in a message; a keyword is itself, in quotes."""


_INSTEAD = {
    "'": "double quotes around a text",
    "^": "a power without a sign, as in mm2",
    "%": "a fraction, as in 0.5",
    "[": "braces around a list, as in {32, 48} KiB",
    "!": "'when x == off' or 'when x != on'",
}
"""What is meant by a character that the language does not have."""


def parse(text: str, file: str) -> tuple[syntax.Statement, ...]:
    """The statements of a file's text, in order; raises UserError at the first mistake."""
    _check_limits(text, file)
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        raise _explained(error, text, file) from None
    return _Builder(text, file).transform(tree)


def tokens(text: str, file: str) -> tuple[Token, ...]:
    """The words of a text that `parse` reads, and the separators of its statements, in order.

    Comments lie between them or inside separators. Raises UserError as `parse` does, except where
    the text ends too early.
    """
    _check_limits(text, file)
    try:
        return tuple(_grammar().parse_interactive(text).iter_parse())
    except UnexpectedInput as error:
        raise _explained(error, text, file) from None


@cache
def _grammar() -> Lark:
    grammar = (Path(__file__).parent / "grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def _check_limits(text: str, file: str) -> None:
    """Raise UserError for what takes too long to read, or fills pages in a message."""
    depth = 0
    for match in re.finditer(r'#[^\r\n]*|"[^"\r\n]*"|[({]|[)}]|[\w./]+', text):
        found = match.group()
        depth += (found in ("(", "{")) - (found in (")", "}"))
        if depth > MAX_NESTING:
            message = f"brackets nest more than {MAX_NESTING} deep"
        elif len(found) > MAX_WORD and found[0] not in '#"':
            message = f"a name, number or unit has at most {MAX_WORD} characters"
        else:
            continue
        raise UserError(message, _location(text, match.start(), file))


def _location(text: str, position: int, file: str) -> Location:
    before = text[:position]
    return Location(file, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _explained(error: UnexpectedInput, text: str, file: str) -> UserError:
    if isinstance(error, UnexpectedToken):
        found, position = _token_text(error.token), error.token.start_pos
        if error.token.type == "$END" or position is None:
            position = len(text.rstrip())
        expected = error.accepts or error.expected
    elif isinstance(error, UnexpectedCharacters):
        position = error.pos_in_stream or 0
        return UserError(_unreadable(text[position]), _location(text, position, file))
    else:
        raise error
    message = f"unexpected {found}, expected {_alternatives(expected)}"
    return UserError(message, _location(text, position, file))


def _unreadable(character: str) -> str:
    """What to say of a character that no word of the language begins with."""
    if character == '"':
        return "the text has no closing quote"
    hint = _INSTEAD.get(character)
    return f"unexpected character {_quoted(character)}" + (f", expected {hint}" if hint else "")


def _token_text(token: Token) -> str:
    if token.type == "$END":
        return "end of the file"
    if token.type == "_SEP":
        return "';'" if token.startswith(";") else "end of the line"
    return _quoted(str(token))


def _quoted(text: str) -> str:
    return f"'{text}'" if text.isprintable() else repr(text)


def _alternatives(terminals: Iterable[str]) -> str:
    words = sorted({_WORDS.get(name, f"'{name.lower()}'") for name in terminals})
    if not words:
        return "the end of the line"
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@v_args(meta=True)
class _Builder(Transformer[Token, Any]):
    """Lark's tree to ours; a method a rule."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__()
        self._source, self._file = text, file

    def _at(self, meta: Meta) -> Location:
        return Location(self._file, meta.line, meta.column)

    def _token_at(self, token: Token) -> Location:
        return Location(self._file, token.line, token.column)

    def _text(self, meta: Meta) -> str:
        return self._source[meta.start_pos : meta.end_pos]

    def start(self, _meta: Meta, children: list[Any]) -> tuple[syntax.Statement, ...]:
        return tuple(children)

    def version(self, _meta: Meta, children: list[Any]) -> syntax.Version:
        return syntax.Version(float(children[0]), self._token_at(children[0]))

    def use(self, meta: Meta, children: list[Any]) -> syntax.Use:
        file, name = children
        return syntax.Use(_unquoted(file), str(name), self._at(meta))

    def parameter(self, _meta: Meta, children: list[Any]) -> syntax.ParameterSyntax:
        name, default, domain, when, source = children
        return syntax.ParameterSyntax(
            str(name), default, domain, when, source, self._token_at(name)
        )

    def let(self, _meta: Meta, children: list[Any]) -> syntax.Let:
        name, value, source = children
        return syntax.Let(str(name), value, source, self._token_at(name))

    def constraint(self, meta: Meta, children: list[Any]) -> syntax.ConstraintSyntax:
        left, comparison, right, when, source = children
        text = _without_source(self._text(meta)).removeprefix("constraint").strip()
        if when is not None:
            text = text.removesuffix(when.text).rstrip().removesuffix("when").rstrip()
        return syntax.ConstraintSyntax(
            left, str(comparison), right, text, when, source, left.location
        )

    def part(self, meta: Meta, children: list[Any]) -> syntax.Block:
        kind, name, when, items = children
        return syntax.Block(str(kind), name and str(name), when, items, self._at(meta))

    def copy(self, meta: Meta, children: list[Any]) -> syntax.Copy:
        kind, name, original, changes = children
        return syntax.Copy(str(kind), str(name), original, changes, self._at(meta))

    def when(self, _meta: Meta, children: list[Any]) -> syntax.Condition:
        return children[0]

    def source(self, _meta: Meta, children: list[Any]) -> str:
        return _unquoted(children[0])

    def choices(self, meta: Meta, children: list[Any]) -> syntax.Choices:
        *values, unit = children
        with_unit = tuple(_with_unit(value, unit and str(unit)) for value in values)
        return syntax.Choices(with_unit, self._text(meta), self._at(meta))

    def powers(self, meta: Meta, children: list[Any]) -> syntax.Powers:
        *ends, unit = children
        low, high = (_with_unit(end, unit and str(unit)) for end in ends)
        return syntax.Powers(low, high, self._text(meta), self._at(meta))

    def interval(self, meta: Meta, children: list[Any]) -> syntax.Interval:
        low, high, step = children
        unit = high.unit if isinstance(high, syntax.Number) else None
        return syntax.Interval(
            _with_unit(low, unit),
            high,
            step and _with_unit(step, unit),
            self._text(meta),
            self._at(meta),
        )

    def condition(self, meta: Meta, children: list[Any]) -> syntax.Condition:
        left, comparison, right = children
        return syntax.Condition(left, str(comparison), right, self._text(meta), self._at(meta))

    def block(self, _meta: Meta, children: list[Any]) -> tuple[Any, ...]:
        return tuple(children)

    def field(self, meta: Meta, children: list[Any]) -> syntax.Field:
        path, value, source = children
        return syntax.Field(path, value, _without_source(self._text(meta)), source)

    def dead(self, meta: Meta, children: list[Any]) -> syntax.Dead:
        what, row, column, side, of, of_row, of_column = children
        of_at = None if of is None else (float(of_row), float(of_column))
        at = (float(row), float(column))
        return syntax.Dead(str(what), at, side and str(side), of and str(of), of_at, self._at(meta))

    def place(self, meta: Meta, children: list[Any]) -> syntax.Place:
        rows, columns, part, row, column = children
        location = self._at(meta)
        grid = syntax.Pair(rows, columns, location)
        return syntax.Place(grid, part, row, column, self._text(meta), location)

    def pair(self, meta: Meta, children: list[Any]) -> syntax.Pair:
        first, second = children
        return syntax.Pair(first, second, self._at(meta))

    def count_of(self, meta: Meta, children: list[Any]) -> syntax.CountOf:
        count, part, joint = children
        return syntax.CountOf(count, part, joint, self._at(meta))

    def grid_of(self, meta: Meta, children: list[Any]) -> syntax.GridOf:
        rows, columns, part, joint = children
        location = self._at(meta)
        return syntax.GridOf(syntax.Pair(rows, columns, location), part, joint, location)

    def sum(self, meta: Meta, children: list[Any]) -> syntax.Expression:
        return self._chain(meta, children)

    def product(self, meta: Meta, children: list[Any]) -> syntax.Expression:
        return self._chain(meta, children)

    def _chain(self, meta: Meta, children: list[Any]) -> syntax.Expression:
        first, *rest = children
        if not rest:
            return first
        pairs = tuple((str(sign), item) for sign, item in zip(rest[::2], rest[1::2], strict=True))
        return syntax.Chain(first, pairs, self._at(meta))

    def signed(self, meta: Meta, children: list[Any]) -> syntax.Expression:
        sign, operand = children
        one = syntax.Number(1.0 if sign == "+" else -1.0, None, self._at(meta))
        return syntax.Chain(one, (("*", operand),), self._at(meta))

    def number(self, meta: Meta, children: list[Any]) -> syntax.Number:
        value, unit = children
        return syntax.Number(float(value), unit and str(unit), self._at(meta))

    def call(self, meta: Meta, children: list[Any]) -> syntax.Call:
        name, *arguments = children
        return syntax.Call(name, tuple(arguments), self._at(meta))

    def reference(self, meta: Meta, children: list[Any]) -> syntax.Reference:
        return syntax.Reference(tuple(str(name) for name in children), self._at(meta))


def _unquoted(text: str) -> str:
    return str(text)[1:-1]


def _with_unit(value: syntax.Expression, unit: str | None) -> syntax.Expression:
    """A plain number takes the unit that is written once for the whole domain."""
    if isinstance(value, syntax.Number) and value.unit is None:
        return syntax.Number(value.value, unit, value.location)
    return value


def _without_source(text: str) -> str:
    return re.sub(r'from[ \t]*"[^"]*"$', "", text).rstrip()
