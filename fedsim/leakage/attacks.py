"""Membership scores of sentences: the higher, the more a sentence looks trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedsim.data.sequences import Sequences
from fedsim.leakage import scoring
from fedsim.leakage.scoring import ROWS, Scored, Scores
from fedsim.models.batch import BOS, N_SPECIALS, Batch

SHARE = 0.2  # of a sentence's words that min-k looks at (Shi et al. 2024)


def loss(scores: Scores) -> np.ndarray:
    """- nats a word (Yeom et al. 2018). Common and short sentences score high without training."""
    return -scores.mean_nats


def zlib(scores: Scores, texts: Sequence[str]) -> np.ndarray:
    """- nats over the bytes that the text takes compressed (Carlini et al. 2021)."""
    return -scores.nats / compressed_bytes(texts)


def compressed_bytes(texts: Sequence[str]) -> np.ndarray:
    """`scoring.zlib_bytes` of each text, float64 (texts,)."""
    return np.array([scoring.zlib_bytes(text) for text in texts], np.float64)


def min_k(scores: Scores, share: float = SHARE) -> np.ndarray:
    """Mean ln p of the least likely words (Shi et al. 2024, Min-K%)."""
    return lowest_mean(scores.log_probs, scores.offsets, share)


def min_k_plus(scores: Scores, share: float = SHARE) -> np.ndarray:
    """The same of (ln p - mean) / deviation under the model (Zhang et al. 2024, Min-K%++)."""
    spread = np.maximum(scores.deviation, 1e-6)  # 0 where the model is certain
    return lowest_mean((scores.log_probs - scores.mean) / spread, scores.offsets, share)


def reference(scores: Scores, other: Scores) -> np.ndarray:
    """Nats a word that a model that never saw the user needs more (Carlini et al. 2021)."""
    return other.mean_nats - scores.mean_nats


def neighbour(own: Scores, neighbours: Scores) -> np.ndarray:
    """Nats a word that changed sentences take more (Mattern et al. 2023).

    `neighbours` are those of `neighbours_of`: as many of each sentence, in order.
    """
    return neighbours.mean_nats.reshape(len(own.mean_nats), -1).mean(1) - own.mean_nats


def lowest_mean(values: np.ndarray, offsets: np.ndarray, share: float) -> np.ndarray:
    """Mean of the lowest `share` of each sentence's values, float64 (sentences,).

    values (words,); no sentence may be empty.
    """
    lengths = np.diff(offsets)
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    ordered = values[np.lexsort((values, sentence))]
    counted = how_many(lengths, share)
    place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths)
    kept = np.where(place < np.repeat(counted, lengths), ordered, 0.0)
    return np.add.reduceat(kept, offsets[:-1]) / counted


def how_many(lengths: np.ndarray, share: float) -> np.ndarray:
    """ceil(share x length), at least 1: rounded down it would be 0 of four words and less."""
    return np.maximum(1, np.ceil(share * lengths - 1e-9)).astype(np.int64)


def neighbours_of(
    text: Sequences, proposals: Scored, count: int, rng: np.random.Generator
) -> Sequences:
    """`count` neighbours of each sentence, in order: one word of it is another one.

    Which word is uniform; the new one is drawn given the word before by `proposals` (a
    `KneserNey`, which is a bigram there), is in the vocabulary and is not the old one. No sentence
    may be empty.
    """
    out = text.take(np.repeat(np.arange(len(text)), count))
    if not len(out):
        return out
    place = out.offsets[:-1] + rng.integers(out.lengths)
    before = np.where(place > out.offsets[:-1], out.tokens[place - 1], BOS).astype(np.int64)
    old = out.tokens[place].astype(np.int64)
    # The same place of the same sentence comes several times: its distribution is made once.
    pairs, row = np.unique(np.stack([before, old]), axis=1, return_inverse=True)
    row = row.ravel()
    chance = rng.random(len(row)) * (1 - 1e-12)
    for start in range(0, pairs.shape[1], ROWS):
        rising = _rising(proposals, *pairs[:, start : start + ROWS])
        mine = np.flatnonzero((row >= start) & (row < start + len(rising)))
        # Row r rises from r to r + 1, so that one search finds all words.
        wanted = row[mine] - start
        index = np.searchsorted(rising.ravel(), wanted + chance[mine], side="right")
        out.tokens[place[mine]] = index - wanted * rising.shape[1]
    return out


def _rising(proposals: Scored, before: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Cumulated probabilities after `before` of all words but specials and `old`, (n, V); row r
    ends at r + 1."""
    inputs = torch.from_numpy(before)
    zeros, rows = torch.zeros_like(inputs), torch.arange(len(inputs))
    batch = Batch(inputs, zeros, rows, zeros, [len(inputs)], len(inputs))
    chances = proposals.log_probs(batch).double().exp().numpy()
    chances[:, :N_SPECIALS] = 0.0
    chances[np.arange(len(old)), old] = 0.0
    rising = np.cumsum(chances, axis=1)
    return rising / rising[:, -1:] + np.arange(len(rising))[:, None]
