"""The geometric median (RFA, Pillutla et al. 2022), by the smoothed Weiszfeld algorithm."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.options import Options
from fedsim.updates import UserResult
from server.individual import combination
from server.strategies.robust import Robust, squared_distances


class GeometricOptions(Options):
    """How closely it is approached."""

    iterations: int = Field(100, ge=1, description="of Weiszfeld's, at most")
    smoothing: float = Field(1e-6, gt=0, description="nu: the least distance, by which is divided")


class GeometricMedian(Robust):
    """The point with the least sum of weight x distance to the updates, weights as in FedAvg.

    As the server knows them: a liar that claims more sequences than it has gets no more weight.
    A server without the text, which knows none, gives each user the same.
    Algorithm 2 from the weighted mean, in the coordinates of the rows: every iterate is a weighted
    mean of them, so that their mutual distances are enough.
    """

    Options = GeometricOptions

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """See `Robust.centre`."""
        how = self.config.strategy.options
        weights = np.ones(len(rows))
        if self.federation.corpus.shard is None:
            weights *= self.federation.sizes([r.user for r in results])[:, 0]
        shares = weiszfeld(squared_distances(rows), weights, how.iterations, how.smoothing)
        return combination(rows, shares)


def weiszfeld(
    squares: np.ndarray, weights: np.ndarray, iterations: int, smoothing: float
) -> np.ndarray:
    """The shares (n,), which add up to 1, of each point in the geometric median of n points.

    From the squared distances of the points (n, n) and their weights (n,). Stops when no share
    moves by more than 1e-9.
    """
    shares = weights / weights.sum()
    for _ in range(iterations):
        # |v - x_i|^2 of v = sum_j s_j x_j, for shares that add up to 1.
        to_points = squares @ shares
        apart = np.sqrt(np.maximum(to_points - shares @ to_points / 2, 0.0))
        pulls = weights / np.maximum(apart, smoothing)
        before, shares = shares, pulls / pulls.sum()
        if np.abs(shares - before).max() <= 1e-9:
            break
    return shares
