"""What hardware a model can be mapped onto; any other can be described and checked, not run."""

from collections.abc import Iterator

from ..ir.errors import UserError
from ..ir.hardware import Hardware


def check_mappable(hardware: Hardware) -> None:
    """Raise UserError that names all that keeps models off a hardware."""
    reasons = [*_reasons(hardware)]
    if reasons:
        raise UserError(
            f"{hardware.name} can be checked, but models are not mapped onto it: "
            + "; ".join(reasons)
        )


def _reasons(hardware: Hardware) -> Iterator[str]:
    wafer = hardware.wafer
    if hardware.wafers > 1:
        yield f"{hardware.wafers} wafers or nodes, where one is mapped onto"
    if wafer.board:
        yield f"{wafer.name} is a node, not a wafer"
    elif wafer.switch is not None:
        yield f"the dies of {wafer.name} meet in a switch"
    if not wafer.uniform:
        yield f"{wafer.name} has dies or cores of more than one kind"
    if wafer.dead_links:
        yield f"{wafer.name} has dead links"
