"""How well a keyboard predicts for its users: recall, perplexity, keystroke savings, latency.

Counts are sums per user, so they add up over users, workers and chunks; `summarise` turns a table
of them into rates. Everything is in eval mode, with float64 sums, and draws no random number.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from fedsim.data.text import typed_length
from fedsim.device import threads
from fedsim.models.base import LanguageModel, State
from fedsim.models.batch import BOS, EOS, N_SPECIALS, Batch

if TYPE_CHECKING:
    import pandas as pd  # a worker has no table: 50 MB that it need not load

SUGGESTIONS = 3  # words a keyboard shows above its keys
OFFERED = (3, 1, 5)  # words shown, in the keyboards whose keystrokes are counted; ours first
ROWS = 512  # predictions scored at a time; bounds memory to a few (ROWS, V) arrays
KEYSTROKES = ("keystrokes", "keystrokes_top1", "keystrokes_top5")  # with so many as in OFFERED
COUNTS = ("tokens", "nats", "words", "hits_top1", "hits_top3", "keystrokes_base", *KEYSTROKES)
RECALLS = ("top1_recall", "top3_recall")
SAVINGS = ("keystroke_savings", "keystroke_savings_top1", "keystroke_savings_top5")  # likewise
RATES = (*RECALLS, "perplexity", *SAVINGS)


class Predictor(Protocol):
    """What can be evaluated: a neural model or an n-gram."""

    @property
    def device(self) -> torch.device:
        """Where `log_probs` wants its batch."""

    def log_probs(self, batch: Batch) -> Tensor:
        """(N, V) natural-log probabilities of each row's next token."""


