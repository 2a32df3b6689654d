"""Whether a person took part, told from the global model and the person's sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import trim_mean

from fedsim.device import threads
from fedsim.leakage import attacks, blind, references
from fedsim.leakage.base import MEASURES, Finding, Findings, Measure, Subject
from fedsim.leakage.comparison import Comparison, finding
from fedsim.leakage.groups import (
    Sentences,
    per_user,
    require_groups,
    sentences_of,
    some_users,
)
from fedsim.leakage.scoring import Scored, Scores, score
from fedsim.seeding import stream
from fedsim.steps import Heard, Steps

TRIMMED = 0.1  # at each end
STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "trimmed": lambda values: trim_mean(values, TRIMMED),
    "sum": np.sum,
}
PARTS = ("train", "heldout")
TIMES = {"known": 1.0, "model": 1.0, "untrained": 1.0, "rest": 1.0}  # beside each other


@MEASURES.register("user_membership")
class UserMembership(Measure):
    """User level; two attacks that are never mixed: with what trained the model, and with other
    sentences of the same person (user inference, Kandpal et al. 2023)."""

    title: ClassVar[str] = "Membership of users"
    threat: ClassVar[str] = "holds the global model, and sentences of one person"
    meaning: ClassVar[str] = (
        "AUC is how often a person who took part looks more so than one who did not: 0.5 is a "
        "coin, 1 is certainty. Either the adversary holds what the person's phone trained on "
        "(text=train), or only other sentences of the same person (text=heldout)."
    )

    users: int = Field(400, ge=20, description="of each group, drawn")
    sentences: int = Field(20, ge=1, description="of each user and part at most, drawn")
    reference: Literal["trigram", "model"] = Field(
        "trigram", description="of the users who never train; model: of the same architecture"
    )

    def measure(self, subject: Subject) -> Findings:
        """Rows of both attacks, each by score, statistic and number of participations."""
        require_groups(subject)
        groups = (subject.members, subject.nonmembers)
        users = np.sort(
            np.concatenate(
                [some_users(g, self.users, stream(subject.seed, "user membership")) for g in groups]
            )
        )
        found: list[Findings] = []
        with threads(1):  # the last bits of a score must not depend on the machine's cores
            known: Scored = (
                references.trigram(subject.federation)
                if self.reference == "trigram"
                else references.same_architecture(subject)
            )
            models = {"model": subject.model, "untrained": blind.untrained(subject)}
            whole = subject.steps(**dict.fromkeys(PARTS, 1.0))
            for part in PARTS:
                phases = Steps(TIMES, whole.part(part))
                drawn = sentences_of(subject.federation, users, part, self.sentences, subject.seed)
                other = score(known, drawn.text, heard=phases.part("known"))
                scores, untrained = (
                    _of_users(model, other, drawn, part, phases.part(name))
                    for name, model in models.items()
                )
                phases.part("rest")
                found.append(_attack(subject, drawn, part, scores, untrained))
        rows = [row for attack in found for row in attack.rows]
        tables = {
            name: pd.concat([attack.details[name] for attack in found], ignore_index=True)
            for name in ("roc", "users")
        }
        return Findings(rows, tables)


def _of_users(
    model: Scored, other: Scores, drawn: Sentences, part: str, heard: Heard
) -> dict[str, np.ndarray]:
    """Every statistic of every user who has text, by the users' ids."""
    found = score(model, drawn.text, heard=heard)
    ratio, plain = attacks.reference(found, other), attacks.loss(found)
    wanted = [("reference", name, ratio) for name in STATISTICS] + [("loss", "mean", plain)]
    return {
        f"text={part} score={score_name} statistic={name}": per_user(
            values, drawn.users, STATISTICS[name]
        )
        for score_name, name, values in wanted
    }


def _attack(
    subject: Subject,
    drawn: Sentences,
    part: str,
    scores: Mapping[str, np.ndarray],
    untrained: Mapping[str, np.ndarray],
) -> Findings:
    """Rows and tables of the attack with one part of the users' text."""
    users, place = np.unique(drawn.users, return_inverse=True)
    comparison = Comparison(np.isin(users, subject.members), users, subject.seed)
    words = blind.bag_of_words(drawn.text, subject.model.vocabulary_size, place)
    rng = stream(subject.seed, f"user membership folds {part}")
    guesses = blind.out_of_fold(words, comparison.member, users, rng)
    rows = comparison.findings(scores, untrained, guesses, f"blind=words text={part}")
    times, group = subject.participations[users], f"text={part} score=reference statistic=mean"
    rows += _by_participations(comparison, times, scores[group], untrained[group], group)
    table = pd.DataFrame({"text": part, "user": users, "participations": times})
    for name, values in scores.items():
        _, of, statistic = (word.partition("=")[2] for word in name.split())
        table[f"{of}_{statistic}"] = values
    return Findings(rows, {"roc": comparison.curves(scores), "users": table})


def _by_participations(
    comparison: Comparison,
    times: np.ndarray,
    scores: np.ndarray,
    untrained: np.ndarray,
    group: str,
) -> list[Finding]:
    """The AUC of members who took part about as often, all against the same non-members."""
    rows = []
    for low, high in bins(int(times.max(initial=0))):
        some = ~comparison.member | ((times >= low) & (times <= high))
        part = Comparison(comparison.member[some], comparison.users[some], comparison.seed)
        if part.member.sum() < 2:
            continue
        label = f"{group} participations={low}" + (f"-{high}" if high > low else "")
        control = part.area(untrained[some], label).value
        rows.append(finding("auc", label, part.area(scores[some], label), int(some.sum()), control))
    return rows


def bins(most: int) -> list[tuple[int, int]]:
    """1, 2, 3-4, 5-8, ... up to `most`, both ends included."""
    out, low, high = [], 1, 1
    while low <= most:
        out.append((low, high))
        low, high = high + 1, 2 * high
    return out
