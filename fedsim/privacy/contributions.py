"""How a user's update enters the sum under a mechanism: clipped last, then noised or quantised.

Clipping is over all distinct tensors together, in float64. What is not finite contributes zero, so
no client can move the sum by more than the clip norm, whatever it sends (docs/privacy.md). What is
added are whole multiples of a grid that is the same for all clients of a round.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.errors import FedsimError
from fedsim.privacy.integer_noise import rounded_gaussian
from fedsim.privacy.key_stream import KeyStream
from fedsim.updates import Contribution, Summing, UserResult

# A user's stream for one round; what it is to hide, by its digest: another update, other noise.
Draw = Callable[[int, str], KeyStream]

TOLERANCE = 1e-6  # by which rounding may leave the norm that a client reports above it, relative
SAFETY = 1e-9  # by which a norm is clipped lower: more than float64 can be wrong about it
STEPS = 2**28  # of the grid up to the clip norm, or somewhat more


def grid_of(clip_norm: float) -> float:
    """The step of the grid that clipped updates lie on: a power of two, so that scaling is exact.

    The clip norm is between `STEPS` / 2 and `STEPS` of it, far below what a float32 resolves.
    """
    return 2.0 ** math.ceil(math.log2(clip_norm)) / STEPS


def steps_of(deviation: float, grid: float) -> int:
    """A deviation in whole steps of a grid, rounded up: never less noise than is accounted."""
    return math.ceil(deviation / grid)


@dataclass(frozen=True)
class Clipped(Contribution):
    """update x min(1, clip_norm / norm), every user with weight one."""

    clip_norm: float

    @property
    def resolution(self) -> float:  # type: ignore[override]
        """See `grid_of`."""
        return grid_of(self.clip_norm)

    def add(
        self, flat: Summing, total: Tensor, update: Tensor, norm: float, sequences: int, user: int
    ) -> bool:
        """See `Contribution.add`; never False."""
        factor = clip_factor(norm, self.clip_norm)
        if factor:
            flat.add_multiples(total, update, factor / self.resolution)
        return True

    def weight(self, result: UserResult) -> int:
        """One."""
        return 1

    def reach(self, result: UserResult) -> float:
        """At most the clip norm."""
        return _checked(result, min(result.update_norm, self.clip_norm) * (1 + TOLERANCE))


@dataclass(frozen=True)
class Noised(Clipped):
    """Clipped, and with the user's own Gaussian noise of deviation `deviation` (local DP)."""

    deviation: float
    size: int
    draw: Draw | None = None  # each user's own stream; the server, which adds nothing, has none

    def add(
        self, flat: Summing, total: Tensor, update: Tensor, norm: float, sequences: int, user: int
    ) -> bool:
        """See `Contribution.add`; never False. What is not finite is noise alone."""
        clipped = torch.zeros_like(total)
        super().add(flat, clipped, update, norm, sequences, user)
        total.add_(clipped)
        if self.deviation:
            if self.draw is None:
                raise ValueError("this contribution has no streams of noise")
            digest = hashlib.sha256(clipped.cpu().numpy().tobytes()).hexdigest()
            steps = steps_of(self.deviation, self.resolution)
            noise = rounded_gaussian(self.draw(user, digest), self.size, steps)
            total.add_(torch.from_numpy(noise).to(total.device))
        return True

    def reach(self, result: UserResult) -> float:
        """Larger with a chance below exp(-40^2 / 2), by the concentration of a normal's norm."""
        noise = self.deviation * (math.sqrt(self.size) + 40)
        return _checked(result, self.clip_norm + noise)


@dataclass(frozen=True)
class Quantised(Clipped):
    """Clipped, then each coordinate rounded to the nearest of 2^bits steps over +- clip_norm.

    What is clipped to lies below the clip norm by the most that rounding can add, so that the
    integers that leave a client are within it too.
    """

    bits: int
    size: int

    @property
    def resolution(self) -> float:  # type: ignore[override]
        """One step."""
        return self.clip_norm / 2 ** (self.bits - 1)

    @property
    def inner_norm(self) -> float:
        """The norm before rounding. Raises FedsimError where so few bits leave nothing."""
        inner = self.clip_norm - self.resolution * math.sqrt(self.size) / 2
        if inner <= 0:
            least = math.ceil(math.log2(math.sqrt(self.size))) + 1
            raise FedsimError(
                f"{self.bits} bits are too few for secure aggregation of {self.size:,} parameters:"
                f" rounding alone may exceed the clip norm; use at least {least}."
            )
        return inner

    def add(
        self, flat: Summing, total: Tensor, update: Tensor, norm: float, sequences: int, user: int
    ) -> bool:
        """See `Contribution.add`; never False."""
        if factor := clip_factor(norm, self.inner_norm):
            total.add_(update.double().mul_(factor / self.resolution).round_().to(torch.int64))
        return True

    def reach(self, result: UserResult) -> float:
        """At most the clip norm, however it was rounded."""
        return _checked(result, self.clip_norm * (1 + TOLERANCE))


def clip_factor(norm: float, clip_norm: float) -> float:
    """What an update of that l2 norm is multiplied with; zero where it is not finite."""
    if not math.isfinite(norm):
        return 0.0
    return min(1.0, clip_norm * (1 - SAFETY) / norm) if norm else 1.0


def _checked(result: UserResult, reach: float) -> float:
    """`reach` where the result says a norm at all, even an infinite one."""
    return reach if result.update_norm >= 0 else math.nan
