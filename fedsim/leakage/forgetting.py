"""What is left of the first corpus in a model: extractable sentences, likelihood, exposure.

A sentence is extractable from a prefix of k words where greedy decoding gives all its other words
(discoverable memorization, Carlini et al. 2023). Common phrases are extractable from any good
model: only the distance to sentences of the same corpus that were held out is memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.device import threads
from fedsim.leakage.completion import greedy_words
from fedsim.leakage.exposure import sentence_nats
from fedsim.leakage.first_corpus import FirstCorpus
from fedsim.leakage.intervals import mean_interval, wilson
from fedsim.leakage.ranks import exposure_bits
from fedsim.leakage.scoring import rows_of, score
from fedsim.models.base import LanguageModel
from fedsim.models.batch import N_SPECIALS
from fedsim.seeding import stream

PREFIXES = (2, 3, 5)  # words that are given
SUFFIX = 2  # words that a sentence has beyond its prefix, at least

Row = dict[str, Any]


class Yardstick:
    """Measures one model after another on the same sentences of the first corpus."""

    def __init__(
        self, first: FirstCorpus, sentences: int, references: np.ndarray, prefix: int, seed: int
    ) -> None:
        """`sentences` of either kind are drawn; `prefix` words are given of a canary, which is
        ranked among `references` (m, WORDS)."""
        self.texts = {
            kind: drawn(text, sentences, stream(seed, f"first corpus, {kind} sentences"))
            for kind, text in (("trained", first.text), ("held_out", first.held_out))
        }
        self.canaries = {"trained": first.canaries, "held_out": first.controls}
        self.references, self.prefix = references, prefix

    def rows(self, model: LanguageModel, round: int) -> list[Row]:
        """Rows of `fedsim.tables.FIRST_CORPUS`."""
        with threads(1):  # a tie must not depend on the machine's cores
            rows = [row for kind in self.texts for row in self._of_text(model, kind)]
            if len(self.canaries["trained"]):
                rows += self._of_canaries(model)
        return [{"round": round, **row} for row in rows]

    def _of_text(self, model: LanguageModel, kind: str) -> Iterator[Row]:
        sentences = self.texts[kind]
        needed, nats = read(model, sentences)
        for prefix in PREFIXES:
            yield rate(kind, "extractable", prefix, needed[sentences.lengths >= prefix + SUFFIX])
        yield _mean(kind, "nats_per_word", nats / sentences.lengths)

    def _of_canaries(self, model: LanguageModel) -> Iterator[Row]:
        reference_nats = sentence_nats(model, self.references, model.device)
        for kind, canaries in self.canaries.items():
            nats = sentence_nats(model, canaries, model.device)
            yield _mean(kind, "exposure_bits", exposure_bits(nats, reference_nats))
            yield rate(kind, "canaries_extracted", self.prefix, read(model, rows_of(canaries))[0])


def drawn(text: Sequences, count: int, rng: np.random.Generator) -> Sequences:
    """At most `count` of the sentences that are long enough and hold known words only, no class."""
    words = np.concatenate([[0], np.cumsum(text.tokens < N_SPECIALS)])
    unknown = words[text.offsets[1:]] - words[text.offsets[:-1]]
    eligible = np.flatnonzero((unknown == 0) & (text.lengths >= PREFIXES[0] + SUFFIX))
    return text.take(rng.choice(eligible, min(count, len(eligible)), replace=False))


def read(model: LanguageModel, sentences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """(needed, nats) of each sentence, int64 and float64 (sentences,).

    needed: how many words must be given so that greedy decoding gives all others; see
    `completion`. nats: -ln p of its words; its end is not scored.
    """
    wrong = np.flatnonzero(greedy_words(model, sentences) != sentences.tokens)
    of = np.searchsorted(sentences.offsets, wrong, side="right") - 1
    needed = np.zeros(len(sentences), np.int64)
    np.maximum.at(needed, of, wrong - sentences.offsets[of] + 1)
    return needed, score(model, sentences).nats


def rate(kind: str, quantity: str, prefix: int, needed: np.ndarray) -> Row:
    """The share of sentences that `prefix` words are enough for, with Wilson's interval."""
    hits, n = int((needed <= prefix).sum()), len(needed)
    low, high = wilson(hits, n)
    return _row(kind, quantity, prefix, n, hits / n if n else math.nan, low, high)


def _mean(kind: str, quantity: str, values: np.ndarray) -> Row:
    return _row(kind, quantity, None, len(values), *mean_interval(values))


def _row(
    kind: str, quantity: str, prefix: int | None, n: int, estimate: float, low: float, high: float
) -> Row:
    return {
        "text": kind,
        "quantity": quantity,
        "prefix_words": prefix,
        "n": n,
        "estimate": estimate,
        "low": low,
        "high": high,
    }
