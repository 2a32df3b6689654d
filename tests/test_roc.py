"""AUC, its intervals and TPR: by counting, by closed form and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.leakage import clusters, roc

GROUP = st.lists(st.integers(0, 5), min_size=2, max_size=12)


@given(GROUP, GROUP)
def test_auc_and_delong_are_what_counting_pairs_gives(mine: list[int], theirs: list[int]) -> None:
    members, others = np.array(mine, float), np.array(theirs, float)
    psi = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in theirs] for a in mine]
    area = sum(map(sum, psi)) / (len(mine) * len(theirs))
    assert roc.auc(members, others) == pytest.approx(area)
    rows = [sum(row) / len(theirs) for row in psi]
    columns = [sum(row[j] for row in psi) / len(mine) for j in range(len(theirs))]
    variance = sum((r - area) ** 2 for r in rows) / (len(rows) - 1) / len(rows)
    variance += sum((c - area) ** 2 for c in columns) / (len(columns) - 1) / len(columns)
    assert roc.delong_variance(members, others) == pytest.approx(variance)
    found = roc.delong(members, others)
    if 0 < area < 1:
        half = 1.959964 * math.sqrt(variance)
        assert found.low == pytest.approx(max(0, area - half), abs=1e-6)
        assert found.high == pytest.approx(min(1, area + half), abs=1e-6)


def test_a_perfect_separation_is_no_certainty() -> None:
    found = roc.delong(np.arange(10.0) + 100, np.arange(5.0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 5))  # five disjoint pairs, all won
    assert roc.delong(np.arange(5.0), np.arange(10.0) + 100).high == pytest.approx(
        1 - 0.025 ** (1 / 5)
    )


def test_scores_that_are_no_numbers_give_none() -> None:
    bad, good = np.array([1.0, math.nan]), np.array([0.0, 2.0])
    assert math.isnan(roc.auc(bad, good))
    assert math.isnan(roc.delong(good, np.empty(0)).value)
    assert math.isnan(clusters.clustered_auc(bad, good, bad, good, np.random.default_rng(0)).value)


@pytest.mark.parametrize(
    ("m", "n", "deviation"), [(500, 500, 0.0183), (1000, 1000, 0.0129), (100, 100, 0.0409)]
)
def test_the_null_deviation_is_the_published_one(m: int, n: int, deviation: float) -> None:
    assert roc.null_deviation(m, n) == pytest.approx(deviation, abs=5e-5)


# -- TPR at an FPR --------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 30, 200, 10**6])
def test_the_fpr_is_never_exceeded(levels: int) -> None:
    rng = np.random.default_rng(levels)
    others = rng.integers(0, levels, 1000).astype(float)
    members = rng.integers(0, levels + 10, 50).astype(float)
    bar = roc.threshold(others, 0.01)
    assert (others > bar).sum() <= 10
    lower = others[others < bar].max(initial=-math.inf)
    assert (others > lower).sum() > 10 or math.isinf(lower)  # no lower bar would keep it
    assert roc.tpr(members, others, 0.01).value == (members > bar).mean()


def test_an_fpr_of_too_few_nonmembers_is_not_resolvable() -> None:
    found = roc.tpr(np.arange(500.0), np.zeros(999), 0.01)
    assert math.isnan(found.value)
    assert found.note == "not resolvable: 1 % FPR needs 1,000 non-members, there are 999"
    assert roc.tpr(np.arange(500.0), np.zeros(1000), 0.01).value == 499 / 500
    assert "needs 10,000" in roc.tpr(np.arange(5.0), np.zeros(9999), 0.001).note
    assert roc.tpr(np.arange(5.0), np.zeros(10_000), 0.001).note == ""


def test_clopper_pearson_of_a_tpr() -> None:
    from scipy.stats import beta

    members = np.concatenate([np.ones(30), np.zeros(70)])
    found = roc.tpr(members, np.linspace(-1, 0.5, 1000), 0.01)
    assert found.value == 0.3
    assert found.low == pytest.approx(beta.ppf(0.025, 30, 71))
    assert found.high == pytest.approx(beta.ppf(0.975, 31, 70))


def test_the_curve_passes_through_the_rates() -> None:
    rng = np.random.default_rng(2)
    members, others = rng.normal(1, 1, 400), rng.normal(size=2000)
    fpr, tpr = roc.curve(members, others)
    assert (fpr[0], tpr[-1], fpr[-1]) == (0.0, 1.0, 1.0)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    at = np.flatnonzero(fpr <= 0.01)[-1]
    assert tpr[at] <= roc.tpr(members, others, 0.01).value
    # Its area is the AUC's, but for the thinning.
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc.auc(members, others), abs=0.01)


# -- clusters -------------------------------------------------------------------------------------


def test_the_bootstrap_draws_whole_users_on_both_sides() -> None:
    """By hand: the same resamples, with every sentence of a drawn user as often as the user."""
    rng = np.random.default_rng(5)
    members, others = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    of_member, of_other = np.sort(rng.integers(0, 7, 30)), 50 + np.sort(rng.integers(0, 5, 20))
    found = clusters.clustered_auc(
        members, others, of_member, of_other, np.random.default_rng(1), 200
    )
    assert found.value == pytest.approx(roc.auc(members, others))
    draws = np.random.default_rng(1)
    times = [
        draws.multinomial(len(np.unique(u)), [1 / len(np.unique(u))] * len(np.unique(u)), size=200)
        for u in (of_member, of_other)
    ]
    areas = []
    for i in range(200):
        sides = []
        for values, users, counts in ((members, of_member, times[0]), (others, of_other, times[1])):
            each = dict(zip(np.unique(users), counts[i], strict=True))
            sides.append(np.repeat(values, [each[u] for u in users]))
        areas.append(roc.auc(*sides))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))


def test_alike_sentences_of_a_person_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(40), 30)
    scores = rng.normal(size=40)[users]  # all sentences of a person are the same
    mine = users < 20
    found = clusters.clustered_auc(
        scores[mine], scores[~mine], users[mine], users[~mine], np.random.default_rng(0)
    )
    naive = roc.delong(scores[mine], scores[~mine])
    assert found.high - found.low > 4 * (naive.high - naive.low)


def test_the_tprs_interval_covers_both_sources_of_doubt() -> None:
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(100), 25)
    scores = rng.normal(size=100)[users] + rng.normal(size=2500)
    mine = users < 50
    groups = scores[mine] + 1, scores[~mine]
    found = clusters.clustered_tpr(
        *groups, users[mine], users[~mine], 0.01, np.random.default_rng(0), 300
    )
    exact = roc.tpr(*groups, 0.01)
    assert found.value == exact.value
    assert found.low <= exact.low
    assert found.high > exact.high
    with_few = clusters.clustered_tpr(
        groups[0], groups[1][:500], users[mine], users[~mine][:500], 0.01, np.random.default_rng(0)
    )
    assert "not resolvable" in with_few.note


# -- ceilings -------------------------------------------------------------------------------------


def test_what_pure_dp_allows() -> None:
    for epsilon in (0.1, 1.0, 4.0):
        assert roc.most_auc(epsilon, 0.0) == pytest.approx(
            math.exp(epsilon) / (1 + math.exp(epsilon))
        )
    fprs = np.linspace(0, 1, 100_001)
    area = np.trapezoid([roc.most_tpr(f, 1.0, 0.1) for f in fprs], fprs)
    assert roc.most_auc(1.0, 0.1) == pytest.approx(area, abs=1e-6)
    assert roc.most_tpr(0.0, 3.0, 0.0) == 0.0
    assert roc.most_tpr(1.0, 3.0, 1e-5) == 1.0


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0, 300.0])
def test_a_gaussian_is_below_what_its_epsilon_allows(epsilon: float) -> None:
    from dp_accounting import get_epsilon_gaussian

    mu = roc.gaussian_mu(epsilon, 1e-5)
    assert get_epsilon_gaussian(1 / mu, 1e-5) == pytest.approx(epsilon, rel=1e-6)
    assert roc.gaussian_auc(mu) <= roc.most_auc(epsilon, 1e-5)
    for fpr in (1e-4, 0.01, 0.3):
        assert roc.gaussian_tpr(fpr, mu) <= roc.most_tpr(fpr, epsilon, 1e-5) + 1e-12
