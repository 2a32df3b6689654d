"""Synthetic sentences: a chain over word pairs of some people's text, broken up by single words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator

from fedsim.data.sequences import Sequences, gather
from fedsim.data.vocabulary import BOS, EOS

JUMP = 0.2  # how often the next word is any word of the text, whatever the last one was
_AT_ONCE = 2**19  # words that are drawn at a time, about


class Chain:
    """A bigram model with jumps to unigrams, by the counts of a text: nothing is smoothed.

    A sentence begins with a word that begins one of the text. The next token, a word or the end,
    is with probability `JUMP` any token of the text, else one that follows the last word there.
    Sentences are no longer than the text's longest.
    """

    def __init__(self, text: Sequences) -> None:
        """Take the counts of a text, which needs a sentence."""
        if not len(text):
            raise ValueError("a chain needs a text of at least one sentence")
        lengths = text.lengths
        self.longest = int(lengths.max())
        ends = np.cumsum(lengths + 1)
        after = np.full(ends[-1], EOS, np.int32)  # w1 .. wn EOS of each sentence
        is_word = np.ones(len(after), bool)
        is_word[ends - 1] = False
        after[is_word] = text.tokens
        before = np.roll(after, 1)  # the end of a sentence comes before the next one's first word
        before[before == EOS] = BOS
        self._any = after
        order = np.argsort(before, kind="stable")
        # What follows a word stands in one run; after the end of a sentence comes the end again.
        self._followers = np.append(after[order], np.int32(EOS))
        known = max(int(after.max()), BOS, EOS) + 1
        self._count = np.bincount(before, minlength=known)
        self._first = np.cumsum(self._count) - self._count
        self._count[EOS], self._first[EOS] = 1, len(after)

    def texts(self, counts: Sequence[int], draws: Sequence[Generator]) -> list[Sequences]:
        """`counts[i]` sentences drawn from `draws[i]`, for every i.

        What comes from one generator does not depend on the others.
        """
        out: list[Sequences] = []
        for block in _blocks(counts, _AT_ONCE // self.longest):
            shape = (self.longest, 2)
            drawn = [draws[i].random((counts[i], *shape)) for i in block]
            tokens, lengths = self._walks(np.concatenate(drawn))
            first = 0
            for i in block:
                mine = slice(first, first + counts[i])
                starts = np.arange(mine.start, mine.stop) * self.longest
                out.append(gather(tokens, starts, lengths[mine]))
                first = mine.stop
        return out

    def _walks(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A sentence from each row of uniform numbers, (n, longest, 2).

        Returns tokens (n * longest,), of which a sentence's are the first in its row, and the
        number of its words (n,).
        """
        tokens = np.empty(uniform.shape[:2], np.int32)
        last = np.full(len(uniform), BOS, np.int32)
        for place in range(self.longest):
            here, jump = uniform[:, place].T
            chosen = self._followers[self._first[last] + (here * self._count[last]).astype(int)]
            if place:
                jumps = (jump < JUMP) & (last != EOS)
                anywhere = (jump[jumps] / JUMP * len(self._any)).astype(int)
                chosen[jumps] = self._any[np.minimum(anywhere, len(self._any) - 1)]
            tokens[:, place] = last = chosen
        return tokens.ravel(), (tokens != EOS).sum(axis=1)


def _blocks(counts: Sequence[int], most: int) -> Iterator[range]:
    """Places of `counts`, cut where what is summed up comes to `most`."""
    first = total = 0
    for place, count in enumerate(counts):
        total += count
        if total >= most:
            yield range(first, place + 1)
            first, total = place + 1, 0
    if first < len(counts):
        yield range(first, len(counts))
