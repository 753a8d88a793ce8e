"""The versions that kept results depend on: results of two versions are never mixed."""

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from .store import digest

PACKAGE = Path(__file__).parents[1]
STAGES = ("ir", "frontend", "passes", "backend")
"""The folders whose code decides what a trace, a mapped program and a result say."""


@lru_cache(maxsize=1)
def code_version() -> str:
    """The digest of our own code, by its content, and of the versions that traces depend on."""
    code = (
        path.read_text("utf-8")
        for stage in STAGES
        for path in sorted((PACKAGE / stage).rglob("*"))
        if path.suffix in (".py", ".lark", ".txt")
    )
    return digest(version("wscc"), version("torch"), version("transformers"), *code)
