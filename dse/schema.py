"""The tables of a study, the same in SQLite and in PostgreSQL.

Designs are apart from trials, for a design has a trial at every fidelity that it reached; figures
are apart too, so that listing trials and their front reads short rows only.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Of a trial; in SQLite only a plain INTEGER is the key that rows lie by."""

META = Table(
    "wscc_study",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
"""`schema`, `info` (JSON), `coordinator` (JSON of who searches), `elapsed_s`."""

DESIGNS = Table(
    "designs",
    metadata,
    Column("key", String(16), primary_key=True),
    Column("parameters", Text, nullable=False),
)
"""`parameters`: JSON by name, in SI or words."""

TRIALS = Table(
    "trials",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("design", String(16), ForeignKey(DESIGNS.c.key), nullable=False),
    Column("fidelity", String(32), nullable=False),
    Column("version", String(64), nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("note", Text, nullable=False, default=""),
    Column("worker", Text, nullable=False, default=""),
    Column("lease_until", Float),
    Column("queued_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("seconds", Float, nullable=False, default=0.0),
    Column("lost_s", Float, nullable=False, default=0.0),
    Column("reason", Text, nullable=False, default=""),
    Column("losses", LargeBinary),
    UniqueConstraint("design", "fidelity", "version"),
    Index("trials_by_state", "version", "fidelity", "state"),
)
"""`lease_until`, `queued_at`, `ended_at`: seconds since 1970. `seconds`: of one core, of the
attempt that ended it; `lost_s`: of those that did not. `losses`: the objectives to be minimized,
float64, little-endian; null where the trial is not done or breaks a limit of the study."""

FIGURES = Table(
    "figures",
    metadata,
    Column("number", NUMBER, ForeignKey(TRIALS.c.number), primary_key=True),
    Column("figures", Text, nullable=False),
)
"""`figures`: JSON by the path of a key in the report."""

EXCLUSIONS = Table(
    "exclusions",
    metadata,
    Column("design", String(16), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("parameters", Text, nullable=False),
    Column("trial", NUMBER),
    Column("optimistic", Text, nullable=False),
)
"""Designs that were never evaluated dearly, and why: `trial` betters even their `optimistic`
losses (JSON), or where it is null those alone rule them out."""

EVENTS = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("trial", NUMBER),
    Column("text", Text, nullable=False),
)
"""What happened beside the ends of trials: starts, stops, workers that died, retries."""
