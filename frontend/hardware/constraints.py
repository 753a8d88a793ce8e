"""The constraints of a spec, and the physics that they ask for: `area(tile) <= 858 mm2`.

The functions themselves come from outside: backend/ has them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...ir import hardware as ir
from ...ir.errors import UserError, nearest
from ...ir.physics import Function, Physics
from . import core, expressions, syntax, units
from .assumed import Assumptions
from .evaluate import Scope
from .grids import die
from .units import FUNCTIONS, Quantity
from .view import View
from .wafer import Builder

_COMPARISONS = ("<=", ">=", "<", ">")


@dataclass
class Judge:
    """Evaluates the constraints of one design, and parts that are not in its system."""

    physics: Physics
    wafers: Callable[[], Iterator[View]]
    """The wafers and nodes of the file, the system's first."""
    hardware: ir.Hardware | None = None
    """The design, once it is built; functions may be called from then on."""
    parts: dict[tuple[str, ...], Any] = field(default_factory=dict[tuple[str, ...], Any])
    """What is built, by the key of its view."""
    figures: dict[tuple[str, int], tuple[Any, Any]] = field(
        default_factory=dict[tuple[str, int], tuple[Any, Any]]
    )
    """Parts and what functions have answered for them, by the function's name and the part."""

    def judged(self, lines: tuple[syntax.ConstraintSyntax, ...], scope: Scope) -> Iterator[Any]:
        """The lines that exist in this binding, with both sides evaluated."""
        for line in lines:
            if line.comparison not in _COMPARISONS:
                raise UserError(
                    f"a constraint compares with <=, >=, < or >, not {line.comparison}",
                    line.location,
                )
            if not scope.holds(line.when):
                continue
            left, right = (expressions.number(side, scope) for side in (line.left, line.right))
            units.same_dimension(left, right, line.location)
            comparison = cast(ir.Comparison, line.comparison)
            unit = units.unit_name(left)
            yield ir.Constraint(line.text, left.magnitude, comparison, right.magnitude, unit)

    def physical(self, call: syntax.Call, scope: Scope) -> Quantity:
        """The value of `area(tile)` and the like; raises UserError."""
        name = call.function.path[0]
        function = self.physics.functions.get(name)
        if function is None:
            known = [*self.physics.functions, *FUNCTIONS]
            raise UserError(f"unknown function '{name}'{nearest(name, known)}", call.location)
        if self.hardware is None:
            raise UserError(f"{name}() may be used in constraints only", call.location)
        part = self._argument(call, function, scope)
        asked = name, id(part)
        if asked not in self.figures:
            try:
                with np.errstate(all="ignore"):
                    self.figures[asked] = part, function.compute(part)
            except UserError as error:
                raise UserError(error.message, error.location or call.location) from None
        _, figure = self.figures[asked]
        exponents = units.unit_quantity(function.unit).exponents
        return units.checked(Quantity(figure, exponents), call.location)

    def _argument(self, call: syntax.Call, function: Function, scope: Scope) -> Any:
        kinds = [kind if kind != "wafer" else "wafer or node" for kind in function.of]
        expected = f"{function.name}() takes a {', '.join(kinds)}"
        named = call.arguments[0]
        if len(call.arguments) != 1 or not isinstance(named, syntax.Reference):
            raise UserError(f"{expected}, by name", call.location)
        if named.path == ("system",):
            part: Any = self.hardware
            kind = "system"
        else:
            view = scope.part(named, "core", "die", "wafer", "node")
            part = self._part(view)
            kind = "wafer" if view.block.kind == "node" else view.block.kind
        if kind not in function.of:
            raise UserError(f"{expected}, got a {kind}", named.location)
        return part

    def _part(self, view: View) -> Any:
        """A core, die or wafer as it stands in the system, else in another wafer of the file, else
        by itself."""
        key = view.key("")
        if view.scope.changes:
            return self._alone(view)
        if key not in self.parts and view.block.kind not in ("wafer", "node"):
            for wafer in self.wafers():
                _, known = Builder(self.physics, Assumptions()).wafer(wafer)
                self.parts = known | self.parts
                if key in self.parts:
                    break
        if key not in self.parts:
            self.parts[key] = self._alone(view)
        return self.parts[key]

    def _alone(self, view: View) -> ir.Core | ir.Die | ir.Wafer:
        assumed = Assumptions()
        match view.block.kind:
            case "core":
                made = core.core(view, self.physics, assumed)
                if core.unsized(made):
                    raise UserError(
                        f"{view.label}: field size is missing, and no die gives it a share",
                        view.block.location,
                    )
                return made
            case "die":
                return die(view, None, None, self.physics, assumed)
            case _:
                return Builder(self.physics, assumed).wafer(view)[0]
