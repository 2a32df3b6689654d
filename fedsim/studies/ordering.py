"""Whether one setting memorizes more than another: paired differences, and the rule of a verdict.

The same canaries are planted in every setting of a seed, so each is compared with itself. The
interval is Student's t over the pairs of a seed and a canary. Pairs of different cells have
different means, which widens it; what all pairs of a seed share, one model each, is not in it:
so every seed must agree by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from fedsim.leakage.intervals import LEVEL, mean_interval

AS_FOUND, REVERSED, UNRESOLVED = "as in the literature", "reversed", "not resolved"
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Difference:
    """How much more of `score` the canaries have under `more` than under `less`.

    n: pairs. ceiling: the share of them that are at the ceiling in both, where exposure shows no
    difference any more.
    """

    more: str
    less: str
    score: str
    mean: float
    low: float
    high: float
    n: int
    seeds: tuple[float, ...]  # the mean of each
    ceiling: float

    @property
    def verdict(self) -> str:
        """As in the literature: the interval is above zero and every seed's mean is; reversed:
        the interval and every seed are below. From fewer than three seeds nothing is resolved."""
        if len(self.seeds) < LEAST_SEEDS:
            return UNRESOLVED
        if self.low > 0 and min(self.seeds) > 0:
            return AS_FOUND
        if self.high < 0 and max(self.seeds) < 0:
            return REVERSED
        return UNRESOLVED


@dataclass(frozen=True)
class Growth:
    """Slope of exposure over log2(users x copies) in a setting: bits for each doubling."""

    setting: str
    slope: float
    low: float
    high: float

    @property
    def grows(self) -> bool:
        """Whether the interval says so."""
        return self.low > 0


def trained(canaries: pd.DataFrame) -> pd.DataFrame:
    """The planted canaries whose holders took part: the others were never trained on."""
    return canaries[(canaries.kind == "planted") & (canaries.holder_participations > 0)]


def difference(canaries: pd.DataFrame, more: str, less: str, score: str) -> Difference:
    """Over the canaries that both settings trained on; NaN where there are none."""
    rows = trained(canaries)
    index = ["seed", "canary"]
    one, other = (rows[rows.setting == name].set_index(index) for name in (more, less))
    both = one.index.intersection(other.index)
    one, other = one.loc[both], other.loc[both]
    change = one[score] - other[score]
    mean, low, high = mean_interval(change.to_numpy(np.float64))
    full = (one.exposure_bits >= one.ceiling_bits) & (other.exposure_bits >= other.ceiling_bits)
    seeds = tuple(float(value) for value in change.groupby("seed").mean())
    share = float(full.mean()) if len(both) else math.nan
    return Difference(more, less, score, mean, low, high, len(both), seeds, share)


def differences(
    canaries: pd.DataFrame, order: Sequence[str], scores: Sequence[str]
) -> list[Difference]:
    """Of each setting and the next one in the order that is expected, the most memorizing first."""
    return [difference(canaries, a, b, score) for score in scores for a, b in pairwise(order)]


def verdict(found: Sequence[Difference]) -> str:
    """Of the whole order: as in the literature where every step is, reversed where any is."""
    verdicts = {difference.verdict for difference in found}
    if REVERSED in verdicts:
        return REVERSED
    return AS_FOUND if verdicts == {AS_FOUND} else UNRESOLVED


def growth(canaries: pd.DataFrame, setting: str) -> Growth:
    """Least squares over the canaries trained on; NaN where all have as many copies."""
    from scipy import stats

    rows = trained(canaries)
    rows = rows[rows.setting == setting]
    copies = np.log2((rows.users * rows.repeats).to_numpy(np.float64))
    if len(rows) < 3 or np.ptp(copies) == 0:
        return Growth(setting, math.nan, math.nan, math.nan)
    fit = stats.linregress(copies, rows.exposure_bits)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(rows) - 2)) * float(fit.stderr)
    return Growth(setting, float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)
