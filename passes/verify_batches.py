"""The sequences of a step divided among the micro-batches of all replicas, and put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..ir.dims import Polynomial, size
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Model, TensorType
from ..ir.program import Workload

if TYPE_CHECKING:
    from torch import Tensor

    Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batches:
    """How the sequences of a step are divided among replicas and micro-batches.

    A program is for one micro-batch; which dimension of a value counts sequences is read off the
    model's symbolic types.
    """

    model: Model
    workload: Workload
    microbatch: int

    @property
    def sizes(self) -> dict[str, int]:
        step = self.workload
        return {"batch": step.batch, "sequence": step.sequence, "context": step.context}

    @property
    def count(self) -> int:
        return -(-self.workload.batch // self.microbatch)

    def part(self, values: "Values", at: int) -> "Values":
        """What one micro-batch reads."""
        return {
            name: self._narrowed(value, self._sources[name], at) if name in self._sources else value
            for name, value in values.items()
        }

    def joined(self, parts: "Sequence[Values]") -> "Values":
        """The outputs of the whole step, made of those of its micro-batches."""
        if len(parts) == 1:
            return parts[0]
        return {name: self._join(name, [part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def _sources(self) -> dict[str, TensorType]:
        return self.model.sources("data") | self.model.sources("cache")

    @cached_property
    def _outputs(self) -> dict[str, TensorType]:
        return {
            output.source.replace("*", str(layer)): graph.types[output.name]
            for graph, first, count in ((self.model.main, 0, 1), *self.model.runs())
            for output in graph.outputs
            for layer in range(first, first + count)
        }

    def _narrowed(self, value: "Tensor", type_: TensorType, at: int) -> "Tensor":
        along = self._along(type_)
        if along is None:
            return value
        length = size(type_.bind(self.sizes | {"batch": self.microbatch}).shape[along])
        return value.narrow(along, at * length, length)

    def _join(self, name: str, parts: "list[Tensor]") -> "Tensor":
        import torch

        type_ = self._outputs.get(name)
        along = None if type_ is None else self._along(type_)
        if type_ is not None and along is not None:
            bound = type_.bind(self.sizes | {"batch": self.microbatch})
            shape = [size(dim) for dim in bound.shape]
            return torch.cat([part.reshape(shape) for part in parts], along)
        if self.workload.phase == "train":
            return torch.stack(parts).mean(0)
        if not all(torch.allclose(part, parts[0]) for part in parts[1:]):
            raise VerificationError(f"{name} differs between micro-batches")
        return parts[0]

    def _along(self, type_: TensorType) -> int | None:
        """The dimension that counts sequences; if it counts more, they vary slowest."""
        if self.count == 1:
            return None
        found = [
            at
            for at, dim in enumerate(type_.shape)
            if isinstance(dim, Polynomial) and any("batch" in term for term, _ in dim.terms)
        ]
        if len(found) > 1:
            raise UserError(
                f"a value of {type_} cannot be divided into micro-batches: pin "
                f"dp=1,microbatch={self.workload.batch}"
            )
        return found[0] if found else None
