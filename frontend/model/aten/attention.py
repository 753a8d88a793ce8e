"""Attention as PyTorch names it, in the form of the graph's operator."""

from ....ir.graph import Attribute, TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError


def _scaled_dot_product(call: Call) -> View:
    """`attention` yields (batch, queries, heads, width), ATen has heads before queries."""
    query, key = call.tensor(0), call.tensor(1)
    if len(query.type.shape) != 4 or call.get(4, "dropout_p", 0.0):
        raise UnsupportedError("dropout, or other than four dimensions")
    mask, causal = call.get(3, "attn_mask"), bool(call.get(5, "is_causal", False))
    queries, keys = query.type.shape[2], key.type.shape[2]
    if causal and queries != keys:
        raise UnsupportedError("causality of fewer queries than keys")
    width = query.type.shape[-1]
    scale = call.get(6, "scale")
    if scale is None:
        if not isinstance(width, int):
            raise UnsupportedError(f"a head of {width}")
        scale = width**-0.5
    attributes: dict[str, Attribute] = {"scale": float(scale), "causal": causal}
    operands = [call.real(at) for at in range(3)]
    if mask is not None:
        scores = (*query.type.shape[:3], keys)
        name, letters = _mask(call, mask, TensorType(query.type.dtype, scores))
        attributes |= {"extras": ("mask",), "mask": letters}
        operands.append(name)
    batch, heads, _, _ = query.type.shape
    type_ = TensorType(call.type.dtype, (batch, queries, heads, call.type.shape[-1]))
    made = call.graph.add("attention", operands, type_, attributes, "attention")
    return View(made.name, (0, 2, 1, 3))


def _mask(call: Call, mask: object, scores: TensorType) -> tuple[str, str]:
    """What is added to the scores, and its letters: nothing where a query may see a key."""
    if not isinstance(mask, Shown):
        raise UnsupportedError("a mask that is no tensor")
    if mask.type.dtype == "bool":
        type_ = TensorType(scores.dtype, mask.type.shape)
        mask = call.elementwise("where(a, 0, -inf)", mask.view, type_=type_)
    return mask.view.name, call.graph.letters(mask.view, "bhst", scores.shape)


RULES: dict[str, Rule] = {"scaled_dot_product_attention.default": _scaled_dot_product}
