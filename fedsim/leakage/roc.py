"""How well scores tell members from non-members: AUC, its variance, and TPR at a small FPR."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedsim.leakage.intervals import CLOPPER_PEARSON, DELONG, LEVEL, clopper_pearson

FPRS = (0.01, 0.001)  # at which a membership attack is asked for its TPR
DISJOINT_PAIRS = f"{CLOPPER_PEARSON} of disjoint pairs"
FALSE_POSITIVES = 10  # that an FPR must come to before it can be told from its neighbours


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and what the interval is; NaN where it cannot be known."""

    value: float
    low: float
    high: float
    interval: str
    note: str = ""

    @property
    def excludes_half(self) -> bool:
        """Whether an AUC's interval leaves chance out; False where there is none."""
        return self.low > 0.5 or self.high < 0.5


# -- area under the curve ---------------------------------------------------------------------


def placements(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each score the share of the other group on its right side, a tie counting one half.

    Members should lie above, non-members below. Both means are the AUC (Hanley and McNeil 1982).
    """
    return _share_below(members, nonmembers), 1.0 - _share_below(nonmembers, members)


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """P(member scores higher) + P(tie) / 2, by Mann and Whitney; NaN of an empty group or a NaN."""
    if not _comparable(members, nonmembers):
        return math.nan
    return float(placements(members, nonmembers)[0].mean())


def null_deviation(members: int, nonmembers: int) -> float:
    """Standard deviation of the AUC where both groups have one continuous distribution."""
    return math.sqrt((members + nonmembers + 1) / (12 * members * nonmembers))


def delong_variance(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Variance of the AUC (DeLong et al. 1988); each score its own draw, two a group at least."""
    of_members, of_nonmembers = placements(members, nonmembers)
    return float(
        np.var(of_members, ddof=1) / len(members) + np.var(of_nonmembers, ddof=1) / len(nonmembers)
    )


def delong(members: np.ndarray, nonmembers: np.ndarray) -> Estimate:
    """The AUC with DeLong's interval, for scores that are independent: one a user."""
    area = auc(members, nonmembers)
    pairs = min(len(members), len(nonmembers))
    if pairs < 2 or math.isnan(area):
        return Estimate(area, math.nan, math.nan, "")
    if area in (0.0, 1.0):
        return Estimate(area, *certain(area, pairs), DISJOINT_PAIRS)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * delong_variance(members, nonmembers) ** 0.5
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), DELONG)


def certain(area: float, pairs: int) -> tuple[float, float]:
    """The interval of an AUC of 0 or 1, whose variance is estimated as zero.

    So many disjoint pairs are independent trials, and all of them were lost, or won.
    """
    return clopper_pearson(int(area) * pairs, pairs)


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` below each score, ties one half, float64 (scores,)."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    return (below + np.searchsorted(ordered, scores, side="right")) / (2 * len(others))


def _comparable(members: np.ndarray, nonmembers: np.ndarray) -> bool:
    groups = (members, nonmembers)
    return all(len(group) and not np.isnan(group).any() for group in groups)


# -- true positives at a false positive rate --------------------------------------------------


def threshold(nonmembers: np.ndarray, fpr: float) -> float:
    """The score above which at most a share `fpr` of the non-members is; a tie is not above."""
    allowed = int(fpr * len(nonmembers) + 1e-9)
    return float(np.sort(nonmembers)[::-1][allowed]) if allowed < len(nonmembers) else -math.inf


def tpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float) -> Estimate:
    """Share of the members above `threshold`, with Clopper and Pearson's interval.

    Not resolvable, so NaN, where fewer than `FALSE_POSITIVES` non-members are a share of `fpr`.
    """
    needed = math.ceil(FALSE_POSITIVES / fpr - 1e-6)
    if len(nonmembers) < needed:
        note = (
            f"not resolvable: {100 * fpr:g} % FPR needs {needed:,} non-members, "
            f"there are {len(nonmembers):,}"
        )
        return Estimate(math.nan, math.nan, math.nan, "", note)
    if not _comparable(members, nonmembers):
        return Estimate(math.nan, math.nan, math.nan, "", "there are scores that are no numbers")
    hits = int((members > threshold(nonmembers, fpr)).sum())
    low, high = clopper_pearson(hits, len(members))
    return Estimate(hits / len(members), low, high, CLOPPER_PEARSON)


def curve(
    members: np.ndarray, nonmembers: np.ndarray, points: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """(fpr, tpr) of about so many points, dense at small rates, as a log-log plot shows them."""
    if not _comparable(members, nonmembers):
        return np.empty(0), np.empty(0)
    n = len(nonmembers)
    allowed = np.unique(np.append(0, np.geomspace(1, n, points).round().astype(int)))
    descending = np.append(np.sort(nonmembers)[::-1], -math.inf)
    bars = descending[allowed]
    above = (members[:, None] > bars).mean(0)
    false = (nonmembers[:, None] > bars).mean(0)
    return np.append(false, 1.0), np.append(above, 1.0)


# -- what differential privacy allows ---------------------------------------------------------


def most_tpr(fpr: float, epsilon: float, delta: float) -> float:
    """The highest TPR of any attack on an (epsilon, delta)-DP mechanism (Kairouz et al. 2015)."""
    over = math.exp(epsilon) * fpr + delta
    return min(1.0, over, 1.0 - math.exp(-epsilon) * (1.0 - delta - fpr))


def most_auc(epsilon: float, delta: float) -> float:
    """The area under `most_tpr`, which has corners only: e^epsilon / (1 + e^epsilon) at delta 0."""
    corners = np.array([0.0, (1.0 - delta) / (1.0 + math.exp(epsilon)), 1.0 - delta, 1.0])
    heights = [most_tpr(float(fpr), epsilon, delta) for fpr in corners]
    return float(np.trapezoid(heights, corners))


def gaussian_tpr(fpr: float, mu: float) -> float:
    """The highest TPR against a mu-GDP mechanism (Dong et al. 2022)."""
    return float(stats.norm.cdf(mu + stats.norm.ppf(fpr)))


def gaussian_auc(mu: float) -> float:
    """The area under `gaussian_tpr`."""
    return float(stats.norm.cdf(mu / math.sqrt(2.0)))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The mu whose Gaussian mechanism is exactly (epsilon, delta)-DP (Balle and Wang 2018)."""
    from scipy.optimize import brentq

    def excess(mu: float) -> float:
        above = stats.norm.cdf(mu / 2 - epsilon / mu)
        below = math.exp(epsilon + stats.norm.logcdf(-mu / 2 - epsilon / mu))
        return float(above - below) - delta

    return float(brentq(excess, 1e-6, 2 * (epsilon + 40.0) ** 0.5 + 2 * epsilon, xtol=1e-12))
