"""Whatever the statements, their text is read as them, and laying it out changes no meaning.

The strategies make every kind of statement, as `parse` may return it.
"""

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.frontend.hardware import syntax
from wscc.frontend.hardware.format import format_spec, meaning
from wscc.frontend.hardware.parse import parse, tokens
from wscc.frontend.hardware.printer import print_spec
from wscc.ir.errors import Location

HERE = Location("")
KEYWORDS = {"wsc", "use", "param", "let", "constraint", "dead", "place", "when", "pow2", "with"}
UNITS = [
    "KiB",
    "GB/s",
    "B/cycle",
    "flop/cycle",
    "mm",
    "mm2",
    "pJ/bit/mm",
    "defect/cm2",
    "e3",
    "in/s",
]
NAMES = [
    "pe",
    "n7",
    "tile",
    "x",
    "xs",
    "of",
    "in",
    "step",
    "from",
    "joined",
    "at",
    "e5",
    "B",
    "_",
    "as",
]

words = st.sampled_from(NAMES) | st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,6}", fullmatch=True)
names = words.filter(lambda name: name not in KEYWORDS)
units = st.none() | st.sampled_from(UNITS)
texts = st.text(
    st.characters(blacklist_characters='"\r\n', blacklist_categories=("Cs",)), max_size=12
)
sources = st.none() | texts
figures = st.integers(0, 10**7).map(float) | st.floats(0, allow_nan=False).map(abs)
comparisons = st.sampled_from(["<=", ">=", "==", "!=", "<", ">"])

numbers = st.builds(syntax.Number, figures, units, st.just(HERE))
references = st.builds(
    syntax.Reference, st.lists(names, min_size=1, max_size=3).map(tuple), st.just(HERE)
)


def chains(operands: st.SearchStrategy[syntax.Expression]) -> st.SearchStrategy[syntax.Expression]:
    def joined(signs: str) -> st.SearchStrategy[syntax.Expression]:
        rest = st.lists(st.tuples(st.sampled_from(signs), operands), min_size=1, max_size=3)
        return st.builds(syntax.Chain, operands, rest.map(tuple), st.just(HERE))

    minus = syntax.Number(-1.0, None, HERE)
    negated = operands.map(lambda operand: syntax.Chain(minus, (("*", operand),), HERE))
    arguments = st.lists(operands, min_size=1, max_size=3).map(tuple)
    calls = st.builds(syntax.Call, references, arguments, st.just(HERE))
    return joined("+-") | joined("*/") | negated | calls


expressions = st.recursive(numbers | references, chains, max_leaves=6)
pairs = st.builds(syntax.Pair, expressions, expressions, st.just(HERE))
joints = st.none() | references
values = (
    expressions
    | pairs
    | st.builds(syntax.CountOf, expressions, references, joints, st.just(HERE))
    | st.builds(syntax.GridOf, pairs, references, joints, st.just(HERE))
)
conditions = st.builds(
    syntax.Condition, expressions, comparisons, expressions, st.just(""), st.just(HERE)
)
whens = st.none() | conditions


def interval(
    low: syntax.Expression, high: syntax.Expression, step: syntax.Expression | None
) -> syntax.Interval:
    """The unit of the upper end holds for plain numbers before and after it."""
    unit = high.unit if isinstance(high, syntax.Number) else None

    def shared(end: syntax.Expression) -> syntax.Expression:
        if isinstance(end, syntax.Number) and end.unit is None:
            return syntax.Number(end.value, unit, HERE)
        return end

    return syntax.Interval(shared(low), high, step and shared(step), "", HERE)


domains = (
    st.builds(
        syntax.Choices,
        st.lists(expressions, min_size=1, max_size=4).map(tuple),
        st.just(""),
        st.just(HERE),
    )
    | st.builds(syntax.Powers, expressions, expressions, st.just(""), st.just(HERE))
    | st.builds(interval, expressions, expressions, st.none() | expressions)
)

