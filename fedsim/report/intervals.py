"""95 % intervals over users: a user's words are one cluster, not so many independent trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEAST = 10  # users: an interval over fewer is more certain of itself than it may be


@dataclass(frozen=True)
class Estimate:
    """A value and the half width of its 95 % interval (Student's t over users); NaN where there
    are fewer than `LEAST` users."""

    value: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.value + self.half_width

    @property
    def excludes_zero(self) -> bool:
        """True where the sign is clear; False where the width is not known."""
        return abs(self.value) > self.half_width


def recall(users: pd.DataFrame, hits: str) -> Estimate:
    """Recall over all words of the users, from one row of counts each."""
    return _estimate(*_linearised(users, hits))


def recall_difference(users: pd.DataFrame, others: pd.DataFrame, hits: str) -> Estimate:
    """Recall of one model minus another's, paired by user: both saw the same people."""
    mine, theirs = users.set_index("user"), others.set_index("user")
    shared = mine.index.intersection(theirs.index, sort=True)
    value, influence = _linearised(mine.loc[shared], hits)
    other_value, other_influence = _linearised(theirs.loc[shared], hits)
    return _estimate(value - other_value, influence - other_influence)


def mean(values: pd.Series) -> Estimate:
    """A plain mean."""
    x = values.to_numpy(np.float64)
    if not len(x):
        return Estimate(math.nan, math.nan)
    return _estimate(float(x.mean()), (x - x.mean()) / len(x))


def _linearised(users: pd.DataFrame, hits: str) -> tuple[float, np.ndarray]:
    """sum(hits) / sum(words) and each user's influence on it (Taylor linearisation)."""
    h, words = users[hits].to_numpy(np.float64), users["words"].to_numpy(np.float64)
    total = words.sum()
    if not total:
        return math.nan, np.full(len(users), math.nan)
    ratio = h.sum() / total
    return float(ratio), (h - ratio * words) / total


def _estimate(value: float, influence: np.ndarray) -> Estimate:
    n = len(influence)
    if n < LEAST:
        return Estimate(value, math.nan)
    error = math.sqrt(n / (n - 1) * float(np.square(influence).sum()))
    return Estimate(value, float(stats.t.ppf(0.975, n - 1)) * error)
