"""Which words of a text greedy decoding gives: one pass answers for every prefix and suffix.

Greedy decoding from a prefix p gives the suffix s exactly if, and only if, each word of s is the
likeliest one after p and the words of s before it: as long as the decoder has been right, what it
was fed is s. So one pass over the true words says for every place whether greedy would go on
rightly there, and a completion is a run of such places. `decoding.greedy_completions`, which
decodes word by word, gives the same; the self-checks hold the two together.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsim.data.sequences import Sequences, gather
from fedsim.leakage.scoring import Scored, batches, told
from fedsim.models.batch import N_SPECIALS, Batch
from fedsim.steps import Heard, nobody


@torch.no_grad()
def greedy_words(model: Scored, sequences: Sequences, heard: Heard = nobody) -> np.ndarray:
    """What greedy decoding says at each place after the true words before it, int64 (words,).

    Special tokens are never chosen: a keyboard does not suggest them. Of equally likely words it
    is the one with the smallest id, the most frequent. `heard` is told what share is done.
    """
    out = np.zeros(len(sequences.tokens), np.int64)
    for chosen in told(batches(sequences), sequences, heard):
        batch = Batch.of(sequences.tokens, sequences.offsets, chosen, model.device)
        best = model.log_probs(batch)[:, N_SPECIALS:].argmax(1) + N_SPECIALS
        rows = chosen[batch.sequence.cpu().numpy()]
        place = sequences.offsets[rows] + batch.position.cpu().numpy()
        words = place < sequences.offsets[rows + 1]
        out[place[words]] = best.cpu().numpy()[words]
    return out


class Trials:
    """The sentences that can be asked for by their first `prefix` words, and what is asked.

    The suffix is what follows the prefix, at most `most` words of it (0: all) and at least
    `least`; one with a word outside the vocabulary or a class is left out: nothing can type it.

    sentence: int64 (trials,), which of the sequences. openings: prefix and suffix of each.
    """

    def __init__(self, sequences: Sequences, prefix: int, least: int, most: int) -> None:
        lengths, starts = sequences.lengths, sequences.offsets[:-1]
        ends = np.minimum(lengths, prefix + most) if most else lengths
        unknown = _sums(sequences.tokens < N_SPECIALS)
        open_words = np.minimum(prefix, lengths)
        clean = unknown[starts + ends] == unknown[starts + open_words]
        self.prefix = prefix
        self.sentence = np.flatnonzero((lengths >= prefix + least) & clean)
        self._first = starts[self.sentence] + prefix
        self._last = starts[self.sentence] + ends[self.sentence]
        spans = self._last - self._first + prefix
        self.openings = gather(sequences.tokens, starts[self.sentence], spans)

    def given(self, right: np.ndarray) -> np.ndarray:
        """Whether every word of each suffix is right, bool (trials,); right: bool (words,)."""
        wrong = _sums(~right)
        return wrong[self._last] == wrong[self._first]


def _sums(flags: np.ndarray) -> np.ndarray:
    """Number of True before each place and at the end, int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(flags)])
