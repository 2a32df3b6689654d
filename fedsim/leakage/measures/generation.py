"""Generate, then rank: what comes out of the model when nobody knows what is in it.

Carlini et al. 2021 (Extracting Training Data from Large Language Models) for a word model: draw
sentences, rank them by scores that suspect memorisation, look the first 100 up in the training
text. Short common sentences are in anybody's text, so the same 100 are looked up in as much text
of people that the model never saw.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from fedsim.data.sequences import Sequences, gather
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.leakage import ranking, texts
from fedsim.leakage.base import MEASURES, NAN, Finding, Findings, Measure, Subject
from fedsim.leakage.disclosed import disclosed
from fedsim.leakage.found import PRECISION, Found, findings
from fedsim.leakage.generating import Generated, Rule, generate
from fedsim.leakage.scoring import score
from fedsim.leakage.stranger import trained_on
from fedsim.leakage.text_index import TextIndex
from fedsim.leakage.texts import Texts
from fedsim.models.batch import N_SPECIALS
from fedsim.models.ngram import KneserNey
from fedsim.seeding import stream
from fedsim.steps import Heard, Steps

TOP = 100
NO_CASE = "not applicable: the vocabulary is lower-cased"
NO_TEXT = "not resolvable: no user is left for a reference model"


@MEASURES.register("generation")
class Generation(Measure):
    """Extraction without a prompt: generated sentences, ranked and looked up."""

    title = "Training sentences among what the model generates"
    threat = "holds the global model, and knows nothing of its text"
    meaning = (
        "Of the hundred generated sentences that look most like remembered ones, the share that a "
        "participant really typed. Some would be in anybody's text: the figure for equal text "
        "stands beside that for people that the model never saw."
    )

    sentences: int = Field(10_000, ge=1, description="sentences generated")
    source: Literal["top-n", "decay", "prefix"] = Field(
        "top-n",
        description="top-n: among the likeliest words; decay: among all, at a temperature that "
        "falls to 1; prefix: as top-n, after first words of people that the model never saw",
    )
    top_n: int = Field(40, ge=1, description="words drawn from, with source top-n or prefix")
    temperature: float = Field(2.0, ge=1.0, description="of the first word, with source decay")
    prefix_words: int = Field(2, ge=1, description="words given, with source prefix")
    min_words: int = Field(5, ge=1, description="shorter sentences are not looked at")
    medium_reference: bool = Field(
        False, description="train the same network on other people's text for a reference: minutes"
    )

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        control, others = _strangers(subject)
        rest = {"trigram": 1, "stranger": 60 * self.medium_reference, "looking": 1}
        phases = subject.steps(generated=8, **rest)
        with threads(1):  # what is drawn must not depend on the machine's cores
            drawn = self._generated(subject, others, phases.part("generated"))
            kept = ranking.distinct(drawn.sentences, self.min_words)
            if not len(kept):
                raise FedsimError(
                    f"No generated sentence has {self.min_words} words: lower min_words or raise "
                    "sentences."
                )
            sentences, log_probs = _taken(drawn, kept)
            scores = self._scores(subject, sentences, log_probs, others, phases)
        phases.part("looking")
        found = _looked_up(subject, sentences, control)
        unscored = {name: why for name, why in scores.items() if isinstance(why, str)}
        tops = {
            name: ranking.first_ranked(values, sentences, TOP)
            for name, values in scores.items()
            if not isinstance(values, str)
        }
        of_generated = f"with {self.min_words} words or more, of n generated"
        rows = [
            Finding("distinct_sentences", len(kept), "", self.sentences, note=of_generated),
            *findings(found, tops),
            *(Finding(PRECISION, NAN, f"score={n}", note=w) for n, w in unscored.items()),
        ]
        return Findings(rows, {"generated_sentences": _details(subject, sentences, found, tops)})

    def _generated(self, subject: Subject, others: np.ndarray, heard: Heard) -> Generated:
        """The sentences, from a stream of their own."""
        rng = stream(subject.seed, "generation")
        rule = Rule(0, self.temperature) if self.source == "decay" else Rule(self.top_n)
        prefixes = np.empty((self.sentences, 0), np.int32)
        if self.source == "prefix":
            possible = _prefixes(Texts.of(subject.federation, others).sequences, self.prefix_words)
            if not len(possible):
                raise FedsimError(
                    f"No sentence of a held-out user starts with {self.prefix_words} known words: "
                    "choose source = 'top-n'."
                )
            prefixes = possible[rng.integers(len(possible), size=self.sentences)]
        longest = max(subject.config.data.max_words, self.prefix_words, self.min_words)
        return generate(subject.model, prefixes, rule, longest, rng, heard)

    def _scores(
        self,
        subject: Subject,
        sentences: Sequences,
        log_probs: np.ndarray,
        others: np.ndarray,
        phases: Steps,
    ) -> dict[str, np.ndarray | str]:
        """Every sentence's scores by name, low for a suspect, or why there is none."""
        words = subject.federation.corpus.vocabulary.words
        nats = ranking.perplexity(log_probs, sentences)
        text = Texts.of(subject.federation, others).sequences
        scores: dict[str, np.ndarray | str] = {
            "perplexity": nats,
            "small-reference": NO_TEXT,
            "zlib": ranking.compressed(log_probs, sentences, words),
            "lower-case": NO_CASE,
            "window": ranking.windows(log_probs, sentences),
        }
        if len(text):
            trigram = KneserNey.fit([text], len(words))
            likely = score(trigram, sentences, heard=phases.part("trigram"))
            scores["small-reference"] = ranking.against(nats, likely.mean_nats)
        if self.medium_reference:
            scores["medium-reference"] = NO_TEXT
            if len(text):
                stranger = trained_on(subject, others, phases.part("stranger"))
                likely = score(stranger, sentences)
                scores["medium-reference"] = ranking.against(nats, likely.mean_nats)
        return scores


