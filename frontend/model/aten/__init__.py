"""The table of ATen operators: what each becomes in our graph, a module for each group.

A rule takes a `Call` and returns the view of its result (the views of all of them where there are
several), or raises `UnsupportedError` with what it cannot do.
"""

from . import (
    attention,
    elementwise,
    experts,
    factories,
    indexing,
    parts,
    pooling,
    products,
    reductions,
    scans,
    shapes,
)
from .call import Call, Rule, Shown, UnsupportedError, stored_type
from .complex import with_complex

__all__ = ["RULES", "Call", "Rule", "Shown", "UnsupportedError", "stored_type"]

_GROUPS = (
    elementwise,
    factories,
    shapes,
    parts,
    products,
    reductions,
    pooling,
    indexing,
    attention,
    experts,
    scans,
)

RULES: dict[str, Rule] = with_complex(
    {name: rule for group in _GROUPS for name, rule in group.RULES.items()}
)
"""The rules by the operator's name without its library."""
