"""Floors of a keyboard's scores: keyboards that do not look at what was typed before.

`unigram` offers the words that are typed most often, `word list` only those that are left by the
letters typed so far: what lies above them a model has earned by its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from fedsim.data.sequences import Sequences
from fedsim.evaluation import COUNTS, OFFERED, Keyboard, typed
from fedsim.models.batch import BOS, EOS, N_SPECIALS, PAD, UNK


def unigram(text: Sequences, vocabulary_size: int) -> np.ndarray:
    """(V,) natural-log probabilities of a next token by how often it is in `text`, counted once
    more, so that none is impossible. PAD, BOS: -inf."""
    counts = np.bincount(text.tokens, minlength=vocabulary_size) + 1.0
    counts[EOS] = len(text) + 1.0
    return _log_probs(counts)


def word_list(text: Sequences, vocabulary_size: int) -> np.ndarray:
    """(V,) the same of a keyboard without a model: nothing is likelier than anything else."""
    return _log_probs(np.ones(vocabulary_size))


FLOORS: dict[str, Callable[[Sequences, int], np.ndarray]] = {
    "unigram": unigram,
    "word list": word_list,
}


def evaluate(
    log_probs: np.ndarray, texts: Iterable[Sequences], keyboard: Keyboard
) -> list[dict[str, float]]:
    """`evaluate_user` of each text for a predictor of `log_probs` (V,), whatever came before."""
    ids = torch.arange(N_SPECIALS, len(log_probs))
    of_token = {name: np.zeros(len(log_probs)) for name in COUNTS}
    for name, added in typed(keyboard, ids, *_keystrokes(log_probs, keyboard)).items():
        of_token[name][N_SPECIALS:] = added.numpy()
    of_token["tokens"][:] = 1.0
    of_token["nats"] = -log_probs
    of_token["words"][UNK:] = 1.0
    out = []
    for text in texts:
        targets = np.append(text.tokens, np.full(len(text), EOS))
        out.append({name: float(values[targets].sum()) for name, values in of_token.items()})
    return out


def _keystrokes(log_probs: np.ndarray, keyboard: Keyboard) -> tuple[Tensor, Tensor]:
    """`Keyboard.keystrokes` of every word; one ranking for each number of letters typed, because
    all predictions are the same."""
    import pandas as pd

    scores = pd.Series(log_probs[N_SPECIALS:])
    rank, lengths = keyboard.rank[N_SPECIALS:].numpy(), keyboard.lengths[N_SPECIALS:].numpy()
    needed = np.repeat(lengths[:, None] + 1, len(OFFERED), axis=1)
    waiting = np.broadcast_to((lengths > 0)[:, None], needed.shape)
    better = np.zeros(len(scores), np.int64)
    for letters in range(lengths.max(initial=0)):
        # Words with the same letters so far, the word of these letters alone among them.
        first = keyboard.first[N_SPECIALS:, letters].numpy()
        there = lengths >= letters
        prefix = np.where(lengths > letters, first, rank)[there]
        beaten = np.zeros(len(scores), np.int64)
        places = scores[there].groupby(prefix).rank(method="max", ascending=False)
        beaten[there] = places.to_numpy() - 1
        better = beaten if letters == 0 else better
        shown = waiting & (lengths > letters)[:, None] & (beaten[:, None] < OFFERED)
        needed[shown] = letters + 1
        waiting = waiting & ~shown
    return torch.from_numpy(needed), torch.from_numpy(better)


def _log_probs(weights: np.ndarray) -> np.ndarray:
    weights[[PAD, BOS]] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum())
