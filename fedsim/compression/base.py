"""What a compressed copy is made of, and what it is: a model like any other, and its bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.errors import FedsimError
from fedsim.models.base import LanguageModel, ModelOptions, build
from fedsim.options import Options
from fedsim.parameters import Layout, Parameters
from fedsim.registry import Registry
from fedsim.steps import Heard, nobody


@dataclass(frozen=True)
class Original:
    """The model to compress, its options, and text of people that it was not trained on.

    heard: is told what share of a copy is made.
    """

    model: LanguageModel
    options: ModelOptions
    public: Sequences
    seed: int
    heard: Heard = nobody

    def parameters(self) -> Parameters:
        """A copy of its values; tied tensors are in it once, so they are compressed once."""
        values = Parameters.from_model(self.model)
        if not np.isfinite(values.flat).all():
            raise FedsimError("The model has values that are not finite; there is no copy of it.")
        return values

    def with_parameters(self, values: Parameters) -> LanguageModel:
        """A model of the same kind with other values, in eval mode."""
        model = build(self.options, self.model.vocabulary_size, self.model.device)
        values.load_into(model)
        return model.eval()


@dataclass(frozen=True)
class Compressed:
    """A copy that any measure can score in float32, and the bytes that it takes when stored."""

    model: LanguageModel
    nbytes: int


class Copy(Options, ABC):
    """A way to compress; its fields are its options."""

    @abstractmethod
    def make(self, original: Original) -> Compressed:
        """The compressed copy; the original stays as it is."""


COPIES: Registry[type[Copy]] = Registry("compressed copy")


def matrices(layout: Layout) -> np.ndarray:
    """Whether each scalar belongs to a matrix, bool (size,): biases and norms, which are few and
    matter more, are kept as they are."""
    parts = [np.full(np.prod(shape, dtype=int), len(shape) == 2) for shape in layout.shapes]
    return np.concatenate(parts)
