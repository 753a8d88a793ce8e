"""A finite space of which every figure is known: what strategies are tested and compared on.

A table's evaluator looks up what it is asked for, so a search of hours takes seconds.
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..ir.errors import UserError
from .design import Columns, Design, Floats, designs_of
from .evaluator import Rung
from .objective import Objective
from .trial import Outcome

Figures = Mapping[str, np.ndarray]
"""Columns of figures, one entry a design; nan where a design cannot do the work."""


@dataclass(frozen=True)
class TableSpace:
    """The rows of a table as a space; every row is legal."""

    names: tuple[str, ...]
    columns: Columns
    """A column for each name; nan or "" where a parameter does not exist in a design."""

    @cached_property
    def designs(self) -> list[Design]:
        return designs_of(self.columns)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each design, by its key."""
        return {design.key: row for row, design in enumerate(self.designs)}

    @cached_property
    def domains(self) -> dict[str, list[float | str]]:
        """Values of each parameter, in order."""
        return {
            name: sorted({value for value in column.tolist() if value != "" and value == value})
            for name, column in self.columns.items()
        }

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Of each design the rank of its values, -1 for a parameter that it does not have."""
        found = np.full((len(self.designs), len(self.names)), -1)
        for axis, name in enumerate(self.names):
            rank = {value: at for at, value in enumerate(self.domains[name])}
            found[:, axis] = [rank.get(value, -1) for value in self.columns[name].tolist()]
        return found

    @cached_property
    def _coded(self) -> dict[bytes, int]:
        return {code.tobytes(): row for row, code in enumerate(self.codes)}

    @cached_property
    def _patterns(self) -> NDArray[np.bool_]:
        """Which parameters may exist together."""
        return np.unique(self.codes >= 0, axis=0)

    def _rows(self, designs: Sequence[Design]) -> NDArray[np.intp]:
        return np.array([self.rows[design.key] for design in designs], dtype=np.intp)

    def sample(self, count: int, rng: np.random.Generator) -> list[Design]:
        rows = rng.permutation(len(self.designs))[:count]
        return [self.designs[row] for row in rows]

    def from_unit(self, points: Floats) -> list[Design | None]:
        sizes = np.array([len(self.domains[name]) for name in self.names])
        codes = np.minimum((points * sizes).astype(np.int64), sizes - 1)
        return [self._design(code) for code in codes]

    def _design(self, code: NDArray[np.int64]) -> Design | None:
        for pattern in self._patterns:
            row = self._coded.get(np.where(pattern, code, -1).tobytes())
            if row is not None:
                return self.designs[row]
        return None

    def to_unit(self, designs: Sequence[Design]) -> Floats:
        sizes = np.array([len(self.domains[name]) for name in self.names])
        codes = self.codes[self._rows(designs)]
        return np.where(codes < 0, 0.5, (codes + 0.5) / sizes)

    @cached_property
    def _features(self) -> Floats:
        parts: list[Floats] = []
        for axis, name in enumerate(self.names):
            code = self.codes[:, axis]
            size = len(self.domains[name])
            if self.columns[name].dtype.kind in "US":
                parts.append((code[:, None] == np.arange(size)).astype(np.float64))
            else:
                rank = np.where(code < 0, 0.5, code / max(size - 1, 1))
                parts.append(rank[:, None])
        return np.concatenate(parts, axis=1)

    def features(self, designs: Sequence[Design]) -> Floats:
        return self._features[self._rows(designs)]

    def neighbours(self, design: Design, count: int, rng: np.random.Generator) -> list[Design]:
        distance = (self.codes != self.codes[self.rows[design.key]]).sum(axis=1)
        order = np.lexsort([rng.random(len(distance)), distance])
        return [self.designs[row] for row in order[1 : count + 1]]

    def all(self, limit: int = 1 << 18) -> Iterator[Columns]:
        for start in range(0, len(self.designs), limit):
            yield {name: column[start : start + limit] for name, column in self.columns.items()}


@dataclass(frozen=True)
class TableEvaluator:
    """Looks figures up. A row without figures at a fidelity is infeasible there."""

    space: TableSpace
    rungs: tuple[Rung, ...]
    figures: Mapping[str, Figures]
    """By the rung's name."""
    seconds: float = 120.0
    """What an evaluation at the top is said to take."""

    @cached_property
    def version(self) -> str:
        digest = sha256(repr(self.rungs).encode())
        for rung in self.rungs:
            for name, column in self.figures[rung.name].items():
                digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
        return f"table-{digest.hexdigest()[:12]}"

    def evaluate(self, design: Design, fidelity: str) -> Outcome:
        row = self.space.rows[design.key]
        cost = next(rung.cost for rung in self.rungs if rung.name == fidelity)
        found = {name: float(column[row]) for name, column in self.figures[fidelity].items()}
        if any(value != value for value in found.values()):
            return Outcome("infeasible", seconds=cost * self.seconds, reason="no figures")
        return Outcome("done", found, cost * self.seconds)


