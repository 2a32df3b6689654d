"""What a search may choose from for one config key: a range on a logarithmic axis."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both above zero; equal ratios are equally likely."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The number that lies that share of the way, 0 to 1, to three significant digits: what is
        printed is what was trained with."""
        exact = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return float(f"{exact:.3g}")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log"
