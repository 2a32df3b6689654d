"""Sentences of members and of non-members, drawn alike from both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.errors import FedsimError
from fedsim.federation import Federation
from fedsim.leakage.base import Subject
from fedsim.seeding import stream

LEAST = 20  # users in a group: of fewer the AUC's own deviation is above 0.09


@dataclass(frozen=True, eq=False)
class Sentences:
    """Some sentences, none empty, and whose each is, int64 (sentences,); in the users' order."""

    text: Sequences
    users: np.ndarray

    def where(self, chosen: np.ndarray) -> Sentences:
        """Those at the indices, or where a mask is true."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Sentences(self.text.take(index), self.users[index])


def require_groups(subject: Subject) -> None:
    """Raises FedsimError where nobody is a member by text of their own, or a group is too small
    for any conclusion."""
    subject.require_people()
    members, others = len(subject.members), len(subject.nonmembers)
    if others < LEAST:
        raise FedsimError(
            f"A membership attack needs at least {LEAST} training users that never took part, and "
            f"there are {others}; set audit.set_apart=200 before training."
        )
    if members < LEAST:
        raise FedsimError(
            f"A membership attack needs at least {LEAST} users that took part, and there are "
            f"{members}; train more rounds or a larger cohort."
        )


def some_users(users: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """`most` of the users by chance, ascending; all where there are no more."""
    return np.sort(rng.choice(users, most, replace=False)) if len(users) > most else users


def sentences_of(
    federation: Federation, users: np.ndarray, part: str, most: int, seed: int
) -> Sentences:
    """At most so many sentences of each user's part, by chance; each user has an own stream."""
    texts, whose = [], []
    for user in users.tolist():
        text = federation.sequences(user, part)
        filled = np.flatnonzero(text.lengths > 0)
        if len(filled) > most:
            rng = stream(seed, f"membership {part}", user=user)
            filled = np.sort(rng.choice(filled, most, replace=False))
        texts.append(text.take(filled))
        whose.append(np.full(len(filled), user))
    return Sentences(Sequences.concatenate(texts), np.concatenate(whose).astype(np.int64))


def typed_by_one(federation: Federation, sentences: Sentences) -> np.ndarray:
    """Whether no two training users typed the sentence, bool (sentences,).

    A sentence of several people may be trained on through one and not through the other. It is
    left out of both groups alike, or the non-members' would be the rarer ones.
    """
    people: Counter[bytes] = Counter()
    for user in federation.corpus.split("train"):
        text = federation.corpus.sequences(user, "all")
        people.update({sentence.tobytes() for sentence in text})
    return np.array([people[sentence.tobytes()] < 2 for sentence in sentences.text], bool)


def per_user(
    values: np.ndarray, users: np.ndarray, statistic: Callable[[np.ndarray], float]
) -> np.ndarray:
    """A statistic over each user's sentences, by the users' ids; users (sentences,) ascending."""
    starts = np.flatnonzero(np.diff(users)) + 1
    return np.array([statistic(mine) for mine in np.split(values, starts)], np.float64)
