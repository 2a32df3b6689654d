"""User-level central DP: uniform weights, one noise draw on the sum, a fixed denominator.

McMahan et al. 2018: a trusted server clips every user's whole update, adds noise to the sum and
divides by the expected cohort, never by the one that came. An empty cohort makes a step of noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from fedsim.errors import FedsimError
from fedsim.privacy.accounting import Guarantee, guarantee
from fedsim.privacy.base import Mechanism, Release, State
from fedsim.privacy.calibration import noise_for
from fedsim.privacy.contributions import STEPS, Clipped, Draw, grid_of
from fedsim.privacy.integer_noise import LARGEST_DEVIATION, rounded_gaussian
from fedsim.privacy.noise_options import NoiseOptions
from fedsim.privacy.plan import Plan, checked
from fedsim.updates import Aggregate, Contribution


class UserLevelOptions(NoiseOptions):
    """What all user-level mechanisms share."""

    noise_multiplier: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="deviation of the noise on the sum / clip norm; 0: see epsilon",
    )
    epsilon: float = Field(
        0.0, ge=0, description="budget that the noise is calibrated to; 0 is none"
    )
    delta: float = Field(0.0, ge=0, lt=1, description="0 means users^-1.1")
    report_cohort: int = Field(
        0, ge=0, description="simulate the noise of so large a cohort; 0: the real one"
    )
    report_users: int = Field(
        0, ge=0, description="of so many users; 0: as many times more as the cohort"
    )

    @model_validator(mode="after")
    def _users_of_a_cohort(self) -> UserLevelOptions:
        if self.report_users and not self.report_cohort:
            raise ValueError("it needs a report_cohort")
        return self


class UserLevel(Mechanism):
    """Clip, sum, noise, divide; subclasses say with which clip norm and which noise."""

    options: UserLevelOptions
    plan_name: ClassVar[str] = "gaussian"
    draws_in_secret = True
    arithmetic = "whole steps of the grid that the exact sum lies on, drawn without error"
    always_steps = True
    without_effect = ("server.min_completed",)

    def __init__(self, options: Any, setting: Any) -> None:
        super().__init__(options, setting)
        cohort, users = setting.cohort, setting.users
        if options.report_cohort and options.report_cohort < cohort:
            raise FedsimError(
                f"privacy.report_cohort = {options.report_cohort} is below server.cohort = "
                f"{cohort}: noise can be simulated for a larger cohort only; raise it."
            )
        self.reported_cohort = options.report_cohort or cohort
        scaled = math.ceil(users * self.reported_cohort / cohort)
        self.reported_users = options.report_users or scaled
        if self.reported_users < users:
            raise FedsimError(
                f"privacy.report_users = {options.report_users} is less than the {users} users "
                "that are there; raise it, or leave it out."
            )
        if options.report_cohort and setting.sampler == "truncated":
            raise FedsimError(
                "privacy.report_cohort cannot be simulated under server.sampler = 'truncated', "
                "whose cut is that of the real cohort; set server.sampler=poisson."
            )

    @property
    def population(self) -> int:
        """The users that are reported."""
        return self.reported_users

    def clip_norm(self, state: State) -> float:
        """Of this round, for clipping and for the noise."""
        return float(self.options.clip_norm)  # type: ignore[attr-defined]

    def noise_on_update(self) -> float:
        """The noise multiplier of the sum of updates itself."""
        return self.options.noise_multiplier

    def grid(self, clip_norm: float) -> float:
        """The step of the grid that the sum lies on, and the noise too."""
        return grid_of(clip_norm)

    def steps_of_clip_norm(self) -> float:
        """The steps of the grid up to the clip norm, at most."""
        return STEPS

    def require_drawable(self) -> None:
        """Raises FedsimError where the noise of a sum is more than can be drawn."""
        if not self.options.noise_multiplier:
            return
        share = self.setting.cohort / self.reported_cohort
        steps = self.noise_on_update() * share * self.steps_of_clip_norm()
        if steps > LARGEST_DEVIATION:
            raise FedsimError(
                f"privacy.noise_multiplier = {self.options.noise_multiplier} makes a deviation of "
                f"{steps:.3g} steps of the grid that sums lie on, and more than 2^48 cannot be "
                "drawn; lower it."
            )

    def noise(
        self, round: int, size: int, deviation: float, state: State
    ) -> tuple[np.ndarray, State]:
        """Noise for the round's sum, int64 (size,), of that deviation in steps of the grid."""
        return rounded_gaussian(self.stream("noise", round), size, math.ceil(deviation)), state

    def after(self, aggregate: Aggregate, round: int, state: State) -> State:
        """The state that the next round begins with."""
        return state

    def total(self, aggregate: Aggregate) -> np.ndarray:
        """The exact sum of the clipped updates, int64, in steps of the grid."""
        return aggregate.total

    @classmethod
    def contribution(
        cls, options: Any, work: Mapping[str, Any], size: int, draw: Draw | None = None
    ) -> Contribution:
        """Clipped to what the server said."""
        return Clipped(float(work["clip_norm"]))

    def work(self, state: State) -> dict[str, float]:
        """The clip norm."""
        return {"clip_norm": self.clip_norm(state)}

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """(sum + noise) / expected cohort, whoever came; both lie on one grid."""
        clip_norm, cohort = self.clip_norm(state), self.setting.cohort
        grid, total = self.grid(clip_norm), self.total(aggregate)
        # Noise on the mean is z C / m; that of a larger cohort is simulated at its own size.
        deviation = self.noise_on_update() * clip_norm * cohort / self.reported_cohort
        if self.options.noise_multiplier:
            noise, state = self.noise(round, total.size, deviation / grid, state)
            total = total + noise
        norms = [r.update_norm for r in aggregate.results]
        facts = {
            "clip_norm": clip_norm,
            "noise_deviation": deviation / cohort,
            "users_clipped": sum(norm > clip_norm for norm in norms),
            "users_not_finite": sum(not math.isfinite(norm) for norm in norms),
        }
        mean = (total * (grid / cohort)).astype(np.float32)
        return Release(mean, self.after(aggregate, round, state), facts)

    def plan(self, noise_multiplier: float, rounds: int) -> Plan:
        """What an accountant is told of `rounds` rounds."""
        setting, options = self.setting, self.options
        return Plan(
            mechanism=self.plan_name,
            noise_multiplier=noise_multiplier,
            delta=options.delta,
            users=self.reported_users,
            cohort=self.reported_cohort,
            rounds=rounds,
            sampler=setting.sampler,
            before=setting.before,
            **self._sampling(),
        )

    def check(self) -> None:
        """Whether what is promised can be kept, with or without noise."""
        checked(self.plan(self.options.noise_multiplier or 1.0, self.setting.rounds))

    def noise_for(self, epsilon: float) -> float:
        """See `Mechanism.noise_for`."""
        return noise_for(self.plan(1.0, self.setting.rounds), epsilon)

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """See `Mechanism.guarantee`; None without noise."""
        if not noise_multiplier:
            return None
        return guarantee(self.plan(noise_multiplier, rounds))

    def beside(self, participations: np.ndarray) -> dict[str, Any]:
        """Where another cohort is reported: what this run's own users have."""
        if not self.options.report_cohort:
            return {}
        noise = self.options.noise_multiplier * self.setting.cohort / self.reported_cohort
        if not noise:
            return {}
        own = self._guarantee_of_own(noise)
        said = {"reported_users": self.reported_users, "epsilon": own.epsilon}
        return {"own": {**said, "guarantee": own.as_dict()}}

    def _guarantee_of_own(self, noise_multiplier: float) -> Guarantee:
        """Of this run's users, at their own sampling and with the noise that was really added."""
        own = {"noise_multiplier": 0.0, "report_cohort": 0, "report_users": 0}
        options = self.options.model_copy(update=own)
        found = type(self)(options, self.setting).guarantee(noise_multiplier, self.setting.rounds)
        assert found is not None
        return found

    def _sampling(self) -> dict[str, Any]:
        """What the sampler has beside users and cohort, at the reported size."""
        setting = self.setting
        if setting.sampler == "truncated":
            return {"max_cohort": setting.max_cohort}
        if setting.sampler == "groups":
            return {"min_separation": setting.groups}
        promised = {
            "participations": setting.max_participations,
            "min_separation": setting.min_separation,
        }
        return {name: value for name, value in promised.items() if value}
