"""A spec whose parameters are still open, and the choice of values that makes it one design.

Importing this module imports neither lark nor pint: both wait until a file is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.hardware import Hardware
from ...ir.physics import NoPhysics, Physics
from .files import SourceFile, find_spec, read_source
from .summary import Source, sources

if TYPE_CHECKING:
    import numpy as np

    from .batch import Verdicts
    from .binding import Memo
    from .domain import Parameter


@dataclass(frozen=True)
class HardwareSpace:
    """What a `.wsc` file describes: parameters, expressions not yet evaluated, constraints."""

    name: str
    file: SourceFile
    parameters: "Mapping[str, Parameter]"
    constraints: tuple[str, ...]
    physics: Physics = field(default_factory=NoPhysics)
    """What outlines, limits and the functions of constraints follow from."""
    memo: "Memo" = field(init=False, repr=False, compare=False)
    """What bindings have in common."""
    _checked: set[tuple[object, ...]] = field(init=False, repr=False, compare=False)
    """Choices of words for which the parts that the system does not use are known to be right."""

    def __post_init__(self) -> None:
        """Nothing is remembered of another space, or under another physics."""
        from .binding import Memo

        object.__setattr__(self, "memo", Memo())
        object.__setattr__(self, "_checked", set[tuple[object, ...]]())

    def sources(self) -> tuple[Source, ...]:
        """Where the figures come from, as their `from "..."` says."""
        return sources(self.file)

    def bind(
        self, values: Mapping[str, str | float] | None = None, /, **named: str | float
    ) -> Hardware:
        """The design with these parameters, as a mapping or by name, the others at their defaults.

        A value is a text (`"64 KiB"`, `"on"`) or a number in SI. Constraints are evaluated and kept
        in the result, held or not.

        Raises UserError for a mistake in the file, an unknown parameter, a value outside its
        domain, or a constraint that calls a function which is not known.
        """
        from .build import Design
        from .parameters import choose, given_values

        values = {**(values or {}), **named}
        given = given_values(self.parameters, values) if values else {}
        design = Design(self.file, given, self.physics, self.memo)
        chosen = choose(design.scope, self.parameters, values)
        words = tuple(value for value in chosen.values() if isinstance(value, str))
        hardware = design.hardware(self.name, chosen, words not in self._checked)
        self._checked.add(words)
        hardware.verify()
        return hardware

    def judge(self, points: "Mapping[str, np.ndarray]") -> "Verdicts":
        """Which of a batch of points are designs, and which of their constraints hold.

        `points` has an array of values in SI, or of words, for each parameter that is not at its
        default; nan, or "", where a parameter does not exist. Raises UserError for a mistake in
        the file or a name that is not known; a value that is not allowed only strikes its point.
        """
        from .batch import judge

        return judge(self, points)

    def points(
        self, fixed: Mapping[str, str | float] | None = None, limit: int = 1 << 18
    ) -> "Iterator[dict[str, np.ndarray]]":
        """Every point of the space at which some parameters are `fixed`, in batches of about
        `limit`, whatever physics says of it.

        Constraints that call no physics are applied, and lookups that find no row. Raises
        UserError for a parameter whose values cannot be listed.
        """
        from .enumerate import enumerate_points

        return enumerate_points(self, fixed or {}, limit)


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
