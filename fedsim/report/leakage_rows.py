"""A leakage finding as the report needs it, and how one is found among others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from fedsim.report.leakage_words import ends, pairs_of, value


class Row(NamedTuple):
    """A finding as the page needs it."""

    quantity: str
    group: str
    estimate: float
    n: int
    low: float
    high: float
    interval: str
    control: float
    note: str

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return math.isfinite(self.estimate)

    @property
    def bounded(self) -> bool:
        """Whether the interval says anything: one of no width (five times zero) does not."""
        return not math.isnan(self.low + self.high) and self.low < self.high

    @property
    def alike(self) -> bool:
        """Whether all of the units had the same value, so that there is no interval to tell."""
        return self.low == self.high

    def side(self, level: float) -> int:
        """1 or -1 where the whole interval is above or below the level, else 0."""
        return (int(self.low > level) - int(self.high < level)) if self.bounded else 0

    @property
    def said(self) -> str:
        """The estimate with its interval."""
        inside = "" if self.alike else ends(self.quantity, self.low, self.high)
        return value(self.quantity, self.estimate) + (f" ({inside})" if inside else "")


def rows_of(table: pd.DataFrame) -> list[Row]:
    """Findings of one measure and round."""
    return [Row(*row) for row in table[list(Row._fields)].itertuples(index=False, name=None)]


def pick(rows: Sequence[Row], quantity: str, group: str = "", **wanted: str) -> Row | None:
    """The first known row of a quantity in a group; or whose group holds the wanted pairs."""
    for row in rows:
        if row.quantity == quantity and row.known and fits(row, group, wanted):
            return row
    return None


def fits(row: Row, group: str, wanted: dict[str, str]) -> bool:
    """Whether a row is of a group; or, where pairs are wanted, holds them all."""
    if not wanted:
        return row.group == group
    held = {key: text for key, _, text in pairs_of(row.group)}
    return all(held.get(key) == text for key, text in wanted.items())
