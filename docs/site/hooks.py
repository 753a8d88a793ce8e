"""A folder in which mkdocstrings finds the package `wscc` and nothing else of this repository."""

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[2]
FOLDERS = ("ir", "frontend", "passes", "backend", "dse", "report", "cli")


@event_priority(100)
def on_config(config: Any) -> Any:
    """Point mkdocstrings there, before it looks."""
    package = Path(tempfile.mkdtemp(prefix="wscc-docs-")) / "wscc"
    package.mkdir()
    for name in ("__init__.py", *FOLDERS):
        (package / name).symlink_to(ROOT / name)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(package.parent)]
    return config
