"""Operators that compute every element by itself: expressions over their arguments."""

from typing import Any

from ....ir.dims import Polynomial
from ....ir.expression import LETTERS, operands_of, substitute
from ....ir.graph import TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, number

SAME = frozenset(
    {
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "detach_.default",
        "dropout.default",
        "lift_fresh.default",
        "lift_fresh_copy.default",
        "positive.default",
        "resolve_conj.default",
        "resolve_neg.default",
    }
)
"""Operators whose result is their first operand; dropout too, in inference."""

ELEMENTWISE = {
    "abs.default": "abs(a)",
    "add.Scalar": "a + b",
    "add.Tensor": "a + b",
    "atan.default": "atan(a)",
    "bitwise_not.default": "not a",
    "ceil.default": "ceil(a)",
    "clamp_max.Tensor": "minimum(a, b)",
    "clamp_max.default": "minimum(a, b)",
    "clamp_min.Tensor": "maximum(a, b)",
    "clamp_min.default": "maximum(a, b)",
    "cos.default": "cos(a)",
    "div.Scalar": "a / b",
    "div.Tensor": "a / b",
    "erf.default": "erf(a)",
    "exp.default": "exp(a)",
    "exp2.default": "exp2(a)",
    "expm1.default": "expm1(a)",
    "floor.default": "floor(a)",
    "floor_divide.Scalar": "a // b",
    "floor_divide.default": "a // b",
    "fmod.Scalar": "a - b * trunc(a / b)",
    "fmod.Tensor": "a - b * trunc(a / b)",
    "frac.default": "a - trunc(a)",
    "hardsigmoid.default": "minimum(maximum(a + 3, 0), 6) / 6",
    "hardswish.default": "a * minimum(maximum(a + 3, 0), 6) / 6",
    "isinf.default": "abs(a) == inf",
    "isnan.default": "a != a",
    "lerp.Scalar": "a + c * (b - a)",
    "lerp.Tensor": "a + c * (b - a)",
    "log.default": "log(a)",
    "log10.default": "log(a) / 2.302585092994046",
    "log1p.default": "log1p(a)",
    "log2.default": "log2(a)",
    "log_sigmoid.default": "-softplus(-a)",
    "logical_and.default": "a and b",
    "logical_not.default": "not a",
    "logical_or.default": "a or b",
    "masked_fill.Scalar": "where(b, c, a)",
    "masked_fill.Tensor": "where(b, c, a)",
    "max.other": "maximum(a, b)",
    "maximum.default": "maximum(a, b)",
    "min.other": "minimum(a, b)",
    "minimum.default": "minimum(a, b)",
    "mish.default": "a * tanh(softplus(a))",
    "mul.Scalar": "a * b",
    "mul.Tensor": "a * b",
    "neg.default": "-a",
    "reciprocal.default": "reciprocal(a)",
    "relu.default": "relu(a)",
    "relu6.default": "minimum(relu(a), 6)",
    "remainder.Scalar": "a % b",
    "remainder.Tensor": "a % b",
    "round.default": "round(a)",
    "rsqrt.default": "rsqrt(a)",
    "rsub.Scalar": "b - a",
    "rsub.Tensor": "b - a",
    "sigmoid.default": "sigmoid(a)",
    "sign.default": "sign(a)",
    "silu.default": "silu(a)",
    "sin.default": "sin(a)",
    "sqrt.default": "sqrt(a)",
    "square.default": "square(a)",
    "sub.Scalar": "a - b",
    "sub.Tensor": "a - b",
    "tan.default": "sin(a) / cos(a)",
    "tanh.default": "tanh(a)",
    "threshold.default": "where(a > b, a, c)",
    "trunc.default": "trunc(a)",
    "where.Scalar": "where(a, b, c)",
    "where.ScalarOther": "where(a, b, c)",
    "where.ScalarSelf": "where(a, b, c)",
    "where.self": "where(a, b, c)",
    **{
        f"{name}.{overload}": f"a {symbol} b"
        for name, symbol in (
            ("eq", "=="),
            ("ge", ">="),
            ("gt", ">"),
            ("le", "<="),
            ("lt", "<"),
            ("ne", "!="),
        )
        for overload in ("Scalar", "Tensor")
    },
    **{
        f"{name}.{overload}": expr
        for name, expr in (
            ("__and__", "a and b"),
            ("__or__", "a or b"),
            ("__xor__", "a != b"),
            ("bitwise_and", "a and b"),
            ("bitwise_or", "a or b"),
            ("bitwise_xor", "a != b"),
        )
        for overload in ("Scalar", "Tensor")
    },
    **{
        f"{name}.{overload}": expr
        for name, expr in (
            ("divide", "a / b"),
            ("greater", "a > b"),
            ("greater_equal", "a >= b"),
            ("less", "a < b"),
            ("less_equal", "a <= b"),
            ("multiply", "a * b"),
            ("not_equal", "a != b"),
            ("subtract", "a - b"),
            ("true_divide", "a / b"),
        )
        for overload in ("Scalar", "Tensor")
    },
    "absolute.default": "abs(a)",
    "logical_xor.default": "a != b",
    "negative.default": "-a",
}
"""Expressions over the arguments in order."""

