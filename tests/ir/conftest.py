"""What the tests of gradients share."""

from collections.abc import Callable, Mapping, Sequence

import pytest
from wscc.ir.graph import Attribute, Op, TensorType


class Record:
    """A tape that keeps what is added."""

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self.types = dict(types)
        self.ops: list[Op] = []

    def add(
        self,
        kind: str,
        operands: Sequence[str],
        type_: TensorType,
        attributes: Mapping[str, Attribute],
        name: str | None = None,
    ) -> str:
        del name
        return self.add_several(kind, operands, [type_], attributes)[0]

    def add_several(
        self,
        kind: str,
        operands: Sequence[str],
        types: Sequence[TensorType],
        attributes: Mapping[str, Attribute],
    ) -> tuple[str, ...]:
        names = tuple(f"d{len(self.types) + at}" for at in range(len(types)))
        self.types.update(zip(names, types, strict=True))
        self.ops.append(Op(kind, tuple(operands), names, tuple(types), attributes))
        return names

    def type_of(self, name: str) -> TensorType:
        return self.types[name]

    def wants(self, name: str) -> bool:
        del name
        return True


@pytest.fixture
def recording() -> Callable[[Mapping[str, TensorType]], Record]:
    """Makes a tape that keeps what a gradient adds, over values of the given types."""
    return Record