cells = st.tuples(figures, figures)
alive = st.builds(syntax.Dead, names, cells, st.none() | words.filter(lambda name: name != "of"),
                  st.none(), st.none(), st.just(HERE))  # fmt: skip
dead = alive | st.builds(syntax.Dead, names, cells, st.none(), names, cells, st.just(HERE))
places = st.builds(
    syntax.Place, pairs, references, expressions, expressions, st.just(""), st.just(HERE)
)
fields = st.builds(syntax.Field, references, values, st.just(""), sources)


def blocks(items: st.SearchStrategy[syntax.Item]) -> st.SearchStrategy[syntax.Item]:
    held = st.lists(items, max_size=4).map(tuple)
    return st.builds(syntax.Block, names, st.none() | names, whens, held, st.just(HERE))


items = st.recursive(fields | dead | places, blocks, max_leaves=6)
held = st.lists(items, max_size=4).map(tuple)
statements = (
    st.builds(syntax.Version, figures, st.just(HERE))
    | st.builds(syntax.Use, texts, words, st.just(HERE))
    | st.builds(
        syntax.ParameterSyntax, words, expressions, st.none() | domains, whens, sources,
        st.just(HERE),
    )
    | st.builds(syntax.Let, words, expressions, sources, st.just(HERE))
    | st.builds(
        syntax.ConstraintSyntax, expressions, comparisons, expressions, st.just(""), whens,
        sources, st.just(HERE),
    )
    | st.builds(syntax.Block, names, st.none() | names, whens, held, st.just(HERE))
    | st.builds(syntax.Copy, names, names, references, held, st.just(HERE))
)  # fmt: skip
specs = st.lists(statements, max_size=5).map(tuple)

SEPARATORS = [
    "\n",
    ";",
    "; ",
    "\r\n",
    "\n\n\n",
    "  # ;{note\n",
    "\n  #own line \t\n\n\n# more\n",
    ";;\n",
]
BLANKS = ["", "", " ", "\t", "   "]
COMMENT = re.compile(r"#[^\n]*")


def scrambled(text: str, draw: random.Random) -> str:
    """The same words with other blanks, ends of lines and comments between them."""
    written = draw.choice(["", "# first\n", "\n\n"])
    before, end, lists = "", 0, 0
    for word in tokens(text, "text"):
        apart = (word.start_pos or 0) > end
        lists += word.type == "LBRACE" and before == "IN"
        if word.type == "_SEP":
            written += draw.choice(SEPARATORS)
        elif word.type == "RBRACE" and not lists:
            written += draw.choice(["", " ", *SEPARATORS]) + word
        else:
            written += (draw.choice(BLANKS) or " " * apart) + word
        if word.type == "LBRACE" and not lists:
            written += draw.choice(["", "", *SEPARATORS])
        lists -= word.type == "RBRACE" and lists > 0
        before, end = word.type, word.end_pos or 0
    return written + draw.choice(["", "\n", "\n\n", "  # last", "\n# last \n"])


def comments(text: str) -> list[str]:
    """The comments of a text, without blanks at their ends; texts in quotes are none."""
    without_texts = re.sub(r'#[^\n]*|"[^"\n]*"', lambda m: "" if m[0][0] == '"' else m[0], text)
    return [found.rstrip(" \t\r") for found in COMMENT.findall(without_texts)]


@settings(max_examples=100, deadline=None)
@given(specs)
def test_the_text_of_a_tree_is_read_as_that_tree(spec: tuple[syntax.Statement, ...]) -> None:
    assert meaning(parse(print_spec(spec), "text")) == meaning(spec)


@settings(max_examples=100, deadline=None)
@given(specs, st.randoms(use_true_random=False))
def test_layout_changes_no_meaning_and_loses_no_comment(
    spec: tuple[syntax.Statement, ...], draw: random.Random
) -> None:
    text = scrambled(print_spec(spec), draw)
    laid = format_spec(text, "text")
    assert meaning(parse(laid, "text")) == meaning(spec)
    assert comments(laid) == comments(text)
    assert format_spec(laid, "text") == laid
