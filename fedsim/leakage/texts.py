"""Whose text the model was trained on, and whose it never saw: many users' sentences in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.data.sequences import Sequences, gather
from fedsim.federation import Federation
from fedsim.leakage.base import Subject

FEWEST = 10  # users of a control: below it one talkative person would be the control


@dataclass(frozen=True)
class Texts:
    """Sentences of many users. users: whose each is, int64 (sentences,)."""

    sequences: Sequences
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, federation: Federation, users: Sequence[int] | np.ndarray) -> Texts:
        """All that these users train on, or would: without a training user's held-out tail."""
        parts = [federation.sequences(int(user)) for user in users]
        sizes = np.array([len(part) for part in parts], np.int64)
        owners = np.repeat(np.asarray(users, np.int64), sizes)
        return cls(Sequences.concatenate(parts), owners)

    def take(self, indices: np.ndarray) -> Texts:
        """The sentences at `indices`, in that order."""
        return Texts(self.sequences.take(indices), self.users[indices])

    def cut(self, words: int) -> Texts:
        """The first `words` words of each sentence."""
        whole = self.sequences
        lengths = np.minimum(whole.lengths, words)
        return Texts(gather(whole.tokens, whole.offsets[:-1], lengths), self.users)

    def some_users(self, most: int, rng: np.random.Generator) -> Texts:
        """All sentences of some users, drawn until the next would make them more than `most`."""
        users, place = np.unique(self.users, return_inverse=True)
        order = rng.permutation(len(users))
        fits = np.cumsum(np.bincount(place, minlength=len(users))[order]) <= most
        return self.take(np.flatnonzero(np.isin(place, order[fits])))


def trained(subject: Subject) -> Texts:
    """What the model was trained on: of members, and of canary users that took part.

    A canary user's ordinary sentences are made of the donors' word pairs.
    """
    subject.require_people()
    return Texts.of(subject.federation, np.flatnonzero(subject.participations))


def controls(subject: Subject) -> dict[str, np.ndarray]:
    """Users that the model never saw, by what they are called; the best control first.

    Non-members are exchangeable with members. Test users are the second choice: the vocabulary
    was built without them.
    """
    test = subject.federation.corpus.split("test")
    groups = {
        "non-members": subject.nonmembers,
        "test users": np.arange(test.start, test.stop),
    }
    return {name: users for name, users in groups.items() if len(users) >= FEWEST}


def unseen(subject: Subject) -> np.ndarray:
    """Every real user whose text no client ever trained on: never sampled, validation, test."""
    corpus = subject.federation.corpus
    held_out = [np.arange(corpus.split(s).start, corpus.split(s).stop) for s in UNTRAINED]
    return np.concatenate([subject.nonmembers, *held_out])


UNTRAINED = ("validation", "test")  # not "donors": canary users hold their word pairs