def _strangers(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Users whose text is the control, and those left over for prefixes and reference models.

    They must not be the same: a reference that has seen the control's sentences would rank them
    last.
    """
    control = next(iter(texts.controls(subject).values()), np.empty(0, np.int64))
    return control, np.setdiff1d(texts.unseen(subject), control)


def _prefixes(text: Sequences, words: int) -> np.ndarray:
    """(n, words): the first words of the sentences that have so many, all of the vocabulary."""
    starts = text.offsets[:-1][text.lengths >= words]
    rows = text.tokens[starts[:, None] + np.arange(words)]
    return rows[(rows >= N_SPECIALS).all(1)]


def _taken(drawn: Generated, kept: np.ndarray) -> tuple[Sequences, np.ndarray]:
    """Some of the sentences, and ln p of their words."""
    sentences = drawn.sentences.take(kept)
    starts = drawn.sentences.offsets[:-1][kept]
    return sentences, gather(drawn.log_probs, starts, sentences.lengths).tokens


def _looked_up(subject: Subject, sentences: Sequences, control: np.ndarray) -> Found:
    """Where the sentences are whole: in the trained text, and in equal text of both kinds."""
    trained = TextIndex(texts.trained(subject)).find(sentences, whole=True)
    if not len(control):
        return Found(trained, None, subject.members)
    rng = stream(subject.seed, "generation equal text")
    members = Texts.of(subject.federation, subject.members)
    strangers = Texts.of(subject.federation, control)
    most = min(len(members), len(strangers))
    mine, theirs = (
        TextIndex(side.some_users(most, rng)).find(sentences, whole=True)
        for side in (members, strangers)
    )
    return Found(trained, (mine, theirs), subject.members)


def _details(
    subject: Subject, sentences: Sequences, found: Found, tops: dict[str, np.ndarray]
) -> pd.DataFrame:
    """The sentences that were found, those of the fewest users first, with their ranks from 1."""
    hits = np.flatnonzero(found.trained.repeats)
    order = hits[np.lexsort((found.trained.repeats[hits], found.trained.users[hits]))]
    table = disclosed(sentences, found.trained, order, subject.federation)
    for name, top in tops.items():
        ranks = dict(zip(top.tolist(), range(1, len(top) + 1), strict=True))
        table[f"rank_{name}"] = pd.array([ranks.get(int(i)) for i in order], dtype="Int64")
    return table
