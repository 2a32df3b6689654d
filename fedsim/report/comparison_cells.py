"""A comparison's cells by strategy and setting, in order, and the numbers of each as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fedsim.report.formats import MISSING, missing, number, with_ends
from fedsim.studies.comparison import Comparison
from fedsim.studies.contrasts import is_significant, paired_p

Setting = tuple[Any, ...]


class Measure(NamedTuple):
    """How a measured column is shown: name, unit, the factor to it, digits, what is better."""

    name: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2
    more_is_better: bool = True
    geometric: bool = False  # mean and interval are made on logarithms, see `contrasts.summary`

    @property
    def title(self) -> str:
        """The name with the unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


SCORES = {
    "top1": Measure("top-1", "%", 100),
    "top3": Measure("top-3", "%", 100),
    "worst_decile_top1": Measure("worst tenth of users, top-1", "%", 100),
    "keystrokes_saved": Measure("keystrokes saved", "%", 100),
    "perplexity": Measure("perplexity", "", 1, 1, False, True),
}
LEAKAGE = {
    "exposure_bits": Measure("mean exposure of canaries", "bits", 1, 2, False),
    "canaries_extracted": Measure("canaries extracted", "%", 100, 1, False),
    "membership_auc": Measure("membership attack", "AUC", 1, 3, False),
}
# Of a run, but no leakage: every other column of numbers is one.
_OTHERS = {"strategy", "seed", "state", "error", "run", "validation_top1", "rounds", "tokens",
           "upload_bytes", "download_bytes", "seconds", "rounds_to_target",
           "bytes_to_target", "download_to_target", "canaries_trained"}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """A comparison with its summary table, asked cell by cell. A setting is a value of each axis;
    without axes there is the one setting ()."""

    comparison: Comparison
    table: pd.DataFrame

    @property
    def reference(self) -> str:
        """The strategy that the paired tests are against."""
        return self.comparison.strategies[0]

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of each axis: numbers ascending, words as they come."""
        axes, runs = self.comparison.axes, self.comparison.runs
        places = {axis: _places(runs[axis]) for axis in axes}
        found = dict.fromkeys(zip(*(runs[axis] for axis in axes), strict=True)) if axes else [()]
        return sorted(
            found, key=lambda s: [places[a][value] for a, value in zip(axes, s, strict=True)]
        )

    def named(self, setting: Setting) -> str:
        """epochs=5, cohort=50; empty without axes."""
        keys = [short(axis) for axis in self.comparison.axes]
        used = keys if len(set(keys)) == len(keys) else self.comparison.axes
        return ", ".join(f"{key}={shown(v)}" for key, v in zip(used, setting, strict=True))

    def at(self, strategy: str, setting: Setting) -> str:
        """The cell in a sentence."""
        return f"{strategy} ({self.named(setting)})" if setting else strategy

    def __iter__(self) -> Iterator[tuple[str, Setting]]:
        """Every cell, setting by setting, strategies in the order asked."""
        return ((name, s) for s in self.settings for name in self.comparison.strategies)

    @cached_property
    def _rows(self) -> dict[Setting, dict[str, Any]]:
        columns = ["strategy", *self.comparison.axes]
        keys = zip(*(self.table[column] for column in columns), strict=True)
        rows = self.table.to_dict("records")
        return {key: {str(k): v for k, v in row.items()}
                for key, row in zip(keys, rows, strict=True)}  # fmt: skip

    def row(self, strategy: str, setting: Setting) -> dict[str, Any]:
        """The cell's row of the summary; empty where no seed finished."""
        row = self._rows.get((strategy, *setting), {})
        return row if row.get("n") else {}

    @cached_property
    def _runs(self) -> dict[Setting, pd.DataFrame]:
        groups = self.comparison.runs.groupby(["strategy", *self.comparison.axes], sort=False)
        return dict(iter(groups))

    def runs(self, strategy: str, setting: Setting) -> pd.DataFrame:
        """The cell's finished runs, by seed."""
        rows = self._runs.get((strategy, *setting), self.comparison.runs.iloc[:0])
        return rows[rows["state"] == "finished"].set_index("seed")

    def values(self, strategy: str, setting: Setting, column: str) -> pd.Series:
        """The column by seed, of the finished runs that have it; empty where nobody measured it."""
        runs = self.runs(strategy, setting)
        known = runs[column] if column in runs else pd.Series(dtype="float64")
        return known.dropna().astype("float64")

    def all_values(self, column: str) -> pd.Series:
        """The column over all finished runs; empty where none has it."""
        runs = self.comparison.runs
        return runs[column].dropna() if column in runs else pd.Series(dtype="float64")

    @property
    def failed(self) -> pd.DataFrame:
        """The runs that did not finish."""
        runs = self.comparison.runs
        return runs[runs["state"] != "finished"]

    @cached_property
    def leakage(self) -> dict[str, Measure]:
        """The columns of leakage that were measured."""
        known = _OTHERS | set(SCORES) | set(self.comparison.axes)
        numbers = self.comparison.runs.select_dtypes("number").columns
        found = [str(name) for name in numbers if name not in known]
        return {
            name: LEAKAGE.get(name, Measure(name.replace("_", " "), "", 1, 3, False))
            for name in found
            if self.comparison.runs[name].notna().any() and name in self.table
        }

    def best(self, setting: Setting, column: str, measure: Measure) -> str | None:
        """The strategy with the best mean; None where none has one."""
        return next(iter(self.ranked(setting, column, measure)), None)

    def ranked(self, setting: Setting, column: str, measure: Measure) -> list[str]:
        """The strategies that have a mean, the best first."""
        means = {s: value_of(self.row(s, setting), column) for s in self.comparison.strategies}
        sign = -1.0 if measure.more_is_better else 1.0
        known = [name for name, mean in means.items() if not math.isnan(mean)]
        return sorted(known, key=lambda name: sign * means[name])

    def tied(self, setting: Setting, column: str, measure: Measure) -> list[str]:
        """The strategies whose mean is, as it is shown, the best one; empty where none has one."""
        ranked = self.ranked(setting, column, measure)
        means = [mean_text(self.row(name, setting), column, measure) for name in ranked]
        return [name for name, mean in zip(ranked, means, strict=True) if mean == means[0]]

    def leads(self, setting: Setting, column: str, measure: Measure) -> bool:
        """Whether the best mean is better than each other strategy's beyond chance.

        Paired t-tests over common seeds against all k - 1 others, each p times k - 1 and below
        0.05: that bounds the chance of calling a strategy the best that is not, although which one
        is tested was chosen by looking. Never with one strategy, where one has fewer than three
        seeds, or where two are equal as they are shown.
        """
        best = self.best(setting, column, measure)
        others = [s for s in self.comparison.strategies
                  if s != best and len(self.runs(s, setting))]  # fmt: skip
        if best is None or not others or len(self.tied(setting, column, measure)) > 1:
            return False
        sign = 1.0 if measure.more_is_better else -1.0
        mine = self._comparable(best, setting, column, measure)
        for other in others:
            gain = sign * (mine - self._comparable(other, setting, column, measure)).dropna()
            p = paired_p(gain.to_numpy()) * len(others)
            if not (is_significant(p, len(gain)) and gain.mean() > 0):
                return False
        return True

    def _comparable(
        self, strategy: str, setting: Setting, column: str, measure: Measure
    ) -> pd.Series:
        """The values on the scale on which their mean was made."""
        values = self.values(strategy, setting, column)
        return np.log(values) if measure.geometric else values


