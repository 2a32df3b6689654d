"""What a chunk of clients sends back, and the exact sum the server makes of it.

Weighted updates are added as whole multiples of `RESOLUTION` in 64-bit integers. Such a sum has no
rounding, so the model is the same to the bit whatever the order of the replies and however the
users are spread over messages, workers and machines. It also contains exactly what was bounded of
each user, which a floating-point sum does not (Casacuberta et al. 2022).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fedsim.errors import FedsimError
from fedsim.parameters import Layout

if TYPE_CHECKING:
    from torch import Tensor

RESOLUTION = 2.0**-28  # of weight x update; far below what a float32 parameter can resolve
LARGEST = 2.0**24  # l2 norm of one user's weight x update
_BLOCK = 1 << 16
_LARGEST_SUM = 2.0**34  # of those norms; the integers end at 2^63 x RESOLUTION = 2^35

NOT_FINITE = (
    "the update is not finite, or too large to be averaged; lower client.lr or optimizer.lr"
)


def multiples(update: Tensor, scale: float) -> Tensor:
    """`update` x `scale`, int64, rounded towards zero: which makes no bounded update larger.

    For an unbounded one `scale` is weight / RESOLUTION, and the product is exact in float64 (a
    float32 has 24 bits, the weight at most 24), so that this is the only rounding.
    """
    import torch

    return (update.double() * scale).to(torch.int64)


@dataclass(frozen=True)
class UserResult:
    """What the server learns of one user beside the update."""

    user: int
    sequences: int  # the user's weight, McMahan et al. 2017's n_k
    tokens: int  # trained on, over all local epochs
    loss_nats: float  # summed over those tokens
    update_norm: float  # l2
    # Of the model that came, over the user's text; zero unless the work asks to score it first.
    start_nats: float = 0.0


@dataclass
class ChunkUpdate:
    """The chunk's sum of weight x update, one row a user, and the users that failed."""

    total: np.ndarray  # int64, in multiples of RESOLUTION
    results: list[UserResult] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)  # user -> traceback or reason


class Summing(Protocol):
    """A flat model, of which a contribution needs one pass over memory."""

    def add_multiples(self, total: Tensor, update: Tensor, scale: float) -> None:
        """Add `multiples` of the update to `total`."""


class Contribution:
    """How one user's update enters a round's sum: here as it is, times the user's sequences.

    Client and server hold equal ones. Those that bound or noise an update are in `fedsim.privacy`.
    """

    resolution = RESOLUTION

    def add(
        self, flat: Summing, total: Tensor, update: Tensor, norm: float, sequences: int, user: int
    ) -> bool:
        """Add the update, whose l2 norm is `norm`, to `total`, int64 in multiples of `resolution`.

        False where nothing was added, because such an update must never be averaged.
        """
        if not norm * sequences < LARGEST:  # so that NaN is caught too
            return False
        flat.add_multiples(total, update, sequences / RESOLUTION)
        return True

    def weight(self, result: UserResult) -> int:
        """The user's weight in the mean."""
        return result.sequences

    def reach(self, result: UserResult) -> float:
        """The largest l2 norm with which the user can be in the sum; NaN where it must not be."""
        norm = result.sequences * result.update_norm
        return norm if 0 <= norm <= LARGEST else float("nan")


class Aggregate:
    """A round's sum over chunks, and what it weighs."""

    def __init__(self, layout: Layout, contribution: Contribution | None = None) -> None:
        self.total = np.zeros(layout.size, np.int64)
        self.contribution = contribution or Contribution()
        self.failures: dict[int, str] = {}
        self._results: dict[int, UserResult] = {}
        self._reach = 0.0  # no coordinate of the sum is larger

    def add(self, update: ChunkUpdate) -> None:
        """Add one chunk; the order of the calls does not matter.

        A user that failed and is then asked again with success is no failure any more. Raises
        FedsimError where the sum could overflow: such updates come from a run that diverges.
        ValueError where a user is in the sum already.
        """
        twice = self._results.keys() & {r.user for r in update.results}
        if twice:
            raise ValueError(f"user {min(twice)} is in the sum already")
        self._reach += sum(self.contribution.reach(r) for r in update.results)
        if not self._reach * RESOLUTION <= _LARGEST_SUM * self.contribution.resolution:
            raise FedsimError(
                "The clients' updates are too large to be added; lower client.lr or optimizer.lr."
            )
        if update.results:
            self._take(update)
        self._results |= {r.user: r for r in update.results}
        self.failures |= update.failures
        for result in update.results:
            self.failures.pop(result.user, None)

    def _take(self, update: ChunkUpdate) -> None:
        self.total += update.total

    @property
    def results(self) -> list[UserResult]:
        """The users that completed, ascending."""
        return [self._results[user] for user in sorted(self._results)]

    @property
    def weight(self) -> int:
        """Sum of the weights of the users that completed."""
        return sum(self.contribution.weight(r) for r in self._results.values())

    def digest(self) -> str:
        """SHA-256 of the sum and of whose norms are in it: equal digests, equal releases."""
        said = [(r.user, r.update_norm) for r in self.results]
        return hashlib.sha256(self.total.tobytes() + repr(said).encode()).hexdigest()

    def sum(self) -> np.ndarray:
        """The exact sum in float64, where its integers are no larger than 2^53."""
        return self.total * self.contribution.resolution

    def mean(self) -> np.ndarray:
        """The weighted mean update, float32; zero where nobody completed."""
        return self._over(max(self.weight, 1))

    def _over(self, weight: float) -> np.ndarray:
        """The sum divided by the weight, float32."""
        out = np.empty(len(self.total), np.float32)
        for start in range(0, len(out), _BLOCK):  # the whole in float64 would be two models more
            part = slice(start, start + _BLOCK)
            out[part] = self.total[part] * self.contribution.resolution / weight
        return out
