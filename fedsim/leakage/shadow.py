"""Attacks that shadow models calibrate: LiRA (Carlini et al. 2022), RMIA (Zarifzadeh et al. 2024).

phi is minus nats a word, of a sentence or of a user's sentences: n targets under the audited
model, and under s shadows of which each was trained with some of the targets, `inside` bool (s, n).
A score is NaN where no shadow tells what it needs: one with the target, one without it.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

ENOUGH = 16  # shadows on a side before a target's own variance is better than everybody's


def moments(shadows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each target's phi over its chosen shadows, float64 (n,) each.

    shadows (s, n), chosen bool (s, n). The deviation of a target with fewer than `ENOUGH` is that
    of all targets together, each about its own mean.
    """
    counts = chosen.sum(0)
    mean = np.where(chosen, shadows, 0.0).sum(0) / np.where(counts > 0, counts, np.nan)
    squares = (np.where(chosen, shadows - mean, 0.0) ** 2).sum(0)
    told = counts > 1  # one alone has no distance to its mean
    pooled = squares[told].sum() / max(1, (counts[told] - 1).sum())
    own = squares / np.maximum(counts - 1, 1)
    return mean, np.sqrt(np.where(counts >= ENOUGH, own, pooled))


def lira_online(phi: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Log likelihood ratio of phi (n,) under Gaussians of the shadows with and without it."""
    with_it, spread_with = moments(shadows, inside)
    without, spread_without = moments(shadows, ~inside)
    return norm.logpdf(phi, with_it, spread_with) - norm.logpdf(phi, without, spread_without)


def lira_offline(phi: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Deviations that phi (n,) is above the shadows without it.

    One-sided: a member is likelier than without training, never as much less likely. Phi of it
    is the p-value; it itself orders the same and has no ties at 1.
    """
    without, spread = moments(shadows, ~inside)
    return (phi - without) / spread


def rmia(
    phi: np.ndarray,
    shadows: np.ndarray,
    inside: np.ndarray,
    population: tuple[np.ndarray, np.ndarray],
    a: float,
    gamma: float,
) -> np.ndarray:
    """Share of the population that the target is more likely than, by gamma, (n,).

    Likelihood is relative to the shadows without the target. population: phi (z,) under the
    audited model and (s, z) under the shadows, of text that none of them was trained on.
    """
    theirs = relative(population[0], population[1], np.zeros(population[1].shape, bool), a)
    mine = relative(phi, shadows, inside, a)
    share = np.searchsorted(np.sort(theirs), mine / gamma, side="right") / len(theirs)
    return np.where(np.isnan(mine), np.nan, share)


def relative(phi: np.ndarray, shadows: np.ndarray, inside: np.ndarray, a: float) -> np.ndarray:
    """p / ((1 + a) p_out + (1 - a)) x 2 with p = e^phi, so that it is a probability a word.

    That of a whole sentence, 1e-20, would drown in 1 - a, and the shadows say nothing.
    """
    out = (~inside).sum(0)
    p_out = np.where(inside, 0.0, probability(shadows)).sum(0) / np.where(out > 0, out, np.nan)
    return probability(phi) / (0.5 * ((1 + a) * p_out + (1 - a)))


def probability(phi: np.ndarray) -> np.ndarray:
    """e^phi: the geometric mean of the words' probabilities."""
    return np.exp(phi)
