"""Evidence for prefixes in an update of an LSTM or a CIFG: its gates' inputs, reproduced by `step`.

At every word the gates see (embedding of the word, recurrent state before it, 1), so the gradients
of input weight, recurrent weight and bias, side by side, have these vectors as their row space, in
E + S + 1 dimensions with a state of S units. A prefix determines its state, from zero on: a server
that knows the model tries every word of the vocabulary after every prefix that held so far.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsim.leakage import row_space, update_sentences
from fedsim.models.base import LanguageModel
from fedsim.models.batch import BOS, N_SPECIALS, UNK
from fedsim.parameters import Parameters


class RecurrentEvidence(update_sentences.Evidence):
    """The joint row space of both weights; `state[1]` of the model's `step` is what it feeds back.

    Rank: the number of different prefixes, with the empty one and without the whole sentences'
    last step, which nothing reads.
    """

    parts = ("input.weight", "recurrent.weight", "input.bias")

    def __init__(
        self, model: LanguageModel, update: Parameters, gradient: bool, noise: float
    ) -> None:
        super().__init__(model, update, gradient, noise)
        weight, recurrent, bias = (self.named[name] for name in self.parts)
        sides = np.hstack([weight, recurrent, bias[:, None]])
        self.space = row_space.RowSpace.of(sides, self.error)
        self.rank, self.dimension = self.space.rank, self.space.dimension
        embedding = model.embedding.weight.detach().cpu().double().numpy()
        width = embedding.shape[1]
        outside = self.space.outside
        self._words = embedding @ outside[:width]  # (V, columns - rank)
        self._lengths = np.square(embedding).sum(1) + 1.0
        self._state_outside, self._one_outside = outside[width:-1], outside[-1]

    def begin(self) -> update_sentences.Frontier:
        """See `Evidence.begin`."""
        _, state = self.model.step(torch.tensor([BOS], device=self.model.device))
        return update_sentences.Frontier(np.zeros((1, 0), np.int64), np.zeros(1, np.int64), state)

    def grow(
        self, frontier: update_sentences.Frontier, strictness: float
    ) -> update_sentences.Frontier:
        """See `Evidence.grow`."""
        fits = self.fits(frontier.state[1], strictness)
        fits[:, :N_SPECIALS] &= np.arange(N_SPECIALS) >= UNK  # others are no part of a sentence
        parents, words = np.nonzero(fits)
        longer = np.concatenate([frontier.words[parents], words[:, None]], axis=1)
        state = tuple(s[parents] for s in frontier.state)
        if len(words):
            _, state = self.model.step(torch.as_tensor(words, device=self.model.device), state)
        return update_sentences.Frontier(longer, parents, state)

    def fits(self, fed_back: torch.Tensor, strictness: float) -> np.ndarray:
        """(n, S) states -> bool (n, V): whether the update has each state before each word."""
        h = fed_back.cpu().double().numpy()
        rest = h @ self._state_outside + self._one_outside
        outside = 2.0 * rest @ self._words.T
        outside += np.square(self._words).sum(1) + np.square(rest).sum(1)[:, None]
        whole = self._lengths + np.square(h).sum(1)[:, None]
        return self.space.allows(outside, whole, strictness)
