"""Private selection: never below what the best of a Poisson number of runs really tells."""

from __future__ import annotations

import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedsim.config import load
from fedsim.privacy.accountants import compose
from fedsim.privacy.events import Event
from fedsim.privacy.selection import (
    COMPOSITION,
    COMPOSITION_OF_SEEDS,
    PRIVATE_SELECTION,
    costs_less,
    search_and_runs,
    select,
)
from fedsim.search_space import Range
from fedsim.studies import tuning
from fedsim.studies.cells import Plan
from fedsim.studies.tuning import Search, draws, selects_privately

SAMPLED = (Event("poisson", 1.0, 1000, rate=0.01),)


# -- accounting -----------------------------------------------------------------------------------


def test_the_figures_of_dp_accounting() -> None:
    """And those of the specification: one run 2.437, a Poisson number, 10 in the mean, 4.671."""
    event = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.01, dp.GaussianDpEvent(1.0)), 1000)
    for after in ((), SAMPLED):
        accountant = RdpAccountant(np.arange(2, 200))
        accountant.compose(RepeatAndSelectDpEvent(event, 10, math.inf))
        if after:
            accountant.compose(event)
        found = select(SAMPLED, 10, after, 1e-6)
        assert found is not None
        assert found.epsilon == pytest.approx(accountant.get_epsilon(1e-6), rel=0.005)
    alone = select(SAMPLED, 10, (), 1e-6)
    assert alone is not None
    assert alone.epsilon == pytest.approx(4.671, rel=0.006)


@pytest.mark.parametrize("mean", [2.0, 8.0, 50.0])
@pytest.mark.parametrize("noise", [0.7, 2.0, 6.0])
def test_what_the_best_tells_is_within_the_bound(mean: float, noise: float) -> None:
    """The score is the noisy sum itself, which its owner moves by one: the whole law is known.

    P(best <= t) = exp(-mean (1 - F(t))), and with chance exp(-mean) there is none.
    """
    delta, t = 1e-5, np.linspace(-12 * noise, 14 * noise + 1, 400_001)

    def best(moved: float) -> np.ndarray:
        law = norm(moved, noise)
        return mean * law.pdf(t) * np.exp(-mean * law.sf(t)) * (t[1] - t[0])

    without, present = best(0.0), best(1.0)
    for p, q in ((present, without), (without, present)):

        def excess(epsilon: float, p: np.ndarray = p, q: np.ndarray = q) -> float:
            return float(np.maximum(p - math.exp(epsilon) * q, 0).sum()) - delta

        exact = brentq(excess, 0, 60) if excess(0) > 0 else 0.0
        found = select((Event("gaussian", noise),), mean, (), delta)
        assert found is not None
        assert exact < found.epsilon
        assert compose([Event("gaussian", noise)], delta).epsilon < found.epsilon


def test_the_smaller_bound_is_taken_and_named() -> None:
    made = [SAMPLED] * 10
    both = search_and_runs(SAMPLED, made, 10, SAMPLED, 1e-6)
    assert both.accountant == PRIVATE_SELECTION
    assert costs_less(SAMPLED, 10, SAMPLED, 1e-6)
    assert both.epsilon < compose(SAMPLED * 11, 1e-6).epsilon
    halved = search_and_runs(SAMPLED, made, 0, SAMPLED, 1e-6)
    assert halved.accountant.startswith(f"{COMPOSITION} (dominating pairs compose")
    assert halved.epsilon == compose(SAMPLED * 11, 1e-6).epsilon
    for drawn in (0, 1, 30):  # which nobody may learn from the figure or from its theorem
        assert search_and_runs(SAMPLED, [SAMPLED] * drawn, 10, SAMPLED, 1e-6) == both
    cut = (Event("truncated", 2.0, 60, rate=0.02, users=1000, cut=40),)
    assert select(cut, 8, cut, 1e-5) is None
    assert not costs_less(cut, 8, cut, 1e-5)
    alone = search_and_runs(SAMPLED, [], 0, SAMPLED * 2, 1e-6)
    assert alone.accountant.startswith(COMPOSITION_OF_SEEDS), "nothing was searched"


def test_a_vocabulary_is_released_once_and_takes_its_chance_of_delta() -> None:
    words = Event("threshold", 8.0, chance=4e-7)
    once = (Event("gaussian", 8.0), *SAMPLED)
    found = search_and_runs((words, *SAMPLED), [(words, *SAMPLED)] * 3, 10, (words, *SAMPLED), 1e-6)
    bare = select(SAMPLED, 10, once, 6e-7)
    assert bare is not None
    assert found.accountant == PRIVATE_SELECTION
    assert found.epsilon == pytest.approx(bare.epsilon, rel=1e-6)
    composed = search_and_runs((words, *SAMPLED), [(words, *SAMPLED)] * 3, 0, (words,), 1e-6)
    assert composed.epsilon == pytest.approx(compose([*SAMPLED * 3, once[0]], 6e-7).epsilon)


# -- the search -----------------------------------------------------------------------------------

RANGES = {"client.lr": Range(0.3, 6.0), "optimizer.lr": Range(0.1, 3.0)}


def test_trials_are_a_poisson_number_of_independent_draws() -> None:
    searches = [draws(RANGES, 8, str(number)) for number in range(2000)]
    counts = np.array([len(values) for values in searches])
    assert counts.mean() == pytest.approx(8, abs=5 * (8 / 2000) ** 0.5)
    assert counts.var() == pytest.approx(8, rel=0.2)
    values = np.array([[np.log(v[key]) for key in sorted(RANGES)] for s in searches for v in s])
    assert abs(np.corrcoef(values.T)[0, 1]) < 5 / len(values) ** 0.5
    firsts = np.log([s[0]["client.lr"] for s in searches if s])
    low, high = np.log(0.3), np.log(6.0)
    assert firsts.mean() == pytest.approx((low + high) / 2, abs=5 * (high - low) / 12**0.5 / 44)
    assert draws(RANGES, 8, "0") == searches[0]


@pytest.mark.parametrize(
    ("keys", "private"),
    [
        (["privacy=dp-fedavg", "privacy.epsilon=8"], True),
        (["privacy=blt", "privacy.noise_multiplier=1", "server.sampler=cyclic"], True),
        (["privacy=dp-fedavg"], False),
        (["privacy=local", "privacy.epsilon=8"], False),
        (["privacy=dp-sgd", "privacy.epsilon=8"], False),
        ([], False),
    ],
)
def test_whose_search_is_a_private_selection(keys: list[str], private: bool, tiny: str) -> None:
    """Who sees every update sees the trials' too: nothing of them is hidden."""
    assert selects_privately(load(tiny, keys)) is private


def test_a_private_search_stops_nobody_early_and_keeps_its_own_values_where_none_was_drawn(
    tiny: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(("fedavg",), tiny, ("privacy=dp-fedavg", "privacy.epsilon=8"))
    (cell,) = plan.cells()
    search = tuning.search_of(plan, cell, 6, tmp_path)
    assert isinstance(search, Search)
    assert search.mean == 6
    assert search.due == dict.fromkeys(range(len(search.designed)), 4), "all of them, to the end"
    search.tell({trial: 0.1 + 0.01 * trial for trial in search.due})
    assert search.due == {}
    assert search.chosen == search.designed[-1]
    monkeypatch.setattr(tuning, "draws", lambda *_: [])
    none = tuning.search_of(plan, cell, 7, tmp_path)
    assert isinstance(none, Search)
    assert none.due == {}
    assert none.chosen == tuning.own_values(plan.config(cell, 1), list(none.ranges))
