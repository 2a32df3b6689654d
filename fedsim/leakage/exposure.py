"""Exposure and greedy extraction of canaries (Carlini et al. 2019, The Secret Sharer).

Threat model: an adversary who holds the global model. `exposure = log2(m+1) - log2(rank)` among m
random sentences of the same generator; ties count against the attacker. A model that never saw
the canary gives a uniform rank and a mean exposure of 1/ln 2 = 1.44 bits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from fedsim.device import threads
from fedsim.leakage.canaries import WORDS, Canary, Planted
from fedsim.models.base import LanguageModel
from fedsim.models.batch import BOS, N_SPECIALS, Batch

BLOCK = 64  # sentences scored at once, to bound the (rows, vocabulary) matrix


def sentence_nats(model: LanguageModel, sentences: np.ndarray, device: torch.device) -> np.ndarray:
    """-ln p of each sentence's words given its start, shape (n,), float64; its end is not scored.

    `sentences` is (n, words) of ids.
    """
    out = np.empty(len(sentences))
    words = sentences.shape[1]
    for start in range(0, len(sentences), BLOCK):
        block = sentences[start : start + BLOCK]
        offsets = np.arange(len(block) + 1) * words
        batch = Batch.of(block.ravel(), offsets, np.arange(len(block)), device)
        log_probs = model.log_probs(batch).gather(1, batch.targets[:, None])[:, 0]
        # Rows are time-major and all lengths equal: the last len(block) rows predict the end.
        nats = -log_probs.double().reshape(words + 1, len(block))[:words]
        order = batch.sequence[: len(block)].cpu().numpy()
        out[start + order] = nats.sum(0).cpu().numpy()
    return out


def exposure_bits(canary_nats: np.ndarray, reference_nats: np.ndarray) -> np.ndarray:
    """Sampled exposure of each canary among the references; at most log2(m+1) bits."""
    ordered = np.sort(reference_nats)
    ranks = 1 + np.searchsorted(ordered, canary_nats, side="right")
    return np.log2(len(ordered) + 1) - np.log2(ranks)


@torch.no_grad()
def greedy_completions(
    model: LanguageModel, prefixes: np.ndarray, words: int, device: torch.device
) -> np.ndarray:
    """The `words` likeliest next words, one after another, for each prefix; shape (n, words).

    Special tokens are never chosen: a keyboard does not suggest them.
    """
    model.eval()
    state = None
    logits, state = model.step(_column(np.full(len(prefixes), BOS), device), state)
    for position in range(prefixes.shape[1]):
        logits, state = model.step(_column(prefixes[:, position], device), state)
    chosen = []
    for _ in range(words):
        token = logits[:, N_SPECIALS:].argmax(1) + N_SPECIALS
        chosen.append(token.cpu().numpy())
        logits, state = model.step(token, state)
    return np.stack(chosen, axis=1)


def _column(ids: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(ids, dtype=torch.long, device=device)


def measure_exposure(
    model: LanguageModel,
    planted: Planted,
    prefix_words: int,
    participations: np.ndarray,
    device: torch.device,
) -> pd.DataFrame:
    """One row a canary, controls included.

    `participations` counts for each canary user the rounds it took part in. A canary whose
    holders never did (`holder_participations` = 0) was not trained on, whatever its cell says.
    """
    canaries = planted.canaries
    sentences = np.array([c.words for c in canaries]).reshape(-1, WORDS)
    with threads(1):  # the last bits of a score must not depend on the machine's cores
        reference_nats = sentence_nats(model, planted.references, device)
        nats = sentence_nats(model, sentences, device)
        suffix_words = WORDS - prefix_words
        completions = greedy_completions(model, sentences[:, :prefix_words], suffix_words, device)
    bits = exposure_bits(nats, reference_nats)
    ceiling = np.log2(len(reference_nats) + 1)
    extracted = (completions == sentences[:, prefix_words:]).all(axis=1)
    return pd.DataFrame(
        {
            "canary": [c.index for c in canaries],
            "kind": ["planted" if c.users else "held_out" for c in canaries],
            "users": [c.users for c in canaries],
            "repeats": [c.repeats for c in canaries],
            "holder_participations": [_holder_participations(c, participations) for c in canaries],
            "nats": nats,
            "exposure_bits": bits,
            "ceiling_bits": ceiling,
            "extracted": extracted,
        }
    )


def _holder_participations(canary: Canary, participations: np.ndarray) -> int:
    return int(participations[list(canary.holders)].sum()) if canary.holders else 0
