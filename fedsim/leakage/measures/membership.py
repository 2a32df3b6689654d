"""Whether a sentence was trained on, told from the global model (Shokri et al. 2017 and after)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from fedsim.data.sequences import Sequences
from fedsim.device import threads
from fedsim.leakage import attacks, blind, references
from fedsim.leakage.base import MEASURES, Findings, Measure, Subject
from fedsim.leakage.comparison import Comparison
from fedsim.leakage.groups import (
    Sentences,
    require_groups,
    sentences_of,
    some_users,
    typed_by_one,
)
from fedsim.leakage.scoring import Scored, Scores, score
from fedsim.models import KneserNey
from fedsim.seeding import stream
from fedsim.steps import Heard, Steps


@MEASURES.register("membership")
class Membership(Measure):
    """Example level: sentences of users that took part against sentences of users that did not."""

    title: ClassVar[str] = "Membership of sentences"
    threat: ClassVar[str] = "holds the global model, and a sentence that somebody typed"
    meaning: ClassVar[str] = (
        "AUC is how often a sentence that was trained on looks more so than one that was not: 0.5 "
        "is a coin, 1 is certainty. TPR at 1 % FPR is the share of training sentences that are "
        "named while one in a hundred others is named by mistake."
    )

    users: int = Field(200, ge=20, description="of each group, drawn")
    sentences: int = Field(20, ge=1, description="of each user at most, drawn")
    min_k_share: float = Field(attacks.SHARE, gt=0, le=1, description="of a sentence's words")
    neighbours: int = Field(25, ge=1, description="changed copies of a sentence")
    neighbour_sentences: int = Field(
        100, ge=0, description="of each group that get neighbours; 0 leaves the attack out"
    )
    reference: Literal["trigram", "model"] = Field(
        "trigram", description="of the users who never train; model: of the same architecture"
    )

    def measure(self, subject: Subject) -> Findings:
        """One row a score and figure, the blind attackers' rows after them."""
        require_groups(subject)
        phases = subject.steps(drawn=1, known=1, model=2, untrained=2, words=1, intervals=3)
        sentences = self._drawn(subject)
        member = np.isin(sentences.users, subject.members)
        with threads(1):  # the last bits of a score must not depend on the machine's cores
            trigram = references.trigram(subject.federation)
            other: Scored = (
                trigram if self.reference == "trigram" else references.same_architecture(subject)
            )
            near = self._with_neighbours(subject, sentences, member, trigram)
            known = score(other, sentences.text, heard=phases.part("known"))
            models = {"model": subject.model, "untrained": blind.untrained(subject)}
            tables = [
                self._scores(model, subject, sentences, known, near, phases.part(name))
                for name, model in models.items()
            ]
            phases.part("words")
            words = blind.bag_of_words(
                sentences.text, subject.model.vocabulary_size, np.arange(len(member))
            )
            rng = stream(subject.seed, "membership folds")
            guesses = blind.out_of_fold(words, member, sentences.users, rng)
        comparison = Comparison(member, sentences.users, subject.seed)
        intervals = phases.part("intervals")
        rows = comparison.findings(tables[0], tables[1], guesses, "blind=words", intervals)
        return Findings(rows, {"roc": comparison.curves(tables[0])})

    def _drawn(self, subject: Subject) -> Sentences:
        """Sentences of both groups that only one training user typed."""
        seed, groups = subject.seed, []
        for name, users in (("members", subject.members), ("non-members", subject.nonmembers)):
            chosen = some_users(users, self.users, stream(seed, f"membership {name}"))
            groups.append(chosen)
        users = np.sort(np.concatenate(groups))
        drawn = sentences_of(subject.federation, users, "train", self.sentences, seed)
        return drawn.where(typed_by_one(subject.federation, drawn))

    def _with_neighbours(
        self, subject: Subject, sentences: Sentences, member: np.ndarray, trigram: KneserNey
    ) -> tuple[np.ndarray, Sequences]:
        """The indices of the sentences that get neighbours, ascending, and these."""
        rng = stream(subject.seed, "membership neighbours")
        chosen = [
            some_users(np.flatnonzero(group), self.neighbour_sentences, rng)
            for group in (member, ~member)
        ]
        near = np.sort(np.concatenate(chosen))
        text = sentences.text.take(near)
        return near, attacks.neighbours_of(text, trigram, self.neighbours, rng)

    def _scores(
        self,
        model: Scored,
        subject: Subject,
        sentences: Sentences,
        known: Scores,
        near: tuple[np.ndarray, Sequences],
        heard: Heard,
    ) -> dict[str, np.ndarray]:
        """Every attack's score of every sentence; NaN of those without neighbours."""
        phases = Steps({"sentences": len(sentences.text), "near": len(near[1])}, heard)
        found = score(model, sentences.text, moments=True, heard=phases.part("sentences"))
        vocabulary = subject.federation.corpus.vocabulary
        out = {
            "score=loss": attacks.loss(found),
            "score=zlib": attacks.zlib(found, [vocabulary.decode(s) for s in sentences.text]),
            "score=min-k": attacks.min_k(found, self.min_k_share),
            "score=min-k++": attacks.min_k_plus(found, self.min_k_share),
            "score=reference": attacks.reference(found, known),
        }
        chosen, text = near
        if len(chosen):
            out["score=neighbour"] = np.full(len(sentences.text), math.nan)
            own = score(model, sentences.text.take(chosen))
            changed = score(model, text, heard=phases.part("near"))
            out["score=neighbour"][chosen] = attacks.neighbour(own, changed)
        return out
