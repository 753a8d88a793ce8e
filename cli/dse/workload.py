"""The workloads of a study: one from the flags of a step, or several from `--workload`."""

import argparse
import math
import re
from collections.abc import Sequence

from ...ir.errors import UserError, nearest
from ..model_options import DTYPES, MAX_TOKENS, STORED_DTYPES
from ..parser import MAX_BATCH, read_phase
from ..pins import one_of, whole
from .asked import Work

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_KEYS = ("model", "phase", "batch", "sequence", "context", "dtype", "weight")


def read_workloads(values: argparse.Namespace) -> tuple[Work, ...]:
    """What every design is judged on; raises UserError.

    A `--workload` takes what it does not state from the flags of a single one.
    """
    plain = {key: getattr(values, key) for key in _KEYS if key != "weight"}
    if not values.workload:
        return (_work("", plain, "--"),)
    found = [_named(text, plain) for text in values.workload]
    _check_different(found)
    return tuple(found)


def _named(text: str, plain: dict[str, str | None]) -> Work:
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not colon or not _NAME.fullmatch(name):
        raise UserError(
            f"--workload '{text}': expected a name, a colon and what it is, as in "
            "'decode: model=llama.json, phase=decode, batch=8, context=4096, weight=2'"
        )
    stated: dict[str, str | None] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in _KEYS:
            raise UserError(f"--workload {name}: unknown key '{key}'{nearest(key, _KEYS)}")
        if not equals or not value:
            raise UserError(f"--workload {name}: '{item.strip()}' has no value")
        if key in stated:
            raise UserError(f"--workload {name}: {key} is repeated")
        stated[key] = value
    return _work(name, plain | stated, f"--workload {name}: ")


def _work(name: str, given: dict[str, str | None], where: str) -> Work:
    model = given["model"]
    if model is None:
        missing = "--model CONFIG" if where == "--" else f"{where}model=CONFIG"
        raise UserError(f"{missing} is missing")
    dtype = given["dtype"]
    return Work(
        name=name,
        model=model,
        phase=read_phase(given["phase"] or "prefill"),
        batch=whole(f"{where}batch", given["batch"] or "1", MAX_BATCH),
        sequence=whole(f"{where}sequence", given["sequence"] or "2048", MAX_TOKENS),
        context=whole(f"{where}context", given["context"] or "2048", MAX_TOKENS),
        dtype=None if dtype is None else one_of(f"{where}dtype", dtype, (*DTYPES, *STORED_DTYPES)),
        weight=_weight(f"{where}weight", given.get("weight") or "1"),
    )


def _weight(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value > 0:
        return value
    raise UserError(f"{what}: '{text}' is no number above zero")


def _check_different(works: Sequence[Work]) -> None:
    names = [work.name for work in works]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--workload: the name '{name}' is repeated")
