"""The first corpus of a pretrained run: what the server trains on before the federated rounds.

Threat model: who holds the global model, after federated fine-tuning on other people's text, asks
what is left in it of the text that it was pretrained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from fedsim.data.options import DataOptions, PretrainOptions
from fedsim.data.sequences import Sequences
from fedsim.data.store import open_with_all_words
from fedsim.data.vocabulary import UNK, Vocabulary
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import random_sentences
from fedsim.leakage.overlap import Overlap
from fedsim.leakage.scoring import rows_of
from fedsim.seeding import stream

CONTROLS = 100  # canaries of the same generator that are in no text
MOST_UNKNOWN = 0.9


@dataclass(frozen=True)
class FirstCorpus:
    """Its text in the vocabulary of the run's own corpus.

    people: the names of its training users. text: their sentences; held_out: those of all its
    other users, which are never trained on. canaries, controls: (n, WORDS) word ids, of which each
    canary is `repeats` times in what is trained on, and no control is. unknown: the share of the
    words of `text` that the run's vocabulary does not have. overlap: what of its people was found
    among those that the run trains on; None before that was looked for.
    """

    name: str
    digest: str
    people: frozenset[str]
    text: Sequences
    held_out: Sequences
    canaries: np.ndarray
    controls: np.ndarray
    repeats: int
    unknown: float
    overlap: Overlap | None = None

    @property
    def training_text(self) -> Sequences:
        """What the server trains on: the text, then the copies of the canaries."""
        copies = rows_of(np.repeat(self.canaries, self.repeats, axis=0))
        return Sequences.concatenate([self.text, copies])


def open_first_corpus(
    options: PretrainOptions, own: DataOptions, vocabulary: Vocabulary, seed: int
) -> FirstCorpus:
    """Open the corpus that `options` ask for and encode it in `vocabulary`.

    Its text is cut as `own` says of the run's own corpus, or the words would differ.

    Raises FedsimError where it cannot be opened, has nobody to hold out, or where the two
    corpora have hardly a word in common.
    """
    try:
        corpus = open_with_all_words(options.like(own))
    except FedsimError as error:
        raise FedsimError(re.sub(r"\bdata\.", "pretrain.", str(error))) from error
    trained = [corpus.sequences(user) for user in corpus.split("train")]
    others = [corpus.split_sequences(part) for part in ("validation", "donors", "test")]
    text, held_out = (
        encoded(Sequences.concatenate(parts), corpus.vocabulary, vocabulary)
        for parts in (trained, others)
    )
    unknown = float(np.mean(text.tokens == UNK)) if len(text.tokens) else 1.0
    if unknown > MOST_UNKNOWN:
        raise FedsimError(
            f"{unknown:.0%} of the words of the first corpus '{corpus.name}' are not in the "
            "vocabulary of the run's own corpus; choose a pretrain.name of the same language."
        )
    if not len(held_out):
        raise FedsimError(
            f"The first corpus '{corpus.name}' has no users to hold out from pretraining; raise "
            "split.test in its recipe."
        )
    draw = stream(seed, "canaries of the first corpus")
    drawn = random_sentences(options.canaries + CONTROLS, len(vocabulary), draw)
    return FirstCorpus(
        name=corpus.name,
        digest=corpus.digest,
        people=frozenset(corpus.user_name(user) for user in corpus.split("train")),
        text=text,
        held_out=held_out,
        canaries=drawn[CONTROLS:],
        controls=drawn[:CONTROLS],
        repeats=options.repeats,
        unknown=unknown,
    )


def encoded(sequences: Sequences, own: Vocabulary, other: Vocabulary) -> Sequences:
    """Sentences in the ids of another vocabulary; words that it does not have become UNK."""
    return Sequences(other.encode(own.words)[sequences.tokens], sequences.offsets)
