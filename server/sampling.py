"""Which users take part in a round: a pure function of (seed, round)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim.errors import FedsimError
from fedsim.registry import Registry
from fedsim.seeding import stream

Sampler = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
SAMPLERS: Registry[Sampler] = Registry("sampler")


@SAMPLERS.register("fixed")
def fixed(population: np.ndarray, cohort: int, rng: np.random.Generator) -> np.ndarray:
    """`cohort` users without replacement."""
    if cohort > len(population):
        raise FedsimError(
            f"server.cohort = {cohort} is more than the {len(population)} users that there are; "
            "lower it."
        )
    return rng.choice(population, cohort, replace=False)


@SAMPLERS.register("poisson")
def poisson(population: np.ndarray, cohort: int, rng: np.random.Generator) -> np.ndarray:
    """Each user by its own coin, `cohort` in expectation; the cohort may be empty."""
    if cohort > len(population):
        raise FedsimError(
            f"server.cohort = {cohort} is more than the {len(population)} users that there are; "
            "lower it."
        )
    return population[rng.random(len(population)) < cohort / len(population)]


def sample_cohort(
    sampler: str, population: np.ndarray, cohort: int, seed: int, round: int
) -> np.ndarray:
    """The users of one round, ascending."""
    return np.sort(SAMPLERS[sampler](population, cohort, stream(seed, "cohort", round)))
