"""What a user pins of the mapping: the text of `--mapping` and `--region`, read and checked.

Whether a pin fits the model and the wafer is for the passes to say; here it is only well formed
and means something in the phase.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..ir.errors import UserError, nearest
from ..ir.graph import Phase
from ..ir.pins import Pins

MAX_COUNT = 1 << 20
_SIZE = re.compile(r"(\d+)x(\d+)")
RECOMPUTE = ("none", "selective", "full")
ZERO_STAGES = 3


def whole(what: str, text: str, most: int, least: int = 1) -> int:
    """A whole number from `least` to `most`; `what` names it in the error."""
    if re.fullmatch(r"[0-9]{1,18}", text) and least <= int(text) <= most:
        return int(text)
    raise UserError(f"{what}: '{text}' is no whole number from {least} to {most}")


def one_of(what: str, text: str, known: tuple[str, ...]) -> str:
    """`text`, one of the words in `known`; `what` names it in the error."""
    if text in known:
        return text
    raise UserError(f"{what}: '{text}' is not one of {', '.join(known)}{nearest(text, known)}")


def region(what: str, text: str) -> tuple[int, int]:
    """`RxC`, rows and columns of cores."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UserError(f"{what}: '{text}' is no rectangle of cores, expected ROWSxCOLUMNS")
    return whole(what, match[1], MAX_COUNT), whole(what, match[2], MAX_COUNT)


def _count(what: str, text: str) -> int:
    return whole(what, text, MAX_COUNT)


def _zero(what: str, text: str) -> int:
    return int(one_of(what, text, tuple(str(stage) for stage in range(ZERO_STAGES + 1))))


_READERS: dict[str, Callable[[str, str], Any]] = {
    "dp": _count,
    "tp": region,
    "pp": _count,
    "ep": _count,
    "microbatch": _count,
    "interleave": _count,
    "recompute": lambda what, text: one_of(what, text, RECOMPUTE),
    "zero": _zero,
    "streaming": lambda what, text: one_of(what, text, ("yes", "no")) == "yes",
    "weights": lambda what, text: one_of(what, text, ("sram", "dram", "off-wafer")),
    "cache": lambda what, text: one_of(what, text, ("sram", "dram")),
}


def read_pins(mapping: str | None, rectangle: str | None, phase: Phase) -> Pins:
    """The pins of `--mapping` (None: not given) and `--region` in a phase.

    Raises UserError for an unknown, repeated or malformed pin, for two different rectangles, and
    for a pin that has no meaning in the phase or is not built yet.
    """
    found = _read_mapping(mapping) if mapping is not None else {}
    _check_meaning(found, phase)
    _check_places(found)
    pinned = region("--region", rectangle) if rectangle is not None else None
    tensor = found.get("tp")
    if pinned and tensor and pinned != tensor:
        raise UserError(
            f"--region {rectangle} and --mapping tp={tensor[0]}x{tensor[1]} are the same pin "
            "and differ, expected one of them"
        )
    names = ("dp", "pp", "microbatch", "ep", "interleave", "zero", "streaming", "weights", "cache")
    recompute = found.get("recompute") if phase == "train" else None
    return Pins(
        region=pinned or tensor, recompute=recompute, **{name: found.get(name) for name in names}
    )


def _read_mapping(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise UserError(f"--mapping: '{item}' is no pin, expected name=value")
        if name not in _READERS:
            raise UserError(
                f"--mapping: unknown pin '{name}'{nearest(name, _READERS)}"
                f" (known: {', '.join(_READERS)})"
            )
        if name in found:
            raise UserError(f"--mapping: the pin '{name}' is repeated")
        found[name] = _READERS[name](f"--mapping {name}", value)
    return found


def _check_meaning(found: Mapping[str, Any], phase: Phase) -> None:
    """Refuse what only training gives a meaning to, and what is not built yet."""
    lacks = {
        "zero": "no optimizer",
        "recompute": "no backward pass",
        "interleave": "chunks of layers go round the stages for the backward pass's sake",
    }
    if phase == "train" and found.get("cache") == "dram":
        raise UserError("--mapping cache=dram has no meaning in train: no cache is kept")
    neutral = {"zero": 0, "recompute": "none", "interleave": 1}
    for name, reason in lacks.items():
        if phase != "train" and found.get(name, neutral[name]) != neutral[name]:
            raise UserError(f"--mapping {name}={found[name]} has no meaning in {phase}: {reason}")
    if found.get("interleave", 1) > 1 and found.get("pp") == 1:
        raise UserError(
            f"--mapping interleave={found['interleave']} has no meaning with pp=1: there are no "
            "other stages for chunks of layers to go round"
        )
    ep, dp = found.get("ep", 1), found.get("dp")
    if dp is not None and dp % ep:
        raise UserError(
            f"--mapping ep={ep} does not divide dp={dp}: ep of the dp replicas divide the experts "
            "among them"
        )


def _check_places(found: dict[str, Any]) -> None:
    """Refuse places that exclude each other; weights off the wafer are streamed."""
    weights, streaming = found.get("weights"), found.get("streaming")
    if weights is not None and streaming is not None and streaming != (weights == "off-wafer"):
        raise UserError(
            f"--mapping weights={weights},streaming={'yes' if streaming else 'no'} exclude each "
            "other: streamed weights are off-wafer, and no others are"
        )
    if weights == "off-wafer":
        found["streaming"] = True
    if found.get("streaming") and found.get("cache") == "dram":
        raise UserError(
            "--mapping cache=dram cannot be had with streamed weights, whose way it would share: "
            "weights=dram has both in DRAM"
        )
