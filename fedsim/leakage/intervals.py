"""95 % intervals of rates and means, the bootstrap over users, and what a table calls each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from fedsim.data.sequences import gather

LEVEL = 0.95
WILSON, CLOPPER_PEARSON, NEWCOMBE, DELONG = "Wilson", "Clopper-Pearson", "Newcombe", "DeLong"


def student_t_over(what: str) -> str:
    """The name of Student's t over `what`, such as users."""
    return f"Student's t over {what}"


def bootstrap_over(what: str) -> str:
    """The name of the bootstrap that draws `what` anew."""
    return f"bootstrap over {what}"


def wider_of(one: str, other: str) -> str:
    """The name of the hull of two intervals."""
    return f"wider of {one} and {other}"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a rate; (0, 1) where there was no trial."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def newcombe(hits: int, n: int, other_hits: int, other_n: int) -> tuple[float, float]:
    """The interval of a difference of two rates, first minus second, from Wilson's of each.

    Newcombe 1998, method 10. Zeros are no trouble to it, as they are to a bootstrap.
    """
    if n == 0 or other_n == 0:
        return -1.0, 1.0
    p, q = hits / n, other_hits / other_n
    (low, high), (other_low, other_high) = wilson(hits, n), wilson(other_hits, other_n)
    down, up = math.hypot(p - low, other_high - q), math.hypot(high - p, q - other_low)
    return p - q - down, p - q + up


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a rate; (0, 1) where there was no trial."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def paired(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """The interval of a difference of two rates on the same n trials, first minus second.

    Only trials that one of the two alone has tell them apart. Each count's exact interval at half
    the error: the difference is covered at least as often as `LEVEL` says.
    """
    level = (1 + LEVEL) / 2
    low, high = clopper_pearson(only_first, n, level)
    other_low, other_high = clopper_pearson(only_second, n, level)
    return low - other_high, high - other_low


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


def geometric_interval(values: np.ndarray) -> tuple[float, float, float]:
    """(geometric mean, low, high) of positive values: the mean of their logarithms by Student's t,
    taken back. For ratios such as a perplexity, the exponential of a mean: no end is below 0."""
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged model's is infinite
        mean, low, high = np.exp(mean_interval(np.log(values)))
    return float(mean), float(low), float(high)


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
