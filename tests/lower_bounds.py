"""How much two outputs differ at least: epsilon from below, by arithmetic of its own.

Outputs are binned, losses rounded down and their tails cut, each of which can only hide a
difference (data processing), so that what is left is a lower bound of the true epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

FFT_ERROR = 1e-10  # of a delta, more than all rounding in the convolutions
Pair = tuple[np.ndarray, np.ndarray, int]  # probabilities of the same cells, and how often


def cells(z: float, mixture: Sequence[tuple[float, float]], low: float, high: float,
          count: int = 4_001) -> np.ndarray:  # fmt: skip
    """Probabilities of the cells of a line under sum_i weight_i N(mean_i, z^2), all of it."""
    edges = np.concatenate([[-np.inf], np.linspace(low - 9 * z, high + 9 * z, count), [np.inf]])
    weights, means = np.array(mixture).T
    kept = weights > 0
    below = norm.cdf(edges[:, None], means[kept], z) @ weights[kept]
    above = norm.sf(edges[:, None], means[kept], z) @ weights[kept]
    # Whichever of both differences does not cancel.
    upper = below[:-1] > 0.5
    return np.where(upper, above[:-1] - above[1:], below[1:] - below[:-1]).clip(0)


def epsilon_at_least(pairs: Sequence[Pair], delta: float, points: int = 1 << 15) -> float:
    """The epsilon that is needed at least so that all pairs together are (epsilon, delta)-close:
    the larger of both directions."""
    swapped = [(q, p, count) for p, q, count in pairs]
    return max(_one_direction(pairs, delta, points), _one_direction(swapped, delta, points))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle & Wang 2018, theorem 8: of N(mu, 1) from N(0, 1)."""

    def excess(epsilon: float) -> float:
        rest = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return float(norm.cdf(mu / 2 - epsilon / mu)) - rest - delta

    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu * mu / 2 + 40 * mu + 1, xtol=1e-12))


def _one_direction(pairs: Sequence[Pair], delta: float, points: int) -> float:
    known = [(*_losses(p, q), count) for p, q, count in pairs]
    mean = sum(count * float(p @ loss) for p, loss, count in known)
    variance = sum(count * float(p @ loss**2) for p, loss, count in known)
    step = (abs(mean) + 9 * math.sqrt(variance) + 1e-9) / points
    whole = None
    for p, loss, count in known:
        one = _power(_binned(p, loss, step, points), count)
        whole = one if whole is None else _together(whole, one)
    assert whole is not None
    at = step * np.arange(-points, points + 1)
    positive = at > 0
    mass, loss = whole[positive], at[positive]
    more = np.cumsum(mass[::-1])[::-1] - mass
    rest = np.cumsum((mass * np.exp(-loss))[::-1])[::-1] - mass * np.exp(-loss)
    needed = loss[more - np.exp(loss) * rest - FFT_ERROR > delta]
    return float(needed.max(initial=0.0))


def _losses(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where p is: its mass and log(p / q), at most 700."""
    there = p > 0
    with np.errstate(divide="ignore"):
        return p[there], np.minimum(np.log(p[there]) - np.log(q[there]), 700.0)


def _binned(p: np.ndarray, loss: np.ndarray, step: float, points: int) -> np.ndarray:
    place = np.floor(loss / step).astype(np.int64)
    out = np.zeros(2 * points + 1)
    kept = place >= -points
    np.add.at(out, np.minimum(place[kept], points) + points, p[kept])
    return out


def _together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Losses add up; what is too large is taken for the largest, what is too small left out."""
    points = len(one) // 2
    size = 1 << (2 * len(one) - 1).bit_length()
    whole = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size), size)
    out = whole[points : 3 * points + 1].copy()
    out[-1] += whole[3 * points + 1 : 4 * points + 1].sum()
    return out


def _power(one: np.ndarray, count: int) -> np.ndarray:
    out = None
    while count:
        if count % 2:
            out = one if out is None else _together(out, one)
        count //= 2
        if count:
            one = _together(one, one)
    assert out is not None
    return out
