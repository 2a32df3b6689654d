"""A mechanism: what it does to an update, to the sum, and what an accountant makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedsim.options import Options
from fedsim.privacy.accounting import Guarantee
from fedsim.privacy.calibration import least_noise
from fedsim.registry import Registry
from fedsim.updates import Aggregate, Contribution

State = dict[str, np.ndarray]
MECHANISMS: Registry[type[Mechanism]] = Registry("privacy mechanism")


@dataclass(frozen=True)
class Setting:
    """What a mechanism must know of a run beside its own options."""

    seed: int
    users: int  # that may be sampled: N
    cohort: int  # expected or fixed: m
    rounds: int  # T
    sampler: str
    max_cohort: int  # of the truncated sampler
    groups: int  # of the sampler of that name
    min_separation: int  # promised for the cyclic sampler; 0: what it gives
    max_participations: int  # the same
    size: Callable[[], int]  # of the model: its parameters
    most_sequences: Callable[[], int]  # of one user
    most_participations: Callable[[int], int]  # of one user, in the schedule of so many rounds


class Mechanism:
    """Both halves of a mechanism, and the guarantee that they give together.

    Clients need `contribution` only, which is why it is a class method. `options` are those of
    the resolved config: the noise is known.
    """

    Options: ClassVar[type[Options]]
    unit: ClassVar[str] = "user"  # of privacy: user, update or sequence
    samplers: ClassVar[tuple[str, ...]]  # that it can be accounted under, the best first
    without_effect: ClassVar[tuple[str, ...]] = ()  # config keys that nothing reads under it

    def __init__(self, options: Any, setting: Setting) -> None:
        self.options = options
        self.setting = setting

    @classmethod
    def contribution(
        cls, options: Any, seed: int, work: Mapping[str, Any], size: int
    ) -> Contribution:
        """How a user's update enters the sum of the round that `work` describes.

        `work` has the round and what `Mechanism.work` adds; `size` is the number of parameters.
        """
        raise NotImplementedError

    @property
    def population(self) -> int:
        """The users that delta must be small against."""
        return self.setting.users

    def work(self, state: State) -> dict[str, float]:
        """What clients are told of a round beside the model."""
        return {}

    def initial_state(self, size: int) -> State:
        """The state before round 1: arrays whose names, types and shapes stay."""
        return {}

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """The mean update that the server steps with, and the state for the next round."""
        raise NotImplementedError

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """What the first `rounds` rounds give with that noise; None where they give nothing.

        Raises FedsimError where the specification allows no such claim.
        """
        raise NotImplementedError

    def noise_for(self, epsilon: float) -> float:
        """The smallest noise multiplier that keeps epsilon over all rounds."""

        def epsilon_of(noise_multiplier: float) -> float:
            found = self.guarantee(noise_multiplier, self.setting.rounds)
            return found.epsilon if found else math.inf

        return least_noise(epsilon_of, epsilon)

    def guarantee_of_runs(
        self, noise_multiplier: float, rounds: int, runs: int
    ) -> Guarantee | None:
        """What so many runs of the same settings give together, such as those of a search."""
        return self.guarantee(noise_multiplier, rounds * runs)

    def beside(self, participations: np.ndarray) -> dict[str, Any]:
        """What its statement says beside the guarantee, from the rounds of each user by id."""
        return {}


@dataclass(frozen=True)
class Release:
    """What leaves the trusted server in a round."""

    mean: np.ndarray | None  # float32; None where nothing is to be applied
    state: State
    facts: Mapping[str, float]  # clip norm, noise, share clipped: not private, for the tables
