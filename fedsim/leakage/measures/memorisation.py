"""Discoverable memorisation: whose training sentences come out when their first words are typed.

Carlini et al. 2023 (Quantifying Memorization), in users instead of documents. A sentence that
greedy decoding completes need not have been memorised: common phrases are completed for
everybody. So every rate stands beside the same rate on people that the model never saw, and the
trigram's on the same sentences.

The trigram is fitted on text that no member wrote. One fitted on the members' would itself
remember what only one of them typed, and would call it predictable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.leakage import completion, texts
from fedsim.leakage.base import MEASURES, Finding, Findings, Measure, Subject
from fedsim.leakage.completion import Trials
from fedsim.leakage.disclosed import disclosed
from fedsim.leakage.discoverable import MEMBERS, findings
from fedsim.leakage.scoring import Scored
from fedsim.leakage.text_index import TextIndex
from fedsim.leakage.texts import Texts
from fedsim.models.ngram import KneserNey
from fedsim.seeding import stream
from fedsim.steps import Heard, Steps

PositiveInt = Annotated[int, Field(ge=1)]


@MEASURES.register("memorisation")
class Memorisation(Measure):
    """Extraction of members' sentences by greedy decoding from their first words."""

    title = "Sentences that come out when their first words are typed"
    threat = "holds the global model, and knows how a sentence begins"
    meaning = (
        "The share of the participants' own sentences that the model completes word for word. "
        "What it completes as well for people that it never saw is language, not leakage: the "
        "difference is what taking part gave away."
    )

    sentences: int = Field(
        4000, ge=1, description="sentences tried of the members, and of each control"
    )
    prefix_words: tuple[PositiveInt, ...] = Field(
        (2, 3, 5, 10), min_length=1, description="words that the adversary types"
    )
    suffix_words: int = Field(
        5, ge=0, description="words that have to come out, at most; 0: the rest of the sentence"
    )
    min_suffix_words: int = Field(
        3, ge=1, description="sentences with fewer words after the prefix are not tried"
    )

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        if 0 < self.suffix_words < self.min_suffix_words:
            raise FedsimError(
                f"suffix_words = {self.suffix_words} is below min_suffix_words = "
                f"{self.min_suffix_words}: raise the former, or set it to 0."
            )
        index = TextIndex(texts.trained(subject))
        unseen = [Texts.of(subject.federation, texts.unseen(subject)).sequences]
        size = len(subject.federation.corpus.vocabulary)
        trigram = KneserNey.fit(unseen, size) if len(unseen[0]) else None
        controls = texts.controls(subject)
        phases = subject.steps(members=1, trigram=1, **dict.fromkeys(controls, 1), intervals=1)
        with threads(1):  # a near tie must not depend on the machine's cores
            members = pd.concat(self._members(subject, index, trigram, phases), ignore_index=True)
            if members.empty:
                raise FedsimError(
                    "No member's sentence is long enough to be tried: lower prefix_words or "
                    "min_suffix_words."
                )
            others = {
                name: pd.concat(
                    self._control(subject, name, users, index, phases.part(name)),
                    ignore_index=True,
                )
                for name, users in controls.items()
            }
        rows: list[Finding] = []
        prefixes = sorted(set(self.prefix_words))
        for prefix in phases.over("intervals", prefixes, len(prefixes)):
            groups = {
                name: trials[trials.prefix == prefix]
                for name, trials in {MEMBERS: members, **others}.items()
            }
            rng = stream(subject.seed, f"memorisation intervals {prefix}")
            rows += findings(f"prefix={prefix}", groups, trigram is not None, rng)
        return Findings(rows, {"extracted_sentences": _details(members, subject, index)})

    def _members(
        self, subject: Subject, index: TextIndex, trigram: Scored | None, phases: Steps
    ) -> Iterator[pd.DataFrame]:
        """The trials of the members' sentences, a table a prefix length."""
        drawn = self._drawn(Texts.of(subject.federation, subject.members), subject, MEMBERS)
        right = _right(subject.model, drawn, phases.part("members"))
        predictable = np.zeros(len(right), bool)
        if trigram:
            predictable = _right(trigram, drawn, phases.part("trigram"))
        for trials in self._asked(drawn):
            held = index.find(trials.openings)
            yield _table(trials, drawn, right, predictable, held.users, held.repeats)

    def _control(
        self, subject: Subject, name: str, users: np.ndarray, index: TextIndex, heard: Heard
    ) -> Iterator[pd.DataFrame]:
        """The same of people that the model never saw; the trigram may have seen them."""
        theirs = Texts.of(subject.federation, users)
        own = TextIndex(theirs)
        drawn = self._drawn(theirs, subject, name)
        right = _right(subject.model, drawn, heard)
        for trials in self._asked(drawn):
            held = index.find(trials.openings)
            repeats = own.find(trials.openings).of(drawn.users[trials.sentence]).repeats
            nothing = np.zeros(len(right), bool)
            yield _table(trials, drawn, right, nothing, held.users + 1, held.repeats + repeats)

    def _drawn(self, whole: Texts, subject: Subject, name: str) -> Texts:
        """As many sentences as are tried of those that can be, cut to what is asked of them."""
        possible = [trials.sentence for trials in self._asked(whole)]
        sentences = np.unique(np.concatenate(possible))
        if len(sentences) > self.sentences:
            rng = stream(subject.seed, f"memorisation {name}")
            sentences = np.sort(rng.choice(sentences, self.sentences, replace=False))
        drawn = whole.take(sentences)
        return drawn.cut(max(self.prefix_words) + self.suffix_words) if self.suffix_words else drawn

    def _asked(self, drawn: Texts) -> Iterator[Trials]:
        for prefix in sorted(set(self.prefix_words)):
            yield Trials(drawn.sequences, prefix, self.min_suffix_words, self.suffix_words)


def _right(model: Scored, drawn: Texts, heard: Heard) -> np.ndarray:
    """Whether greedy decoding gives each word, bool (words,)."""
    return completion.greedy_words(model, drawn.sequences, heard) == drawn.sequences.tokens


def _table(
    trials: Trials,
    drawn: Texts,
    right: np.ndarray,
    predictable: np.ndarray,
    users: np.ndarray,
    repeats: np.ndarray,
) -> pd.DataFrame:
    """The trials of one prefix length, in the columns of `fedsim.leakage.discoverable`."""
    return pd.DataFrame(
        {
            "prefix": trials.prefix,
            "user": drawn.users[trials.sentence],
            "extracted": trials.given(right),
            "trigram": trials.given(predictable),
            "users": users,
            "repeats": repeats,
            "opening": [words.tobytes() for words in trials.openings],
        }
    )


def _details(members: pd.DataFrame, subject: Subject, index: TextIndex) -> pd.DataFrame:
    """The different sentences that came out, those of the fewest users first."""
    found = members[members.extracted].drop_duplicates(["prefix", "opening"])
    found = found.sort_values(["users", "repeats", "prefix", "opening"], ignore_index=True)
    words = [np.frombuffer(opening, np.int32) for opening in found.opening]
    openings = Sequences(
        np.concatenate([*words, np.empty(0, np.int32)]),
        offsets_of(np.array([len(w) for w in words], np.int64)),
    )
    table = disclosed(openings, index.find(openings), np.arange(len(openings)), subject.federation)
    return table.assign(prefix_words=found.prefix, predictable=found.trigram)
