"""Update canaries: audit users that send a random direction, each in the run by its own fair coin.

Andrew et al. 2023 (One-shot Empirical Privacy Estimation) for the canaries, Steinke et al. 2023 for
the coins. The mechanism sees a user whose update is far above its clip norm, so that it arrives
with exactly the clip norm. Audit users count in the population, whatever their coin says; those
that are out are drawn as all others and then not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.models.batch import N_SPECIALS
from fedsim.seeding import stream

TIMES_CLIP_NORM = 1000.0  # so that it arrives with the clip norm, and shows where nothing clips
WITHOUT_CLIPPING = 100.0  # its norm where nothing bounds it; more would leave no model to train


@dataclass(frozen=True)
class UpdateCanaries:
    """`users` of them, by index; none in a run that is no audit."""

    users: int
    seed: int

    @cached_property
    def included(self) -> np.ndarray:
        """The coins, bool (users,)."""
        return stream(self.seed, "update canary coins").random(self.users) < 0.5

    def direction(self, index: int, size: int) -> np.ndarray:
        """float32 (size,) of norm 1: random signs, which are quick to draw again."""
        step = np.float32(size**-0.5)
        return np.where(self._signs(index, size), step, -step)

    def projections(self, update: np.ndarray | None) -> np.ndarray:
        """The inner product of each direction with `update`, float64 (users,); None is zero."""
        out = np.zeros(self.users)
        if update is None:
            return out
        for index in range(self.users):
            signed = np.where(self._signs(index, len(update)), update, -update)
            out[index] = signed.sum(dtype=np.float64) / len(update) ** 0.5
        return out

    def _signs(self, index: int, size: int) -> np.ndarray:
        """bool (size,)."""
        draw = stream(self.seed, "update canary", user=index)
        packed = np.frombuffer(draw.bytes(-(-size // 8)), np.uint8)
        return np.unpackbits(packed, count=size).view(bool)

    def sequences(self) -> Sequences:
        """What an audit user weighs: one sentence of one word, on which nothing is trained."""
        return Sequences(np.array([N_SPECIALS], np.int32), np.array([0, 1]))
