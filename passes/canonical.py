"""The forms that models are brought into: to be placed, and, before that, to be trained."""

from dataclasses import dataclass

from ..ir.graph import Graph, Model
from .decompose import Decompose
from .decompose_gradients import DecomposeGradients
from .differentiate import Differentiate
from .fold_views import FoldViews
from .fuse import Fuse
from .manager import Pass, PassManager
from .optimize import Optimize
from .share import Share
from .split_scores import SplitScores


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


def canonical_form(model: Model, manager: PassManager, kernels: bool = False) -> Model:
    """A model of inference fused, decomposed and without views, its sizes still symbolic; with
    `kernels`, parts that the hardware runs as one are marked."""
    split = () if kernels else (EachGraph(SplitScores()),)
    for step in (EachGraph(Fuse()), *split, EachGraph(Decompose(kernels)), FoldViews()):
        model = manager.apply(step, model)
    return model


def canonical_training_form(model: Model, manager: PassManager) -> Model:
    """What `training_form` gives, decomposed and without views, its sizes still symbolic."""
    steps = (EachGraph(DecomposeGradients()), EachGraph(Decompose()), EachGraph(Share()))
    for step in (*steps, FoldViews()):
        model = manager.apply(step, model)
    return model


def training_form(
    model: Model,
    manager: PassManager,
    optimizer: Optimize = Optimize(),  # noqa: B008
) -> Model:
    """The training step of a model that yields logits, its sizes still symbolic.

    It is fused first, so that a norm or a rotary embedding is one operator forward and backward.
    """
    for step in (EachGraph(Fuse()), EachGraph(SplitScores()), Differentiate(), optimizer):
        model = manager.apply(step, model)
    return model
