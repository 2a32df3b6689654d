"""LSTM: the untied next-word model of Reddi et al. 2021 (arXiv:2003.00295)."""

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
from fedsim.models.kernels import packed_lstm
from fedsim.models.native import LSTM


@MODELS.register("lstm")
class LstmOptions(ModelOptions):
    """670 units over 96-d embeddings, as Reddi et al. 2021."""

    hidden: Positive = 670
    embedding: Positive = 96
    dropout: Probability = 0.0

    def module(self, vocabulary_size: int) -> Lstm:
        """See `ModelOptions.module`."""
        return Lstm(self, vocabulary_size)


@MODELS.register("lstm-small")
class LstmSmallOptions(LstmOptions):
    """For quick runs."""

    hidden: Positive = 128
    embedding: Positive = 64


class Lstm(LanguageModel):
    """One LSTM layer of H units, dense to E without activation, untied output with bias.

    One bias a gate. Parameters: V E + 4H(E + H + 1) + (H + 1) E + V (E + 1); 4,050,748 at
    V = 10,004, the paper's count with its 10,000 words and 4 special ones.
    """

    def __init__(self, options: LstmOptions, vocabulary_size: int) -> None:
        super().__init__(vocabulary_size)
        n_units, width = options.hidden, options.embedding
        with shapes_only():
            self.embedding = nn.Embedding(vocabulary_size, width)
            self.input = nn.Linear(width, 4 * n_units)
            self.recurrent = nn.Linear(n_units, 4 * n_units, bias=False)
            self.dense = nn.Linear(n_units, width)
            self.output = nn.Linear(width, vocabulary_size)
        self.dropout = Dropout(options.dropout)

    def initialise(self, generator: torch.Generator) -> None:
        """Scaled uniform; the forget gate starts at 0.73, so that it remembers."""
        fill_uniform(self.embedding.weight, generator)
        for layer in (self.input, self.recurrent, self.dense, self.output):
            fill_uniform(layer.weight, generator)
        with torch.no_grad():
            for layer in (self.input, self.dense, self.output):
                layer.bias.zero_()
            self.input.bias.view(4, -1)[2] = 1.0

    def native_shape(self) -> tuple[int, int, int, int]:
        """See `LanguageModel.native_shape`."""
        return LSTM, self.vocabulary_size, self.dense.out_features, self.dense.in_features

    @staticmethod
    def _advance(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4H) gate inputs and (B, H) cell -> the next cell and the (B, H) output."""
        o, i, f, z = gates.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * z.tanh()
        return cell, o.sigmoid() * cell.tanh()

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        gates = self.input(self.dropout(self.embedding(tokens)))
        cell = h = gates.new_zeros(len(tokens), self.recurrent.in_features)
        outputs = []
        for t in range(tokens.shape[1]):
            cell, h = self._advance(gates[:, t] + self.recurrent(h), cell)
            outputs.append(h)
        return self.output(self.dense(self.dropout(torch.stack(outputs, dim=1))))

    def hidden(self, batch: Batch) -> Tensor:
        """See `LanguageModel.hidden`."""
        h = packed_lstm(
            self.dropout(self.embedding(batch.inputs)),
            batch.batch_sizes,
            self.input.weight,
            self.input.bias,
            self.recurrent.weight,
        )
        return self.dense(self.dropout(h))

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is the (B, H) cell and the (B, H) output."""
        gates = self.input(self.embedding(token))
        if state is None:
            cell = gates.new_zeros(len(token), self.recurrent.in_features)
        else:
            cell = state[0]
            gates += self.recurrent(state[1])
        cell, h = self._advance(gates, cell)
        return self.output(self.dense(h)), (cell, h)
