"""Krum and Multi-Krum (Blanchard et al. 2017): the updates that lie closest to the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.options import Options
from fedsim.updates import UserResult
from server.individual import combination
from server.strategies.robust import Robust, require_fixed_cohorts, squared_distances


class KrumOptions(Options):
    """Against how many."""

    malicious: int = Field(1, ge=0, description="f: users of a cohort that may send anything")


class MultiKrumOptions(KrumOptions):
    """And how many are averaged."""

    kept: int = Field(0, ge=0, description="updates that are averaged; 0: n - f - 2")


class Krum(Robust):
    """The update whose n - f - 2 nearest have the smallest sum of squared distances.

    Of equal ones that of the lowest user. n is how many completed; the paper's proposition needs
    n >= 2f + 3, and a round that fewer complete stops the run.
    """

    Options: ClassVar[type[Options]] = KrumOptions

    @classmethod
    def check(cls, config: Config) -> None:
        """The cohort is large enough, and always as large."""
        name, server = config.strategy.name, config.server
        require_fixed_cohorts(config)
        malicious = config.strategy.options.malicious
        if server.cohort < 2 * malicious + 3:
            raise FedsimError(
                f"strategy = '{name}' against strategy.malicious = {malicious} needs a cohort of "
                f"at least 2f + 3 = {2 * malicious + 3}; raise server.cohort = {server.cohort}"
                + (f", or set strategy.malicious={(server.cohort - 3) // 2}." if server.cohort > 2
                   else ".")
            )  # fmt: skip

    def needed(self) -> tuple[int, str]:
        """2f + 3."""
        malicious = self.config.strategy.options.malicious
        return 2 * malicious + 3, f"against strategy.malicious = {malicious}"

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """See `Robust.centre`."""
        n, options = len(rows), self.config.strategy.options
        near = n - options.malicious - 2
        distances = squared_distances(rows)
        np.fill_diagonal(distances, np.inf)
        scores = np.sort(distances, axis=1)[:, :near].sum(axis=1)
        best = np.argsort(scores, kind="stable")[: self._kept(near)]
        chosen = [rows[i] for i in sorted(best)]
        return combination(chosen, np.full(len(chosen), 1 / len(chosen)))

    def _kept(self, near: int) -> int:
        """How many of the best are averaged."""
        return 1


class MultiKrum(Krum):
    """The mean of the `kept` updates that are best by Krum's score, each with weight one."""

    Options = MultiKrumOptions

    @classmethod
    def check(cls, config: Config) -> None:
        """No more are kept than are there but for the malicious."""
        super().check(config)
        options, cohort = config.strategy.options, config.server.cohort
        if options.kept > cohort - options.malicious:
            raise FedsimError(
                f"strategy.kept = {options.kept} of server.cohort = {cohort} must include some of "
                f"the strategy.malicious = {options.malicious}; set it to at most "
                f"{cohort - options.malicious}."
            )

    def _kept(self, near: int) -> int:
        kept: int = self.config.strategy.options.kept
        return kept or near
