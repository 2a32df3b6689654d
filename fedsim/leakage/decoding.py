"""Typing along with a model: what it thinks likeliest after a prefix, greedily or by beam search.

Special tokens are never chosen: a keyboard does not suggest them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedsim.models.base import State
from fedsim.models.batch import BOS, N_SPECIALS


class Typed(Protocol):
    """A neural model, or whatever else can be typed into word by word."""

    @property
    def device(self) -> torch.device:
        """Where `step` wants its words."""

    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B,) ids -> (B, V) logits, or natural-log probabilities, of the next word; the state."""


def column(ids: np.ndarray, device: torch.device) -> Tensor:
    """(B,) word ids as `step` wants them."""
    return torch.as_tensor(ids, dtype=torch.long, device=device)


def rows(state: State, chosen: Tensor) -> State:
    """The state of the chosen sequences; one may be chosen more than once."""
    return tuple(part.index_select(0, chosen) for part in state)


@torch.no_grad()
def after(model: Typed, prefixes: np.ndarray) -> tuple[Tensor, State]:
    """(B, V) logits of what follows each of the (B, words) prefixes, and the states there."""
    logits, state = model.step(column(np.full(len(prefixes), BOS), model.device))
    for position in range(prefixes.shape[1]):
        logits, state = model.step(column(prefixes[:, position], model.device), state)
    return logits, state


@torch.no_grad()
def greedy_completions(model: Typed, prefixes: np.ndarray, words: int) -> np.ndarray:
    """The `words` likeliest next words, one after another, for each prefix; shape (n, words)."""
    logits, state = after(model, prefixes)
    chosen = []
    for _ in range(words):
        token = logits[:, N_SPECIALS:].argmax(1) + N_SPECIALS
        chosen.append(token.cpu().numpy())
        logits, state = model.step(token, state)
    return np.stack(chosen, axis=1)


@torch.no_grad()
def beam_completions(model: Typed, prefixes: np.ndarray, words: int, beams: int) -> np.ndarray:
    """The likeliest completions that a beam search keeps, best first; shape (n, beams, words).

    At equal scores the completion of the better beam comes first, then that of the lower word id.
    There are fewer beams where there are fewer completions.
    """
    n = len(prefixes)
    logits, state = after(model, prefixes)
    kept = np.empty((n, 1, 0), np.int64)
    scores = torch.zeros(n, 1, dtype=torch.float64, device=model.device)
    for _ in range(words):
        totals = scores[:, :, None] + _word_log_probs(logits).view(n, scores.shape[1], -1)
        n_words = totals.shape[2]
        scores, place = _best(totals.flatten(1), beams)
        parent, word = place // n_words, place % n_words + N_SPECIALS
        rows_before = kept[np.arange(n)[:, None], parent.cpu().numpy()]
        kept = np.concatenate([rows_before, word.cpu().numpy()[:, :, None]], axis=2)
        width = totals.shape[1]
        parents = (parent + torch.arange(n, device=model.device)[:, None] * width).flatten()
        logits, state = model.step(word.flatten(), rows(state, parents))
    return kept


def _word_log_probs(logits: Tensor) -> Tensor:
    """(B, V) logits -> (B, words) natural-log probabilities, among all tokens, of the words."""
    return logits.log_softmax(1)[:, N_SPECIALS:]


def _best(totals: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of each row and their places, the lower place first at a tie."""
    # Not `topk`, which leaves the order of ties to chance.
    ordered = totals.sort(dim=1, descending=True, stable=True)
    return ordered.values[:, :count], ordered.indices[:, :count]
