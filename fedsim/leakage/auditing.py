"""Lower bounds on epsilon from an attack's successes, and the estimate of one-shot audits.

A bound holds with probability 1 - alpha if everything that it uses was fixed before the scores
were seen: the number of guesses (`one_run`), the threshold (`error_bounds`). Scores are high for
canaries that were included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from fedsim.privacy.accountants import exact_gaussian

ALPHA = 0.05
LARGEST = 200.0  # epsilon; no number of canaries resolves more
_CANDIDATES = 51  # thresholds
_STEPS = 60  # of bisection, far below what a bound resolves


class Guesses(NamedTuple):
    """Of so many canaries, guesses about `made` of them, `correct` of which were right."""

    correct: int
    made: int
    canaries: int


def guess(scores: np.ndarray, included: np.ndarray, made: int) -> Guesses:
    """The made / 2 highest scores are guessed "in", as many of the lowest "out".

    scores (canaries,), included (canaries,) the coins. `made` is fixed in advance: the best of
    several would be wrong in 16 % of the cases instead of 5 %.
    """
    order = np.argsort(scores, kind="stable")
    half = made // 2
    correct = int((~included[order[:half]]).sum() + included[order[len(order) - half :]].sum())
    return Guesses(correct, 2 * half, len(scores))


@lru_cache(maxsize=4096)
def one_run(found: Guesses, delta: float, alpha: float = ALPHA) -> float:
    """Steinke, Nasr & Jagielski 2023 (Privacy Auditing with One Training Run), theorem 5.2.

    The largest epsilon at which so many correct guesses would have a chance of at most alpha, each
    canary being included by its own fair coin. It needs nothing of the mechanism.
    """
    return _largest(lambda epsilon: _chance(found, epsilon, delta) <= alpha, LARGEST)


def _chance(found: Guesses, epsilon: float, delta: float) -> float:
    """That an (epsilon, delta)-DP mechanism allows so many correct guesses, at most."""
    right = special.expit(epsilon)
    several = stats.binom.sf(found.correct - 1, found.made, right)
    fewer = np.arange(1, found.correct + 1)
    gained = stats.binom.sf(found.correct - 1 - fewer, found.made, right) - several
    slack = 2 * found.canaries * delta * float(np.max(gained / fewer, initial=0.0))
    return min(1.0, float(several) + slack)


@lru_cache(maxsize=4096)
def one_run_gaussian(found: Guesses, delta: float, alpha: float = ALPHA) -> float:
    """Mahloujifar, Melis & Chaudhuri 2024 (Auditing f-DP in One Run), algorithm 3, f Gaussian.

    Tighter than `one_run`, but only for mechanisms whose trade-off is that of a Gaussian: central
    noise without amplification by sampling. For others it is a heuristic.
    """
    mu = _largest(lambda mu: not _possible(found, mu, alpha), _largest_mu(delta))
    return exact_gaussian(1 / mu, delta) if mu > 0 else 0.0


def _possible(found: Guesses, mu: float, alpha: float) -> bool:
    """Whether a mu-GDP mechanism allows so many correct guesses with a chance above alpha.

    Backwards from the claim that they have that chance: `wrong` and `right` are what canary by
    canary must then at least have been guessed wrongly and rightly, up to i correct guesses.
    """
    correct, made, canaries = found
    right, wrong = alpha * correct / canaries, alpha * (made - correct) / canaries
    for i in range(correct - 1, -1, -1):
        least = float(special.ndtr(special.ndtri(right) - mu))
        if least <= wrong:
            break
        right = min(1.0, right + i / (made - i) * (least - wrong))
        wrong = least
    return right + wrong <= made / canaries


@lru_cache
def _largest_mu(delta: float) -> float:
    """Of the Gaussian mechanism whose epsilon is `LARGEST`."""
    return _largest(lambda mu: exact_gaussian(1 / mu, delta) < LARGEST, 100.0)


def _largest(holds: Callable[[float], bool], ceiling: float) -> float:
    """The largest x in [0, ceiling] up to which `holds`, which is true below it and false above."""
    low, high = 0.0, ceiling
    if not holds(1e-9):
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


class Errors(NamedTuple):
    """Upper bounds of an attack's false positive and false negative rate, which hold together."""

    false_positive: float
    false_negative: float


def error_bounds(
    scores: np.ndarray, included: np.ndarray, threshold: float, alpha: float = ALPHA
) -> Errors:
    """Of the attack that says "in" at a score of at least `threshold`, fixed in advance.

    Each at alpha / 2 (Clopper & Pearson), the trials taken as independent.
    """
    says_in = scores >= threshold
    false_positives = int((says_in & ~included).sum())
    misses = int((~says_in & included).sum())
    members = int(included.sum())
    return Errors(
        highest_rate(false_positives, len(included) - members, alpha / 2),
        highest_rate(misses, members, alpha / 2),
    )