_BITWISE = ("bitwise_", "__and__", "__or__", "__xor__")

_SCALED = {"a + b": "a + b * {}", "a - b": "a - b * {}", "b - a": "b - a * {}"}
"""What `alpha` makes of a sum."""


def expression(call: Call, expr: str, *arguments: Any, type_: TensorType | None = None) -> View:
    """An expression over arguments; numbers among them are written into it."""
    views: list[View] = []
    letters: dict[str, str] = {}
    for letter, argument in zip(LETTERS, arguments, strict=False):
        if isinstance(argument, Shown):
            letters[letter] = LETTERS[len(views)]
            views.append(argument.view)
        else:
            letters[letter] = number(argument)
    return call.elementwise(substitute(expr, letters), *views, type_=type_).view


def elementwise(name: str, expr: str) -> Rule:
    """The rule of an operator that is an expression over its arguments."""

    def rule(call: Call) -> View:
        arguments = [*call.arguments, *(call.named[key] for key in _OPERANDS if key in call.named)]
        alpha = call.named.get("alpha", 1)
        if expr in _SCALED and len(arguments) == 3:
            alpha = arguments.pop()
        if len(arguments) != len(operands_of(expr)):
            raise UnsupportedError(f"{len(arguments)} arguments")
        shown = [argument for argument in arguments if isinstance(argument, Shown)]
        if name.startswith(_BITWISE) and any(x.type.dtype != "bool" for x in shown):
            raise UnsupportedError("bits of integers")
        if expr == "a * b" and arguments[1] == 1 and call.tensor(0).type == call.type:
            return call.tensor(0).view
        scaled = expr if alpha == 1 else _SCALED[expr].format(f"({number(alpha)})")
        return expression(call, scaled, *arguments)

    return rule


_OPERANDS = ("other", "value", "exponent", "weight")
"""Names by which operators take what is an operand of the expression."""


def _added_product(symbol: str) -> Rule:
    def rule(call: Call) -> View:
        factor = call.named.get("value", 1)
        scale = "" if factor == 1 else f"({number(factor)}) * "
        return expression(call, f"a + {scale}b {symbol} c", *call.arguments[:3])

    return rule


def _gelu(call: Call) -> View:
    tanh = call.named.get("approximate", "none") == "tanh"
    return expression(call, "gelu_tanh(a)" if tanh else "gelu(a)", call.tensor(0))


def _power(call: Call) -> View:
    base, exponent = call.arguments
    if isinstance(exponent, Shown | Polynomial):
        return expression(call, "a ** b", base, exponent)
    square = number(exponent) in ("2", "2.0") and isinstance(base, Shown)
    return expression(call, "square(a)" if square else f"a ** {_grouped(exponent)}", base)


def _grouped(value: Any) -> str:
    text = number(value)
    return f"({text})" if text.startswith("-") else text


def cast(call: Call, shown: Shown, dtype: str | None = None) -> View:
    """A tensor in another dtype, the result's if none is given."""
    dtype = dtype or call.type.dtype
    if shown.type.dtype == dtype:
        return shown.view
    name = f"{shown.view.name}.{dtype}"
    type_ = TensorType(dtype, shown.type.shape)
    return call.graph.elementwise("a", [shown.view], type_, name)


