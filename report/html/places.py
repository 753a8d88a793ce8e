"""Where the islands of a system stand beside each other on a page, and what lies on them."""

from math import ceil, sqrt

from ...ir.wafer_map import WaferMap

GAP = 0.12
"""Between islands, of the larger side."""
MOST_ISLANDS = 64
LOWEST, HIGHEST = 300, 520
"""Pixels of height."""
TEXTS = 110
"""Pixels of the height of the scale and the tools."""
PAGE = 1200
"""Pixels of the width of a page that is not wide."""


class Places:
    """Where islands stand, in units of a core's width; rows grow downwards."""

    def __init__(self, drawn: WaferMap) -> None:
        self.high = drawn.core_height
        if drawn.rows * self.high < drawn.columns / 12:
            self.high = drawn.columns / 12 / drawn.rows
        self.islands = min(drawn.islands, MOST_ISLANDS)
        size_ = max(drawn.columns, drawn.rows * self.high)
        self.pad = GAP * size_
        across = drawn.columns + self.pad
        down = drawn.rows * self.high + self.pad
        self.columns = max(1, min(self.islands, ceil(sqrt(2 * self.islands * down / across))))
        self.across, self.down = across, down
        self.width = self.columns * across - self.pad
        self.height = ceil(self.islands / self.columns) * down - self.pad

    @property
    def pixels(self) -> int:
        """Of height, beside the texts: less where all is wide and low."""
        wide, high = self.width + 2 * self.pad, self.height + 2 * self.pad
        return round(min(HIGHEST, max(LOWEST, TEXTS + PAGE * high / wide)))

    @property
    def vertical(self) -> tuple[float, float]:
        return -self.height - self.pad, self.pad

    def box(
        self, island: int, row: float, column: float, rows: float, columns: float
    ) -> tuple[float, float, float, float]:
        """Left, right, top and bottom."""
        left = (island % self.columns) * self.across + column
        top = -(island // self.columns) * self.down - row * self.high
        return left, left + columns, top, top - rows * self.high
