"""What a user's presence changes at least, mechanism by mechanism, from what is sampled and added.

Nothing here is an accountant's: cohorts are walked through, noise is taken from the mechanism as a
matrix, and the two runs that differ by one user are written down as mixtures of Gaussians.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from lower_bounds import Pair, cells, epsilon_at_least, gaussian_epsilon
from scipy.stats import binom

from fedsim.privacy.base import Mechanism
from fedsim.privacy.mechanisms.adaptive import Adaptive
from fedsim.privacy.mechanisms.ftrl import Ftrl

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
        return epsilon_at_least([poisson(z, options.sample_rate, count)], delta)
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
        return epsilon_at_least([poisson(z, rate, rounds)], delta)
    sums = truncated if setting.sampler == "truncated" else fixed
    return max(
        epsilon_at_least([sums(mechanism, z, others, rounds)], delta) for others in (-1, 0, 1)
    )


def patterns(mechanism: Mechanism) -> set[tuple[int, ...]]:
    """The rounds, from 0, of each user that a sampler without secrets draws; see `schedule`."""
    setting = mechanism.setting
    rounds: dict[int, list[int]] = {}
    for round in range(setting.rounds):
        for user in schedule(setting, round):
            rounds.setdefault(user, []).append(round)
    return {tuple(turns) for turns in rounds.values()}


def schedule(setting: Any, round: int) -> list[int]:
    """Who takes part: the next in turn, or a draw that is the same each time it is asked for."""
    if setting.sampler == "cyclic":
        first = round * setting.cohort
        return [place % setting.users for place in range(first, first + setting.cohort)]
    rng = np.random.default_rng([setting.users, setting.cohort, round])
    if setting.sampler == "fixed":
        return rng.choice(setting.users, setting.cohort, replace=False).tolist()
    groups = setting.groups or 1
    coins = rng.random(setting.users) < groups * setting.cohort / setting.users
    drawn = np.flatnonzero(coins & (np.arange(setting.users) % groups == round % groups))
    if setting.sampler == "truncated":
        return rng.permutation(drawn)[: setting.max_cohort].tolist()
    return drawn.tolist()


def poisson(z: float, rate: float, count: int) -> Pair:
    """A user, or none, among others who send nothing."""
    with_user = cells(z, [(1 - rate, 0.0), (rate, 1.0)], 0, 1)
    return with_user, cells(z, [(1.0, 0.0)], 0, 1), count


def fixed(mechanism: Mechanism, z: float, others: int, count: int) -> Pair:
    """+C in the place of -C, where all others send `others` C."""
    m = mechanism.setting.cohort
    rate = m / mechanism.setting.users
    one, other = (
        cells(z, [(1 - rate, others * m), (rate, others * (m - 1) + own)], *_ends(others, m))
        for own in (1, -1)
    )
    return one, other, count


def truncated(mechanism: Mechanism, z: float, others: int, count: int) -> Pair:
    """A user who sends C or nothing; what is above the cut is left out by chance."""
    setting = mechanism.setting
    cut, rate = setting.max_cohort, setting.cohort / setting.users
    chances: dict[tuple[int, int], float] = {}  # (others that are kept, whether the user is)
    for drawn in range(setting.users):
        chance = binom.pmf(drawn, setting.users - 1, rate)
        kept = rate * min(1.0, cut / (drawn + 1))
        for key, share in (((min(drawn, cut), 0), 1 - kept), ((min(drawn, cut - 1), 1), kept)):
            chances[key] = chances.get(key, 0.0) + float(chance * share)
    one, other = (
        cells(z, [(c, others * k + own * u) for (k, u), c in chances.items()],
              *_ends(others, cut))
        for own in (1, 0)
    )  # fmt: skip
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
    return epsilon_at_least([poisson(z / norm, rate, 1) for norm in norms], delta)
