"""The values that open parameters may have, for many points of a space at once.

The domain of a parameter, and whether it exists, may rest on the values of others. All points of
a space are listed in enumerate.py; here some are told by their places in the lists of values.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...ir.errors import UserError
from . import syntax
from .batch import alike, chosen_of
from .binding import Binding, InvalidPointError, SplitNeededError
from .domain import Domain
from .evaluate import Scope
from .parameters import domain_of, given_values
from .units import Quantity

if TYPE_CHECKING:
    from .space import HardwareSpace

Columns = Mapping[str, np.ndarray]
Some = tuple[NDArray[np.int64], NDArray[np.bool_], Domain | None]
"""Points by number; which of them can be designs at all; the domain of a parameter for them, its
ends numbers or arrays, or None where it does not exist."""


def domains(
    space: "HardwareSpace", columns: Columns, rows: NDArray[np.int64], name: str
) -> Iterator[Some]:
    """The domain of a parameter for some points that are alike, `rows` of `columns`, of which the
    values are known that it rests on. Points that can be no designs may be left out."""
    scope = scope_of(space, columns, rows)
    try:
        exists = scope.holds(scope.file.parameters[name].when)
        domain = domain_of(scope, name) if exists else None
    except SplitNeededError as split:
        for half in (rows[split.mask], rows[~split.mask]):
            yield from domains(space, columns, half, name)
    except InvalidPointError:
        return
    else:
        yield rows, np.broadcast_to(scope.binding.valid, rows.shape), domain


def scope_of(space: "HardwareSpace", columns: Columns, rows: NDArray[np.int64]) -> Scope:
    """The names of a spec for some points that are alike; physics is not known."""
    values = chosen_of(columns, rows) if columns else {}
    given = given_values(space.parameters, values)
    return Scope(space.file, Binding(given, _no_physics, len(rows)))


def _no_physics(call: syntax.Call, _scope: Scope) -> Quantity:
    raise UserError(f"{call.function}() may be used in constraints only", call.location)


def grouped(columns: Columns, count: int) -> Iterator[NDArray[np.int64]]:
    """Points in groups that have the same words and the same parameters."""
    return alike(columns, np.arange(count)) if columns else iter([np.arange(count)])
