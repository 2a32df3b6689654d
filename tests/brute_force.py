"""What a user's presence changes at least, mechanism by mechanism, from what is sampled and added.

Nothing here is an accountant's: cohorts are those that the server's samplers draw, or their law
where they are secret, noise is taken from the mechanism as a matrix, and the two runs that differ
by one user are written down as mixtures of Gaussians.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lower_bounds import Pair, cells, epsilon_at_least, gaussian_epsilon
from scipy.stats import binom

from fedsim.privacy.base import Mechanism
from fedsim.privacy.mechanisms.adaptive import Adaptive
from fedsim.privacy.mechanisms.ftrl import Ftrl
from server.sampling import Draw, sample_cohort

SEED = 11  # of the cohorts
POINTS = 1 << 13  # of a loss: a hundredth below what is known with more
MOST_SIGNS = 7  # participations whose signs are all tried


def epsilon_of(mechanism: Mechanism, delta: float, z: float) -> float:
    """At least that of the user whose presence shows most, for all rounds of the setting."""
    setting = mechanism.setting
    name = type(mechanism).__name__
    if name == "Local":  # +C in the place of -C
        often = max(map(len, patterns(mechanism)))
        return gaussian_epsilon(2 * math.sqrt(often) / z, delta)
    if name == "DpSgd":
        options: Any = mechanism.options
        count = max(map(len, patterns(mechanism))) * options.steps
        return at_least([poisson(z, options.sample_rate, count)], delta)
    if isinstance(mechanism, Ftrl):
        strategy = rows_of_noise(mechanism)
        if setting.sampler == "groups":
            return in_groups(mechanism, strategy, delta, z)
        return gaussian_epsilon(farthest(mechanism, strategy) / z, delta)
    if isinstance(mechanism, Adaptive):  # a clipped update, and half a bit beside it
        scale = setting.cohort / mechanism.reported_cohort
        bits, updates = 2 * mechanism.bit_deviation * scale, mechanism.noise_on_update() * scale
        z = (updates**-2 + bits**-2) ** -0.5
    if setting.sampler == "cyclic":
        return gaussian_epsilon(math.sqrt(max(map(len, patterns(mechanism)))) / z, delta)
    rate, rounds = setting.cohort / setting.users, setting.rounds
    if setting.sampler == "poisson":
        return at_least([poisson(z, rate, rounds)], delta)
    sums = truncated if setting.sampler == "truncated" else fixed
    return max(at_least([sums(mechanism, z, others, rounds)], delta) for others in (-1, 0, 1))


def at_least(pairs: Sequence[Pair], delta: float) -> float:
    """See `epsilon_at_least`; fewer points hide a little more."""
    return epsilon_at_least(pairs, delta, POINTS)


def patterns(mechanism: Mechanism) -> set[tuple[int, ...]]:
    """The rounds, from 0, of each user that a sampler without secrets draws; see `schedule`."""
    setting = mechanism.setting
    rounds: dict[int, list[int]] = {}
    for round in range(setting.rounds):
        for user in schedule(setting, round):
            rounds.setdefault(user, []).append(round)
    return {tuple(turns) for turns in rounds.values()}


def schedule(setting: Any, round: int) -> list[int]:
    """Who takes part, by the server's own sampler."""
    first = draw_of_round(setting.users, setting.cohort, setting.max_cohort, setting.groups)
    return sample_cohort(setting.sampler, replace(first, round=round + 1)).tolist()


def draw_of_round(users: int, cohort: int, cut: int, groups: int, round: int = 1) -> Draw:
    """What the sampler may use in a round."""
    return Draw(np.arange(users), cohort, SEED, round, cut, groups)


Law = dict[tuple[int, int], float]  # (others that are drawn, whether the user is) -> its chance


