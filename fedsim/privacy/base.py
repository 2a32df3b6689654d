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
from fedsim.privacy.contributions import Draw
from fedsim.privacy.events import Event
from fedsim.privacy.key_stream import KeyStream
from fedsim.privacy.plan import Plan, checked, default_delta, largest_cohort
from fedsim.registry import Registry
from fedsim.updates import Aggregate, Contribution

State = dict[str, np.ndarray]
MECHANISMS: Registry[type[Mechanism]] = Registry("privacy mechanism")


@dataclass(frozen=True)
class Setting:
    """What a mechanism must know of a run beside its own options."""

    key: bytes  # that the server's noise is drawn from; empty where nothing is released
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
    before: tuple[Event, ...] = ()  # what was released of the users before round 1

    @property
    def largest_cohort(self) -> int:
        """What no round has more users than, but once in 10^9."""
        if self.sampler in ("poisson", "groups"):
            return largest_cohort(self.users, self.cohort)
        return self.max_cohort if self.sampler == "truncated" else self.cohort


class Mechanism:
    """Both halves of a mechanism, and the guarantee that they give together.

    Clients need `contribution` only, which is why it is a class method. `options` are those of
    the resolved config: the noise is known.
    """

    Options: ClassVar[type[Options]]
    unit: ClassVar[str] = "user"  # of privacy: user, update or sequence
    samplers: ClassVar[tuple[str, ...]]  # that it can be accounted under, the best first
    # Whether who is drawn must be secret; else the seed decides alone.
    draws_in_secret: ClassVar[bool] = False
    clients_draw: ClassVar[bool] = False  # noise, so that they are told what to call the run
    arithmetic: ClassVar[str] = ""  # of its noise, for the statement
    always_steps: ClassVar[bool] = False  # by a fixed denominator, whoever completes
    # Of one that has no noise: which has, and what to set for it.
    instead: ClassVar[tuple[str, str]] = ("", "")
    without_effect: ClassVar[tuple[str, ...]] = ()  # config keys that nothing reads under it

    def __init__(self, options: Any, setting: Setting) -> None:
        self.options = options
        self.setting = setting

    @classmethod
    def contribution(
        cls, options: Any, work: Mapping[str, Any], size: int, draw: Draw | None = None
    ) -> Contribution:
        """How a user's update enters the sum of the round that `work` describes.

        `work` has the round and what `Mechanism.work` adds; `size` is the number of parameters;
        `draw` gives each user's own stream of noise, on a client. Unless a mechanism says
        otherwise, as without one.
        """
        return Contribution()

    @property
    def never_stops(self) -> bool:
        """Whether a run goes on whoever fails: who does must not decide whether it ends."""
        return self.always_steps or getattr(self.options, "noise_multiplier", 0.0) > 0

    @property
    def population(self) -> int:
        """The users that delta must be small against."""
        return self.setting.users

    def stream(self, purpose: str, index: int) -> KeyStream:
        """The server's own stream for one purpose and round."""
        if not self.setting.key:
            raise ValueError("a mechanism that releases something needs a key")
        return KeyStream(self.setting.key, purpose, index)

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

    def check(self) -> None:
        """Raises FedsimError where the sampler cannot do what the config says of it."""
        setting = self.setting
        promised = setting.sampler == "cyclic"
        checked(
            Plan(
                mechanism="banded" if setting.sampler == "groups" else "gaussian",
                noise_multiplier=1.0,
                delta=default_delta(setting.users),
                users=setting.users,
                cohort=setting.cohort,
                rounds=setting.rounds,
                sampler=setting.sampler,
                participations=(setting.max_participations or None) if promised else None,
                min_separation=((setting.min_separation if promised else setting.groups) or None),
                max_cohort=setting.max_cohort if setting.sampler == "truncated" else None,
                options={"bands": 1} if setting.sampler == "groups" else {},
            )
        )

    def noise_for(self, epsilon: float) -> float:
        """The smallest noise multiplier that keeps epsilon over all rounds."""

        def epsilon_of(noise_multiplier: float) -> float:
            found = self.guarantee(noise_multiplier, self.setting.rounds)
            return found.epsilon if found else math.inf

        return least_noise(epsilon_of, epsilon)

    def beside(self, participations: np.ndarray) -> dict[str, Any]:
        """What its statement says beside the guarantee, from the rounds of each user by id."""
        return {}


@dataclass(frozen=True)
class Release:
    """What leaves the trusted server in a round."""

    mean: np.ndarray | None  # float32; None where nothing is to be applied
    state: State
    facts: Mapping[str, float]  # clip norm, noise, share clipped: not private, for the tables
