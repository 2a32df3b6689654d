"""The interface of every next-word model, its options, and how one is built."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedsim.models.batch import N_SPECIALS, Batch
from fedsim.models.dropout import Dropout
from fedsim.options import Options
from fedsim.registry import Registry

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
State = tuple[Tensor, ...]


class ModelOptions(Options, ABC):
    """Options of one model; each model has its own subclass, whose fields are its options."""

    @abstractmethod
    def module(self, vocabulary_size: int) -> LanguageModel:
        """The model on the meta device: shapes, no values. Use `build` instead."""


MODELS: Registry[type[ModelOptions]] = Registry("model")


class _NothingDrawn(TorchFunctionMode):
    """Leaves out what `torch.nn.init` would do, which on the meta device has no effect but to
    import PyTorch's compiler: 70 MB and seconds in every process."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made inside are on the meta device: shapes, no values."""
    with torch.device("meta"), _NothingDrawn():
        yield


class LanguageModel(nn.Module, ABC):
    """Next-word model over token ids 0 PAD, 1 BOS, 2 EOS, 3 UNK, classes, then words.

    `forward` is the definition, module by module, and what Opacus' hooks see. `hidden` is the
    same function on packed rows, written for speed; the tests hold the two together. Subclasses
    create their modules under `shapes_only`, so that nothing draws from the global random
    generator, and define `tie_weights` where two modules share a tensor.
    """

    embedding: nn.Embedding
    output: nn.Linear
    dropout: Dropout

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        if vocabulary_size <= N_SPECIALS:
            raise ValueError(f"a vocabulary of {vocabulary_size} has specials only")
        self.vocabulary_size = vocabulary_size

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 token ids, BOS first, PAD at the end -> (B, T, V) logits."""

    @abstractmethod
    def hidden(self, batch: Batch) -> Tensor:
        """(N, E) packed rows: the input of the output layer, as in `forward` up to rounding."""

    @abstractmethod
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Type one token: (B,) ids -> (B, V) logits for the next one, and the new state.

        Start with BOS and `state=None`. Every tensor of a state has the B sequences in its first
        dimension. No dropout, no gradient.
        """

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all parameters from `generator`, which lives on the model's device: the CPU, where
        the function `initialise` draws those of every device."""

    def tie_weights(self) -> None:
        """Make modules that share a tensor share it again after `build` replaced it."""
        return

    def native_shape(self) -> tuple[int, int, int, int] | None:
        """(family, V, E, H) for the native kernel, which then trains it; None if it has none."""
        return None

    @property
    def output_weight(self) -> Tensor:
        """(V, E) weight of the output layer."""
        return self.output.weight

    @property
    def output_bias(self) -> Tensor | None:
        """(V,) bias of the output layer, if it has one."""
        return self.output.bias

    @property
    def dropout_generator(self) -> torch.Generator | None:
        """Source of the dropout masks; the trainer sets it before each user."""
        return next((m.generator for m in self.modules() if isinstance(m, Dropout)), None)

    @dropout_generator.setter
    def dropout_generator(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    @torch.no_grad()
    def log_probs(self, batch: Batch) -> Tensor:
        """(N, V) natural-log probabilities of each row's next token, in eval mode."""
        was_training = self.training
        self.eval()
        try:
            logits = nn.functional.linear(self.hidden(batch), self.output_weight, self.output_bias)
        finally:
            self.train(was_training)
        return torch.log_softmax(logits, dim=1, out=logits)

    @property
    def n_parameters(self) -> int:
        """Number of scalars, tied tensors once."""
        return sum(p.numel() for p in self.parameters())


def build(
    options: ModelOptions, vocabulary_size: int, device: torch.device | str = "cpu"
) -> LanguageModel:
    """The model of these options with all parameters zero; `initialise` it or load parameters."""
    model = options.module(vocabulary_size)
    # Not `to_empty`: on its way from the meta device it imports SymPy, 35 MB in every process.
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.zeros(parameter.shape, device=device)))
    model.tie_weights()
    return model


def initialise(model: LanguageModel, options: ModelOptions, generator: torch.Generator) -> None:
    """Draw all parameters from a generator on the CPU, wherever the model is.

    A GPU's generator has other numbers for the same seed, and runs on different devices would begin
    with different models.
    """
    if model.device.type == "cpu":
        model.initialise(generator)
        return
    drawn = build(options, model.vocabulary_size)
    drawn.initialise(generator)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), drawn.parameters(), strict=True):
            mine.copy_(theirs)


def fill_uniform(weight: Tensor, generator: torch.Generator, gain: float = 1.0) -> None:
    """Uniform with variance gain² / fan_in, where `weight` is (out, in)."""
    bound = gain * math.sqrt(3.0 / weight.shape[1])
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)
