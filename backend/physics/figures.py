"""A figure of the physics is a float, or an array with one entry a design point."""

from typing import Any, TypeAlias

import numpy as np

Figure: TypeAlias = Any
"""A float, or an array of them."""


def plain(figure: Figure) -> Figure:
    """NumPy's scalars as Python's numbers; arrays, and what is a number already, as they are."""
    return figure.item() if isinstance(figure, np.generic) else figure
