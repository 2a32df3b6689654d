"""The statistics of a comparison: means over seeds, and paired tests against the first strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fedsim.leakage.intervals import LEVEL, geometric_interval, mean_interval
from fedsim.studies.comparison import GEOMETRIC, Comparison
from fedsim.studies.ordering import LEAST_SEEDS

SIGNIFICANT = 1 - LEVEL  # p below it, as an interval of LEVEL that does not hold zero
_NO_SPREAD = 1e-9  # of the largest change: what rounding leaves of differences that are equal


def summary(comparison: Comparison) -> pd.DataFrame:
    """One row a cell: strategy, axes, n (seeds finished), each measure X with X_low and X_high.

    Means over the finished seeds with 95 % Student's t, of what is `GEOMETRIC` the geometric mean
    with the interval made on logarithms, NaN where a finished seed has no value: a
    mean over those that reached a target would flatter. `difference` with its interval is that of
    top1 to the first strategy at the same axes, paired by seed (common random numbers: the same
    cohorts, canaries and first model), and `p` its paired t-test, Holm-adjusted over all of the
    table; NaN for the first strategy itself, below two common seeds (`pairs`), and where all seeds
    differ by the same.
    """
    runs, keys = comparison.runs, ["strategy", *comparison.axes]
    rows = []
    for cell, group in runs.groupby(keys, sort=False, dropna=False):
        mine = group[group.state == "finished"]
        row: dict[str, Any] = {**dict(zip(keys, cell, strict=True)), "n": len(mine)}
        for name in comparison.measures:
            values = mine[name].astype("Float64").to_numpy(np.float64, na_value=math.nan)
            over_seeds = geometric_interval if name in GEOMETRIC else mean_interval
            row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds(values)
        rows.append({**row, **_difference(comparison, dict(zip(keys, cell, strict=True)))})
    table = pd.DataFrame(rows)
    table["p"] = holm(table["p"].to_list())
    return table


def _difference(comparison: Comparison, cell: dict[str, Any]) -> dict[str, float]:
    """Of a cell's top1 and that of the reference, and the p of its own test."""
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high", "p"), math.nan)
    nothing["pairs"] = 0
    reference = {**cell, "strategy": comparison.strategies[0]}
    if reference == cell:
        return nothing
    pairs = pd.concat(
        [_top1(comparison.runs, reference), _top1(comparison.runs, cell)], axis=1, join="inner"
    ).to_numpy(np.float64)
    if len(pairs) < 2:
        return nothing | {"pairs": len(pairs)}
    changes = pairs[:, 1] - pairs[:, 0]
    mean, low, high = mean_interval(changes)
    return dict(zip(nothing, (mean, low, high, paired_p(changes), len(pairs)), strict=True))


def _top1(runs: pd.DataFrame, cell: dict[str, Any]) -> pd.Series:
    """Of the cell's finished runs, by seed."""
    rows = runs[runs.state == "finished"]
    for key, value in cell.items():
        rows = rows[rows[key] == value]
    return rows.set_index("seed").top1


def paired_p(changes: np.ndarray) -> float:
    """Two-sided t-test of no change; NaN where there is nothing to test with.

    That is below two seeds, and where all seeds change by the same: a t-test would take that for
    certainty, while scores that come in few steps, such as the share of canaries that are
    extracted, do so by chance.
    """
    if len(changes) < 2 or np.ptp(changes) <= _NO_SPREAD * np.abs(changes).max():
        return math.nan
    return float(stats.ttest_1samp(changes, 0.0).pvalue)


def is_significant(p: float, pairs: int) -> bool:
    """Whether a test resolves a difference: never from fewer than three seeds, nor where p is
    NaN."""
    return pairs >= LEAST_SEEDS and p < SIGNIFICANT


def holm(values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values; NaN are no tests and stay NaN."""
    order = sorted((i for i, p in enumerate(values) if not math.isnan(p)), key=values.__getitem__)
    out, highest = [math.nan] * len(values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * values[i]))
        out[i] = highest
    return out
