"""Evidence for prefixes in an update of the transformer: the first block's normed inputs (DAGER).

Petrov et al. 2024. The first attention reads LN(embedding of the word + embedding of its position),
so the gradients of query, key and value, one below another, show which words were typed at which
position, in any order of sentences. What the first MLP reads depends on the whole prefix through
the attention, and shows which of those words follow each other. Both live in E dimensions.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from fedsim.leakage import row_space, update_sentences
from fedsim.models.batch import BOS, N_SPECIALS, UNK
from fedsim.models.transformer import Block, Transformer
from fedsim.parameters import Parameters


class AttentionEvidence(update_sentences.Evidence):
    """Two row spaces, of the first block's attention and of its MLP.

    Rank: the larger of the numbers of different (word, position) pairs and of different prefixes.
    """

    parts = tuple(
        f"blocks.0.{name}"
        for name in ("query.weight", "key.weight", "value.weight", "expand.weight", "expand.bias")
    )

    model: Transformer

    def __init__(
        self, model: Transformer, update: Parameters, gradient: bool, noise: float
    ) -> None:
        super().__init__(model, update, gradient, noise)
        query, key, value, expand, bias = (self.named[name] for name in self.parts)
        self.block = cast(Block, model.blocks[0])
        self.pairs = row_space.RowSpace.of(np.vstack([query, key, value]), self.error)
        sides = np.hstack([expand, bias[:, None]])
        self.prefixes = row_space.RowSpace.of(sides, self.error)
        self.rank = max(self.pairs.rank, self.prefixes.rank)
        # A layer norm's outputs miss a dimension until it has a bias; of E + 1 columns one is tied.
        width = query.shape[1]
        self.dimension = width - int(not self.block.attention_norm.bias.any())

    def begin(self) -> update_sentences.Frontier:
        """See `Evidence.begin`."""
        return update_sentences.Frontier(np.zeros((1, 0), np.int64), np.zeros(1, np.int64), ())

    def grow(
        self, frontier: update_sentences.Frontier, strictness: float
    ) -> update_sentences.Frontier:
        """See `Evidence.grow`."""
        before = frontier.words
        words = self.words_at(before.shape[1] + 1, strictness)
        parents = np.repeat(np.arange(len(before)), len(words))
        longer = np.concatenate([before[parents], np.tile(words, len(before))[:, None]], axis=1)
        fits = np.zeros(len(longer), bool)
        if len(longer):
            fits = self.prefixes.holds(self.mlp_inputs(longer), strictness)
        return update_sentences.Frontier(longer[fits], parents[fits], ())

    @torch.no_grad()
    def words_at(self, position: int, strictness: float = 1.0) -> np.ndarray:
        """The words that the update shows at a position; BOS is at 0."""
        model = self.model
        last = model.position.num_embeddings - 1
        x = model.embedding.weight + model.position.weight[min(position, last)]
        inputs = self.block.attention_norm(x).cpu().numpy()
        fits = self.pairs.holds(inputs, strictness)
        fits[:N_SPECIALS] &= np.arange(N_SPECIALS) >= UNK  # others are no part of a sentence
        return np.flatnonzero(fits)

    @torch.no_grad()
    def mlp_inputs(self, prefixes: np.ndarray) -> np.ndarray:
        """(n, t) -> (n, E + 1): what the first MLP reads at each prefix's last word, and a 1."""
        model = self.model
        tokens = torch.as_tensor(np.insert(prefixes, 0, BOS, axis=1), device=model.device)
        positions = torch.arange(tokens.shape[1], device=model.device)
        known = positions.clamp(max=model.position.num_embeddings - 1)
        read: list[torch.Tensor] = []
        hook = self.block.mlp_norm.register_forward_hook(lambda _, __, out: read.append(out))
        try:
            self.block(model.embedding(tokens) + model.position(known))
        finally:
            hook.remove()
        inputs = read[0][:, -1].cpu().numpy()
        return np.insert(inputs, inputs.shape[1], 1.0, axis=1)
