"""Means over seeds, differences paired by seed, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedsim.leakage.intervals import mean_interval
from fedsim.studies.contrasts import paired_p


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, Student's t over seeds; NaN ends below two seeds."""

    mean: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the interval says so."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the interval says so."""
        return self.high < 0

    def points(self) -> str:
        """Of a share, in percent: 12.34 ± 0.56."""
        return written(100 * self.mean, 100 * (self.high - self.mean))

    def signed(self) -> str:
        """Of a difference of shares, in percentage points: +1.20 ± 0.30."""
        text = self.points()
        return text if text.startswith("-") else f"+{text}"


def written(mean: float, half: float, digits: int = 2) -> str:
    """12.34 ± 0.56, or the mean alone where there is no interval."""
    text = f"{mean:.{digits}f}"
    return f"{text} ± {half:.{digits}f}" if math.isfinite(half) else text


def over_seeds(values: pd.Series | np.ndarray) -> Interval:
    """Of one value a seed."""
    return Interval(*mean_interval(np.asarray(values, np.float64)))


def paired(rows: pd.DataFrame, one: str, other: str, score: str = "top1") -> Interval:
    """`one` minus `other`, seed by seed; over the seeds that both have."""
    return over_seeds(_changes(rows, one, other, score))


def p_of(rows: pd.DataFrame, one: str, other: str, score: str = "top1") -> float:
    """Of the t-test that goes with `paired`; NaN below two seeds."""
    changes = _changes(rows, one, other, score)
    return paired_p(changes) if len(changes) > 1 else math.nan


def _changes(rows: pd.DataFrame, one: str, other: str, score: str) -> np.ndarray:
    mine, theirs = (
        rows[rows.arm == name].set_index("seed")[score].sort_index() for name in (one, other)
    )
    return (mine - theirs).dropna().to_numpy(np.float64)
