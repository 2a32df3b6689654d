"""Which users take part in a round: a pure function of (seed, round), never of anybody's text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fedsim.errors import FedsimError
from fedsim.registry import Registry
from fedsim.seeding import stream


@dataclass(frozen=True)
class Draw:
    """What a sampler may use."""

    population: np.ndarray
    cohort: int
    seed: int
    round: int  # from 1
    max_cohort: int = 0
    groups: int = 0
    secret: str = ""  # what nobody else knows, where nobody else may know who is drawn

    @property
    def stream(self) -> np.random.Generator:
        """The round's own."""
        return stream(self.seed, f"cohort{self.secret}", self.round)

    def order(self) -> np.ndarray:
        """The population in an order that is the same in every round."""
        return stream(self.seed, f"order of users{self.secret}").permutation(self.population)


Sampler = Callable[[Draw], np.ndarray]
SAMPLERS: Registry[Sampler] = Registry("sampler")


@SAMPLERS.register("fixed")
def fixed(draw: Draw) -> np.ndarray:
    """`cohort` users without replacement."""
    return draw.stream.choice(draw.population, draw.cohort, replace=False)


@SAMPLERS.register("poisson")
def poisson(draw: Draw) -> np.ndarray:
    """Each user by its own coin, `cohort` in expectation; the cohort may be empty."""
    return _coins(draw.population, draw.cohort / len(draw.population), draw.stream)


@SAMPLERS.register("truncated")
def truncated(draw: Draw) -> np.ndarray:
    """As Poisson, but of more than `max_cohort` users so many are kept, by chance."""
    rng = draw.stream
    chosen = _coins(draw.population, draw.cohort / len(draw.population), rng)
    if len(chosen) > draw.max_cohort:
        chosen = rng.choice(chosen, draw.max_cohort, replace=False)
    return chosen


@SAMPLERS.register("cyclic")
def cyclic(draw: Draw) -> np.ndarray:
    """The next `cohort` users of an order that stays, round and round.

    So a user's rounds are at least floor(users / cohort) apart, and nobody takes part more than
    ceil(rounds x cohort / users) times (checked by `fedsim.privacy.plan`).
    """
    first = (draw.round - 1) * draw.cohort
    return draw.order()[np.arange(first, first + draw.cohort) % len(draw.population)]


@SAMPLERS.register("groups")
def groups(draw: Draw) -> np.ndarray:
    """`groups` fixed groups take turns; in its round, each user of a group by its own coin.

    `cohort` in expectation, as near as equal groups can be.
    """
    mine = draw.order()[(draw.round - 1) % draw.groups :: draw.groups]
    return _coins(mine, draw.groups * draw.cohort / len(draw.population), draw.stream)


def _coins(users: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    return users[rng.random(len(users)) < chance]


def sample_cohort(sampler: str, draw: Draw) -> np.ndarray:
    """The users of one round, ascending."""
    if draw.cohort > len(draw.population):
        raise FedsimError(
            f"server.cohort = {draw.cohort} is more than the {len(draw.population)} users that "
            "there are; lower it."
        )
    return np.sort(SAMPLERS[sampler](draw))


def most_participations(sampler: str, first: Draw, rounds: int) -> int:
    """How often the user that is drawn most often takes part in the rounds 1 to `rounds`."""
    counts = np.zeros(int(first.population.max(initial=-1)) + 1, np.int64)
    for round in range(1, rounds + 1):
        counts[sample_cohort(sampler, replace(first, round=round))] += 1
    return int(counts.max(initial=0))
