"""Exposure beyond what references can rank: a skew-normal distribution fitted to their nats.

Carlini et al. 2019, section 5.2: exposure = -log2 P(a reference is at least as likely).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

REFUSED = 0.05  # p-value of the Kolmogorov-Smirnov test below which the fit is not believed


@dataclass(frozen=True)
class SkewNormal:
    """The law of the references' nats; `p_value` says how well it fits them.

    The test knows the parameters from the same references, so its p-value is too high: a fit that
    it refuses is bad, one that it accepts may still be wrong far out in the tail.
    """

    shape: float
    location: float
    scale: float
    p_value: float

    @classmethod
    def fit(cls, nats: np.ndarray) -> SkewNormal:
        """By maximum likelihood; p-value 0 where there is nothing to fit."""
        if not np.isfinite(nats).all() or np.ptp(nats) == 0:
            return cls(0.0, 0.0, 1.0, 0.0)
        # A location and a scale of its own units: the search starts from there.
        middle, spread = float(np.mean(nats)), float(np.std(nats))
        shape, location, scale = stats.skewnorm.fit((nats - middle) / spread)
        values = (float(shape), middle + spread * float(location), spread * float(scale))
        return cls(*values, float(stats.kstest(nats, stats.skewnorm(*values).cdf).pvalue))

    @property
    def refused(self) -> bool:
        """Whether the references are not of this law."""
        return self.p_value < REFUSED

    def bits(self, nats: np.ndarray, most: float) -> np.ndarray:
        """-log2 P(reference <= nats), at most `most`; 0 for what is no number, NaN where the fit
        is refused: there is nothing to extrapolate by."""
        if self.refused:
            return np.full(len(nats), np.nan)
        law = stats.skewnorm(self.shape, self.location, self.scale)
        found = -law.logcdf(nats) / math.log(2)
        return np.clip(np.nan_to_num(found, nan=0.0), 0.0, most)
