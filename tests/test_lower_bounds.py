"""Printed epsilons against lower bounds by brute force: pairs that differ by one user."""

from __future__ import annotations

import numpy as np
import pytest
from lower_bounds import cells, epsilon_at_least
from scipy.stats import binom

from fedsim.privacy.accounting import guarantee
from fedsim.privacy.plan import Plan, default_delta


@pytest.mark.parametrize(
    ("users", "cohort", "rounds", "z", "needed"),
    [(1_000, 20, 2_000, 10.0, 0.385), (100, 10, 100, 4.0, 0.764)],
)
def test_epsilon_is_of_a_user_zeroed_out_and_would_be_false_of_one_removed(
    users: int, cohort: int, rounds: int, z: float, needed: float
) -> None:
    """A user sends -C where all others send +C. One user fewer are drawn at the rate m / (N - 1).

    That moves the sum twice as far as zeroing out the user does.
    """
    delta, rate = default_delta(users), cohort / users
    printed = guarantee(Plan("gaussian", z, delta, users, cohort, rounds, "poisson")).epsilon

    def sums(among: int, chance: float) -> list[tuple[float, float]]:
        drawn = np.arange(4 * cohort + 40)
        return list(zip(binom.pmf(drawn, among, chance), drawn, strict=True))

    def bound(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> float:
        ends = (-1, 4 * cohort + 40)
        return epsilon_at_least([(cells(z, one, *ends), cells(z, other, *ends), rounds)], delta,
                                points=1 << 17)  # fmt: skip

    others = sums(users - 1, rate)
    with_user = [(w * (1 - rate), s) for w, s in others] + [(w * rate, s - 1) for w, s in others]
    assert bound(with_user, sums(users - 1, cohort / (users - 1))) > needed > 1.5 * printed
    assert bound(with_user, others) < printed
    alone = bound([(1 - rate, 0.0), (rate, 1.0)], [(1.0, 0.0)])
    assert 0.95 * printed < alone <= printed, "nobody else sends anything: the worst case"
