"""Sentences drawn from a model, many at a time, with what the model says of each of their words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.leakage.decoding import Typed
from fedsim.models.batch import BOS, EOS, N_SPECIALS
from fedsim.steps import Heard, nobody, steps

ROWS = 512  # sentences drawn side by side
FALLING = 4  # words over which a raised temperature falls to 1: a sentence has about ten


@dataclass(frozen=True)
class Rule:
    """Which words may follow: the `top` likeliest (0: all), at a temperature that falls from
    `start` to 1 over the first FALLING words (Carlini et al. 2021, sections 4.1 and 5.1)."""

    top: int = 40
    start: float = 1.0

    def temperature(self, word: int) -> float:
        """That of the word at this place, from 0."""
        return 1.0 + (self.start - 1.0) * max(0.0, 1.0 - word / FALLING)


@dataclass(frozen=True)
class Generated:
    """Sentences, and ln p of each of their words under the model itself, float64 (words,)."""

    sentences: Sequences
    log_probs: np.ndarray


@torch.no_grad()
def generate(
    model: Typed,
    prefixes: np.ndarray,
    rule: Rule,
    max_words: int,
    rng: np.random.Generator,
    heard: Heard = nobody,
) -> Generated:
    """One sentence for each row of `prefixes`, (n, k) word ids, k = 0 for none; ids included.

    A sentence ends where its end is drawn, or after `max_words`. The other special tokens are
    never drawn. `heard` is told what share of the sentences is done.
    """
    starts = range(0, len(prefixes), ROWS)
    blocks = [
        _together(model, prefixes[start : start + ROWS], rule, max_words, rng)
        for start in steps(starts, len(starts), heard)
    ]
    words = np.concatenate([b[0] for b in blocks])
    log_probs = np.concatenate([b[1] for b in blocks])
    lengths = np.concatenate([b[2] for b in blocks])
    typed = np.arange(max_words) < lengths[:, None]
    return Generated(Sequences(words[typed], offsets_of(lengths)), log_probs[typed])


def _together(
    model: Typed, prefixes: np.ndarray, rule: Rule, max_words: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(words, log_probs) of shape (rows, max_words), and (rows,) lengths."""
    rows, given = prefixes.shape
    words = np.zeros((rows, max_words), np.int32)
    log_probs = np.zeros((rows, max_words))
    lengths = np.zeros(rows, np.int64)
    going = np.arange(rows)
    token, state = torch.full((rows,), BOS, device=model.device), None
    for place in range(max_words):
        logits, state = model.step(token, state)
        scores = torch.log_softmax(logits, dim=1)
        if place < given:
            token = torch.as_tensor(prefixes[going, place], dtype=torch.long, device=model.device)
        else:
            token = drawn(scores, rule.top, rule.temperature(place), rng.random(len(going)))
        own = scores.gather(1, token[:, None])[:, 0].double().cpu().numpy()
        on = token != EOS
        kept = on.cpu().numpy()
        going, token, state = going[kept], token[on], tuple(part[on] for part in state)
        if not len(going):
            break
        words[going, place] = token.cpu().numpy()
        log_probs[going, place] = own[kept]
        lengths[going] = place + 1
    return words, log_probs, lengths


def drawn(scores: Tensor, top: int, temperature: float, uniform: np.ndarray) -> Tensor:
    """(n, V) log-probabilities and (n,) uniform draws -> (n,) ids, by the inverse of the CDF."""
    allowed = scores.clone()
    allowed[:, [i for i in range(N_SPECIALS) if i != EOS]] = -torch.inf
    ids = None
    if 0 < top < allowed.shape[1]:
        allowed, ids = allowed.topk(top, dim=1)
    below = torch.softmax(allowed.double() / temperature, dim=1).cumsum(1)
    u = torch.as_tensor(uniform, device=scores.device)[:, None] * below[:, -1:]
    place = (below <= u).sum(1, keepdim=True).clamp_(max=below.shape[1] - 1)
    return (place if ids is None else ids.gather(1, place))[:, 0]
