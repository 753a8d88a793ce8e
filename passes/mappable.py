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
    wafer, die = hardware.wafer, hardware.wafer.die
    if hardware.wafers > 1 and hardware.link is None:
        yield f"nothing joins its {hardware.wafers} wafers or nodes"
    if wafer.board and wafer.switch is None:
        yield f"the dies of node {wafer.name} do not meet in a switch"
    if wafer.switch is not None and (die.rows, die.columns) != (1, 1):
        yield f"the dies of {wafer.name} meet in a switch and have more than one core each"
    if not wafer.uniform:
        yield f"{wafer.name} has dies or cores of more than one kind"