def _cast(call: Call) -> View:
    return cast(call, call.tensor(0))


def _clamp(call: Call) -> View:
    least, most = call.get(1, "min"), call.get(2, "max")
    if most is None:
        return expression(call, "maximum(a, b)", call.tensor(0), least)
    if least is None:
        return expression(call, "minimum(a, b)", call.tensor(0), most)
    return expression(call, "minimum(maximum(a, b), c)", call.tensor(0), least, most)


def _hardtanh(call: Call) -> View:
    least, most = call.get(1, "min_val", -1), call.get(2, "max_val", 1)
    return expression(call, "minimum(maximum(a, b), c)", call.tensor(0), least, most)


def _divided(call: Call) -> View:
    mode = call.named.get("rounding_mode")
    expr = {None: "a / b", "floor": "a // b", "trunc": "trunc(a / b)"}[mode]
    return expression(call, expr, *call.arguments)


def _leaky_relu(call: Call) -> View:
    slope = call.get(1, "negative_slope", 0.01)
    return expression(call, "where(a > 0, a, a * b)", call.tensor(0), slope)


def _prelu(call: Call) -> View:
    x, weight = call.tensor(0), call.tensor(1)
    axes = weight.view.axes
    if len(x.type.shape) > 1 and len(axes) == 1:
        axes = (*axes, *(None,) * (len(x.type.shape) - 2))
    shaped = Shown(View(weight.view.name, axes), weight.type)
    return expression(call, "where(a > 0, a, a * b)", x, shaped)


def _elu(call: Call) -> View:
    alpha, scale = call.get(1, "alpha", 1), call.get(2, "scale", 1)
    rate = call.get(3, "input_scale", 1)
    expr = "where(a > 0, a * c, expm1(a * d) * b * c)"
    return expression(call, expr, call.tensor(0), alpha, scale, rate)


def _celu(call: Call) -> View:
    alpha = call.get(1, "alpha", 1)
    return expression(call, "where(a > 0, a, expm1(a / b) * b)", call.tensor(0), alpha)


def _selu(call: Call) -> View:
    alpha, scale = 1.6732632423543772, 1.0507009873554805  # Klambauer et al., NeurIPS 2017
    expr = "where(a > 0, a, expm1(a) * b) * c"
    return expression(call, expr, call.tensor(0), alpha, scale)


def _softplus(call: Call) -> View:
    beta, threshold = call.get(1, "beta", 1), call.get(2, "threshold", 20)
    if threshold != 20:
        raise UnsupportedError(f"threshold = {threshold}")
    if beta == 1:
        return expression(call, "softplus(a)", call.tensor(0))
    return expression(call, "softplus(a * b) / b", call.tensor(0), beta)


def _copied(call: Call) -> View:
    """The second tensor in the place of the first."""
    seen = cast(call, call.tensor(1))
    added = (None,) * (call.rank - len(seen.axes))
    return View(seen.name, added + seen.axes)


def _finite(call: Call) -> View:
    return expression(call, "abs(a) < inf", call.tensor(0))


RULES: dict[str, Rule] = {
    **{name: elementwise(name, expr) for name, expr in ELEMENTWISE.items()},
    **{name: lambda call: call.tensor(0).view for name in SAME},
    "_to_copy.default": _cast,
    "addcdiv.default": _added_product("/"),
    "addcmul.default": _added_product("*"),
    "celu.default": _celu,
    "clamp.Tensor": _clamp,
    "clamp.default": _clamp,
    "copy.default": _copied,
    "div.Scalar_mode": _divided,
    "div.Tensor_mode": _divided,
    "elu.default": _elu,
    "gelu.default": _gelu,
    "hardtanh.default": _hardtanh,
    "isfinite.default": _finite,
    "leaky_relu.default": _leaky_relu,
    "pow.Scalar": _power,
    "pow.Tensor_Scalar": _power,
    "pow.Tensor_Tensor": _power,
    "prelu.default": _prelu,
    "selu.default": _selu,
    "softplus.default": _softplus,
    "to.device": _cast,
    "to.dtype": _cast,
    "to.dtype_layout": _cast,
    "to.other": _cast,
    "to.prim_Device": _cast,
    "to.prim_dtype": _cast,
    "type_as.default": _cast,
}
