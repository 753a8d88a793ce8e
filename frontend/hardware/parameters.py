"""Parameters of a spec: their declared defaults and domains, and the values chosen for them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...ir.errors import UserError, nearest
from . import expressions, syntax, units
from .binding import Binding, Value
from .domain import Choices, Domain, Interval, Parameter, Powers
from .evaluate import Scope
from .files import SourceFile
from .units import Quantity


def declared_parameters(file: SourceFile) -> dict[str, Parameter]:
    """The parameters of a file by name, at the default of every other parameter."""
    scope = _at_defaults(file)
    return {name: _declared(scope, syntax_) for name, syntax_ in file.parameters.items()}


def given_values(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Value]:
    """Overrides as a person or a program gave them, as quantities and words.

    A number is in SI; of a batch of points it is an array.

    Raises UserError for an unknown name or a value of another dimension than the default's.
    """
    found: dict[str, Value] = {}
    for name, value in values.items():
        if name not in parameters:
            raise UserError(f"unknown parameter '{name}'{nearest(name, parameters)}")
        found[name] = _given(name, value, parameters[name].like)
    return found


def choose(
    scope: Scope, parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The value in SI of every parameter that exists in a binding; raises UserError outside a
    domain, and for a value given to a parameter that does not exist in this binding."""
    chosen: dict[str, Any] = {}
    for name, declared in scope.file.parameters.items():
        if not scope.exists(declared):
            scope.binding.require(
                name not in values,
                lambda name=name, when=declared.when: (
                    f"parameter {name} exists only when {when and when.text}"
                ),
                None,
            )
            continue
        found = scope.named_value(name, None)
        value, domain = _plain(found), parameters[name].domain
        if declared.domain is not None and parameters[name].depends:
            domain = _domain(scope, declared.domain, found)
        if domain is not None:
            given = values.get(name)
            scope.binding.require(
                domain.holds(value),
                lambda name=name, value=value, given=given, domain=domain: _outside(
                    name, value, given, domain
                ),
                None if name in values else declared.location,
            )
        chosen[name] = value
    return chosen


def _outside(name: str, value: Any, given: Any, domain: Domain) -> str:
    if given is None:
        return f"parameter {name}: the default is not in {domain.text}"
    words = [str(word) for word in domain.values] if isinstance(domain, Choices) else []
    hint = nearest(value, words) if isinstance(value, str) else ""
    return f"parameter {name}: {given} is not in {domain.text}{hint}"


def domain_of(scope: Scope, name: str) -> Domain | None:
    """The domain of a parameter in a binding; of a batch its ends may be arrays."""
    declared = scope.file.parameters[name]
    if declared.domain is None:
        return None
    like = expressions.word_or_value(declared.default, _at_defaults(scope.file))
    return _domain(scope, declared.domain, like)


def _at_defaults(file: SourceFile) -> Scope:
    def no_physics(call: syntax.Call, _scope: Scope) -> Quantity:
        raise UserError(f"{call.function}() may be used in constraints only", call.location)

    return Scope(file, Binding({}, no_physics, of_all=True))


def _declared(scope: Scope, declared: syntax.ParameterSyntax) -> Parameter:
    default = expressions.word_or_value(declared.default, scope)
    if declared.when is not None:
        scope.holds(declared.when)
    return Parameter(
        name=declared.name,
        default=_plain(default),
        like=default,
        dimension=None if isinstance(default, str) else units.dimension_name(default),
        domain=None if declared.domain is None else _domain(scope, declared.domain, default),
        depends=declared.domain is not None and _depends(declared.domain, scope),
        when=None if declared.when is None else declared.when.text,
        source=declared.source,
    )


def _domain(scope: Scope, domain: syntax.DomainSyntax, default: Value) -> Domain:
    match domain:
        case syntax.Choices():
            return Choices(
                tuple(_plain(_alike(scope, value, default)) for value in domain.values),
                domain.text,
            )
        case syntax.Powers():
            low, high = _ends(scope, domain, default)
            scope.binding.require(
                low > 0, lambda: "pow2 needs ends of more than zero", domain.location
            )
            return Powers(low, high, domain.text)
        case syntax.Interval():
            low, high = _ends(scope, domain, default)
            step = None
            if domain.step is not None:
                step = _number(_alike(scope, domain.step, default), domain.step)
                scope.binding.require(
                    step > 0, lambda: "a step must be more than zero", domain.step.location
                )
            return Interval(low, high, step, domain.text)


def _ends(
    scope: Scope, domain: syntax.Powers | syntax.Interval, default: Value
) -> tuple[float, float]:
    low, high = (_number(_alike(scope, end, default), end) for end in (domain.low, domain.high))
    scope.binding.require(
        low <= high,
        lambda: f"the domain {domain.text} is empty: its ends are reversed",
        domain.location,
    )
    return low, high


def _depends(domain: syntax.DomainSyntax, scope: Scope) -> bool:
    """Whether a domain is another one for other values of the parameters."""
    match domain:
        case syntax.Choices():
            parts: tuple[Any, ...] = domain.values
        case syntax.Powers():
            parts = domain.low, domain.high
        case syntax.Interval():
            parts = domain.low, domain.high, domain.step
    return any(scope.is_value(name) for part in parts for name in _names(part))


def _names(expression: syntax.Expression | None) -> Iterator[str]:
    match expression:
        case syntax.Reference():
            yield expression.path[0]
        case syntax.Chain():
            yield from _names(expression.first)
            for _, operand in expression.rest:
                yield from _names(operand)
        case syntax.Call():
            for argument in expression.arguments:
                yield from _names(argument)
        case _:
            return


def _alike(scope: Scope, expression: syntax.Expression, default: Value) -> Value:
    """A value of a domain, which must be of the default's kind."""
    value = expressions.word_or_value(expression, scope)
    if isinstance(value, str) != isinstance(default, str):
        kinds = ["a word" if isinstance(one, str) else "a number" for one in (default, value)]
        raise UserError(
            f"the default is {kinds[0]}, the domain has {kinds[1]}", expression.location
        )
    if not isinstance(value, str) and not isinstance(default, str):
        units.same_dimension(default, value, expression.location)
    return value


def _number(value: Value, expression: syntax.Expression) -> Any:
    if isinstance(value, str):
        raise UserError(f"expected a number, got the word '{value}'", expression.location)
    return value.magnitude


def _plain(value: Value) -> Any:
    return value if isinstance(value, str) else value.magnitude


def _given(name: str, value: Any, default: Value) -> Value:
    if isinstance(default, str):
        if not isinstance(value, str):
            raise UserError(f"parameter {name}: expected a word, got {value}")
        return value.strip()
    if isinstance(value, np.ndarray):
        return units.in_units_of(value.astype(float), default)
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise UserError(f"parameter {name}: expected a finite number, got {value}")
        return units.in_units_of(float(value), default)
    read = _read(name, value)
    if read is None or read.exponents != default.exponents:
        got = f"'{value}'" if read is None else units.dimension_name(read)
        raise UserError(f"parameter {name}: expected {units.dimension_name(default)}, got {got}")
    return read


def _read(name: str, text: str) -> Quantity | None:
    try:
        return units.read_quantity(text)
    except UserError as error:
        raise UserError(f"parameter {name}: {error.message}") from None
