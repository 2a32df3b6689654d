"""A ragged array of token sequences: one flat buffer and its offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Sequences:
    """Some sequences; `len` is their number, iterating yields int32 arrays (views).

    tokens: int32 (n,), words only, no BOS or EOS; read-only where it is a view of a corpus.
    offsets: int64 (sequences + 1,), starting at 0 and ending at n.
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.tokens[start:end]

    @property
    def lengths(self) -> np.ndarray:
        """Number of words of each sequence, int64 (sequences,)."""
        return np.diff(self.offsets)

    def take(self, indices: Sequence[int] | np.ndarray) -> Sequences:
        """The sequences at `indices`, in that order (repeats allowed), copied."""
        chosen = np.asarray(indices, np.int64)
        starts = self.offsets[:-1][chosen]
        return gather(self.tokens, starts, self.lengths[chosen])

    @staticmethod
    def concatenate(parts: Sequence[Sequences]) -> Sequences:
        """All sequences of the parts in order, copied."""
        lengths = [part.lengths for part in parts] or [np.empty(0, np.int64)]
        tokens = [part.tokens for part in parts] or [np.empty(0, np.int32)]
        return Sequences(np.concatenate(tokens), offsets_of(np.concatenate(lengths)))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Running sums with a leading 0, int64 (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def gather(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
    """Copy the runs `tokens[start : start + length]` into new sequences."""
    offsets = offsets_of(lengths)
    index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Sequences(tokens[index], offsets)