@dataclass(frozen=True)
class TableOptimist:
    """Optimistic figures from a table."""

    space: TableSpace
    figures: Figures
    """What no evaluation betters: least of a figure to be minimized, most of one to be maximized;
    nan where a design cannot do the work."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Figures that have none, and what to use instead."""

    def proven(self, objective: Objective) -> str | None:
        if objective.figure in self.figures:
            return None
        return self.refused.get(objective.figure, f"{objective.figure} has no optimistic figure")

    def optimistic(self, columns: Columns, objectives: Sequence[Objective]) -> Floats:
        rows = [self.space.rows[design.key] for design in designs_of(columns)]
        best = [each.sign * self.figures[each.figure][rows] for each in objectives]
        return np.where(np.isnan(best), np.inf, best).T

    def expected(self, columns: Columns, figures: Sequence[str]) -> Floats | None:
        if not set(figures) <= self.figures.keys():
            return None
        rows = [self.space.rows[design.key] for design in designs_of(columns)]
        return np.array([self.figures[name][rows] for name in figures]).T


@dataclass(frozen=True)
class Table:
    """A space with all figures at every rung, and optimistic ones."""

    space: TableSpace
    rungs: tuple[Rung, ...]
    figures: Mapping[str, Figures]
    optimistic: Figures

    @property
    def evaluator(self) -> TableEvaluator:
        return TableEvaluator(self.space, self.rungs, self.figures)

    @property
    def optimist(self) -> TableOptimist:
        return TableOptimist(self.space, self.optimistic)

    def write(self, path: Path) -> None:
        """As a compressed CSV: a column a parameter, then `RUNG:figure`, `optimist:figure`; the
        first line has the rungs."""
        columns: dict[str, np.ndarray] = dict(self.space.columns)
        for rung in self.rungs:
            columns |= {f"{rung.name}:{name}": c for name, c in self.figures[rung.name].items()}
        columns |= {f"optimist:{name}": column for name, column in self.optimistic.items()}
        with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(f"{r.name}={r.cost:g} {' '.join(r.proven)}".strip() for r in self.rungs)
            out.writerow(columns)
            out.writerows(zip(*map(_written, columns.values()), strict=True))


def _written(column: np.ndarray) -> list[str]:
    """Numbers so that they read back the same."""
    return [v if isinstance(v, str) else "" if v != v else repr(v) for v in column.tolist()]


def read_table(path: Path) -> Table:
    """What `Table.write` wrote; raises UserError where the file is not one."""
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
            first, header, *rows = csv.reader(file)
        rungs = tuple(_rung(text) for text in first)
        columns = {name: _column([row[at] for row in rows]) for at, name in enumerate(header)}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a table of designs: {error}") from None
    names = tuple(name for name in header if ":" not in name)
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name in header[len(names) :]:
        part, _, figure = name.partition(":")
        parts.setdefault(part, {})[figure] = columns[name]
    missing = {rung.name for rung in rungs} - set(parts)
    if missing:
        raise UserError(f"{path}: no figures of {', '.join(sorted(missing))}")
    space = TableSpace(names, {name: columns[name] for name in names})
    figures = {rung.name: parts[rung.name] for rung in rungs}
    return Table(space, rungs, figures, parts.get("optimist", {}))


def _rung(text: str) -> Rung:
    head, *proven = text.split(" ")
    name, _, cost = head.partition("=")
    return Rung(name, float(cost), tuple(proven))


def _column(texts: list[str]) -> np.ndarray:
    """Numbers where every entry is one or missing."""
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts)
