"""ROUGE-1, -2 and -L of a recovered sentence against the true one (Lin 2004), as F1 over words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def rouge_n(found: Sequence[int], true: Sequence[int], n: int) -> float:
    """F1 of the n-grams in common, with repeats.

    A sentence below n words has no n-gram; two of those count 1 where they are equal, else 0.
    """
    mine, theirs = _grams(found, n), _grams(true, n)
    total = mine.total() + theirs.total()
    if not mine.total() or not theirs.total():
        return float(tuple(found) == tuple(true))
    return 2.0 * (mine & theirs).total() / total


def rouge_l(found: Sequence[int], true: Sequence[int]) -> float:
    """F1 of the longest common subsequence."""
    if not len(found) or not len(true):
        return float(len(found) == len(true))
    row = [0] * (len(true) + 1)
    for a in found:
        before = 0  # the cell up and to the left
        for j, b in enumerate(true, start=1):
            above = row[j]
            row[j] = before + 1 if a == b else max(above, row[j - 1])
            before = above
    return 2.0 * row[-1] / (len(found) + len(true))


def _grams(words: Sequence[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