def highest_rate(hits: int, n: int, alpha: float) -> float:
    """The rate below which the true one is with probability 1 - alpha (Clopper & Pearson)."""
    return float(special.betaincinv(hits + 1, n - hits, 1 - alpha)) if hits < n else 1.0


def from_errors(errors: Errors, delta: float) -> float:
    """Jagielski, Ullman & Oprea 2020: what (epsilon, delta)-DP forbids of both error rates."""
    positive, negative = errors
    ratios = ((1 - delta - negative) / positive, (1 - delta - positive) / negative)
    return max(0.0, *(math.log(ratio) if ratio > 0 else 0.0 for ratio in ratios))


def gaussian_from_errors(errors: Errors, delta: float) -> float:
    """Nasr et al. 2023 (Tight Auditing): as if the trade-off were that of a Gaussian mechanism.

    Valid for Gaussian noise without amplification by sampling; for others a heuristic.
    """
    positive, negative = errors
    mu = float(special.ndtri(1 - positive) - special.ndtri(negative))
    if not mu > 0:
        return 0.0
    return exact_gaussian(1 / mu, delta) if math.isfinite(mu) else math.inf


def halves(canaries: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices to choose a threshold on, and the others to test it on."""
    order = rng.permutation(canaries)
    return order[: canaries // 2], order[canaries // 2 :]


def best_threshold(
    scores: np.ndarray, included: np.ndarray, bound: Callable[[Errors], float]
) -> float:
    """Of some scores the one at which these canaries give the largest bound; others test it."""
    candidates = np.quantile(scores, np.linspace(0, 1, _CANDIDATES))
    found = [bound(error_bounds(scores, included, t)) for t in candidates]
    return float(candidates[int(np.argmax(found))]) if any(found) else float(np.median(scores))


def one_shot(scores: np.ndarray, null_deviation: float, delta: float, fitted: bool = True) -> float:
    """Andrew et al. 2023 (One-shot Empirical Privacy Estimation): an estimate, not a bound.

    scores: of included canaries, such as the cosine with the released sum, which is
    N(0, null_deviation^2) for a direction that was not included (1 / sqrt(d) for cosines). The
    included ones are taken as N(mean, deviation^2), the deviation `fitted` as in the paper, which
    is biased upwards where canaries are few, or that of the null.
    """
    mean = float(np.mean(scores))
    deviation = float(np.std(scores, ddof=1)) if fitted else null_deviation
    return between_gaussians((0.0, null_deviation), (mean, deviation), delta)


def between_gaussians(one: tuple[float, float], other: tuple[float, float], delta: float) -> float:
    """The smallest epsilon >= 0 at which two (mean, deviation) are (epsilon, delta)-close, in
    both directions; zero where they are the same."""
    return max(_one_way(one, other, delta), _one_way(other, one, delta))


def _one_way(p: tuple[float, float], q: tuple[float, float], delta: float) -> float:
    def excess(epsilon: float) -> float:
        return _hockey_stick(p, q, epsilon) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > 2**40:
            return math.inf
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))


def _hockey_stick(p: tuple[float, float], q: tuple[float, float], epsilon: float) -> float:
    """P(A) - e^epsilon Q(A), A where the log ratio of the densities is above epsilon.

    The log ratio is a x^2 + b x + c, so that A is what lies between or outside of its roots.
    """
    (m, s), (n, t) = p, q
    a = 0.5 * (1 / t**2 - 1 / s**2)
    b = m / s**2 - n / t**2
    c = math.log(t / s) - 0.5 * (m / s) ** 2 + 0.5 * (n / t) ** 2 - epsilon
    if abs(a) < 1e-12 / s**2:  # the same deviation: one root
        if not b:
            return 1 - math.exp(epsilon) if c > 0 else 0.0
        root = -c / b
        above = _mass(p, root, math.inf), _mass(q, root, math.inf)
        below = _mass(p, -math.inf, root), _mass(q, -math.inf, root)
        of_p, of_q = above if b > 0 else below
    else:
        square = b * b - 4 * a * c
        if square <= 0:
            of_p, of_q = (1.0, 1.0) if a > 0 else (0.0, 0.0)
        else:
            low, high = sorted((-b + sign * math.sqrt(square)) / (2 * a) for sign in (-1, 1))
            inside = _mass(p, low, high), _mass(q, low, high)
            outer = (
                _mass(p, -math.inf, low) + _mass(p, high, math.inf),
                _mass(q, -math.inf, low) + _mass(q, high, math.inf),
            )
            of_p, of_q = outer if a > 0 else inside
    scaled = math.exp(epsilon + math.log(of_q)) if of_q > 0 else 0.0
    return of_p - scaled


def _mass(of: tuple[float, float], low: float, high: float) -> float:
    """The chance of (low, high), from the tail that is nearer, so that small ones are exact."""
    mean, deviation = of
    a, b = (low - mean) / deviation, (high - mean) / deviation
    if a > 0:
        a, b = -b, -a
    return float(special.ndtr(b) - special.ndtr(a))
