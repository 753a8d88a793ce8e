"""What a study is about, as it is kept with its trials: enough to go on with it, and to read it.

Trials are in store.py. Nothing here needs a database.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ..ir.errors import UserError

SCHEMA = 1
"""Of the tables and of this description; a study of another one is refused."""

MAY_CHANGE = ("schema", "wscc_version", "evaluator_version", "budget", "engine")
"""What may differ when a study is gone on with: how long and where it is searched."""


@dataclass(frozen=True)
class StudyInfo:
    """A search, but for what it found."""

    hardware: str
    """The path of the spec, or its name where it is shipped."""
    files: Mapping[str, str]
    """Path and text of the spec and of all that it uses, which are not shipped."""
    workloads: Sequence[Mapping[str, Any]]
    """Each with its name, model (path and text of the config), phase, sizes, dtype and weight."""
    objectives: Sequence[str]
    """As `read_objective` reads them."""
    rungs: Sequence[str]
    """Fidelities, the cheapest first; the front is of the last."""
    strategy: str
    seed: int
    budget: str
    evaluator_version: str
    wscc_version: str
    shipped: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name and text of the shipped files that the spec uses."""
    overrides: Mapping[str, str] = field(default_factory=dict[str, str])
    combine: Literal["separate", "weighted", "worst"] = "separate"
    limits: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the strategy."""
    parameters: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    """Open parameters in the order of the spec: of each the unit that the spec writes it in, and
    how much one of it is in SI."""
    engine: str = "local"
    schema: int = SCHEMA

    def _plain(self) -> dict[str, Any]:
        """What must be the same to go on, as JSON has it."""
        known = json.loads(self.to_json())
        return {name: value for name, value in known.items() if name not in MAY_CHANGE}

    def differences(self, other: "StudyInfo") -> list[str]:
        """What another search has otherwise, a line each: "seed: 0, not 1"."""
        mine, others = self._plain(), other._plain()
        return [
            f"{name}: {_difference(mine[name], others[name])}"
            for name in mine
            if mine[name] != others[name]
        ]

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "StudyInfo":
        """What `to_json` wrote; raises UserError for anything else."""
        try:
            known = json.loads(text)
            return cls(**{each.name: known[each.name] for each in fields(cls)})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"the description of the study is damaged: {error!r}") from None


def _difference(mine: Any, other: Any) -> str:
    """Two values side by side; of mappings only the names of what differs, for texts are long."""
    if isinstance(mine, dict) and isinstance(other, dict):
        names = sorted(n for n in mine.keys() | other.keys() if mine.get(n) != other.get(n))
        return f"not the same {', '.join(names)}"
    if isinstance(mine, list) and isinstance(other, list) and _texts(mine) != _texts(other):
        return f"{', '.join(_texts(mine)) or 'none'}, not {', '.join(_texts(other)) or 'none'}"
    if isinstance(mine, list):
        pairs = zip(mine, other, strict=True)
        return "; ".join(_difference(a, b) for a, b in pairs if a != b)
    return f"{mine}, not {other}"


def _texts(values: list[Any]) -> list[str]:
    """What each entry of a list is called."""
    return [v if isinstance(v, str) else str(v.get("name") or v.get("phase", "")) for v in values]
