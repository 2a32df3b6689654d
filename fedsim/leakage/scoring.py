"""What a model says of sentences, word by word, in large batches: the basis of every measure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.models.batch import Batch
from fedsim.steps import Heard, nobody

HEADER = len(zlib.compress(b""))  # bytes that say nothing of a text: five words are hardly more
ROWS = 512  # predictions at a time: more do not fit into a cache, and were slower


_scored = 0  # sentences, in this process


def scored() -> int:
    """How many sentences this process has scored so far: two calls tell a throughput."""
    return _scored


class Scored(Protocol):
    """A neural model, an n-gram, or whatever else gives next-word probabilities."""

    @property
    def device(self) -> torch.device:
        """Where `log_probs` wants its batch."""

    def log_probs(self, batch: Batch) -> Tensor:
        """(N, V) natural-log probabilities of each row's next token."""


@dataclass(frozen=True)
class Scores:
    """Of every word of some sentences, given what is before it; their ends are not scored.

    log_probs, mean, deviation: float64 (words,), in the order of `Sequences.tokens`. mean and
    deviation are of ln p under the model's own distribution of that word (Min-K%++, Zhang et al.
    2024); both are zero where they were not asked for.
    """

    log_probs: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    offsets: np.ndarray

    @property
    def nats(self) -> np.ndarray:
        """-ln p of each sentence, float64 (sentences,)."""
        return -np.add.reduceat(np.append(self.log_probs, 0.0), self.offsets[:-1]) * self.filled

    @property
    def filled(self) -> np.ndarray:
        """Whether each sentence has a word at all."""
        return np.diff(self.offsets) > 0

    @property
    def mean_nats(self) -> np.ndarray:
        """-ln p a word of each sentence; 0 for one without words."""
        return self.nats / np.maximum(np.diff(self.offsets), 1)


@torch.no_grad()
def score(
    model: Scored, sequences: Sequences, moments: bool = False, heard: Heard = nobody
) -> Scores:
    """Score all sentences; `moments` asks for mean and deviation too, which costs a pass more.
    `heard` is told what share of the words is done.

    The result does not depend on how sentences are batched but for rounding, and the batches do
    not depend on the machine.
    """
    global _scored
    _scored += len(sequences)
    out = np.zeros((3, len(sequences.tokens)))
    for chosen in told(batches(sequences), sequences, heard):
        batch = Batch.of(sequences.tokens, sequences.offsets, chosen, model.device)
        scores = model.log_probs(batch)
        own = scores.gather(1, batch.targets[:, None])[:, 0].double()
        place = sequences.offsets[chosen][batch.sequence.cpu().numpy()]
        place = place + batch.position.cpu().numpy()
        ends = sequences.offsets[chosen + 1][batch.sequence.cpu().numpy()]
        words = place < ends
        out[0, place[words]] = own.cpu().numpy()[words]
        if moments:
            mean, deviation = _moments(scores)
            out[1, place[words]] = mean.cpu().numpy()[words]
            out[2, place[words]] = deviation.cpu().numpy()[words]
    return Scores(out[0], out[1], out[2], sequences.offsets)


def _moments(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of ln p under p itself, float64 (N,); overwrites its argument."""
    p = log_probs.exp()
    # An impossible word counts nothing, and zero times minus infinity is NaN. Around -ln V, where
    # an untrained model is, the square's float32 would have no digits left.
    uniform = -math.log(log_probs.shape[1])
    around = log_probs.clamp_(min=-1e4).sub_(uniform)
    mean = torch.linalg.vecdot(p, around).double()
    square = torch.linalg.vecdot(p.mul_(around), around).double()
    return mean + uniform, (square - mean * mean).clamp(min=0.0).sqrt()


def batches(sequences: Sequences) -> Iterator[np.ndarray]:
    """Indices of sentences of like length, at most `ROWS` predictions together."""
    order = np.argsort(sequences.lengths, kind="stable")
    rows = offsets_of(sequences.lengths[order] + 1)
    start = 0
    while start < len(order):
        end = max(start + 1, int(np.searchsorted(rows, rows[start] + ROWS, side="right")) - 1)
        yield order[start:end]
        start = end


def told(chosen: Iterable[np.ndarray], sequences: Sequences, heard: Heard) -> Iterator[np.ndarray]:
    """The batches; `heard` is told after each what share of the predictions is done."""
    done, total = 0, len(sequences.tokens) + len(sequences)
    for batch in chosen:
        yield batch
        done += int(sequences.lengths[batch].sum()) + len(batch)
        heard(done / max(total, 1))


def zlib_bytes(text: str) -> int:
    """What zlib makes of a text, without what it makes of none; at least 1."""
    return max(1, len(zlib.compress(text.encode())) - HEADER)


def rows_of(sentences: np.ndarray) -> Sequences:
    """(n, words) ids, sentences of one length, as `Sequences`."""
    n, words = sentences.shape
    return Sequences(np.ascontiguousarray(sentences, np.int32).ravel(), np.arange(n + 1) * words)
