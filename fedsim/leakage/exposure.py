"""The canaries' exposure and greedy extraction, as a run records them at every evaluation.

Threat model: an adversary who holds the global model. Among m random sentences of the same
generator the exposure is at most log2(m+1) bits, and 1.44 in the mean for a canary that the model
never saw; see `fedsim.leakage.ranks`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
import torch

from fedsim.device import threads
from fedsim.leakage import decoding, ranks
from fedsim.leakage.canaries import WORDS, Planted
from fedsim.leakage.decoding import Typed
from fedsim.leakage.scoring import Scored
from fedsim.models.batch import Batch

BLOCK = 64  # sentences scored at once, to bound the (rows, vocabulary) matrix


class Attacked(Scored, Typed, Protocol):
    """What an adversary holds: it scores sentences and can be typed into."""


def sentence_nats(model: Scored, sentences: np.ndarray, device: torch.device) -> np.ndarray:
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


def measure_exposure(
    model: Attacked,
    planted: Planted,
    prefix_words: int,
    holder_participations: np.ndarray,
    device: torch.device,
) -> pd.DataFrame:
    """One row a canary, controls included.

    holder_participations (canaries,): rounds in which those who hold a copy took part, see
    `Federation.holder_participations`. Where that is 0 the canary was not trained on, whatever its
    cell says.
    """
    canaries = planted.canaries
    sentences = np.array([c.words for c in canaries]).reshape(-1, WORDS)
    with threads(1):  # the last bits of a score must not depend on the machine's cores
        reference_nats = sentence_nats(model, planted.references, device)
        nats = sentence_nats(model, sentences, device)
        suffix_words = WORDS - prefix_words
        completions = decoding.greedy_completions(model, sentences[:, :prefix_words], suffix_words)
    bits = ranks.exposure_bits(nats, reference_nats)
    ceiling = np.log2(len(reference_nats) + 1)
    extracted = (completions == sentences[:, prefix_words:]).all(axis=1)
    return pd.DataFrame(
        {
            "canary": [c.index for c in canaries],
            "kind": ["planted" if c.users else "held_out" for c in canaries],
            "users": [c.users for c in canaries],
            "repeats": [c.repeats for c in canaries],
            "holder_participations": holder_participations.astype(np.int64),
            "nats": nats,
            "exposure_bits": bits,
            "ceiling_bits": ceiling,
            "extracted": extracted,
        }
    )
