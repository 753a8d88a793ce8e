"""How the inner loops are compiled: cached beside wscc's other caches, without reference counts.

No compiled function here makes an array, so none needs Numba to count references; counting those
of twenty tables a call costs more than the calls do. A cached function holds the code of those
that it calls and the constants that they use, whichever file they are in, so that the cache is
filed by the text of all those files.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

from ...ir.store import default_folder, digest

Function = TypeVar("Function", bound=Callable[..., Any])

_texts = [path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
_key = digest(*(text for text in _texts if "compiled" in text))
_base = os.environ.get("NUMBA_CACHE_DIR") or default_folder() / "numba"
setattr(config, "CACHE_DIR", str(Path(_base) / _key[:16]))  # noqa: B010

_njit: Callable[..., Any] = numba.njit


def compiled(function: Function) -> Function:
    """Compile a function when it is first called."""
    return _njit(cache=True, _nrt=False)(function)


def inlined(function: Function) -> Function:
    """Compile a function into those that call it."""
    return _njit(cache=True, _nrt=False, inline="always")(function)
