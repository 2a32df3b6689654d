"""Which generated sentences look memorised: the scores of Carlini et al. 2021 for a word model.

Every score is low for a suspect. Sentences are ranked upwards, ties in the order of generation.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.leakage import scoring

WINDOW = 5  # words


def perplexity(log_probs: np.ndarray, sentences: Sequences) -> np.ndarray:
    """-ln p a word, float64 (sentences,); its exponential ranks alike."""
    sums = np.add.reduceat(np.append(-log_probs, 0.0), sentences.offsets[:-1])
    return sums / np.maximum(sentences.lengths, 1)


def against(nats: np.ndarray, reference_nats: np.ndarray) -> np.ndarray:
    """-ln p a word over what a reference says: low where the model alone finds it likely."""
    return nats / np.maximum(reference_nats, 1e-9)


def compressed(log_probs: np.ndarray, sentences: Sequences, words: list[str]) -> np.ndarray:
    """Bits that the model needs over the bits that zlib needs, float64 (sentences,)."""
    texts = [" ".join(words[i] for i in sentence) for sentence in sentences]
    nats = perplexity(log_probs, sentences) * sentences.lengths
    return nats / math.log(2) / (8.0 * np.array([scoring.zlib_bytes(text) for text in texts]))


def windows(log_probs: np.ndarray, sentences: Sequences) -> np.ndarray:
    """The least -ln p a word of any WINDOW consecutive words, or of all where there are fewer."""
    sums = np.concatenate([[0.0], np.cumsum(-log_probs)])
    lengths = np.minimum(sentences.lengths, WINDOW)
    places = sentences.lengths - lengths + 1
    first = np.cumsum(places) - places
    starts = np.arange(places.sum()) + np.repeat(sentences.offsets[:-1] - first, places)
    spans = np.repeat(lengths, places)
    means = (sums[starts + spans] - sums[starts]) / np.maximum(spans, 1)
    return np.minimum.reduceat(means, first) if len(first) else means


def first_ranked(score: np.ndarray, sentences: Sequences, most: int) -> np.ndarray:
    """The first `most` sentences by a score, int64, without those that repeat one before them.

    One repeats another if half of its trigrams, as a multiset, are in the other's. Each ranking
    leaves out its own repeats: so the copy that remains is the one that the score suspects most.
    """
    kept: list[int] = []
    seen: list[Counter[tuple[int, ...]]] = []
    for index in np.argsort(score, kind="stable"):
        first, last = sentences.offsets[index : index + 2]
        mine = trigrams(sentences.tokens[first:last])
        if any(repeats(mine, other) for other in seen):
            continue
        kept.append(int(index))
        seen.append(mine)
        if len(kept) == most:
            break
    return np.array(kept, np.int64)


def trigrams(words: np.ndarray) -> Counter[tuple[int, ...]]:
    """The multiset of three words in a row; of fewer words, themselves."""
    ids = words.tolist()
    width = min(3, len(ids))
    return Counter(tuple(ids[i : i + width]) for i in range(len(ids) - width + 1))


def repeats(mine: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> bool:
    """Whether half of the trigrams of the first are in the second."""
    common = sum(min(count, other[trigram]) for trigram, count in mine.items())
    return 2 * common >= mine.total()


def distinct(sentences: Sequences, least: int) -> np.ndarray:
    """The first of each group of equal sentences with at least `least` words, ascending."""
    first: dict[bytes, int] = {}
    for index, sentence in enumerate(sentences):
        if len(sentence) >= least:
            first.setdefault(sentence.tobytes(), index)
    return np.array(list(first.values()), np.int64)
