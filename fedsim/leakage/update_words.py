"""Which words a client typed, and how often, from the rows of one update.

A word that was typed gets a gradient through its embedding as an input, and through its output bias
as a target: there the gradient is p - n, summed over predictions, negative only where it was typed.
Specials are left out. An update is minus a gradient, or a change of the model.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsim.models.base import LanguageModel
from fedsim.models.batch import BOS, EOS, N_SPECIALS
from fedsim.models.loss import NOMINAL_TOKENS
from fedsim.parameters import Parameters


def typed_words(model: LanguageModel, update: Parameters, size: int) -> np.ndarray:
    """Ids of the words that the embedding's rows show, ascending.

    size: how many different words there are. It is needed where every row has changed: in a model
    with tied weights, whose output gives each word a gradient, and under noise.
    """
    norms = row_norms(update)
    return largest_rows(norms, size) if needs_size(model, norms) else changed_rows(norms)


def row_norms(update: Parameters) -> np.ndarray:
    """l2 of each word's row of the embedding, float64 (V,)."""
    return np.linalg.norm(dict(update.items())["embedding.weight"].astype(np.float64), axis=1)


def needs_size(model: LanguageModel, norms: np.ndarray) -> bool:
    """Whether rows of words that were not typed have changed too."""
    return is_tied(model) or len(changed_rows(norms)) == len(norms) - N_SPECIALS


def is_tied(model: LanguageModel) -> bool:
    """Whether output layer and embedding are one tensor."""
    return model.output_weight is model.embedding.weight


def changed_rows(norms: np.ndarray) -> np.ndarray:
    """Words whose row is not zero, ascending."""
    return N_SPECIALS + np.flatnonzero(norms[N_SPECIALS:])


def largest_rows(norms: np.ndarray, size: int) -> np.ndarray:
    """The `size` words of the largest rows, ascending."""
    order = np.argsort(-norms[N_SPECIALS:], kind="stable")
    return np.sort(N_SPECIALS + order[:size])


def target_words(update: Parameters) -> np.ndarray:
    """Words whose output bias rose, ascending. The model must have one."""
    bias = dict(update.items())["output.bias"]
    return N_SPECIALS + np.flatnonzero(bias[N_SPECIALS:] > 0)


@torch.no_grad()
def counts(
    model: LanguageModel, update: Parameters, sequences: int, exact: bool, rounds: int = 3
) -> np.ndarray:
    """How often each token was a target, by the output bias, int64 (V,).

    sequences: of the client, as it reports. exact: whether the update is the gradient itself;
    otherwise its scale is unknown, and taken from the ends, of which there is one a sequence.

    n = P + scale x update, where P is the sum of the model's probabilities over the client's
    predictions. The server does not know in which contexts those were; it takes each word after
    the start alone, as often as it was typed, which it learns in a few turns.
    """
    rise = dict(update.items())["output.bias"].astype(np.float64)
    words = target_words(update)
    if not exact and not rise[EOS] > 0:
        return np.zeros(len(rise), np.int64)
    first, after = _probabilities(model, words)
    expected = sequences * first
    for _ in range(rounds):
        scale = NOMINAL_TOKENS * sequences
        if not exact:
            scale = max(sequences - expected[EOS], 0.0) / rise[EOS]
        found = np.maximum(expected + scale * rise, 0.0)
        expected = sequences * first + found[words] @ after
    return np.round(np.maximum(expected + scale * rise, 0.0)).astype(np.int64)


def _probabilities(model: LanguageModel, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the next token at a sentence's start (V,), and after each first word (words, V)."""
    start = torch.full((max(len(words), 1),), BOS, device=model.device)
    logits, state = model.step(start)
    first = torch.softmax(logits[0].double(), 0).cpu().numpy()
    if not len(words):
        return first, np.zeros((0, len(first)))
    logits, _ = model.step(torch.as_tensor(words, device=model.device), state)
    return first, torch.softmax(logits.double(), 1).cpu().numpy()
