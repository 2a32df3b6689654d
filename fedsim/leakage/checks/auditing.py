"""Bounds and estimates of epsilon on Gaussian mechanisms, whose epsilon is known exactly."""

from __future__ import annotations

from functools import partial

import numpy as np

from fedsim.leakage import auditing
from fedsim.leakage.auditing import Guesses
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.privacy.accountants import exact_gaussian
from fedsim.seeding import stream

DELTA = 1e-5
CANARIES, GUESSES, TIMES = 1000, 100, 200
DIMENSION = 10**6


def _drawn(rng: np.random.Generator, canaries: int, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores and coins: N(mean, 1) for those that are in, N(0, 1) for the others."""
    included = rng.random(canaries) < 0.5
    return included * mean + rng.standard_normal(canaries), included


@CHECKS.register("one-run audit")
def one_run() -> list[Check]:
    """A Gaussian mechanism of z = 1 with orthogonal canaries, and one that tells nothing."""
    true = exact_gaussian(1.0, DELTA)
    rng = stream(0, "selfcheck one-run audit")
    found = [auditing.guess(*_drawn(rng, CANARIES, 1.0), GUESSES) for _ in range(TIMES)]
    steinke = np.array([auditing.one_run(g, DELTA) for g in found])
    fdp = np.array([auditing.one_run_gaussian(g, DELTA) for g in found])
    nothing = [auditing.guess(*_drawn(rng, CANARIES, 0.0), GUESSES) for _ in range(10 * TIMES)]
    false = np.mean([auditing.one_run(g, DELTA) > 0 for g in nothing])
    false_fdp = np.mean([auditing.one_run_gaussian(g, DELTA) > 0 for g in nothing])
    # The chance of 59 of 100 coins or more, the least that gives a bound, is 4.4 %.
    most = 0.044 + 3 * (0.044 * 0.956 / (10 * TIMES)) ** 0.5
    median, median_fdp = float(np.median(steinke)), float(np.median(fdp))
    return [
        Check("median bound of Steinke et al. at epsilon 4.377", median, 1.45, 1.81),
        Check("largest of 200 bounds, which hold", float(steinke.max()), 0.0, true),
        Check("median bound by f-DP, which is tighter", median_fdp, 2.2, 2.7),
        Check("share of f-DP bounds above the truth", float(np.mean(fdp > true)), 0.0, 0.05),
        Check("share of bounds above 0 where nothing leaks", float(false), 0.0, most),
        Check("the same by f-DP", float(false_fdp), 0.0, most),
        Check("bound of 100 right of 100, delta 0: ln(p / (1 - p)), p^100 = 0.05",
              auditing.one_run(Guesses(100, 100, CANARIES), 0.0), 3.4929, 3.4930),
    ]  # fmt: skip


@CHECKS.register("error-rate audit")
def error_rates() -> list[Check]:
    """A Gaussian mechanism of z = 1, attacked 1,000 + 1,000 times at a threshold of a half."""
    true = exact_gaussian(1.0, DELTA)
    rng = stream(0, "selfcheck error-rate audit")
    included = np.arange(2000) < 1000
    plain, gaussian = [], []
    for _ in range(TIMES):
        scores = included + rng.standard_normal(2000)
        errors = auditing.error_bounds(scores, included, 0.5)
        plain.append(auditing.from_errors(errors, DELTA))
        gaussian.append(auditing.gaussian_from_errors(errors, DELTA))
    perfect = auditing.error_bounds(included.astype(float), included, 0.5)
    return [
        Check("median bound by Clopper and Pearson", float(np.median(plain)), 0.66, 0.72),
        Check("median bound as a Gaussian", float(np.median(gaussian)), 3.5, 3.7),
        Check("share of them above the truth", float(np.mean(np.array(gaussian) > true)), 0, 0.05),
        Check("1,000 + 1,000 attacks without an error, delta 0",
              auditing.from_errors(perfect, 0.0), 5.60, 5.601),
        # Two bounds at 97.5 % of the same rate cross where it differs by 2.77 deviations: 0.6 %.
        Check("share above 0 where nothing leaks, threshold from one half", _tuned(), 0, 0.018),
    ]  # fmt: skip


def _tuned() -> float:
    """Of bounds of 1,000 attacks without power, at the best threshold of one half of them."""
    rng = stream(0, "selfcheck tuned threshold")
    bound = partial(auditing.from_errors, delta=DELTA)
    above = 0
    for _ in range(2 * TIMES):
        scores, included = _drawn(rng, 1000, 0.0)
        chosen, tested = auditing.halves(1000, rng)
        threshold = auditing.best_threshold(scores[chosen], included[chosen], bound)
        above += bound(auditing.error_bounds(scores[tested], included[tested], threshold)) > 0
    return above / (2 * TIMES)


@CHECKS.register("one-shot audit")
def one_shot() -> list[Check]:
    """Cosines of 1,000 canaries with a sum that they are in, under noise of z = 2."""
    true = exact_gaussian(2.0, DELTA)
    rng = stream(0, "selfcheck one-shot audit")
    null = DIMENSION**-0.5
    length = (CANARIES + 4.0 * DIMENSION) ** 0.5
    cosines = (1 + 2 * rng.standard_normal((TIMES // 2, CANARIES))) / length
    fixed = [auditing.one_shot(c, null, DELTA, fitted=False) for c in cosines]
    fitted = [auditing.one_shot(c, null, DELTA) for c in cosines]
    same = auditing.between_gaussians((0.0, null), (0.0, null), DELTA)
    unlike = auditing.between_gaussians((0.0, 1.0), (0.5, 1.0), DELTA)
    return [
        Check(
            "median estimate at epsilon 1.993, null deviation", float(np.median(fixed)), 1.85, 2.1
        ),
        Check(
            "median estimate, fitted deviation: biased upwards", float(np.median(fitted)), 2.15, 2.4
        ),
        Check("two Gaussians that are the same", same, 0.0, 0.0),
        Check("two Gaussians of equal deviation: exact", unlike, true - 1e-6, true + 1e-6),
    ]
