"""CIFG: the keyboard LSTM with coupled gates of Hard et al. 2018 (arXiv:1811.03604)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsim.models.base import (
    MODELS,
    LanguageModel,
    ModelOptions,
    Positive,
    Probability,
    State,
    fill_uniform,
    shapes_only,
)
from fedsim.models.batch import Batch
from fedsim.models.dropout import Dropout
from fedsim.models.kernels import packed_cifg
from fedsim.models.native import CIFG


@MODELS.register("cifg")
class CifgOptions(ModelOptions):
    """670 units, recurrence and output through a 96-d projection, as Hard et al. 2018."""

    hidden: Positive = 670
    embedding: Positive = 96
    dropout: Probability = 0.0

    def module(self, vocabulary_size: int) -> Cifg:
        """See `ModelOptions.module`."""
        return Cifg(self, vocabulary_size)


@MODELS.register("cifg-small")
class CifgSmallOptions(CifgOptions):
    """For quick runs."""

    hidden: Positive = 256
    embedding: Positive = 64


class Cifg(LanguageModel):
    """One CIFG layer of H units over E-d embeddings, output tied to the embedding, no output bias.

        o, f, z = sigmoid, sigmoid, tanh of W x + b + R r
        c ← f c + (1 - f) z
        r ← P (o tanh c)

    Parameters: V E + 3H(2E + 1) + H E; 1,412,250 at V = 10,000 (specials included).
    """

    def __init__(self, options: CifgOptions, vocabulary_size: int) -> None:
        super().__init__(vocabulary_size)
        n_units, width = options.hidden, options.embedding
        with shapes_only():
            self.embedding = nn.Embedding(vocabulary_size, width)
            self.input = nn.Linear(width, 3 * n_units)
            self.recurrent = nn.Linear(width, 3 * n_units, bias=False)
            self.projection = nn.Linear(n_units, width, bias=False)
            self.output = nn.Linear(width, vocabulary_size, bias=False)
        self.dropout = Dropout(options.dropout)
        self.tie_weights()

    def tie_weights(self) -> None:
        """The output layer is the embedding."""
        self.output.weight = self.embedding.weight

    def initialise(self, generator: torch.Generator) -> None:
        """Scaled uniform; the forget gate starts at 0.73, so that it remembers."""
        fill_uniform(self.embedding.weight, generator)
        for layer in (self.input, self.recurrent, self.projection):
            fill_uniform(layer.weight, generator)
        with torch.no_grad():
            self.input.bias.zero_()
            self.input.bias.view(3, -1)[1] = 1.0

    def native_shape(self) -> tuple[int, int, int, int]:
        """See `LanguageModel.native_shape`."""
        width, units = self.projection.weight.shape
        return CIFG, self.vocabulary_size, width, units

    def _advance(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3H) gate inputs and (B, H) cell -> the next cell and the (B, E) projection."""
        o, f, z = gates.chunk(3, dim=1)
        f = f.sigmoid()
        cell = f * cell + (1.0 - f) * z.tanh()
        return cell, self.projection(o.sigmoid() * cell.tanh())

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        gates = self.input(self.dropout(self.embedding(tokens)))
        cell = gates.new_zeros(len(tokens), self.projection.in_features)
        r = gates.new_zeros(len(tokens), self.projection.out_features)
        outputs = []
        for t in range(tokens.shape[1]):
            cell, r = self._advance(gates[:, t] + self.recurrent(r), cell)
            outputs.append(r)
        return self.output(self.dropout(torch.stack(outputs, dim=1)))

    def hidden(self, batch: Batch) -> Tensor:
        """See `LanguageModel.hidden`."""
        return self.dropout(
            packed_cifg(
                self.dropout(self.embedding(batch.inputs)),
                batch.batch_sizes,
                self.input.weight,
                self.input.bias,
                self.recurrent.weight,
                self.projection.weight,
            )
        )

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is the (B, H) cell and the (B, E) projection."""
        gates = self.input(self.embedding(token))
        if state is None:
            cell = gates.new_zeros(len(token), self.projection.in_features)
        else:
            cell = state[0]
            gates += self.recurrent(state[1])
        cell, r = self._advance(gates, cell)
        return self.output(r), (cell, r)
