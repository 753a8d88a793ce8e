"""A spec whose parameters are still open, and the choice of values that makes it one design.

Importing this module imports neither lark nor pint: both wait until a file is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...ir.hardware import Hardware
from .domain import Parameter
from .files import SourceFile, find_spec, read_source
from .summary import Source, sources


@dataclass(frozen=True)
class HardwareSpace:
    """What a `.wsc` file describes: parameters, expressions not yet evaluated, constraints."""

    name: str
    file: SourceFile
    parameters: Mapping[str, Parameter]
    constraints: tuple[str, ...]
    physics: Mapping[str, Callable[[Any], float]] = field(default_factory=dict[str, Any])
    """What `bind` takes for its `physics` where it is given none."""

    def sources(self) -> tuple[Source, ...]:
        """Where the figures come from, as their `from "..."` says."""
        return sources(self.file)

    def bind(
        self,
        values: Mapping[str, str | float] | None = None,
        /,
        *,
        physics: Mapping[str, Callable[[Any], float]] | None = None,
        **named: str | float,
    ) -> Hardware:
        """The design with these parameters, as a mapping or by name, the others at their defaults.

        A value is a text (`"64 KiB"`, `"on"`) or a number in SI. `physics` gives the functions
        that constraints may call on a core, die or wafer, each returning SI: `power` in watts,
        `yield`; `area` is known. Constraints are evaluated and kept in the result, held or not.

        Raises UserError for a mistake in the file, an unknown parameter, a value outside its
        domain, or a constraint that calls a function which is not given.
        """
        from .build import Builder
        from .parameters import choose, given_values

        values = {**(values or {}), **named}
        given = given_values(self.file, self.parameters, values)
        builder = Builder(self.file, given, self.physics if physics is None else physics)
        chosen = choose(builder.scope, self.parameters, values)
        hardware = builder.hardware(self.name, chosen)
        hardware.verify()
        return hardware


def load_hardware(name: str | Path) -> HardwareSpace:
    """The hardware space of a `.wsc` file, or of the shipped spec of that name.

    Example: `load_hardware("wse2").bind()`. Raises UserError where the file is not found or its
    text, its `use`s or its parameters are wrong; mistakes in the parts show when it is bound.
    """
    path = find_spec(str(name))
    file = read_source(path)
    from .parameters import declared_parameters

    constraints = tuple(line.text for line in file.constraints)
    return HardwareSpace(path.stem, file, declared_parameters(file), constraints)
