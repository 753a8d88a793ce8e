"""How the weights of a quantized model are kept, and which modules that is true of.

Plain data, read by methods.py from what a config states; ../quantize.py rewrites a graph
by it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal

ModuleKind = Literal["linear", "experts", "output"]
"""A linear layer, the joined weights of all experts, or the product that yields the logits."""

WHOLE = 0
"""A block's size that stands for the whole dimension."""


@dataclass(frozen=True)
class Weights:
    """A weight matrix as it is stored.

    `block` is how many outputs and how many inputs share a scale: (1, 128) are groups of 128
    inputs, (1, WHOLE) a scale for every output, (WHOLE, WHOLE) one for the matrix. The names are
    those of the tensors beside `weight`; `overall` is a second scale for the whole matrix, in
    float32.
    """

    dtype: str
    block: tuple[int, int]
    scale: str = "float32"
    scale_name: str = "weight_scale"
    zero: str | None = None
    zero_name: str = "weight_zero_point"
    overall: str | None = None


@dataclass(frozen=True)
class Activations:
    """What a matrix product takes instead of its activations.

    `block` inputs of a token share a scale. A `static` scale for the whole tensor comes with the
    model under that name; where `block` is not WHOLE it is a second scale besides the blocks' own.
    `per_tensor` is one scale for all tokens.
    """

    dtype: str
    block: int = WHOLE
    scale: str = "float32"
    static: str | None = None
    per_tensor: bool = False


@dataclass(frozen=True)
class Scheme:
    """Stored weights and, where products run in low precision too, their activations."""

    weights: Weights
    activations: Activations | None = None


@dataclass(frozen=True)
class Pattern:
    """Names of modules: as the config writes it, and as a regular expression to search for."""

    text: str
    regex: str

    def matches(self, names: Iterable[str]) -> bool:
        """Whether it selects a module that goes by any of these names."""
        return any(re.search(self.regex, name) for name in names)


@dataclass(frozen=True)
class Rule:
    """What holds for the modules that a pattern selects; without a scheme they are not quantized.

    Without patterns it selects every module.
    """

    scheme: Scheme | None
    patterns: tuple[Pattern, ...] = ()

    def matches(self, names: Iterable[str]) -> bool:
        known = tuple(names)
        return not self.patterns or any(pattern.matches(known) for pattern in self.patterns)


LAYERS: frozenset[ModuleKind] = frozenset(("linear", "experts"))
EVERYTHING: frozenset[ModuleKind] = frozenset(("linear", "experts", "output"))


@dataclass(frozen=True)
class Quantization:
    """A quantized model: the first rule that selects a module holds for it.

    Only modules of the `kinds` are quantized. `cache` is the dtype of keys and values in the
    cache, with a scale a layer.
    """

    method: str
    rules: tuple[Rule, ...]
    kinds: frozenset[ModuleKind] = EVERYTHING
    cache: str | None = None

    def scheme(self, kind: ModuleKind, names: Iterable[str]) -> Scheme | None:
        """How a module's weights are stored, by any of the names it goes by; None: as they are."""
        known = tuple(names)
        if kind not in self.kinds:
            return None
        return next((rule.scheme for rule in self.rules if rule.matches(known)), None)

    @property
    def patterns(self) -> Iterator[Pattern]:
        """All patterns of all rules."""
        for rule in self.rules:
            yield from rule.patterns


def transformers_pattern(text: str) -> Pattern:
    """As Transformers reads `modules_to_not_convert`: a regular expression from the start of the
    name to the end of one of its parts, or literally the end of the name."""
    ending = rf"{re.escape(text)}$"
    try:
        re.compile(f"(?:{text})")
    except re.error:
        return Pattern(text, ending)
    return Pattern(text, rf"^(?:{text})(?:(?<=\.)|(?=\.|$))|{ending}")


def wildcard_pattern(text: str) -> Pattern:
    """As ModelOpt and Quark read exclusions: shell wildcards over the whole name, and without a
    wildcard the module of that name and all inside it."""
    if any(sign in text for sign in "*?["):
        return Pattern(text, translate(text))
    return Pattern(text, rf"(?:^|\.){re.escape(text)}(?:\.|$)")


def listed_pattern(text: str) -> Pattern:
    """As compressed-tensors reads targets: `re:` and a regular expression from the start of the
    name, or the name itself. Raises re.error."""
    if text.startswith("re:"):
        expression = text.removeprefix("re:")
        re.compile(expression)
        return Pattern(text, f"^(?:{expression})")
    return Pattern(text, f"^{re.escape(text)}$")
