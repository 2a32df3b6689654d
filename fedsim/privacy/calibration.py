"""The least noise, the most rounds or the largest cohort that keep a privacy budget.

All answers are on the safe side: the epsilon of the plan with the answer in it is at most the
target. The search is made on a coarser discretisation, which overstates epsilon a little, and
finished on the one that a guarantee is stated with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.accountants import compose
from fedsim.privacy.accounting import events_of
from fedsim.privacy.plan import LEAST_NOISE, Plan, checked

TOLERANCE = 1e-3  # of a noise multiplier, relative
_MOST_NOISE = 1e6
_MOST_ROUNDS = 10_000_000
_COARSE = 10.0

LEAST_EPSILON, MOST_EPSILON = 1e-6, 1e6  # beyond them accountants have no digits left


def noise_for(plan: Plan, epsilon: float) -> float:
    """The smallest noise multiplier that keeps epsilon, at most 0.1 % too large.

    The plan's own noise multiplier is not looked at.
    """
    _check_budget(epsilon)
    plan = checked(dataclasses.replace(plan, noise_multiplier=1.0))
    if not plan.rounds:
        return 0.0

    def kept(grid: float) -> Callable[[float], bool]:
        return lambda z: _epsilon(dataclasses.replace(plan, noise_multiplier=z), grid) <= epsilon

    guess = _least(kept(_COARSE), 1.0, factor=2.0)
    found = _least(kept(1.0), guess, factor=1 + TOLERANCE) if guess < _MOST_NOISE else guess
    if found >= _MOST_NOISE:
        raise FedsimError(
            f"epsilon = {epsilon:g} is out of reach even with noise_multiplier = "
            f"{_MOST_NOISE:g}; raise epsilon, or lower the rounds or the cohort."
        )
    return found


def least_noise(epsilon_of: Callable[[float], float], epsilon: float) -> float:
    """The same for a mechanism that is no plan, from its epsilon by noise multiplier."""
    _check_budget(epsilon)
    found = _least(lambda z: epsilon_of(z) <= epsilon, 1.0, factor=2.0)
    if found >= _MOST_NOISE:
        raise FedsimError(
            f"epsilon = {epsilon:g} is out of reach even with noise_multiplier = "
            f"{_MOST_NOISE:g}; raise epsilon, or lower the rounds."
        )
    return found


def rounds_for(plan: Plan, epsilon: float) -> int:
    """The most rounds that keep epsilon at the plan's noise; its own rounds are not looked at."""
    found = _most_that_keep(plan, "rounds", epsilon, _MOST_ROUNDS)
    if found == _MOST_ROUNDS:
        raise FedsimError(
            f"Even {found:,} rounds keep epsilon = {epsilon:g}; lower noise_multiplier = "
            f"{plan.noise_multiplier:g}, or choose the rounds yourself."
        )
    return found


def cohort_for(plan: Plan, epsilon: float) -> int:
    """The largest cohort that keeps epsilon at the plan's noise; its own is not looked at."""
    return _most_that_keep(plan, "cohort", epsilon, plan.users)


def _most_that_keep(plan: Plan, name: str, epsilon: float, limit: int) -> int:
    _check_budget(epsilon)
    checked(_with(plan, name, 1))  # what is wrong whatever the number

    def kept(grid: float) -> Callable[[int], bool]:
        def keeps(number: int) -> bool:
            try:
                tried = checked(_with(plan, name, number))
            except FedsimError:  # more than the population can give
                return False
            return _epsilon(tried, grid) <= epsilon

        return keeps

    if not kept(1.0)(1):
        raise FedsimError(
            f"epsilon = {epsilon:g} is out of reach with noise_multiplier = "
            f"{plan.noise_multiplier:g}, even with {name} = 1; raise noise_multiplier or epsilon."
        )
    return _most(kept(1.0), _most(kept(_COARSE), 1, limit), limit)


def _with(plan: Plan, name: str, value: Any) -> Plan:
    return dataclasses.replace(plan, **{name: value})


def _epsilon(plan: Plan, grid: float) -> float:
    return compose(events_of(plan)[0], plan.delta, grid).epsilon


def _least(keeps: Callable[[float], bool], start: float, factor: float) -> float:
    """The smallest number that keeps, to the tolerance, between the limits of a noise multiplier.

    Steps away from `start` by a growing factor, then halves the bracket.
    """
    low = high = start
    if keeps(start):
        while high > LEAST_NOISE:
            low = max(high / factor, LEAST_NOISE)
            if not keeps(low):
                break
            high, factor = low, min(factor**2, 8.0)
    else:
        while True:
            high = min(low * factor, _MOST_NOISE)
            if high == _MOST_NOISE or keeps(high):
                break
            low, factor = high, min(factor**2, 8.0)
    while high / low > 1 + TOLERANCE and high < _MOST_NOISE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _most(keeps: Callable[[int], bool], start: int, limit: int) -> int:
    """The largest number up to `limit` that keeps, where 1 does; `start` is a guess."""
    low, step = (start, 1) if keeps(start) else (1, 1)
    high = low + step
    while high <= limit and keeps(high):
        low, step = high, 2 * step
        high = min(low + step, limit) if low < limit else limit + 1
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _check_budget(epsilon: float) -> None:
    if not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
        raise FedsimError(
            f"epsilon = {epsilon:g} is no budget; give a number from {LEAST_EPSILON:g} to "
            f"{MOST_EPSILON:g}, such as 4."
        )
