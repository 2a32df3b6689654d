"""A server reads one update: the words, their counts and the sentences, and how right it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.leakage import rouge, update_sentences, update_words
from fedsim.leakage.update_sentences import Evidence, Recovered, Sentence
from fedsim.leakage.update_sentences_lstm import RecurrentEvidence
from fedsim.leakage.update_sentences_transformer import AttentionEvidence
from fedsim.models.base import LanguageModel
from fedsim.models.batch import N_SPECIALS
from fedsim.models.cifg import Cifg
from fedsim.models.lstm import Lstm
from fedsim.models.transformer import Transformer
from fedsim.parameters import Layout, Parameters


@dataclass(frozen=True)
class Sent:
    """What reached the server, and what it knows beside.

    gradient: the update is one, and not the difference of two models; exact: of known scale too.
    sequences: of the client, or of the whole sum; words: how many different ones. noise: its
    deviation in a coordinate, which a server knows since it has set it.
    """

    update: np.ndarray
    gradient: bool
    exact: bool
    sequences: int
    words: int
    noise: float = 0.0


@dataclass(frozen=True)
class Read:
    """What the server made of it; counts is int64 (V,).

    sized: whether it needed to know how many different words there are. targets and counts are
    None without output bias, sentences for a model without attack.
    """

    words: np.ndarray
    sized: bool
    targets: np.ndarray | None
    counts: np.ndarray | None
    sentences: Recovered | None


def read(model: LanguageModel, sent: Sent, most_words: int) -> Read:
    """All attacks on one update of `model`, in eval mode, for sentences up to `most_words`."""
    update = Parameters(Layout.of(model), sent.update)
    targets = counts = None
    if model.output_bias is not None:
        targets = update_words.target_words(update)
        counts = update_words.counts(model, update, sent.sequences, sent.exact)
    evidence = evidence_of(model, update, sent)
    sentences = None
    if evidence is not None:
        sentences = update_sentences.recover(evidence, sent.sequences, most_words)
    words = update_words.typed_words(model, update, sent.words)
    sized = update_words.needs_size(model, update_words.row_norms(update))
    return Read(words, sized, targets, counts, sentences)


def evidence_of(model: LanguageModel, update: Parameters, sent: Sent) -> Evidence | None:
    """The span attack of the model's family; None for a family without one."""
    if isinstance(model, Lstm | Cifg):
        return RecurrentEvidence(model, update, sent.gradient, sent.noise)
    if isinstance(model, Transformer):
        return AttentionEvidence(model, update, sent.gradient, sent.noise)
    return None


def typed(text: Sequences) -> np.ndarray:
    """The different words of a text without specials, ascending."""
    words = np.unique(text.tokens)
    return words[words >= N_SPECIALS]


def overlap(found: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of a set of words; what is not found has precision 0."""
    both = len(np.intersect1d(found, true))
    precision, recall = both / max(len(found), 1), both / max(len(true), 1)
    return precision, recall, 2 * both / max(len(found) + len(true), 1)


def exact_counts(counts: np.ndarray, text: Sequences) -> float:
    """Share of the text's different words whose number of occurrences is right."""
    words = typed(text)
    true = np.bincount(text.tokens, minlength=len(counts))
    return float(np.mean(counts[words] == true[words])) if len(words) else 1.0


def sentences_of(text: Sequences) -> list[Sentence]:
    """As tuples of ids."""
    return [tuple(int(w) for w in sentence) for sentence in text]


def same(found: Sequence[Sentence], true: Sequence[Sentence]) -> int:
    """Number of sentences that are the same word by word, repeats counted."""
    return (Counter(found) & Counter(true)).total()


def best_rouge(found: Sequence[Sentence], true: Sequence[Sentence]) -> tuple[float, float, float]:
    """ROUGE-1, -2, -L, each of the best of `found` for every true sentence, on average."""
    tried = list(dict.fromkeys(found))
    best = [
        [
            max((rouge.rouge_n(f, t, 1) for f in tried), default=0.0),
            max((rouge.rouge_n(f, t, 2) for f in tried), default=0.0),
            max((rouge.rouge_l(f, t) for f in tried), default=0.0),
        ]
        for t in true
    ]
    one, two, longest = np.mean(best, axis=0) if best else np.zeros(3)
    return float(one), float(two), float(longest)
