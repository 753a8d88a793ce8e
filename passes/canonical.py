"""The form that values are placed in: composites taken apart, no views left."""

from dataclasses import dataclass

from ..ir.graph import Graph, Model
from .decompose import Decompose
from .fold_views import FoldViews
from .fuse import Fuse
from .manager import Pass, PassManager


@dataclass(frozen=True)
class EachGraph:
    """A pass over graphs, applied to every graph of a model."""

    inner: Pass[Graph, Graph]

    @property
    def name(self) -> str:
        return self.inner.name

    def run(self, model: Model) -> Model:
        """The model with every graph changed."""
        return model.map(self.inner.run)


def canonical_form(model: Model, manager: PassManager) -> Model:
    """The model fused, decomposed and without views, its sizes still symbolic."""
    for step in (EachGraph(Fuse()), EachGraph(Decompose()), FoldViews()):
        model = manager.apply(step, model)
    return model
