"""The `quantization_config` of a config.json, read with nothing but json.

methods.py and listed.py have one reader a method, schemes.py what they read into; quantize.py
rewrites a graph by it.
"""

from collections.abc import Mapping
from typing import Any

from ....ir.errors import nearest
from ..config.section import ConfigError
from .fields import KEY, Fields
from .methods import ALIASES, METHODS
from .quantize import quantize
from .schemes import Quantization

__all__ = ["STORED_DTYPES", "Quantization", "quantize", "read_quantization", "stored_as"]

STORED_DTYPES = ("float8_e4m3fn", "int8", "int4")
"""What `stored_as` knows."""


def read_quantization(raw: Mapping[str, Any] | None) -> Quantization | None:
    """What a config's `quantization_config` says; None where weights are as they are computed with.

    Raises ConfigError, with the path of the key, for an unknown method or a value that does not
    fit.
    """
    if raw is None:
        return None
    fields = Fields.of(raw)
    method = _method(fields)
    reader = METHODS[ALIASES.get(method, method)]
    return reader(method, fields)


def _method(fields: Fields) -> str:
    """The method; files of the oldest forms leave it out."""
    stated = fields.text("quant_method", "")
    if not stated and ("load_in_4bit" in fields or "load_in_8bit" in fields):
        return "bitsandbytes"
    if not stated and ("quant_algo" in fields or "quantization" in fields):
        return "modelopt"
    if not stated and "config_groups" in fields:
        return "compressed-tensors"
    known = (*METHODS, *ALIASES)
    if stated in known:
        return stated
    listed = ", ".join(sorted(METHODS))
    if not stated:
        raise ConfigError(f"{KEY} has no quant_method; built are {listed}", (KEY,))
    hint = nearest(stated, known)
    raise fields.error(
        f"quantization method '{stated}' is not built{hint or '; built are ' + listed}",
        "quant_method",
    )


def stored_as(dtype: str) -> dict[str, str]:
    """A `quantization_config` under which linear layers and experts are kept in one of
    STORED_DTYPES and computed with as before: scales are for each output, of int4 for each 128
    inputs of an output. The product that yields the logits stays as it is.
    """
    return {"quant_method": "quanto", "weights": dtype.removesuffix("_e4m3fn")}
