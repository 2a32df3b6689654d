"""Cohorts: their laws, and that they are functions of (seed, round) alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from fedsim.errors import FedsimError
from server.sampling import SAMPLERS, Draw, most_participations, sample_cohort

POPULATION = np.array([3, 4, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71])
ROUNDS = range(1, 2001)


def draw(size: int, seed: int = 1, round: int = 1) -> Draw:
    """Of the population here, in three groups, and never more than 8 where that is a bound."""
    return Draw(POPULATION, size, seed, round, max_cohort=8, groups=3)


def cohorts(sampler: str, size: int, seed: int = 1) -> list[np.ndarray]:
    """The cohorts of two thousand rounds."""
    return [sample_cohort(sampler, draw(size, seed, r)) for r in ROUNDS]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_cohorts_hold_different_users_of_the_population_in_order(sampler: str) -> None:
    for cohort in cohorts(sampler, 6):
        assert np.isin(cohort, POPULATION).all()
        assert (np.diff(cohort) > 0).all()


@pytest.mark.parametrize("sampler", ["fixed", "poisson"])
def test_everyone_is_as_likely_as_everyone_else(sampler: str) -> None:
    counts = np.bincount(np.concatenate(cohorts(sampler, 6)), minlength=72)[POPULATION]
    chance = 6 / 20
    variance = len(ROUNDS) * chance * (1 - chance)
    squares = ((counts - len(ROUNDS) * chance) ** 2).sum() / variance
    # Poisson: 20 independent counts. Fixed: counts that sum to a constant, covariance
    # -variance/19, so the squares times 19/20 have 19 degrees of freedom.
    if sampler == "poisson":
        p_value = stats.chi2.sf(squares, 20)
    else:
        p_value = stats.chi2.sf(squares * 19 / 20, 19)
    assert 0.001 < p_value < 0.999


def test_a_fixed_cohort_has_its_size_and_pairs_are_as_often_together_as_chance_says() -> None:
    found = cohorts("fixed", 6)
    assert {len(c) for c in found} == {6}
    together = sum(3 in c and 71 in c for c in found)
    chance = 6 * 5 / (20 * 19)
    assert stats.binomtest(together, len(found), chance).pvalue > 0.001


def test_poisson_cohorts_have_binomial_sizes_and_independent_users() -> None:
    found = cohorts("poisson", 6)
    sizes = np.array([len(c) for c in found])
    observed = np.bincount(sizes, minlength=21)
    expected = stats.binom.pmf(np.arange(21), 20, 6 / 20) * len(ROUNDS)
    rare = expected < 8  # joined, so that the chi-square law holds
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert stats.chisquare(observed, expected).pvalue > 0.001
    # A fixed size has variance 0, with replacement it would have 6: binomial is 20 * .3 * .7.
    assert sizes.var() == pytest.approx(4.2, rel=0.15)
    together = sum(3 in c and 71 in c for c in found)
    assert stats.binomtest(together, len(found), 0.09).pvalue > 0.001


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_cohort_is_a_function_of_seed_and_round(sampler: str) -> None:
    first = cohorts(sampler, 6)
    np.random.default_rng(0).random(1000)  # what happens between rounds must not matter
    for r in (2000, 1, 777):
        again = sample_cohort(sampler, draw(6, round=r))
        assert np.array_equal(again, first[r - 1])
    others = cohorts(sampler, 6, seed=2)
    same = sum(np.array_equal(a, b) for a, b in zip(first, others, strict=True))
    # Cyclic has ten different cohorts, and small groups are often empty in both.
    assert same < (10 if sampler in ("fixed", "poisson", "truncated") else 200)  # of 2000


def test_a_truncated_cohort_is_a_poisson_one_up_to_its_bound() -> None:
    free, bound = cohorts("poisson", 6), cohorts("truncated", 6)
    cut = 0
    for a, b in zip(free, bound, strict=True):
        assert len(b) == min(len(a), 8)
        assert np.isin(b, a).all()
        cut += len(a) > 8
    assert cut > 100, "the bound never mattered"
    kept = np.bincount(np.concatenate(bound), minlength=72)[POPULATION]
    assert stats.chisquare(kept).pvalue > 0.001, "who is cut off depends on who it is"


def test_cyclic_cohorts_keep_everyones_rounds_apart() -> None:
    """By hand: 20 users, 6 a round, 2000 rounds: 600 rounds each, 3 apart or 4."""
    rounds_of: dict[int, list[int]] = {int(user): [] for user in POPULATION}
    for round, cohort in enumerate(cohorts("cyclic", 6), 1):
        assert len(cohort) == 6
        for user in cohort:
            rounds_of[int(user)].append(round)
    assert {len(rounds) for rounds in rounds_of.values()} == {600}
    gaps = {b - a for rounds in rounds_of.values() for a, b in itertools.pairwise(rounds)}
    assert gaps == {3, 4}
    assert most_participations("cyclic", draw(6), 7) == 3  # 42 places for 20 users


def test_groups_take_turns_and_flip_coins_within() -> None:
    found = cohorts("groups", 4)
    members = [set(np.concatenate(found[turn::3]).tolist()) for turn in range(3)]
    assert sorted(map(len, members)) == [6, 7, 7]
    assert set().union(*members) == set(POPULATION.tolist())
    counts = np.bincount(np.concatenate(found), minlength=72)[POPULATION]
    chance, rounds = 3 * 4 / 20, len(ROUNDS) / 3
    deviation = np.sqrt(rounds * chance * (1 - chance))
    assert np.abs(counts - rounds * chance).max() < 4 * deviation
    sizes = np.array([len(c) for c in found[0::3]])
    assert sizes.var() == pytest.approx(len(members[0]) * chance * (1 - chance), rel=0.25)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_most_frequent_user_is_counted(sampler: str) -> None:
    counts = np.bincount(np.concatenate(cohorts(sampler, 6)[:50]))
    assert most_participations(sampler, draw(6), 50) == counts.max()


@pytest.mark.parametrize("sampler", ["fixed", "poisson", "cyclic"])
def test_the_whole_population_can_take_part_but_not_more(sampler: str) -> None:
    assert np.array_equal(sample_cohort(sampler, draw(20)), POPULATION)
    with pytest.raises(FedsimError, match="21 is more than the 20 users"):
        sample_cohort(sampler, draw(21))
