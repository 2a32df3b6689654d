"""The work that every contender does, as one file of arrays: text, model, cohorts, batch orders.

Only NumPy is imported here, since it is read in environments that have nothing of fedsim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

PAD, BOS, EOS = 0, 1, 2  # as in fedsim.data.vocabulary; a test holds the two together
_PARAMETER = "parameter:"


@dataclass(frozen=True)
class About:
    """What the arrays are of.

    family: lstm, cifg or transformer; sizes: the model's options; nominal_tokens: a sentence's
    loss is its nats over this.
    """

    model: str
    family: str
    sizes: dict[str, Any]
    vocabulary: int
    batch_size: int
    lr: float
    nominal_tokens: float
    seed: int
    corpus: str


@dataclass(frozen=True, eq=False)
class WorkOrder:
    """One federation, one initial model, and who trains on what in which order.

    tokens (words,) of all sentences; sentence i is tokens[sentences[i]:sentences[i + 1]]; user u
    has the sentences users[u] to users[u + 1]. cohorts (rounds, users a round). orders holds the
    permutations of all cohorts' sentences one after the other, order_offsets where each begins.
    """

    about: About
    tokens: np.ndarray
    sentences: np.ndarray
    users: np.ndarray
    cohorts: np.ndarray
    orders: np.ndarray
    order_offsets: np.ndarray
    parameters: dict[str, np.ndarray]

    def save(self, file: Path) -> None:
        """Write it; `load` is the inverse."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {_PARAMETER + name: array for name, array in self.parameters.items()}
        np.savez(file, about=np.array(json.dumps(vars(self.about))), **arrays)

    @classmethod
    def load(cls, file: Path) -> WorkOrder:
        """Read what `save` wrote."""
        with np.load(file) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
            names = [n for n in stored.files if n.startswith(_PARAMETER)]
            parameters = {n.removeprefix(_PARAMETER): stored[n] for n in names}
            about = About(**json.loads(str(stored["about"])))
        return cls(about, parameters=parameters, **arrays)

    @property
    def n_rounds(self) -> int:
        """Number of rounds there are cohorts for; they count from 1."""
        return len(self.cohorts)

    def cohort(self, round: int) -> list[int]:
        """The users of a round."""
        return [int(user) for user in self.cohorts[round - 1]]

    def order(self, round: int, user: int) -> np.ndarray:
        """The order in which a user of the round's cohort goes through the sentences."""
        place = (round - 1) * self.cohorts.shape[1] + self._place[round, user]
        return self.orders[self.order_offsets[place] : self.order_offsets[place + 1]]

    def n_sentences(self, user: int) -> int:
        """Sentences of a user, which is the user's weight in the average."""
        return int(self.users[user + 1] - self.users[user])

    def lengths(self, user: int) -> np.ndarray:
        """Predictions of each of the user's sentences: its words and the end."""
        first, last = self.users[user], self.users[user + 1]
        return np.diff(self.sentences[first : last + 1]) + 1

    def round_lengths(self, round: int) -> np.ndarray:
        """Predictions of every sentence of a round's cohort."""
        return np.concatenate([self.lengths(user) for user in self.cohort(round)])

    def n_tokens(self, round: int) -> int:
        """Real tokens of a round: predictions, without padding."""
        return int(self.round_lengths(round).sum())

    def padded(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets), int64 (sentences, longest): BOS and words, words and EOS, then PAD."""
        lengths = self.lengths(user)
        inputs = np.full((len(lengths), lengths.max()), PAD, np.int64)
        targets = inputs.copy()
        first = self.users[user]
        for row, n in enumerate(lengths):
            start = self.sentences[first + row]
            words = self.tokens[start : start + n - 1]
            inputs[row, 0], inputs[row, 1:n] = BOS, words
            targets[row, : n - 1], targets[row, n - 1] = words, EOS
        return inputs, targets

    def ordered(self, round: int, user: int) -> tuple[np.ndarray, np.ndarray]:
        """`padded`, in the order of the round."""
        order = self.order(round, user)
        inputs, targets = self.padded(user)
        return inputs[order], targets[order]

    @cached_property
    def _place(self) -> dict[tuple[int, int], int]:
        return {
            (round, int(user)): place
            for round, cohort in enumerate(self.cohorts, 1)
            for place, user in enumerate(cohort)
        }


_ARRAYS = ("tokens", "sentences", "users", "cohorts", "orders", "order_offsets")


def relative_difference(
    model: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    start: Mapping[str, np.ndarray],
) -> float:
    """|update - reference's update| / |reference's update|, l2 over all parameters."""
    if model.keys() != start.keys():
        raise ValueError(f"other parameters: {sorted(model.keys() ^ start.keys())}")
    apart = update = 0.0
    for name, first in start.items():
        expected = reference[name].astype(np.float64) - first
        apart += float(np.square(model[name].astype(np.float64) - first - expected).sum())
        update += float(np.square(expected).sum())
    return float(np.sqrt(apart / update))
