"""What a comparison of strategies measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """What a comparison measured; all frames are tidy, one row as said."""

    axes: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    target: float | None
    runs: pd.DataFrame
    curves: pd.DataFrame
    chosen: pd.DataFrame
    trials: pd.DataFrame
    made: dict[str, Any]
