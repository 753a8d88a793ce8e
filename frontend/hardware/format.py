"""A .wsc text laid out anew: the same statements and comments, in one way of writing them.

The words of the text are kept and only what stands between them changes, so that nothing is lost:
the syntax tree knows no comments. From a tree to text is printer.py.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

from lark import Token

from .parse import parse, tokens

WIDTH = 100
"""Columns that a block on one line may take, and that lines which are aligned may take."""

INDENT = 2

_MARKS = {"#": "COMMENT", "\n": "LINE", ";": "SEMICOLON"}
_OPERANDS = ("NUMBER", "UNIT", "NAME", "RPAR")
"""What a sign stands behind where it joins two operands."""

_ALIGNED = {"NAME": "field", "PARAM": "param", "LET": "let", "CONSTRAINT": "constraint"}
"""First words of the statements whose neighbours of the same kind line up."""

_COLUMNS = {"EQUAL": "=", "IN": "in", "FROM": "from"}
"""What lines up in them, in this order."""


def format_spec(text: str, file: str) -> str:
    """The text laid out; laid out again it stays as it is. Raises UserError where it is no spec."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    before = meaning(parse(text, file))
    after = laid_out(text, file)
    if after != text and meaning(parse(after, file)) != before:
        raise AssertionError(f"formatting would change what {file} means")
    return after


def laid_out(text: str, file: str) -> str:
    """The same of a text that is known to be a spec, its lines ended by line feeds."""
    lines = _lines(_Reader(_pieces(text, file)).items(), "")
    return "".join(f"{line}\n" for line in lines)


def meaning(tree: Any) -> Any:
    """A syntax tree, or statements, without places and texts: what two ways of writing share."""
    if isinstance(tree, tuple):
        return tuple(meaning(part) for part in tree)
    if not dataclasses.is_dataclass(tree):
        return tree
    parts = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    kept = {name: part for name, part in parts.items() if name not in ("location", "text")}
    return type(tree).__name__, *((name, meaning(part)) for name, part in kept.items())


@dataclass(frozen=True)
class _Note:
    """A comment on lines of its own; `blank`: an empty line stands above."""

    text: str
    blank: bool


@dataclass(frozen=True)
class _Body:
    """What stands in braces, and the comment behind the opening one."""

    items: "tuple[_Item, ...]"
    comment: str | None
    on_one_line: bool


@dataclass(frozen=True)
class _Statement:
    """Its words up to a block, the block, and the comment behind it."""

    words: tuple[Token, ...]
    body: _Body | None
    comment: str | None
    blank: bool


_Item: TypeAlias = _Note | _Statement


def _pieces(text: str, file: str) -> Iterator[Token]:
    """Words, comments, ends of lines and semicolons, in order."""
    end = 0
    for word in tokens(text, file):
        start, after = word.start_pos or 0, word.end_pos or 0
        yield from _between(text[end:start])
        if word.type == "_SEP":
            yield from _between(word)
        else:
            yield word
        end = after
    yield from _between(text[end:])


def _between(text: str) -> Iterator[Token]:
    for match in re.finditer(r"#[^\n]*|\n|;", text):
        yield Token(_MARKS[match[0][0]], match[0].rstrip(" \t"))


class _Reader:
    """Pieces to items, from the first to the last."""

    def __init__(self, pieces: Iterator[Token]) -> None:
        self._pieces = list(pieces)
        self._at = 0

    def items(self) -> tuple[_Item, ...]:
        """The items up to the brace that closes their block, or the end."""
        found: list[_Item] = []
        lines = 0
        while (kind := self._kind) not in ("RBRACE", "END"):
            last = found[-1] if found else None
            blank = last is not None and lines > 1
            if kind == "LINE":
                lines += 1
                self._next()
            elif kind == "SEMICOLON":
                self._next()
            elif kind == "COMMENT" and lines == 0 and isinstance(last, _Statement):
                found[-1] = replace(last, comment=str(self._next()))
            else:
                found.append(
                    _Note(str(self._next()), blank) if kind == "COMMENT" else self._statement(blank)
                )
                lines = 0
        return tuple(found)

    @property
    def _kind(self) -> str:
        return self._pieces[self._at].type if self._at < len(self._pieces) else "END"

    def _next(self) -> Token:
        self._at += 1
        return self._pieces[self._at - 1]

    def _statement(self, blank: bool) -> _Statement:
        words: list[Token] = []
        while (kind := self._kind) not in (*_MARKS.values(), "RBRACE", "END"):
            if kind == "LBRACE" and words[-1].type != "IN":
                return _Statement(tuple(words), self._body(), None, blank)
            words.append(self._next())
            if kind == "LBRACE":
                words += self._rest_of_a_list()
        return _Statement(tuple(words), None, None, blank)

    def _rest_of_a_list(self) -> Iterator[Token]:
        while True:
            yield (word := self._next())
            if word.type == "RBRACE":
                return

    def _body(self) -> _Body:
        opening = self._next()
        comment = str(self._next()) if self._kind == "COMMENT" else None
        items = self.items()
        closing = self._next()
        return _Body(items, comment, opening.line == closing.line)


def _lines(items: Sequence[_Item], indent: str) -> Iterator[str]:
    """Items as lines; statements of one line that follow each other are aligned together."""
    run: list[_Statement] = []
    for item in items:
        single = isinstance(item, _Statement) and _is_single(item, indent)
        if item.blank or not single:
            yield from _run(run, indent)
            run = []
        if item.blank:
            yield ""
        if isinstance(item, _Note):
            yield indent + item.text
        elif single:
            run.append(item)
        else:
            yield from _block(item, indent)
    yield from _run(run, indent)


