"""Runs passes: times each, verifies what it made, and shows it to whoever watches."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

from ..ir.graph import Model
from ..ir.mapped import MappedGraph
from ..ir.program import Program
from ..ir.program_text import print_mapped, print_program, print_stage
from ..ir.text import print_model

logger = logging.getLogger(__name__)

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
T = TypeVar("T")

AfterPass = Callable[[str, str], None]
"""Called with a pass's name and the text of what it made."""


class Pass(Protocol[In, Out]):
    """A frozen dataclass whose fields are its options; its docstring says what it decides."""

    @property
    def name(self) -> str: ...

    def run(self, value: In, /) -> Out:
        """A valid representation in, a valid representation out."""
        ...


@dataclass
class PassManager:
    """Applies passes in order and keeps the seconds that each took."""

    after: AfterPass | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def apply(self, step: Pass[In, T], value: In) -> T:
        """What `step` makes of `value`, verified.

        Raises VerificationError when the pass made something invalid.
        """
        began = perf_counter()
        made = step.run(value)
        _verify(made)
        spent = perf_counter() - began
        self.seconds[step.name] = self.seconds.get(step.name, 0.0) + spent
        logger.debug("pass %s: %.3f s", step.name, spent)
        if self.after is not None:
            self.after(step.name, _text(made))
        return made


def _verify(made: Any) -> None:
    if isinstance(made, Model | Program):
        made.verify()
    elif isinstance(made, Mapping):
        for mapped in made.values():
            mapped.graph.verify()


def _text(made: Any) -> str:
    match made:
        case Model():
            return print_model(made)
        case Program():
            return print_program(made)
        case {**graphs} if all(isinstance(graph, MappedGraph) for graph in graphs.values()):
            return "".join(print_mapped(graph) for graph in graphs.values())
        case _:
            return "".join(print_stage(stage) for stage in made)
