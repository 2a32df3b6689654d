"""95 % intervals of rates and means, and the bootstrap over users."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from fedsim.data.sequences import gather

LEVEL = 0.95


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a rate; (0, 1) where there was no trial."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a rate; (0, 1) where there was no trial."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high) by Student's t; the ends are NaN below two values."""
    n = len(values)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if n == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * float(np.std(values, ddof=1)) / n**0.5
    return mean, mean - half, mean + half


def over_users(
    statistic: Callable[[np.ndarray], float],
    users: np.ndarray,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap that draws whole users: one person's sentences are one cluster.

    users (n,): whose each row is. statistic: from row indices, with repeats, to the figure.
    Resamples whose statistic is NaN are left out; NaN ends below two users.
    """
    names, place = np.unique(users, return_inverse=True)
    if len(names) < 2:
        return math.nan, math.nan
    order, sizes = np.argsort(place, kind="stable"), np.bincount(place)
    begins = np.cumsum(sizes) - sizes

    def drawn() -> np.ndarray:
        chosen = rng.integers(len(names), size=len(names))
        return gather(order, begins[chosen], sizes[chosen]).tokens

    found = [statistic(drawn()) for _ in range(resamples)]
    kept = np.array(found)[~np.isnan(found)]
    if len(kept) < 2:
        return math.nan, math.nan
    tail = (1 - LEVEL) / 2
    return float(np.quantile(kept, tail)), float(np.quantile(kept, 1 - tail))