def _is_single(statement: _Statement, indent: str) -> bool:
    """Whether a statement takes one line: it has no block, or one that was so and that fits."""
    body = statement.body
    if body is None:
        return True
    if not body.items:
        return body.comment is None
    return body.on_one_line and len(indent) + len(_flat(statement)) <= WIDTH


def _flat(statement: _Statement) -> str:
    words = _written(statement.words)
    return words if statement.body is None else f"{words} {_flat_body(statement.body)}"


def _flat_body(body: _Body) -> str:
    inner = "; ".join(_flat(item) for item in body.items if isinstance(item, _Statement))
    return f"{{ {inner} }}" if inner else "{ }"


def _block(statement: _Statement, indent: str) -> Iterator[str]:
    body = statement.body
    assert body is not None
    yield f"{indent}{_written(statement.words)} {{{_behind(body.comment)}"
    yield from _lines(body.items, indent + " " * INDENT)
    yield f"{indent}}}{_behind(statement.comment)}"


def _behind(comment: str | None) -> str:
    return f"  {comment}" if comment else ""


def _run(statements: Sequence[_Statement], indent: str) -> Iterator[str]:
    """Statements of one line each that follow each other, as lines."""
    for kind, group in groupby(statements, _alignment):
        alike = list(group)
        rows = [_cells(statement) for statement in alike]
        code = _aligned(rows, indent) if kind else [indent + _plain(row) for row in rows]
        yield from _commented(code, [statement.comment for statement in alike])


def _alignment(statement: _Statement) -> str | None:
    """The kind of run that a statement of one line lines up in; None: it stands by itself."""
    first, *others = statement.words
    return None if others and statement.body is not None else _ALIGNED.get(first.type)


_Cells: TypeAlias = list[tuple[str, str]]
"""The parts of a line, each behind the first with the name of the column that it starts."""


def _cells(statement: _Statement) -> _Cells:
    cells: list[tuple[str, list[Token]]] = [("", [])]
    for word in statement.words:
        if word.type in _COLUMNS and cells[-1][1]:
            cells.append((_COLUMNS[word.type], []))
        cells[-1][1].append(word)
    written = [(column, _written(words)) for column, words in cells]
    if statement.body is None:
        return written
    return [*written, ("{", _flat_body(statement.body))]


def _plain(cells: _Cells) -> str:
    return " ".join(text for _, text in cells)


def _aligned(rows: Sequence[_Cells], indent: str) -> list[str]:
    """Lines whose columns line up: a block starts where values do, unless it fits no more then."""
    in_braces = {at for at, row in enumerate(rows) if row[-1][0] == "{"}
    lines = _columns([_with_braces_as_values(row) for row in rows], indent)
    if all(len(lines[at]) <= WIDTH for at in in_braces):
        return lines
    fields = iter(_columns([row for at, row in enumerate(rows) if at not in in_braces], indent))
    return [
        indent + _plain(row) if at in in_braces else next(fields) for at, row in enumerate(rows)
    ]


def _with_braces_as_values(cells: _Cells) -> _Cells:
    return [("=" if column == "{" else column, text) for column, text in cells]


def _columns(rows: Sequence[_Cells], indent: str) -> list[str]:
    lines = [indent + row[0][1] for row in rows]
    for column in _COLUMNS.values():
        found = {at: text for at, row in enumerate(rows) for name, text in row if name == column}
        width = max((len(lines[at]) for at in found), default=0)
        for at, text in found.items():
            lines[at] = f"{lines[at]:<{width}} {text}"
    return lines


def _commented(code: Sequence[str], comments: Sequence[str | None]) -> Iterator[str]:
    """Lines with the comments behind them, those of neighbours in one column."""
    lines = zip(code, comments, strict=True)
    for has_comment, group in groupby(lines, lambda line: line[1] is not None):
        neighbours = list(group)
        width = _comment_column(neighbours) if has_comment else 0
        for text, comment in neighbours:
            yield f"{text:<{width}}{_behind(comment)}"


def _comment_column(lines: Sequence[tuple[str, str | None]]) -> int:
    """The most columns of code that all lines of so many or less have room for."""
    lengths = [(len(text), len(_behind(comment))) for text, comment in lines]
    for width in sorted({text for text, _ in lengths}, reverse=True):
        if all(width + comment <= WIDTH for text, comment in lengths if text <= width):
            return width
    return 0


def _written(words: Sequence[Token]) -> str:
    """Words of one line with the blanks that belong between them."""
    wide = _has_wide_ends(words)
    return "".join(
        str(word) if at == 0 or _is_tight(words, at, wide) else f" {word}"
        for at, word in enumerate(words)
    )


def _is_tight(words: Sequence[Token], at: int, wide: bool) -> bool:
    """Whether no blank stands before the word; `wide`: the ends of an interval are apart."""
    before, word = words[at - 1].type, words[at].type
    if word in ("COMMA", "RPAR", "RBRACE", "DOT") or before in ("LPAR", "LBRACE", "DOT"):
        return True
    if word == "LPAR" and before in ("NAME", "POW2"):
        return True
    if before == "SIGN" and not _joins(words, at - 1):
        return True
    return ".." in (words[at - 1], words[at]) and not wide


def _joins(words: Sequence[Token], at: int) -> bool:
    """Whether an operator stands between two operands: a sign may stand before one."""
    if words[at].type == "SIGN":
        return at > 0 and words[at - 1].type in _OPERANDS
    return words[at].type == "TIMES"


def _has_wide_ends(words: Sequence[Token]) -> bool:
    """Whether the words are an interval with an end of several operands: `2 * a .. 4 * a`."""
    depth = 0
    if ".." not in words:
        return False
    for at, word in enumerate(words):
        if word.type == "STEP":
            return False
        depth += (word.type == "LPAR") - (word.type == "RPAR")
        if depth == 0 and _joins(words, at):
            return True
    return False
