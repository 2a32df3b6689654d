"""Words and their ids: the special ones first, then words from the most frequent down.

The special ones are never suggested and never drawn for a canary: marks of a sequence's bounds, and
classes of what people type and a keyboard cannot predict word by word (numbers, addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

PAD, BOS, EOS, UNK = range(4)
UNKNOWN, NUMBER, ADDRESS = "<unk>", "<number>", "<address>"
CLASSES = (NUMBER, ADDRESS)
SPECIALS = ("<pad>", "<bos>", "<eos>", UNKNOWN, *CLASSES)


def specials_of(words: Sequence[str]) -> int:
    """How many special ones a table of words by id begins with; older runs have fewer."""
    return next((i for i, word in enumerate(words) if word not in SPECIALS), len(words))


class Vocabulary:
    """A fixed table id <-> word; `len` counts the special ids."""

    def __init__(self, words: Sequence[str]) -> None:
        """Take the ordinary words in id order; the special ones are put before them."""
        self.words: list[str] = [*SPECIALS, *words]
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a word occurs twice in the vocabulary")

    @classmethod
    def choose(cls, words: Sequence[str], counts: np.ndarray, size: int) -> Vocabulary:
        """The most frequent of `words` (ties alphabetically), `size` ids in all; counts (n,)."""
        ranked = sorted(
            (-int(count), word)
            for word, count in zip(words, counts, strict=True)
            if count > 0 and word not in SPECIALS
        )
        return cls([word for _, word in ranked[: size - len(SPECIALS)]])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def encode(self, words: Iterable[str]) -> np.ndarray:
        """Ids of the words, int32 (n,); a word outside the table is UNK."""
        return np.array([self._ids.get(word, UNK) for word in words], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The words of the ids, joined by spaces."""
        return " ".join(self.words[i] for i in ids)
