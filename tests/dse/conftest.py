"""What tests of studies share: a study so small that it is over at once."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module tiny_study, by a name that worker processes find too."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        monkeypatch.syspath_prepend(folder)
    return import_module("tiny_study")
