"""AUC and TPR over sentences, with intervals that draw whole users anew in both groups.

One person's sentences are not independent trials. DeLong's or Clopper and Pearson's interval over
them is too narrow by as much as a person's sentences are alike.
"""

from __future__ import annotations

import math

import numpy as np

from fedsim.leakage.intervals import LEVEL, bootstrap_over, wider_of
from fedsim.leakage.roc import DISJOINT_PAIRS, Estimate, certain, placements, tpr

RESAMPLES = 1000
BOOTSTRAP = bootstrap_over("users")


def clustered_auc(
    members: np.ndarray,
    nonmembers: np.ndarray,
    of_member: np.ndarray,
    of_nonmember: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The AUC of sentences' scores; of_member and of_nonmember: whose each score is.

    No interval where a group has fewer than two users.
    """
    if not len(members) or not len(nonmembers) or np.isnan([*members, *nonmembers]).any():
        return Estimate(math.nan, math.nan, math.nan, "")
    wins, rows, columns = _wins(members, nonmembers, of_member, of_nonmember)
    value = float(wins.sum() / (rows.sum() * columns.sum()))
    if min(len(rows), len(columns)) < 2:
        return Estimate(value, math.nan, math.nan, "")
    if value in (0.0, 1.0):
        # Every resample says so too. A pair of users that is won as a whole is one trial.
        low, high = certain(value, min(len(rows), len(columns)))
        return Estimate(value, low, high, DISJOINT_PAIRS)
    times = _times(len(rows), resamples, rng), _times(len(columns), resamples, rng)
    won = ((times[0] @ wins) * times[1]).sum(1)
    low, high = _percentiles(won / ((times[0] @ rows) * (times[1] @ columns)))
    return Estimate(value, low, high, BOOTSTRAP)


def clustered_tpr(
    members: np.ndarray,
    nonmembers: np.ndarray,
    of_member: np.ndarray,
    of_nonmember: np.ndarray,
    fpr: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The TPR at an FPR; its interval covers Clopper and Pearson's and the bootstrap's, in which
    the threshold is found anew each time."""
    exact = tpr(members, nonmembers, fpr)
    sides = [np.unique(users, return_inverse=True)[1] for users in (of_member, of_nonmember)]
    people = [int(side.max(initial=-1)) + 1 for side in sides]
    if math.isnan(exact.value) or min(people) < 2:
        return exact
    down = np.argsort(-members, kind="stable"), np.argsort(-nonmembers, kind="stable")
    scores = members[down[0]], nonmembers[down[1]]
    whose = sides[0][down[0]], sides[1][down[1]]
    found = np.empty(resamples)
    for i in range(resamples):
        times = [_times(count, 1, rng)[0][who] for count, who in zip(people, whose, strict=True)]
        passed = np.cumsum(times[1])
        first = int(np.searchsorted(passed, fpr * passed[-1] + 1e-9, side="right"))
        bar = scores[1][first] if first < len(scores[1]) else -math.inf
        found[i] = times[0][: np.searchsorted(-scores[0], -bar, side="left")].sum() / times[0].sum()
    low, high = _percentiles(found)
    interval = wider_of(exact.interval, BOOTSTRAP)
    return Estimate(exact.value, min(low, exact.low), max(high, exact.high), interval)


def _wins(
    members: np.ndarray, nonmembers: np.ndarray, of_member: np.ndarray, of_nonmember: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that each member user wins against each non-member user, ties one half, (m, n); and
    how many sentences each has, (m,) and (n,)."""
    users, mine = np.unique(of_member, return_inverse=True)
    others, theirs = np.unique(of_nonmember, return_inverse=True)
    sizes = np.bincount(theirs)
    wins = np.empty((len(users), len(others)))
    for j, size in enumerate(sizes):
        share, _ = placements(members, nonmembers[theirs == j])
        wins[:, j] = np.bincount(mine, share * size)
    return wins, np.bincount(mine), sizes


def _times(people: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each person is in each resample, float64 (resamples, people)."""
    chances = np.full(people, 1.0 / people)
    return rng.multinomial(people, chances, size=resamples).astype(np.float64)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))
