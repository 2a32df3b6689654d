"""How a canary ranks among what it might have been: exposure, sampled and exact.

Carlini et al. 2019 (The Secret Sharer): `exposure = log2 |R| - log2 rank` in the space R of the
candidates, the canary among them; rank 1 is the likeliest. Ties count against the attacker.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from fedsim.leakage.decoding import Typed, after, column, rows
from fedsim.models.base import State
from fedsim.models.batch import N_SPECIALS

BLOCK = 512  # rows of V scores at a time
FIRST_BLOCK = 16  # of guesses: nearly every canary that is not memorised is beaten by one of them
TIE_NATS = 1e-5  # nearer than that two float32 scores are the same: their rounding differs


def exposure_bits(canary_nats: np.ndarray, reference_nats: np.ndarray) -> np.ndarray:
    """Sampled exposure of each canary among the references; at most log2(m+1) bits."""
    ordered = np.sort(reference_nats)
    ranks = 1 + np.searchsorted(ordered, canary_nats, side="right")
    return np.log2(len(ordered) + 1) - np.log2(ranks)


def null_mean_bits(size: int) -> float:
    """Mean exposure among `size` candidates of a canary that no model saw: its rank is uniform.

    log2 M - log2(M!) / M, which goes to 1/ln 2 = 1.4427.
    """
    return math.log2(size) - math.lgamma(size + 1) / math.log(2) / size


def pair_bits(vocabulary_size: int) -> float:
    """log2 of the number of pairs of words: the highest exact exposure."""
    return 2 * math.log2(vocabulary_size - N_SPECIALS)


@torch.no_grad()
def exact_rank(model: Typed, sentence: np.ndarray) -> int:
    """The rank of a sentence's last two words among all pairs of words after the ones before.

    V forward passes at most: a first word that is itself less likely than the whole pair cannot
    start a likelier one. Special tokens are no candidates. A score that is no number is last.
    """
    logits, state = after(model, sentence[None, :-2])
    first = logits.log_softmax(1)[0]
    last = model.step(column(sentence[-2:-1], model.device), state)[0].log_softmax(1)[0]
    floor = first[int(sentence[-2])] + last[int(sentence[-1])] - TIE_NATS
    # Not "at least": comparisons with NaN are false, and it must not help the attacker.
    starts = torch.nonzero(~(first[N_SPECIALS:] < floor))[:, 0] + N_SPECIALS
    rank = 0
    for block in starts.split(BLOCK):
        scores, _ = model.step(block, rows(state, torch.zeros_like(block)))
        needed = floor - first[block] + scores.logsumexp(1)
        less = scores[:, N_SPECIALS:] < needed[:, None]
        rank += less.numel() - int(torch.count_nonzero(less))
    return rank


@torch.no_grad()
def likeliest(model: Typed, sentence: np.ndarray, guesses: np.ndarray) -> bool:
    """Whether a sentence's ending is likelier after its beginning than all guesses at it.

    guesses (n, words): as many words as the ending has; the ending itself is none. This is the
    extraction by random sampling of Ramaswamy et al. 2020 and Thakkar et al. 2020, who use
    2,000,000. It ends with the first guess that wins, and follows none that has lost already.
    """
    words = guesses.shape[1]
    logits, state = after(model, sentence[None, : len(sentence) - words])
    first = logits.log_softmax(1)[0]
    floor = _ending_log_prob(model, first, state, sentence[-words:]) - TIE_NATS
    hopeless = (first < floor).cpu().numpy()[guesses[:, 0]]
    guesses = guesses[~hopeless & (guesses != sentence[-words:]).any(axis=1)]
    start, size = 0, FIRST_BLOCK
    while start < len(guesses):
        if _any_as_likely(model, first, state, guesses[start : start + size], floor):
            return False
        start, size = start + size, min(2 * size, BLOCK)
    return True


def _ending_log_prob(
    model: Typed, first: torch.Tensor, state: State, ending: np.ndarray
) -> torch.Tensor:
    total = first[int(ending[0])]
    for word, following in pairwise(ending):
        logits, state = model.step(column(np.array([word]), model.device), state)
        total = total + logits.log_softmax(1)[0, int(following)]
    return total


def _any_as_likely(
    model: Typed, first: torch.Tensor, state: State, guesses: np.ndarray, floor: torch.Tensor
) -> bool:
    """Whether any guess reaches the floor; those that fell below it are not followed further."""
    ids = column(guesses, model.device)
    total = first[ids[:, 0]]
    state = rows(state, torch.zeros_like(ids[:, 0]))
    for position in range(1, ids.shape[1]):
        logits, state = model.step(ids[:, position - 1], state)
        own = logits.gather(1, ids[:, position, None])[:, 0]
        total = total + own - logits.logsumexp(1)
        alive = torch.nonzero(~(total < floor))[:, 0]
        ids, total, state = ids[alive], total[alive], rows(state, alive)
    return len(ids) > 0
