"""`adaptive`: the clip norm follows a quantile of the users' norms (Andrew et al. 2021)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field

from fedsim.errors import FedsimError
from fedsim.privacy.base import MECHANISMS, State
from fedsim.privacy.integer_noise import LARGEST_DEVIATION, rounded_gaussian
from fedsim.privacy.mechanisms.user_level import UserLevel, UserLevelOptions
from fedsim.updates import Aggregate

SMALLEST, LARGEST = 1e-4, 1e6  # clip norms
_FARTHEST = 100.0  # in ln, that a clip norm moves at once: from one end to beyond the other
BIT_STEPS = 2**20  # of the grid that the noised count lies on, to one user


class AdaptiveOptions(UserLevelOptions):
    """Where the clip norm begins, what it seeks, and how fast."""

    initial_clip_norm: float = Field(0.1, ge=SMALLEST, le=LARGEST)
    quantile: float = Field(0.5, gt=0, lt=1, description="of the users' norms that is sought")
    clip_lr: float = Field(0.2, gt=0, description="of the geometric update")
    bit_noise: float = Field(
        0.0, ge=0, description="deviation of the noise on the count; 0 means cohort / 20"
    )


@MECHANISMS.register("adaptive")
class Adaptive(UserLevel):
    """Noise is split between the updates and the count of those within the clip norm.

    C <- C exp(-lr (share - quantile)), where the noised share is shifted by a half, so that the
    count's sensitivity is a half. Both halves together cost what `noise_multiplier` says.
    """

    Options = AdaptiveOptions
    options: AdaptiveOptions
    samplers = ("poisson", "truncated", "fixed", "cyclic")

    def __init__(self, options: Any, setting: Any) -> None:
        super().__init__(options, setting)
        self.bit_deviation = options.bit_noise or self.reported_cohort / 20
        counted = self.bit_deviation * setting.cohort / self.reported_cohort * BIT_STEPS
        if options.noise_multiplier and counted > LARGEST_DEVIATION:
            raise FedsimError(
                f"privacy.bit_noise = {self.bit_deviation:g} is more noise than can be drawn for a "
                f"count: at most {LARGEST_DEVIATION // BIT_STEPS:,}; lower it, or leave it out."
            )
        if options.noise_multiplier >= 2 * self.bit_deviation:
            raise FedsimError(
                f"privacy.noise_multiplier = {options.noise_multiplier:g} leaves nothing for the "
                f"updates: it must be below twice the noise on the count, which is "
                f"{self.bit_deviation:g}; raise privacy.bit_noise or the cohort."
            )
        self.require_drawable()

    def initial_state(self, size: int) -> State:
        """The clip norm."""
        return {"clip_norm": np.array(self.options.initial_clip_norm, np.float64)}

    def clip_norm(self, state: State) -> float:
        """That of this round."""
        return float(state["clip_norm"])

    def noise_on_update(self) -> float:
        """(z^-2 - (2 sigma_b)^-2)^-1/2."""
        z = self.options.noise_multiplier
        left = z**-2 - (2 * self.bit_deviation) ** -2 if z else math.inf
        return left**-0.5 if left > 0 else math.inf

    def after(self, aggregate: Aggregate, round: int, state: State) -> State:
        """The next clip norm, from the noised share of users within this one."""
        options, cohort, clip_norm = self.options, self.setting.cohort, self.clip_norm(state)
        halves = sum(1 if r.update_norm <= clip_norm else -1 for r in aggregate.results)
        within = halves * BIT_STEPS // 2
        if options.noise_multiplier:
            deviation = self.bit_deviation * cohort / self.reported_cohort * BIT_STEPS
            drawn = rounded_gaussian(self.stream("count", round), 1, math.ceil(deviation))
            within += int(drawn[0])
        share = within / BIT_STEPS / cohort + 0.5
        move = -options.clip_lr * (share - options.quantile)
        moved = clip_norm * math.exp(min(max(move, -_FARTHEST), _FARTHEST))
        return {"clip_norm": np.array(min(max(moved, SMALLEST), LARGEST), np.float64)}
