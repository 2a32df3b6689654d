"""A vocabulary that is differentially private: noisy counts of people, above a threshold.

The Gaussian baseline of partition selection (Gopi et al. 2020, "Differentially Private Set Union"):
each training person counts once for each of so many words at most, noise is added to every count,
and words above a threshold are released, the most counted first. A word that one person alone has
gets past it with a small chance, which is that of all such words of the person together.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.data.sequences import gather
from fedsim.errors import FedsimError
from fedsim.references import load as load_reference

STEPS = 2**20  # of the grid that noisy counts lie on, to one person
LARGEST_DEVIATION = 2**27  # in people: what `fedsim.privacy.integer_noise` can draw on that grid
SHARE_OF_DELTA = 0.1  # of people^-1.1
_AT_ONCE = 200_000  # sentences


@dataclass(frozen=True)
class Release:
    """How the words are chosen.

    noise_multiplier: deviation of the noise on counts over sqrt(words), by which one person moves
    them at most. words: different ones that a person counts for. chance: that any word which one
    person alone has is released; 0 for a tenth of people^-1.1. seed: None for noise from the
    operating system, which nobody can make again.
    """

    noise_multiplier: float
    words: int
    chance: float
    seed: int | None

    def chance_among(self, people: int) -> float:
        """Of a word that one person alone has, or of any such word of that person."""
        return self.chance or SHARE_OF_DELTA * float(people**-1.1)

    def deviation(self) -> int:
        """Of the noise on a count, in steps. Raises FedsimError where it cannot be drawn."""
        deviation = self.noise_multiplier * math.sqrt(self.words)
        if deviation > LARGEST_DEVIATION:
            raise FedsimError(
                f"data.vocabulary_noise = {self.noise_multiplier:g} is more than can be drawn; "
                "lower it."
            )
        return math.ceil(deviation * STEPS)

    def threshold(self, people: int) -> int:
        """What a noisy count must be above, in steps: 1 + deviation x the normal quantile of
        (1 - chance)^(1 / words)."""
        from scipy.stats import norm

        tail = -math.expm1(math.log1p(-self.chance_among(people)) / self.words)
        return STEPS + math.ceil(self.deviation() * float(norm.isf(tail)))

    def noisy(self, counts: np.ndarray, key: bytes) -> np.ndarray:
        """The counts in steps with their noise, int64."""
        stream = load_reference("fedsim.privacy.key_stream:KeyStream")(key, "vocabulary")
        draw = load_reference("fedsim.privacy.integer_noise:rounded_gaussian")
        return counts * STEPS + draw(stream, len(counts), self.deviation())

    def key(self, words: Sequence[str], counts: np.ndarray) -> bytes:
        """What the noise is drawn from: new, or the same for the same counts."""
        if self.seed is None:
            return secrets.token_bytes(32)
        told = "\n".join(f"{word} {count}" for word, count in zip(words, counts, strict=True))
        return hashlib.sha256(f"vocabulary/{self.seed}/{self.words}\n{told}".encode()).digest()

    def about(self, people: int, key: bytes) -> dict[str, Any]:
        """What the corpus says of its vocabulary; the id names the key and does not tell it."""
        return {
            "noise_multiplier": self.noise_multiplier,
            "words": self.words,
            "chance": self.chance_among(people),
            "threshold": self.threshold(people) / STEPS,
            "people": people,
            "noise": "fresh" if self.seed is None else "seeded",
            "id": hashlib.sha256(b"fedsim vocabulary/" + key).hexdigest()[:32],
        }


def released(
    words: Sequence[str], counts: np.ndarray, people: int, release: Release
) -> tuple[list[str], dict[str, Any]]:
    """The words above the threshold, the most counted first, and what to say of them.

    counts: of how many people each word is; a word of nobody is not there to be released.
    """
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda word: words[word])
    spelled, mine = [words[word] for word in order], counts[order]
    key = release.key(spelled, mine)
    noisy = release.noisy(mine, key)
    above = np.flatnonzero(noisy > release.threshold(people))
    chosen = above[np.argsort(-noisy[above], kind="stable")]
    return [spelled[i] for i in chosen], release.about(people, key)


def person_counts(
    tokens: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    owners: np.ndarray,
    words: Sequence[str],
    most: int,
) -> np.ndarray:
    """Of how many people each word is, each person counting for their `most` most frequent ones.

    Sentences are runs of `tokens`; owners: whose each is, ascending. Which words are a person's
    follows from that person's text alone: of equally frequent ones the first in the alphabet.
    """
    size = len(words)
    alphabetic = np.empty(size, np.int64)
    alphabetic[np.argsort(np.array(words, object), kind="stable")] = np.arange(size)
    counts = np.zeros(size, np.int64)
    for part in _whole_people(owners):
        block = gather(tokens, starts[part], lengths[part])
        whose = np.repeat(owners[part], lengths[part]).astype(np.int64)
        pairs, often = np.unique(whose * size + block.tokens, return_counts=True)
        person, word = pairs // size, pairs % size
        order = np.lexsort((alphabetic[word], -often, person))
        person, word = person[order], word[order]
        _, first, of_each = np.unique(person, return_index=True, return_counts=True)
        rank = np.arange(len(person)) - np.repeat(first, of_each)
        counts += np.bincount(word[rank < most], minlength=size)
    return counts


def _whole_people(owners: np.ndarray) -> Iterator[slice]:
    """Runs of whole people's sentences, about `_AT_ONCE` each; owners ascend."""
    first = 0
    while first < len(owners):
        last = owners[min(first + _AT_ONCE, len(owners)) - 1]
        stop = int(np.searchsorted(owners, last, "right"))
        yield slice(first, stop)
        first = stop