class Keyboard:
    """The words of a vocabulary in lexicographic order, with the range of each of their prefixes.

    rank (V,): a word's place in that order (specials: -1). lengths (V,): keys of each word: its
    characters, one for an emoji.
    first, last (V, longest): row w, column k: the words that start with the first k characters of
    w have ranks first <= rank < last.
    """

    def __init__(self, words: Sequence[str], device: torch.device | str = "cpu") -> None:
        """`words` by id; the special tokens at the beginning are never suggested."""
        ids = sorted(range(N_SPECIALS, len(words)), key=lambda i: words[i])
        rank = np.full(len(words), -1, np.int32)
        rank[ids] = np.arange(len(ids), dtype=np.int32)
        lengths = np.array([typed_length(w) for w in words], np.int32)
        shape = (len(words), max(1, int(lengths[N_SPECIALS:].max(initial=1))))
        first, last = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        last[:, 0] = len(ids)
        for k in range(1, shape[1]):
            starts: dict[str, int] = {}
            ends: dict[str, int] = {}
            for place, i in enumerate(ids):
                starts.setdefault(words[i][:k], place)
                ends[words[i][:k]] = place + 1
            for i in ids:
                if k < lengths[i]:
                    first[i, k], last[i, k] = starts[words[i][:k]], ends[words[i][:k]]
        self._words = [words[i] for i in ids]
        self._ids = torch.tensor(ids, dtype=torch.int64, device=device)  # by rank
        self.rank, self.lengths, self.first, self.last = (
            torch.from_numpy(a).to(device) for a in (rank, lengths, first, last)
        )

    def keystrokes(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(needed, better): taps for each target word, and how many words beat it.

        scores (n, V) in any unit, higher is likelier; targets (n,) word ids, no specials.
        `better` (n,) counts the words that score at least as much as the target: ties count
        against the model. needed (n, len(OFFERED)): with k characters typed the best words with
        that prefix are shown, as many as OFFERED says; the user takes the target as soon as it is
        among them, for k + 1 keystrokes. A word never shown before its last character costs its
        length and the space.
        """
        # Not ">= own": beside the NaN of a diverged model nothing is greater, and it would win.
        behind = scores < scores.gather(1, targets[:, None])
        specials = behind[:, :N_SPECIALS].sum(1)
        # In 32 bits, which is many times faster than in the 64 that PyTorch would take.
        better = len(self._ids) - 1 - (behind.sum(1, dtype=torch.int32) - specials)
        lengths = self.lengths[targets][:, None]
        offered = torch.tensor(OFFERED, device=lengths.device)
        needed = (lengths + 1).expand(-1, len(OFFERED)).clone()
        waiting, beaten, typed = (lengths > 0).expand_as(needed), better, 0
        rows = ranks = targets[:0]
        while True:
            shown = waiting & (beaten[:, None] < offered)
            needed[shown] = typed + 1
            typed += 1
            waiting = waiting & ~shown & (lengths > typed)
            still = waiting.any(1)
            if not still.any():
                return needed, better
            if typed == 1:  # most words are shown by now, or begin with another character
                rows, ranks = self._rivals(behind, targets, still.nonzero()[:, 0])
            else:
                words = targets[rows]
                keep = still[rows] & (ranks >= self.first[words, typed])
                keep &= ranks < self.last[words, typed]
                rows, ranks = rows[keep], ranks[keep]
            beaten = torch.bincount(rows, minlength=len(targets)) - 1

    def _rivals(self, behind: Tensor, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(row, rank) of all words that begin as the row's target does and are not behind it.

        behind (n, V) bool; rows (m,) of it.
        """
        words = targets[rows]
        first = self.first[words, 1].long()
        sizes = self.last[words, 1] - first
        before = sizes.cumsum(0) - sizes
        whose = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), sizes)
        ranks = torch.arange(len(whose), device=rows.device) - (before - first)[whose]
        there = rows[whose]
        keep = ~behind[there, self._ids[ranks]]
        return there[keep], ranks[keep]

    def beginning_with(self, prefix: str) -> Tensor:
        """(n,) ids of the words that begin with `prefix`, in lexicographic order."""
        first = bisect_left(self._words, prefix)
        last = bisect_left(self._words, True, lo=first, key=lambda w: not w.startswith(prefix))
        return self._ids[first:last]

    def offers(self, scores: Tensor, prefix: str, count: int = SUGGESTIONS) -> list[int]:
        """Ids of the words that are shown once `prefix` is typed, likeliest first; scores (V,).

        Of equals the lexicographically first is first. `keystrokes` counts how often this has to
        be asked, one character more each time, until the word that is meant is shown.
        """
        found = self.beginning_with(prefix)
        order = scores[found].argsort(descending=True, stable=True)
        return found[order[:count]].tolist()


def evaluate_user(
    predictor: Predictor, tokens: np.ndarray, offsets: np.ndarray, keyboard: Keyboard
) -> dict[str, float]:
    """One user's counts; tokens (n,) words of all sequences, offsets (s + 1,).

    tokens: scored targets: words, classes, out-of-vocabulary words and ends of sequences.
    nats: -ln p summed over them; all out-of-vocabulary words are one class, as all numbers are,
    and all addresses.
    words: word targets, out-of-vocabulary ones and classes included; these are misses, since
    nothing that is suggested completes them.
    hits_top1, hits_top3: words that were the best, among the best three, of all words.
    keystrokes_base, keystrokes, keystrokes_top1, keystrokes_top5: without suggestions and with
    three, one and five of them, over in-vocabulary words only (the length of others, and of what
    stands as a class, is not known from their ids); the space after a word counts as one.
    """
    counts = dict.fromkeys(COUNTS, 0.0)
    for indices in _groups(offsets):
        batch = Batch.of(tokens, offsets, indices, predictor.device)
        scores, targets = predictor.log_probs(batch), batch.targets
        own = scores.gather(1, targets[:, None])[:, 0]
        counts["tokens"] += len(targets)
        counts["nats"] -= float(own.double().sum())
        counts["words"] += int((targets != EOS).sum())
        known = targets >= N_SPECIALS
        needed, better = keyboard.keystrokes(scores[known], targets[known])
        for name, added in typed(keyboard, targets[known], needed, better).items():
            counts[name] += int(added.sum())
    return counts


