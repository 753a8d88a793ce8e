"""Uniform random search: what every other strategy has to beat.

J. Bergstra and Y. Bengio, Random search for hyper-parameter optimization, JMLR 13, 2012.
"""

from ..trial import Suggestion
from .history import Remembering


class RandomSearch(Remembering):
    """Legal designs at the top fidelity, each value as likely as any other."""

    def choose(self) -> Suggestion | None:
        return self.anything("random")
