"""What a `when` may say: comparisons of parameters, numbers and words, and no word in vain.

Whether it holds is evaluate.py's to say.
"""

from collections.abc import Mapping
from typing import TypeAlias

from ...ir.errors import UserError, nearest
from . import syntax
from .files import SourceFile
from .units import FUNCTIONS

_Parameters: TypeAlias = Mapping[str, syntax.ParameterSyntax]


def check_names(condition: syntax.Condition, file: SourceFile) -> None:
    """Raise UserError for a condition that names a part: which parts exist is not known yet."""
    for side in (condition.left, condition.right):
        _check_side(side, file, word=True)


def _check_side(expression: syntax.Expression, file: SourceFile, word: bool) -> None:
    match expression:
        case syntax.Chain():
            for operand in (expression.first, *(operand for _, operand in expression.rest)):
                _check_side(operand, file, word=False)
        case syntax.Call(function=syntax.Reference((name,))) if name in FUNCTIONS:
            for argument in expression.arguments:
                _check_side(argument, file, word=False)
        case syntax.Number():
            return
        case syntax.Reference((name,)) if word or name in file.parameters or name in file.lets:
            return
        case _:
            raise UserError("a condition names parameters and lets only", expression.location)


def check_words(condition: syntax.Condition, parameters: _Parameters) -> None:
    """Raise UserError for an order between words, and for a word that a parameter never is."""
    if condition.comparison not in ("==", "!="):
        raise UserError(
            f"words are compared with == or !=, not {condition.comparison}", condition.location
        )
    left, right = condition.left, condition.right
    for one, other in ((left, right), (right, left)):
        declared = parameters.get(str(one)) if isinstance(one, syntax.Reference) else None
        domain = declared.domain if declared else None
        if not isinstance(domain, syntax.Choices) or not isinstance(other, syntax.Reference):
            continue
        words = [str(value) for value in domain.values if isinstance(value, syntax.Reference)]
        if words and str(other) not in words:
            raise UserError(
                f"{one} is never '{other}', expected one of {domain.text}"
                f"{nearest(str(other), words)}",
                other.location,
            )