def law_of(setting: Any) -> Law:
    """How a cohort comes out where nobody may know it, of one user and all others; under `groups`
    in a round of the user's group."""
    users, cohort = setting.users, setting.cohort
    if setting.sampler == "fixed":
        return {(cohort - user, user): abs(1 - user - cohort / users) for user in (0, 1)}
    among, rate = users, cohort / users
    if setting.sampler == "groups":
        among, rate = -(-users // setting.groups), setting.groups * rate
    cut = setting.max_cohort if setting.sampler == "truncated" else among
    chances: Law = {}
    for drawn in range(among):
        chance = float(binom.pmf(drawn, among - 1, rate))
        kept = rate * min(1.0, cut / (drawn + 1))
        for key, share in (((min(drawn, cut), 0), 1 - kept), ((min(drawn, cut - 1), 1), kept)):
            chances[key] = chances.get(key, 0.0) + chance * share
    return chances


def poisson(z: float, rate: float, count: int) -> Pair:
    """A user, or none, among others who send nothing."""
    with_user = cells(z, [(1 - rate, 0.0), (rate, 1.0)], 0, 1)
    return with_user, cells(z, [(1.0, 0.0)], 0, 1), count


def fixed(mechanism: Mechanism, z: float, others: int, count: int) -> Pair:
    """+C in the place of -C, where all others send `others` C."""
    return _with_others(mechanism.setting, z, others, (1, -1), count)


def truncated(mechanism: Mechanism, z: float, others: int, count: int) -> Pair:
    """A user who sends C or nothing; what is above the cut is left out by chance."""
    return _with_others(mechanism.setting, z, others, (1, 0), count)


def _with_others(setting: Any, z: float, others: int, own: tuple[int, int], count: int) -> Pair:
    """The sum where the user sends the one or the other of `own` C, all others `others` C."""
    law, ends = law_of(setting), _ends(others, setting.max_cohort or setting.cohort)
    one, other = (
        cells(z, [(c, others * k + sent * u) for (k, u), c in law.items()], *ends) for sent in own
    )
    return one, other, count


def _ends(others: int, cohort: int) -> tuple[int, int]:
    return min(-1, others * cohort - 1), max(1, others * cohort + 1)


def rows_of_noise(mechanism: Ftrl) -> np.ndarray:
    """(rounds, independent normals): what is added in each round, from the mechanism itself."""
    made, asked = mechanism.factorisation, []

    def run(fresh: Any, size: int) -> list[np.ndarray]:
        state, rows = made.initial_state(size), []
        for round in range(1, mechanism.setting.rounds + 1):
            row, state = made.noise(round, fresh, state)
            rows.append(np.asarray(row, np.float64))
        return rows

    run(lambda index: (asked.append(index), np.zeros(1))[1], 1)
    place = {index: at for at, index in enumerate(dict.fromkeys(asked))}
    return np.array(run(lambda index: np.eye(len(place))[place[index]], len(place)))


def farthest(mechanism: Ftrl, rows: np.ndarray) -> float:
    """How far apart, in deviations at z = 1, the whole is with and without a user: any that the
    cyclic order knows, and any that comes back as soon as it may, with all signs of its updates."""
    setting = mechanism.setting
    apart, most = (
        setting.users // setting.cohort,
        -(-setting.rounds * setting.cohort // setting.users),
    )
    tried = patterns(mechanism) | {
        tuple(range(first, setting.rounds, apart))[:most] for first in range(setting.rounds)
    }
    precision = np.linalg.inv(rows @ rows.T)
    largest = 0.0
    for turns in tried:
        block = precision[np.ix_(turns, turns)]
        free = min(len(turns), MOST_SIGNS) - 1
        for signs in itertools.product((1, -1), repeat=max(free, 0)):
            d = np.array([1, *signs, *([1] * (len(turns) - 1 - free))])[: len(turns)]
            largest = max(largest, float(d @ block @ d))
    return math.sqrt(largest)


def in_groups(mechanism: Mechanism, rows: np.ndarray, delta: float, z: float) -> float:
    """Of the first group, whose columns of the strategy never meet: each a coin of its own."""
    setting = mechanism.setting
    columns = np.linalg.inv(rows)[:, :: setting.groups]
    gram = columns.T @ columns
    assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    rate = setting.groups * setting.cohort / setting.users
    norms = np.sqrt(np.diag(gram))
    return at_least([poisson(z / norm, rate, 1) for norm in norms], delta)
