"""The coordinate-wise trimmed mean (Yin et al. 2018)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from pydantic import Field

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.options import Options
from fedsim.updates import UserResult
from server.individual import blocks
from server.strategies.robust import Robust, require_fixed_cohorts


class TrimmedOptions(Options):
    """How much is left out."""

    trimmed_share: float = Field(
        0.2, gt=0, lt=0.5, description="of the users, left out at each end of every coordinate"
    )


class TrimmedMean(Robust):
    """Of each coordinate the mean over users without the largest and the smallest values.

    So many as `trimmed_share` makes of those who completed, rounded down, at each end. A round
    that leaves nobody to trim would be a plain mean: it stops the run.
    """

    Options = TrimmedOptions

    @classmethod
    def check(cls, config: Config) -> None:
        """At least one user at each end, in every round."""
        require_fixed_cohorts(config)
        share, cohort = config.strategy.options.trimmed_share, config.server.cohort
        if cohort < 3:
            raise FedsimError(f"server.cohort = {cohort} leaves nothing to trim; set it to 3.")
        if not trimmed(share, cohort):
            raise FedsimError(
                f"strategy.trimmed_share = {share:g} of server.cohort = {cohort} is less than one "
                f"user, so that nothing would be trimmed; set it to at least "
                f"{math.ceil(1000 / cohort) / 1000:g}, or raise the cohort."
            )

    def needed(self) -> tuple[int, str]:
        """As many as it takes to trim one at each end."""
        share = self.config.strategy.options.trimmed_share
        return fewest(share), f"with strategy.trimmed_share = {share:g}, to trim any,"

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """See `Robust.centre`."""
        share = self.config.strategy.options.trimmed_share
        cut = trimmed(share, len(rows))
        out = np.empty_like(rows[0])
        for part, values in blocks(rows):
            kept = np.sort(values, axis=0)[cut : len(rows) - cut]
            out[part] = kept.mean(axis=0, dtype=np.float64)
        return out


def trimmed(share: float, users: int) -> int:
    """How many are left out at each end: of 100 users 0.29 are 29, where floats make it 28."""
    return math.floor(Fraction(repr(share)) * users)


def fewest(share: float) -> int:
    """The least number of users of whom one is left out at each end."""
    return math.ceil(1 / Fraction(repr(share)))
