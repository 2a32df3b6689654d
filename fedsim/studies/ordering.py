"""Whether one setting memorizes more than another: paired differences, and the rule of a verdict.

The same canaries are planted in every setting of a seed, so each is compared with itself. All
canaries of a seed share one model a setting, so they are one draw: an interval is Student's t over
the means of seeds, never over canaries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from fedsim.leakage.intervals import mean_interval

AS_FOUND, REVERSED, UNRESOLVED = "as in the literature", "reversed", "not resolved"
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Difference:
    """How much more of `score` the canaries have under `more` than under `less`.

    mean: of the seeds' means, with Student's t over them. pairs: of a seed and a canary. ceiling:
    the share of them that are at the ceiling in both, where exposure shows no difference any more.
    """

    more: str
    less: str
    score: str
    mean: float
    low: float
    high: float
    pairs: int
    seeds: tuple[float, ...]  # the mean of each
    ceiling: float

    @property
    def verdict(self) -> str:
        """As in the literature: the interval is above zero; reversed: it is below. From fewer than
        three seeds nothing is resolved."""
        if len(self.seeds) < LEAST_SEEDS:
            return UNRESOLVED
        if self.low > 0:
            return AS_FOUND
        if self.high < 0:
            return REVERSED
        return UNRESOLVED


@dataclass(frozen=True)
class Growth:
    """Slope of exact exposure over log2(users x copies) in a setting: bits for each doubling.

    The mean of the seeds' slopes, with Student's t over them; NaN ends below two seeds.
    """

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
    means = change.groupby("seed").mean().to_numpy(np.float64)
    mean, low, high = mean_interval(means)
    full = (one.exposure_bits >= one.ceiling_bits) & (other.exposure_bits >= other.ceiling_bits)
    share = float(full.mean()) if len(both) else math.nan
    return Difference(more, less, score, mean, low, high, len(both), tuple(means.tolist()), share)


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
    """Least squares over each seed's canaries trained on; NaN where all have as many copies."""
    rows = trained(canaries)
    slopes = [_slope(own) for _, own in rows[rows.setting == setting].groupby("seed")]
    kept = np.array(slopes, np.float64)
    return Growth(setting, *mean_interval(kept[~np.isnan(kept)]))


def _slope(rows: pd.DataFrame) -> float:
    copies = np.log2((rows.users * rows.repeats).to_numpy(np.float64))
    if np.ptp(copies) == 0:
        return math.nan
    return float(np.polyfit(copies, rows.exact_bits.to_numpy(np.float64), 1)[0])
