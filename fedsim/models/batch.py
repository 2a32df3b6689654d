"""A minibatch of sentences as packed rows: real tokens only, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fedsim.data.vocabulary import BOS, EOS, PAD, SPECIALS, UNK

__all__ = ["BOS", "EOS", "N_SPECIALS", "PAD", "UNK", "Batch", "previous_rows"]

N_SPECIALS = len(SPECIALS)


@dataclass(frozen=True)
class Batch:
    """Sentences of n words each as n + 1 predictions: [BOS, w1..wn] -> [w1..wn, EOS].

    The N rows are time-major: first the first position of every sequence, then the second of
    those that have one, and so on, with the longest sequences first. So the rows of one time step
    are contiguous and a recurrence runs over `batch_sizes[t]` leading sequences at step t.

    inputs, targets: (N,) int64 token ids.
    sequence: (N,) int64, the row's sequence as its position in `indices` of `Batch.of`.
    position: (N,) int64, the row's place in its sequence, from 0.
    batch_sizes: number of rows of each time step, non-increasing.
    n_sequences: number of sequences.
    """

    inputs: Tensor
    targets: Tensor
    sequence: Tensor
    position: Tensor
    batch_sizes: list[int]
    n_sequences: int

    @classmethod
    def of(
        cls,
        tokens: np.ndarray,
        offsets: np.ndarray,
        indices: np.ndarray | Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Pack the chosen sequences; `indices=None` takes all.

        tokens (n,): word ids of all sequences; offsets (s + 1,): sequence i is
        tokens[offsets[i]:offsets[i + 1]]; an index may occur more than once.
        """
        offsets = np.asarray(offsets, np.int64)
        chosen = np.arange(len(offsets) - 1) if indices is None else np.asarray(indices, np.int64)
        lengths = offsets[chosen + 1] - offsets[chosen] + 1
        order = np.argsort(-lengths, kind="stable")
        lengths, n_steps = lengths[order], int(lengths.max(initial=0))
        # Number of sequences longer than t, for each t: lengths is sorted downwards.
        sizes = len(chosen) - np.searchsorted(lengths[::-1], np.arange(n_steps), side="right")

        starts = np.cumsum(sizes) - sizes
        time = np.repeat(np.arange(n_steps), sizes)
        rank = np.arange(len(time)) - np.repeat(starts, sizes)
        word = offsets[chosen[order]][rank] + time
        last = time == lengths[rank] - 1
        inputs = np.full(len(time), BOS, np.int64)
        targets = np.full(len(time), EOS, np.int64)
        inputs[time > 0] = tokens[word[time > 0] - 1]
        targets[~last] = tokens[word[~last]]
        rows = torch.from_numpy(np.stack([inputs, targets, order[rank], time])).to(device)
        return cls(rows[0], rows[1], rows[2], rows[3], sizes.tolist(), len(chosen))

    def __len__(self) -> int:
        """Number of rows N: predictions, EOS included."""
        return self.inputs.shape[0]

    @property
    def n_steps(self) -> int:
        """Rows of the longest sequence, T."""
        return len(self.batch_sizes)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) rows -> (n_sequences, T, ...) in the caller's order, zeros (PAD) at the end."""
        padded = rows.new_zeros(self.n_sequences * self.n_steps, *rows.shape[1:])
        padded = padded.index_copy(0, self._cells(), rows)
        return padded.view(self.n_sequences, self.n_steps, *rows.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(n_sequences, T, ...) in the caller's order -> (N, ...) packed rows."""
        return padded.flatten(0, 1).index_select(0, self._cells())

    def _cells(self) -> Tensor:
        return self.sequence * self.n_steps + self.position


def previous_rows(rows: Tensor, batch_sizes: list[int]) -> Tensor:
    """For every packed row after the first time step, its sequence's row one step earlier.

    rows (N, ...) -> (N - batch_sizes[0], ...).
    """
    steps = rows.split(batch_sizes)
    return torch.cat([rows[:0], *(a[: len(b)] for a, b in pairwise(steps))])
