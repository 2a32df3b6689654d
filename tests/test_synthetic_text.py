"""Synthetic sentences follow the law that the chain says, and each draw is its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import fedsim.leakage.synthetic_text
from fedsim.data.sequences import Sequences
from fedsim.data.vocabulary import EOS
from fedsim.leakage.synthetic_text import JUMP, Chain

A, B, C = 4, 5, 6
# "a b", "a b c", "a", "b b"
TEXT = Sequences(np.array([A, B, A, B, C, A, B, B], np.int32), np.array([0, 2, 5, 6, 8]))
AFTER = {  # shares of a, b, c and the end
    A: (0, 2 / 3, 0, 1 / 3),
    B: (0, 1 / 4, 1 / 4, 2 / 4),
    C: (0, 0, 0, 1),
}
ANYWHERE = np.array([3, 4, 1, 4]) / 12


def generator(seed: int) -> np.random.Generator:
    """A generator of its own for each seed."""
    return np.random.default_rng(seed)


def test_a_sentence_begins_as_one_of_the_text_does_and_is_no_longer() -> None:
    (drawn,) = Chain(TEXT).texts([20_000], [generator(1)])
    first = [sum(s[0] == word for s in drawn) for word in (A, B, C)]
    assert first[2] == 0
    assert stats.chisquare(first[:2], [15_000, 5_000]).pvalue > 0.001
    assert set(drawn.lengths.tolist()) == {1, 2, 3}


@pytest.mark.parametrize("word", AFTER)
def test_a_word_is_followed_as_in_the_text_or_by_anything(word: int) -> None:
    (drawn,) = Chain(TEXT).texts([60_000], [generator(2)])
    pairs = [(s[i], s[i + 1] if i + 1 < len(s) else EOS) for s in drawn for i in (0, 1)
             if i < len(s)]  # fmt: skip
    follows = [after for before, after in pairs if before == word]
    counts = np.array([follows.count(token) for token in (A, B, C, EOS)])
    expected = (1 - JUMP) * np.array(AFTER[word]) + JUMP * ANYWHERE
    assert counts.sum() > 1000
    assert stats.chisquare(counts, counts.sum() * expected).pvalue > 0.001


def test_a_text_depends_on_its_own_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, counts = Chain(TEXT), [3, 0, 7, 5]
    together = chain.texts(counts, [generator(seed) for seed in range(4)])
    assert [len(text) for text in together] == counts
    monkeypatch.setattr(fedsim.leakage.synthetic_text, "_AT_ONCE", 12)
    in_blocks = chain.texts(counts, [generator(seed) for seed in range(4)])
    alone = [chain.texts([n], [generator(seed)])[0] for seed, n in enumerate(counts)]
    for a, b, c in zip(together, in_blocks, alone, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() == c.tokens.tolist()
        assert a.offsets.tolist() == b.offsets.tolist() == c.offsets.tolist()
