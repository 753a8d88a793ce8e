"""Where everything lies on a system, in rows and columns of cores, as a picture shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """The rectangle of a stage of a replica, and how busy it is; shares are of the step."""

    stage: int
    replica: int
    island: int
    row: int
    column: int
    rows: int
    columns: int
    runs: str
    """The graphs of the stage, and how often each."""
    load: float
    """Share of the step in which its cores compute."""
    links: float
    """Share of the step in which its busiest link carries something."""
    memory: float
    """Share of a core's memory that the fullest core holds."""
    memory_bytes: int
    power_w: float
    """Average over the step of all its cores, without what they draw when idle."""


@dataclass(frozen=True)
class Passage:
    """What one stage of a replica hands to another one."""

    source: int
    target: int
    replica: int
    way: str
    seconds: float
    bytes: int
    busy: float = 0.0
    """Share of the step in which something is on its way."""


@dataclass(frozen=True)
class Unit:
    """A die's place, or a memory's or port's at the edge of a wafer."""

    name: str
    row: float
    column: float
    rows: float
    columns: float
    dead: bool = False


@dataclass(frozen=True)
class Border:
    """The links between two neighbouring dies, or blocks of cores, that anything is known to go
    over: a line that is `length` cores long, down from a place where it is vertical, else to the
    right; the part of it that lies within stages, where one does. Shares are of the step, and of
    the busiest link at most."""

    island: int
    row: int
    column: int
    length: int
    vertical: bool
    links: int
    """In each direction, of that line."""
    collectives: float
    """Share in which it carries messages within a stage, as the busiest link of the stage in that
    direction does."""
    handovers: float
    """Share in which it carries what stages hand over, by their routes."""
    between: str

    @property
    def busy(self) -> float:
        return self.collectives + self.handovers


@dataclass(frozen=True)
class WaferMap:
    """Equal islands (floor.py), each of `rows` x `columns` cores that are `core_height` times as
    high as they are wide, and what lies on them."""

    islands: int
    rows: int
    columns: int
    core_height: float
    kind: str
    """What an island is called: wafer or cluster."""
    dies: tuple[Unit, ...]
    """Of each island."""
    edges: tuple[Unit, ...]
    """Ports, and the memories behind them."""
    dead_cores: tuple[tuple[int, int], ...]
    regions: tuple[Region, ...]
    passages: tuple[Passage, ...]
    borders: tuple[Border, ...] = ()
