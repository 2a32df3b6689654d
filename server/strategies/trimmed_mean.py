"""The coordinate-wise trimmed mean (Yin et al. 2018)."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.options import Options
from fedsim.updates import UserResult
from server.individual import blocks
from server.strategies.robust import Robust


class TrimmedOptions(Options):
    """How much is left out."""

    trimmed_share: float = Field(
        0.2, gt=0, lt=0.5, description="of the users, left out at each end of every coordinate"
    )


class TrimmedMean(Robust):
    """Of each coordinate the mean over users without the largest and the smallest values.

    So many as `trimmed_share` makes of those who completed, rounded down, at each end.
    """

    Options = TrimmedOptions

    @classmethod
    def check(cls, config: Config) -> None:
        """At least one user at each end."""
        share, cohort = config.strategy.options.trimmed_share, config.server.cohort
        if cohort < 3:
            raise FedsimError(f"server.cohort = {cohort} leaves nothing to trim; set it to 3.")
        if not int(share * cohort):
            raise FedsimError(
                f"strategy.trimmed_share = {share:g} of server.cohort = {cohort} is less than one "
                f"user, so that nothing would be trimmed; set it to at least "
                f"{math.ceil(1000 / cohort) / 1000:g}, or raise the cohort."
            )

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """See `Robust.centre`."""
        cut = int(self.config.strategy.options.trimmed_share * len(rows))
        out = np.empty_like(rows[0])
        for part, values in blocks(rows):
            kept = np.sort(values, axis=0)[cut : len(rows) - cut]
            out[part] = kept.mean(axis=0, dtype=np.float64)
        return out
