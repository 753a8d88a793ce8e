"""Parameters of a spec: their declared defaults and domains, and the values chosen for them."""

import math
from collections.abc import Mapping

from ...ir.errors import UserError, nearest
from . import syntax, units
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
    file: SourceFile, parameters: Mapping[str, Parameter], values: Mapping[str, str | float]
) -> dict[str, Value]:
    """Overrides as a person or a program gave them, as quantities and words.

    Raises UserError for an unknown name or a value of another dimension than the default's.
    """
    scope = _at_defaults(file)
    found: dict[str, Value] = {}
    for name, value in values.items():
        if name not in parameters:
            raise UserError(f"unknown parameter '{name}'{nearest(name, parameters)}")
        found[name] = _given(name, value, scope.word_or_value(file.parameters[name].default))
    return found


def choose(
    scope: Scope, parameters: Mapping[str, Parameter], values: Mapping[str, str | float]
) -> dict[str, float | str]:
    """The value in SI of every parameter that exists in a binding; raises UserError outside a
    domain, and for a value given to a parameter that does not exist in this binding."""
    chosen: dict[str, float | str] = {}
    for name, declared in scope.file.parameters.items():
        if name not in values and not scope.holds(declared.when):
            continue
        value, domain = _plain(scope.parameter(name, None)), parameters[name].domain
        if domain is not None and value not in domain:
            if name not in values:
                raise UserError(
                    f"parameter {name}: the default is not in {domain.text}", declared.location
                )
            words = [str(word) for word in domain.values] if isinstance(domain, Choices) else []
            hint = nearest(value, words) if isinstance(value, str) else ""
            raise UserError(f"parameter {name}: {values[name]} is not in {domain.text}{hint}")
        chosen[name] = value
    return chosen


def _at_defaults(file: SourceFile) -> Scope:
    def no_physics(call: syntax.Call, _scope: Scope) -> Quantity:
        raise UserError(f"{call.function}() may be used in constraints only", call.location)

    return Scope(file, Binding({}, no_physics))


def _declared(scope: Scope, declared: syntax.ParameterSyntax) -> Parameter:
    default = scope.word_or_value(declared.default)
    if declared.when is not None:
        scope.holds(declared.when)
    return Parameter(
        name=declared.name,
        default=_plain(default),
        dimension=None if isinstance(default, str) else units.dimension_name(default),
        domain=None if declared.domain is None else _domain(scope, declared.domain, default),
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
            if low <= 0:
                raise UserError("pow2 needs ends of more than zero", domain.location)
            return Powers(low, high, domain.text)
        case syntax.Interval():
            low, high = _ends(scope, domain, default)
            step = None
            if domain.step is not None:
                step = _number(_alike(scope, domain.step, default), domain.step)
                if step <= 0:
                    raise UserError("a step must be more than zero", domain.step.location)
            return Interval(low, high, step, domain.text)


def _ends(
    scope: Scope, domain: syntax.Powers | syntax.Interval, default: Value
) -> tuple[float, float]:
    low, high = (_number(_alike(scope, end, default), end) for end in (domain.low, domain.high))
    if low > high:
        raise UserError(
            f"the domain {domain.text} is empty: its ends are reversed", domain.location
        )
    return low, high


def _alike(scope: Scope, expression: syntax.Expression, default: Value) -> Value:
    """A value of a domain, which must be of the default's kind."""
    value = scope.word_or_value(expression)
    if isinstance(value, str) != isinstance(default, str):
        kinds = ["a word" if isinstance(one, str) else "a number" for one in (default, value)]
        raise UserError(
            f"the default is {kinds[0]}, the domain has {kinds[1]}", expression.location
        )
    if not isinstance(value, str) and not isinstance(default, str):
        units.same_dimension(default, value, expression.location)
    return value


def _number(value: Value, expression: syntax.Expression) -> float:
    if isinstance(value, str):
        raise UserError(f"expected a number, got the word '{value}'", expression.location)
    return float(value.magnitude)


def _plain(value: Value) -> float | str:
    return value if isinstance(value, str) else float(value.magnitude)


def _given(name: str, value: str | float, default: Value) -> Value:
    if isinstance(default, str):
        if not isinstance(value, str):
            raise UserError(f"parameter {name}: expected a word, got {value}")
        return value.strip()
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise UserError(f"parameter {name}: expected a finite number, got {value}")
        return units.in_units_of(float(value), default)
    read = _read(name, value)
    if read is None or read.dimensionality != default.dimensionality:
        got = f"'{value}'" if read is None else units.dimension_name(read)
        raise UserError(f"parameter {name}: expected {units.dimension_name(default)}, got {got}")
    return read


def _read(name: str, text: str) -> Quantity | None:
    try:
        return units.read_quantity(text)
    except UserError as error:
        raise UserError(f"parameter {name}: {error.message}") from None