def typed(keyboard: Keyboard, words: Tensor, needed: Tensor, better: Tensor) -> dict[str, Tensor]:
    """What typing each word adds to the counts, from `Keyboard.keystrokes` of them."""
    out = {"hits_top1": better < 1, "hits_top3": better < SUGGESTIONS}
    out["keystrokes_base"] = keyboard.lengths[words] + 1
    return out | dict(zip(KEYSTROKES, needed.T, strict=True))


def _groups(offsets: np.ndarray) -> Iterator[np.ndarray]:
    """Runs of sequences with at most ROWS predictions together (a longer one stands alone)."""
    lengths = np.diff(offsets) + 1
    start, rows = 0, 0
    for i, length in enumerate(lengths):
        if rows and rows + length > ROWS:
            yield np.arange(start, i)
            start, rows = i, 0
        rows += int(length)
    if rows:
        yield np.arange(start, len(lengths))


def rates(counts: pd.DataFrame) -> pd.DataFrame:
    """The rates of each row of counts; NaN where a row has nothing to divide by."""
    c = counts[[*COUNTS]].astype(float)
    with np.errstate(over="ignore"):  # a diverged model's perplexity is infinite
        perplexity = np.exp(c["nats"] / c["tokens"])
    import pandas as pd

    return pd.DataFrame(
        {
            "top1_recall": c["hits_top1"] / c["words"],
            "top3_recall": c["hits_top3"] / c["words"],
            "perplexity": perplexity,
            **{
                rate: 1.0 - c[count] / c["keystrokes_base"]
                for rate, count in zip(SAVINGS, KEYSTROKES, strict=True)
            },
        }
    )


def summarise(counts: pd.DataFrame) -> dict[str, float | list[float]]:
    """Rates over all tokens, and their spread over the users with at least one word.

    counts: one row per user with the keys of `evaluate_user`. For each rate: `<rate>` over all
    users' tokens together; `<rate>_deciles`, the nine deciles over users; and for the recalls
    `<rate>_worst_tenth`, the mean over the tenth of the users (rounded up) with the lowest.
    """
    total = rates(counts[[*COUNTS]].sum().to_frame().T).iloc[0]
    users = rates(counts[counts["words"] >= 1])
    out: dict[str, float | list[float]] = {
        "users": len(users),
        "words": float(counts["words"].sum()),
        "tokens": float(counts["tokens"].sum()),
    }
    for name in RATES:
        out[name] = float(total[name])
        values = np.sort(users[name].dropna().to_numpy(np.float64))
        if len(values):
            with np.errstate(invalid="ignore"):  # between two infinities
                out[f"{name}_deciles"] = np.quantile(values, np.arange(1, 10) / 10).tolist()
            if name in RECALLS:
                out[f"{name}_worst_tenth"] = float(values[: math.ceil(len(values) / 10)].mean())
    return out


def latency(model: LanguageModel, steps: int = 300, sentence: int = 10) -> dict[str, float]:
    """Wall time of one `step` for one sentence on one thread: {p50_ms, p95_ms}."""
    times = []
    with threads(1):
        state: State | None = None
        for i in range(-sentence, steps):  # the first sentence only warms up
            # Words far apart, so that the embedding rows are not in the cache already.
            word = N_SPECIALS + (i * 7919) % (model.vocabulary_size - N_SPECIALS)
            token = torch.tensor([word if i % sentence else BOS], device=model.device)
            began = time.perf_counter()
            logits, state = model.step(token, state if i % sentence else None)
            logits.topk(min(SUGGESTIONS, logits.shape[1])).indices.tolist()
            if i >= 0:
                times.append(1e3 * (time.perf_counter() - began))
    return {f"p{p}_ms": float(np.percentile(times, p)) for p in (50, 95)}
