"""A spec in one binding becomes the hardware tree: the system, its checks and its constraints.

Wafers are wafer.py, dies grids.py, cores core.py; the tables of fields fields.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...ir import hardware as ir
from ...ir.errors import Location, UserError, nearest
from ...ir.physics import Physics
from . import core, parts
from .assumed import Assumptions
from .binding import AbsentError, Binding, Memo, Value
from .constraints import Judge
from .evaluate import Scope
from .fields import PARTS, SYSTEM
from .files import SourceFile
from .grids import Size, die
from .read import read
from .spelling import check_spelling
from .view import PART_KINDS, View
from .wafer import Builder

_ANY_SHARE: Size = (1.0, 1.0)
"""The size of a part that is only checked, and has none of its own."""


class Design:
    """Builds the system of one file in one binding: of a point, or of a batch of them."""

    def __init__(
        self,
        file: SourceFile,
        chosen: Mapping[str, Value],
        physics: Physics,
        memo: Memo,
        points: int | None = None,
    ) -> None:
        self._physics = physics
        self._judge = Judge(physics, self._wafers)
        self.binding = Binding(chosen, self._judge.physical, points, memo)
        self.scope = Scope(file, self.binding)
        self.binding.values = lambda name: self.scope.named_value(name, None)

    def hardware(
        self, name: str, parameters: Mapping[str, Any], check_unused: bool = True
    ) -> ir.Hardware:
        """The design; raises UserError for any mistake in any part, used or not.

        `check_unused` as false leaves out the parts that the system does not use: where they were
        checked for other values of the same kind.
        """
        _check_kinds(self.scope.file)
        assumed = Assumptions()
        count, wafer_view, values = self._system()
        wafer, known = Builder(self._physics, assumed).wafer(wafer_view)
        if check_unused:
            self._check_others(known)
        joint = values.get("joint")
        design = ir.Hardware(
            name=name,
            wafers=count,
            wafer=wafer,
            parameters=parameters,
            assumed=assumed.found if self.binding.points is None else {},
            link=None if joint is None else parts.bandwidth_link(joint),
            switch=None if values.get("switch") is None else parts.switch(values["switch"]),
            economy=values.get("economy"),
        )
        self._judge.hardware, self._judge.parts = design, known
        self.scope.check_lets()
        lines = self._judge.judged(self.scope.file.constraints, self.scope)
        limits = self._physics.limits(wafer)
        return replace(design, constraints=(*lines, *limits))

    def _system(self) -> tuple[Any, View, dict[str, Any]]:
        """How many wafers or nodes, and which; a file with one of them needs no system."""
        block = self.scope.file.system
        if block is None or not self.scope.holds(block.when):
            return 1, self._only(), {}
        view = View(block, self.scope, ("system",))
        values = read(view, SYSTEM)
        given = [kind for kind in ("wafers", "nodes") if values[kind] is not None]
        if len(given) != 1:
            got = "both" if given else "neither"
            raise UserError(f"system: expected one of wafers and nodes, got {got}", block.location)
        count, wafer, joint = values[given[0]]
        if joint is None and values["switch"] is not None:
            raise UserError(
                f"system: a switch needs a link to it, as in '{given[0]} = 16 of "
                f"{wafer.path[0]} joined fabric'",
                view.fields["switch"].location,
            )
        values["joint"], values["economy"] = joint, _economy(view, values)
        return count, wafer, values

    def _only(self) -> View:
        found = [*self._parts("wafer"), *self._parts("node")]
        if len(found) == 1:
            return found[0]
        raise UserError(
            "the file describes no system, expected one as in 'system { wafers = 1 of wse }'",
            Location(self.scope.file.name, 1, 1),
        )

    def _wafers(self) -> Iterator[View]:
        yield self._system()[1]
        yield from (*self._parts("wafer"), *self._parts("node"))

    def _parts(self, kind: str) -> Iterator[View]:
        for name, part in self.scope.parts.items():
            if part.kind == kind:
                yield self.scope.part_named(name, part.location)

    def _check_others(self, known: Mapping[tuple[str, ...], Any]) -> None:
        """Raise UserError for a mistake in a part, of this file or one that it uses, that is not
        among the `known`; one that rests on a parameter which does not exist is not checked."""
        self._check_parts(self.scope, known)
        check_spelling(self.scope.file)
        scopes = [*self.scope.namespaces.values()]
        for scope in scopes:
            _check_kinds(scope.file)
            if scope.file.system is not None:
                read(View(scope.file.system, scope, ("system",)), SYSTEM)
            self._check_parts(scope, known)
            check_spelling(scope.file)
            scope.check_lets()
            scopes += scope.namespaces.values()

    def _check_parts(self, scope: Scope, known: Mapping[tuple[str, ...], Any]) -> None:
        for name, part in scope.parts.items():
            view = scope.part_named(name, part.location)
            if view.key("") not in known:
                with suppress(AbsentError):
                    self._check(view)

    def _check(self, view: View) -> None:
        """Raise UserError for a mistake in a part, wherever it stands."""
        assumed = Assumptions()
        match view.block.kind:
            case "technology":
                parts.technology(view)
            case "software":
                parts.software(view)
            case "network":
                read(view, PARTS["network"], 1.0)
            case "memory":
                read(view, PARTS["memory"])
            case "link":
                parts.link(view, clock_hz=1.0)
            case "switch":
                parts.switch(view)
            case "core":
                core.core(view, self._physics, assumed)
            case "die":
                die(view, _ANY_SHARE, None, self._physics, assumed)
            case _:
                Builder(self._physics, assumed).wafer(view)


def _economy(view: View, values: Mapping[str, Any]) -> ir.Economy | None:
    lifetime, electricity = values["lifetime"], values["electricity"]
    if lifetime is None and electricity is None:
        return None
    if lifetime is None or electricity is None:
        missing = "lifetime" if lifetime is None else "electricity"
        raise UserError(f"system: field {missing} is missing", view.block.location)
    return ir.Economy(lifetime, electricity, values["utilization"])


def _check_kinds(file: SourceFile) -> None:
    for part in file.parts.values():
        if part.kind == "system":
            raise UserError(f"a system has no name, got '{part.name}'", part.location)
        if part.kind not in PART_KINDS:
            known = [*PART_KINDS, "system"]
            raise UserError(
                f"unknown kind of part '{part.kind}'{nearest(part.kind, known)}", part.location
            )
        if part.name is None:
            raise UserError(f"a {part.kind} needs a name", part.location)
