"""The trigram against a plain-Python Kneser-Ney written from the formulas."""

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedsim.models.batch import BOS, EOS, PAD, UNK, Batch
from fedsim.models.ngram import KneserNey, discounts

V = 14
Counts = dict[tuple[int, ...], int]


def corpus(n_sentences: int, seed: int = 0) -> SimpleNamespace:
    """Skewed words 3..12; 13 never occurs; some sentences are empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, n_sentences)
    tokens = (UNK + np.minimum(rng.geometric(0.35, lengths.sum()) - 1, 9)).astype(np.int32)
    return SimpleNamespace(tokens=tokens, offsets=np.concatenate([[0], np.cumsum(lengths)]))


def sentences(text: SimpleNamespace) -> list[list[int]]:
    return [text.tokens[a:b].tolist() for a, b in zip(text.offsets, text.offsets[1:], strict=False)]


class Oracle:
    """Modified Kneser-Ney by dictionaries; p(context, word) sums over nothing cleverly."""

    def __init__(self, text: list[list[int]]) -> None:
        self.tri: Counts = Counter()
        left_of_pair, after_bos = defaultdict(set), Counter()
        for sentence in text:
            line = [BOS, *sentence, EOS]
            after_bos[BOS, line[1]] += 1
            for u, v, w in zip(line, line[1:], line[2:], strict=False):
                self.tri[u, v, w] += 1
                left_of_pair[v, w].add(u)
        self.bi: Counts = {pair: len(left) for pair, left in left_of_pair.items()} | after_bos
        left_of_word = defaultdict(set)
        for v, w in self.bi:
            left_of_word[w].add(v)
        self.uni: Counts = {(w,): len(left) for w, left in left_of_word.items()}

    def order(self, counts: Counts, context: tuple[int, ...], word: int, lower: float) -> float:
        with_context = {gram: c for gram, c in counts.items() if gram[:-1] == context}
        if not with_context:
            return lower
        d = discounts(np.array(list(counts.values())))
        total = sum(with_context.values())
        left = sum(d[min(c, 3)] for c in with_context.values())
        count = with_context.get((*context, word), 0)
        return float((count - (d[min(count, 3)] if count else 0) + left * lower) / total)

    def p(self, context: list[int], word: int) -> float:
        p = 0.0 if word in (PAD, BOS) else 1 / (V - 2)
        p = self.order(self.uni, (), word, p)
        p = self.order(self.bi, tuple(context[-1:]), word, p)
        return self.order(self.tri, tuple(context[-2:]), word, p) if len(context) > 1 else p


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 12, 6, 3, 5])
    y = 40 / (40 + 2 * 12)
    expected = [0, 1 - 2 * y * 12 / 40, 2 - 3 * y * 6 / 12, 3 - 4 * y * 3 / 6]
    np.testing.assert_allclose(discounts(counts), expected)
    np.testing.assert_array_equal(discounts(np.array([1, 1, 2])), [0, 0.5, 1, 1.5])


@pytest.mark.parametrize("n_sentences", [1, 3, 40, 200])
def test_probabilities_are_the_oracle_s(n_sentences: int) -> None:
    text, other = corpus(n_sentences), corpus(12, seed=1)
    oracle = Oracle(sentences(text))
    # Two users' texts count as one text.
    half = n_sentences // 2
    cut = text.offsets[half]
    users = [
        SimpleNamespace(tokens=text.tokens[:cut], offsets=text.offsets[: half + 1]),
        SimpleNamespace(tokens=text.tokens[cut:], offsets=text.offsets[half:] - cut),
    ]
    batch = Batch.of(other.tokens, other.offsets)
    found = KneserNey.fit(users, V).log_probs(batch).exp().numpy()
    lines = [[BOS, *s] for s in sentences(other)]
    expected = [
        [oracle.p(lines[i][: t + 1], w) for w in range(V)]
        for i, t in zip(batch.sequence.tolist(), batch.position.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=0)


def test_every_row_is_a_distribution_over_what_can_follow() -> None:
    rng = np.random.default_rng(2)
    size = 3000
    tokens = (UNK + np.minimum(rng.zipf(1.3, 20_000), size - 4)).astype(np.int32)
    text = SimpleNamespace(tokens=tokens, offsets=np.arange(0, 20_001, 8))
    model = KneserNey.fit([text], size)
    seen, unseen = Batch.of(tokens, text.offsets, range(40)), Batch.of(tokens[::-1].copy(), [0, 90])
    for batch in (seen, unseen):
        p = model.log_probs(batch).double().exp()
        torch.testing.assert_close(p.sum(1), torch.ones(len(p), dtype=p.dtype), atol=2e-5, rtol=0)
        assert (p[:, [PAD, BOS]] == 0).all()
        assert (p[:, EOS:] > 0).all()


def test_no_text_is_refused() -> None:
    empty = SimpleNamespace(tokens=np.empty(0, np.int32), offsets=np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="at least one sentence"):
        KneserNey.fit([empty], V)
