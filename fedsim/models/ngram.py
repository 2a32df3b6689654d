"""Interpolated modified Kneser-Ney trigram (Chen and Goodman 1999, section 3): the baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fedsim.models.batch import BOS, EOS, PAD, Batch, previous_rows

_FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's discounts where the estimate fails


class SequencesLike(Protocol):
    """Some sentences: word ids end to end, and where each begins and ends."""

    @property
    def tokens(self) -> np.ndarray:
        """(n,) word ids."""

    @property
    def offsets(self) -> np.ndarray:
        """(s + 1,) bounds."""


@dataclass(frozen=True, eq=False)
class _Order:
    """One order's distributions p(w | context), discounted, as rows of a sparse matrix.

    contexts (c,) sorted keys; bounds (c + 1,); words (m,) and values (m,): context i gives
    values[j] to words[j] for j in bounds[i]:bounds[i + 1], and `left` (c,) to the lower order.
    """

    contexts: np.ndarray
    bounds: np.ndarray
    words: np.ndarray
    values: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, size: int) -> _Order:
        """From sorted n-gram keys (context * size + word) and their adjusted counts."""
        discount = discounts(counts)[np.minimum(counts, 3)]
        contexts, starts = np.unique(keys // size, return_index=True)
        totals = np.add.reduceat(counts, starts)
        values = (counts - discount) / np.repeat(totals, np.diff([*starts, len(keys)]))
        left = np.add.reduceat(discount, starts) / totals
        return cls(contexts, np.append(starts, len(keys)), keys % size, values, left)

    def found(self, contexts: np.ndarray) -> _Found:
        """What this order says after each context, (n,)."""
        place = np.searchsorted(self.contexts, contexts)
        place = np.minimum(place, len(self.contexts) - 1)
        seen = np.flatnonzero(self.contexts[place] == contexts)
        place = place[seen]
        left = np.ones(len(contexts), np.float32)
        left[seen] = self.left[place]
        starts, lengths = self.bounds[place], self.bounds[place + 1] - self.bounds[place]
        before = np.cumsum(lengths) - lengths
        index = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
        return _Found(left, np.repeat(seen, lengths), self.words[index], self.values[index])


class _Found(NamedTuple):
    """Some rows of an order: left (n,) to the lower order, 1 where the context is new; `values`
    (m,) are added at `rows` (m,) and `words` (m,), no place twice."""

    left: np.ndarray
    rows: np.ndarray
    words: np.ndarray
    values: np.ndarray


class KneserNey:
    """p(w | u, v) over the V - 2 tokens that can follow: words, UNK and EOS, not PAD or BOS.

    A sentence is BOS w1..wn EOS. Counts of lower orders are the number of distinct left
    neighbours, except after BOS, which has none: there they are the true counts. The unigrams
    are interpolated with the uniform distribution.
    """

    device = torch.device("cpu")

    def __init__(self, unigram: np.ndarray, bigram: _Order, trigram: _Order | None) -> None:
        self.vocabulary_size = len(unigram)
        self._unigram, self._bigram, self._trigram = unigram, bigram, trigram

    @classmethod
    def fit(cls, sequences: Iterable[SequencesLike], vocabulary_size: int) -> KneserNey:
        """Count the sentences of all users together; at least one sentence is needed."""
        size = vocabulary_size
        text = [_padded(s.tokens, s.offsets) for s in sequences if len(s.offsets) > 1]
        if not text:
            raise ValueError("a trigram needs at least one sentence")
        stream = np.concatenate(text)
        # A sentence's BOS follows the EOS of the one before: no n-gram spans the two.
        pairs = (stream[:-1] * size + stream[1:])[stream[1:] != BOS]
        inner = (stream[1:-1] != BOS) & (stream[2:] != BOS)
        triples = ((stream[:-2] * size + stream[1:-1]) * size + stream[2:])[inner]

        triple_keys, triple_counts = np.unique(triples, return_counts=True)
        starts = pairs[pairs // size == BOS]
        pair_keys, pair_counts = np.unique(
            np.concatenate([triple_keys % size**2, starts]), return_counts=True
        )
        followers = np.bincount(pair_keys % size, minlength=size)
        trigram = _Order.of(triple_keys, triple_counts, size) if len(triple_keys) else None
        return cls(_unigrams(followers), _Order.of(pair_keys, pair_counts, size), trigram)

    def log_probs(self, batch: Batch) -> Tensor:
        """(N, V) float32 natural-log probabilities of each row's next token; PAD, BOS: -inf."""
        last = batch.inputs.cpu().numpy()
        before = np.full_like(last, PAD)  # nothing follows PAD: no trigram at a sentence's start
        earlier = previous_rows(batch.inputs, batch.batch_sizes)
        before[len(last) - len(earlier) :] = earlier.cpu()
        orders = [self._bigram.found(last)]
        if self._trigram is not None:
            orders.append(self._trigram.found(before * self.vocabulary_size + last))
        kept = np.ones(len(last), np.float32)  # of what an order says, after the orders above it
        shares = []
        for order in reversed(orders):
            shares.append((order, kept))
            kept = kept * order.left
        # One pass over all words, then only those that were seen after these contexts.
        rows = np.multiply.outer(kept, self._unigram.astype(np.float32))
        for order, share in shares:
            rows[order.rows, order.words] += order.values * share[order.rows]
        return torch.from_numpy(rows).log_()


def discounts(counts: np.ndarray) -> np.ndarray:
    """(4,) absolute discounts of n-grams counted 0, 1, 2, 3 or more times.

    Chen and Goodman's estimate from the number of n-grams counted 1, 2, 3, 4 times; where a
    small corpus makes it impossible or absurd, constants.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if np.all((found >= 0) & (found <= [0, 1, 2, 3])) else _FALLBACK


def _padded(tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """BOS w1..wn EOS of every sentence, end to end, int64."""
    lengths = np.diff(offsets)
    ends = np.cumsum(lengths + 2)
    stream = np.empty(ends[-1], np.int64)
    is_word = np.ones(len(stream), bool)
    is_word[ends - 1] = is_word[ends - lengths - 2] = False
    stream[is_word] = tokens[offsets[0] : offsets[-1]]
    stream[ends - 1], stream[ends - lengths - 2] = EOS, BOS
    return stream


def _unigrams(followers: np.ndarray) -> np.ndarray:
    """(V,) probabilities from the number of distinct left neighbours of each token."""
    discount = np.where(followers > 0, discounts(followers)[np.minimum(followers, 3)], 0.0)
    possible = np.ones(len(followers))
    possible[[PAD, BOS]] = 0.0
    uniform = possible / possible.sum()
    return (followers - discount + discount.sum() * uniform) / followers.sum()