def resolved(row: dict[str, Any]) -> bool:
    """Whether a difference to the reference is more than chance: of at least three seeds, its
    interval does not hold zero, and its p, adjusted for the comparisons of the table, is below
    0.05."""
    return holds_no_zero(row) and is_significant(value_of(row, "p"), row["pairs"])


def holds_no_zero(row: dict[str, Any]) -> bool:
    """Of the interval of the difference, which is not adjusted; never where it is NaN."""
    return value_of(row, "difference_low") > 0 or value_of(row, "difference_high") < 0


def mean_text(row: dict[str, Any], column: str, measure: Measure) -> str:
    """The mean in the measure's unit."""
    return number(measure.scale * row[column], measure.digits)


def with_half(row: dict[str, Any], column: str, measure: Measure) -> str:
    """Mean ± half width in the measure's unit, of a geometric mean (low to high), which lie at
    other distances; the mean alone where one seed finished."""
    if missing(row.get(column)):
        return MISSING
    if measure.geometric:
        ends = ("", "_low", "_high")
        mean, low, high = (measure.scale * value_of(row, f"{column}{end}") for end in ends)
        return with_ends(mean, low, high, measure.digits)
    text = number(measure.scale * row[column], measure.digits)
    half = half_width(row, column)
    return text if math.isnan(half) else f"{text} ± {measure.scale * half:,.{measure.digits}f}"


def value_of(row: dict[str, Any], column: str) -> float:
    """NaN where it is missing."""
    value = row.get(column)
    return math.nan if value is None or missing(value) else float(value)


def half_width(row: dict[str, Any], column: str) -> float:
    """Of the 95 % interval; NaN where there is none."""
    return (value_of(row, f"{column}_high") - value_of(row, f"{column}_low")) / 2


def difference(row: dict[str, Any]) -> str:
    """+0.82 (+0.50 to +1.14), in points of top-1."""
    if missing(row.get("difference")):
        return MISSING
    text = points(row["difference"])
    if missing(row["difference_low"]):
        return text
    return f"{text} ({points(row['difference_low'])} to {points(row['difference_high'])})"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: Any) -> str:
    """0.012; never 0."""
    if missing(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def short(axis: str) -> str:
    """A config key by its last part; one of privacy whole, since a bare epsilon says nothing."""
    return axis if axis.startswith("privacy.") else axis.rpartition(".")[2]


def shown(value: Any) -> str:
    """A config value as it is typed."""
    if missing(value):
        return MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _places(values: pd.Series) -> dict[Any, int]:
    seen: Sequence[Any] = list(dict.fromkeys(values))
    if pd.api.types.is_numeric_dtype(values):
        seen = sorted(seen)
    return {value: place for place, value in enumerate(seen)}
