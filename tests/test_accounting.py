"""Accounting: integrals and convolutions by hand, dp-accounting's own calls, published numbers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import RDPAccountant
from scipy.special import logsumexp
from scipy.stats import binom, norm

from fedsim.errors import FedsimError
from fedsim.privacy import calibration
from fedsim.privacy.accountants import fixed_size_pld
from fedsim.privacy.accounting import (
    Guarantee,
    example_epsilon,
    guarantee,
    ledger_epsilon,
    local_epsilon,
)
from fedsim.privacy.events import Event, events_from
from fedsim.privacy.plan import Plan, checked, default_delta
from fedsim.privacy.renyi import rdp_of, renyi


def plan(**changed: Any) -> Plan:
    """A run that is quickly accounted."""
    usual = {"mechanism": "gaussian", "noise_multiplier": 4.0, "delta": 1e-6, "users": 100_000,
             "cohort": 1_000, "rounds": 200, "sampler": "poisson"}  # fmt: skip
    return Plan(**(usual | changed))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle & Wang 2018, theorem 8: of N(mu, 1) from N(0, 1)."""
    return float(
        norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    )


# -- sampled cohorts ------------------------------------------------------------------------------


def composed_delta(
    epsilon: float, upper: np.ndarray, lower: np.ndarray, rounds: int, step: float
) -> float:
    """Hockey stick of `rounds` independent outputs, by an FFT over losses rounded to the nearest.

    `upper` and `lower` are probabilities of the same cells.
    """
    upper, lower = (cell[(upper > 0) & (lower > 0)] for cell in (upper, lower))
    loss = np.rint(np.log(upper / lower) / step).astype(int)
    size = 1 << 18
    mass = np.zeros(size)
    np.add.at(mass, loss % size, upper)
    total = np.fft.irfft(np.fft.rfft(mass) ** rounds, size).clip(0)
    losses = step * (np.fft.fftfreq(size) * size)
    return float((total * -np.expm1(epsilon - losses))[losses > epsilon].sum())


def cells(z: float, *mixture: tuple[float, float]) -> np.ndarray:
    """Probabilities of a fine grid of outputs under sum_i weight_i N(mean_i, z^2)."""
    edges = np.linspace(-9 * z - 1, 9 * z + 1, 40_001)
    return sum(weight * np.diff(norm.cdf(edges, mean, z)) for weight, mean in mixture)


def test_poisson_epsilon_is_that_of_the_trade_off_integrated_by_hand() -> None:
    stated = guarantee(plan())
    q, z = 0.01, 4.0
    without, with_user = cells(z, (1, 0)), cells(z, (1 - q, 0), (q, 1))
    both = (
        composed_delta(stated.epsilon, with_user, without, 200, 1e-5),
        composed_delta(stated.epsilon, without, with_user, 200, 1e-5),
    )
    assert max(both) == pytest.approx(1e-6, rel=0.01)
    assert stated.epsilon_rdp is not None
    assert stated.epsilon < stated.epsilon_rdp < 1.5 * stated.epsilon
    assert stated.amplified


@pytest.mark.parametrize(("users", "cohort", "z", "rounds"), [(10_000, 100, 4.0, 12),
                                                              (1_000, 500, 16.0, 6)])  # fmt: skip
def test_poisson_agrees_with_the_library_called_round_by_round(
    users: int, cohort: int, z: float, rounds: int
) -> None:
    accountant = PLDAccountant()
    for _ in range(rounds):
        accountant.compose(dp.PoissonSampledDpEvent(cohort / users, dp.GaussianDpEvent(z)))
    stated = guarantee(
        plan(users=users, cohort=cohort, noise_multiplier=z, rounds=rounds, delta=1e-5)
    )
    assert stated.epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=2e-3)


def test_a_known_run() -> None:
    """The settings of section 1.2 of the design: poisson 2.12, fixed size 15.5 to 17.0."""
    known = plan(noise_multiplier=1.0, rounds=1_000)
    poisson = guarantee(known)
    assert poisson.epsilon == pytest.approx(2.1245, abs=2e-4)
    assert poisson.epsilon_rdp == pytest.approx(2.4367, abs=2e-3)
    fixed = guarantee(dataclasses.replace(known, sampler="fixed"))
    assert 15.5 < fixed.epsilon < 17.0
    assert fixed.epsilon_rdp is not None
    assert fixed.epsilon < fixed.epsilon_rdp
    assert fixed.adjacency == "replace one user; the number of users is public"


def test_truncation_that_never_happens_costs_nothing_and_a_tight_one_much() -> None:
    small = plan(users=1_000, cohort=20, delta=1e-4, rounds=20)
    loose = guarantee(dataclasses.replace(small, sampler="truncated"))
    tight = guarantee(dataclasses.replace(small, sampler="truncated", max_cohort=22))
    assert loose.epsilon == pytest.approx(guarantee(small).epsilon, rel=1e-3)
    assert tight.epsilon > 1.1 * loose.epsilon
    assert tight.epsilon_rdp is None
    assert tight.adjacency == "zero out one user; the number of users is public"
    cut = checked(dataclasses.replace(small, sampler="truncated")).max_cohort
    assert cut is not None
    assert binom.sf(cut, 1_000, 0.02) <= 1e-9 < binom.sf(cut - 1, 1_000, 0.02)


def test_fixed_size_bounds_a_pair_of_data_sets_over_many_rounds() -> None:
    """One user sends +C instead of -C while all others send 0: that pair must not cost more."""
    stated = guarantee(plan(sampler="fixed"))
    q, z = 0.01, 4.0
    plus, minus = cells(z, (1 - q, 0), (q, 1)), cells(z, (1 - q, 0), (q, -1))
    assert composed_delta(stated.epsilon, plus, minus, 200, 1e-5) < 1e-6
    # Poisson's epsilon would not do.
    assert composed_delta(guarantee(plan()).epsilon, plus, minus, 200, 1e-5) > 1e-6


def test_fixed_size_bounds_every_small_data_set() -> None:
    """All values +-1 of five users, two drawn: one round's divergence, integrated, by brute force.

    The bound is reached where all others stand at -C and one moves to +C.
    """
    z, users, cohort = 0.8, 5, 2
    loss = fixed_size_pld(z, cohort / users, 1e-3)
    draws = list(itertools.combinations(range(users), cohort))

    def outputs(values: tuple[int, ...]) -> np.ndarray:
        return cells(z, *[(1 / len(draws), sum(values[i] for i in draw)) for draw in draws])

    largest = dict.fromkeys((0.0, 0.5, 1.0, 2.0), 0.0)
    for others in itertools.product((-1, 1), repeat=users - 1):
        one, other = outputs((1, *others)), outputs((-1, *others))
        for epsilon, (p, q) in itertools.product(largest, ((one, other), (other, one))):
            divergence = float(np.maximum(p - math.exp(epsilon) * q, 0).sum())
            assert divergence <= loss.get_delta_for_epsilon(epsilon) * (1 + 1e-6) + 1e-9
            largest[epsilon] = max(largest[epsilon], divergence)
    for epsilon, divergence in largest.items():
        assert divergence == pytest.approx(loss.get_delta_for_epsilon(epsilon), rel=0.01)


def test_a_million_rounds_at_a_low_rate_are_close_to_their_limit() -> None:
    """Dong, Roth & Su 2022, corollary 4: a Gaussian mechanism, in the limit of many rounds."""
    stated = guarantee(plan(users=10**7, delta=1e-8, rounds=10**6))
    mu = 1e-4 * math.sqrt(10**6 * math.expm1(1 / 16))
    assert stated.epsilon == pytest.approx(dp.get_epsilon_gaussian(1 / mu, 1e-8), rel=0.02)


# -- cyclic cohorts and correlated noise ----------------------------------------------------------


@pytest.mark.parametrize(
    ("users", "cohort", "rounds"),
    [(10, 3, 11), (12, 4, 9), (7, 7, 5), (23, 5, 40), (9, 2, 3), (11, 6, 20)],
)
def test_what_a_cyclic_sampler_keeps_by_walking_through_it(
    users: int, cohort: int, rounds: int
) -> None:
    seen: dict[int, list[int]] = {}
    for t in range(1, rounds + 1):
        for position in range((t - 1) * cohort, t * cohort):
            seen.setdefault(position % users, []).append(t)
    kept = checked(plan(sampler="cyclic", users=users, cohort=cohort, rounds=rounds, delta=1e-3))
    assert kept.participations == max(len(turns) for turns in seen.values())
    gaps = [int(gap) for turns in seen.values() for gap in np.diff(turns)]
    assert min(gaps, default=kept.min_separation) == kept.min_separation


def test_cyclic_epsilon_is_one_gaussian() -> None:
    stated = guarantee(plan(sampler="cyclic", rounds=450))
    assert stated.participations == 5
    assert gaussian_delta(stated.epsilon, math.sqrt(5) / 4) == pytest.approx(1e-6, rel=1e-6)
    assert stated.rho == pytest.approx(5 / 32)
    # Bun & Steinke 2016, proposition 1.3, is looser still.
    classical = stated.rho + 2 * math.sqrt(stated.rho * math.log(1e6))
    assert stated.epsilon_rdp is not None
    assert stated.epsilon < stated.epsilon_rdp < classical
    assert not stated.amplified


def gboard() -> Guarantee:
    """The Spanish Gboard model of Google's blog of February 2022.

    Its notebook (google-research/federated, dp_ftrl/blogpost_supplemental_privacy_accounting)
    gives 2,000 rounds, 6 participations and 313 rounds strictly between two of them, b = 314.
    The population is not published; 2.2 million is one that can keep both.
    """
    return guarantee(plan(mechanism="tree", sampler="cyclic", users=2_200_000, cohort=6_500,
                          rounds=2_000, noise_multiplier=7.0, delta=1e-10,
                          participations=6, min_separation=314))  # fmt: skip


def test_gboard_spanish_as_published() -> None:
    stated = gboard()
    assert f"{stated.rho:.2f}" == "0.81"
    assert f"{stated.epsilon_rdp:.2f}" == "8.90"
    mu = math.sqrt(2 * (stated.rho or 0))
    assert gaussian_delta(stated.epsilon, mu) == pytest.approx(1e-10, rel=1e-6)
    assert stated.epsilon == pytest.approx(8.526, abs=1e-3)


def test_one_participation_in_a_tree_costs_its_depth() -> None:
    stated = guarantee(plan(mechanism="tree", sampler="cyclic", rounds=64))
    assert stated.participations == 1
    assert stated.sensitivity**2 == pytest.approx(7)
    assert stated.rho == pytest.approx(7 / 32)
    assert gaussian_delta(stated.epsilon, math.sqrt(7) / 4) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("mechanism", ["sqrt", "banded", "blt"])
def test_other_strategies_pay_their_sensitivity(mechanism: str) -> None:
    options = {"banded": {"bands": 8}, "blt": {"buffers": 2}}.get(mechanism, {})
    stated = guarantee(
        plan(
            mechanism=mechanism,
            sampler="cyclic",
            users=10_000,
            rounds=30,
            options=options,
            delta=1e-5,
        )
    )
    assert (stated.participations, stated.min_separation) == (3, 10)
    assert gaussian_delta(stated.epsilon, stated.sensitivity / 4) == pytest.approx(1e-5, rel=1e-6)
    if mechanism == "banded":
        assert stated.sensitivity**2 == pytest.approx(3), "columns of norm 1 that never meet"


def test_groups_take_turns() -> None:
    """Banded noise over ten groups: a user's group is sampled at ten times the rate, a tenth as
    often (Choquette-Choo et al. 2023, theorem 4)."""
    stated = guarantee(
        plan(
            mechanism="banded",
            sampler="groups",
            min_separation=10,
            rounds=205,
            options={"bands": 4},
        )
    )
    same = guarantee(plan(cohort=10_000, rounds=21))
    assert stated.epsilon == pytest.approx(same.epsilon, rel=1e-6)
    assert stated.adjacency == "zero out one user; the number of users is public"


# -- the cross-check, and what a reader can compose by hand ---------------------------------------


def renyi_by_integration(z: float, q: float, orders: np.ndarray) -> np.ndarray:
    """Of (1 - q) N(0, z^2) + q N(1, z^2) from N(0, z^2), on a grid that is fine enough."""
    x = np.linspace(-9 * z, orders.max() + 9 * z, 8_001)
    log_ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * z * z))
    moments = orders[:, None] * log_ratio + norm.logpdf(x, 0, z)
    return logsumexp(moments, b=x[1] - x[0], axis=1) / (orders - 1)


def test_the_cross_check_is_at_the_best_of_all_orders() -> None:
    """Random settings, against 400 orders by integration: less than 0.05 % above."""
    rng = np.random.default_rng(16)
    orders = 1 + np.geomspace(0.0101, 60, 400)
    for _ in range(8):
        z, q = 10 ** rng.uniform(-0.3, 0.7), 10 ** rng.uniform(-3.5, -0.1)
        rounds, delta = int(10 ** rng.uniform(0, 4)), 10 ** rng.uniform(-9, -3)
        found = renyi([Event("poisson", z, rounds, rate=q)], delta)[0]
        curve = rounds * renyi_by_integration(z, q, orders)
        converted = curve + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
        assert found <= 1.0005 * converted.min(), (z, q, rounds, delta)


@pytest.mark.parametrize(("z", "q", "order"), [(3.0, 0.4, 2.5), (1.0, 0.01, 1.5), (0.2, 0.1, 3.3)])
def test_a_divergence_between_whole_orders_is_the_integral(
    z: float, q: float, order: float
) -> None:
    found = rdp_of([Event("poisson", z, 3, rate=q)], [order])
    assert found == pytest.approx(3 * renyi_by_integration(z, q, np.array([order])), rel=1e-6)


CLOSED_FORMS: list[tuple[dict[str, Any], float, float | None]] = [
    ({}, 200 / (2 * 16), None),
    ({"sampler": "truncated"}, 200 / (2 * 16), None),
    ({"sampler": "fixed"}, 2 * 200 / 16, None),
    ({"sampler": "poisson", "cohort": 100_000}, 200 / (2 * 16), math.sqrt(200) / 4),
    ({"sampler": "fixed", "cohort": 100_000}, 2 * 200 / 16, 2 * math.sqrt(200) / 4),
    ({"sampler": "cyclic"}, 2 / (2 * 16), math.sqrt(2) / 4),
    ({"mechanism": "tree", "sampler": "cyclic", "rounds": 64}, 7 / (2 * 16), math.sqrt(7) / 4),
    ({"mechanism": "banded", "sampler": "groups", "min_separation": 4,
      "options": {"bands": 2}}, 50 / (2 * 16), None),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "rho", "mu"), CLOSED_FORMS)
def test_rho_and_mu_in_closed_form(changed: dict[str, Any], rho: float, mu: float | None) -> None:
    """Zero out moves a sum by C, replacing by 2 C; who is drawn by chance has no mu."""
    stated = guarantee(plan(**changed))
    assert stated.rho == pytest.approx(rho)
    assert stated.mu == (None if mu is None else pytest.approx(mu))


@pytest.mark.parametrize("changed", [changed for changed, _, _ in CLOSED_FORMS])
def test_the_events_of_a_statement_compose_to_its_epsilon(changed: dict[str, Any]) -> None:
    """As somebody does who has the JSON and dp-accounting."""
    said = json.loads(json.dumps(guarantee(plan(**changed)).as_dict()))
    (event,) = said["events"]
    noise, count = event["noise_multiplier"], event["count"]
    assert said["rho"] == pytest.approx(count / (2 * noise**2))
    if event["kind"] == "fixed":  # which only the Renyi accountant composes
        made = dp.SampledWithoutReplacementDpEvent(event["users"], event["cohort"],
                                                   dp.GaussianDpEvent(noise))  # fmt: skip
        accountant = RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
        bound = accountant.compose(made, count).get_epsilon(1e-6)
        assert said["epsilon"] <= said["epsilon_rdp"] <= 1.0001 * bound
        return
    known = {
        "gaussian": lambda: dp.GaussianDpEvent(noise),
        "poisson": lambda: dp.PoissonSampledDpEvent(event["rate"], dp.GaussianDpEvent(noise)),
        "truncated": lambda: dp.TruncatedSubsampledGaussianDpEvent(
            event["users"], event["rate"], event["cut"], noise
        ),
    }
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL)
    epsilon = accountant.compose(known[event["kind"]](), count).get_epsilon(1e-6)
    assert said["epsilon"] == pytest.approx(epsilon, rel=2e-3)


def test_events_are_read_back_and_nonsense_is_refused() -> None:
    stated = guarantee(plan(sampler="truncated"))
    told = json.loads(json.dumps(stated.as_dict()["events"]))
    assert events_from(told) == stated.events
    for broken in ({"kind": "laplace", "noise_multiplier": 1.0}, {"noise": 3}, {},
                   {"kind": "poisson", "noise_multiplier": 1.0},
                   {"kind": "poisson", "noise_multiplier": 1.0, "rate": 2.0},
                   {"kind": "gaussian", "noise_multiplier": "inf"}):  # fmt: skip
        with pytest.raises(FedsimError):
            events_from([broken])


# -- clients --------------------------------------------------------------------------------------


def test_example_epsilon_of_a_ledger_carried_over_rounds() -> None:
    """Eight sequences in batches of four: q = 1/2, two steps a round; Opacus' RDP gives 3.7515,
    5.2806 and 6.5035 after one, two and three rounds."""
    history: list[tuple[float, float, int]] = []
    for known in (3.7515, 5.2806, 6.5035):
        history.append((1.0, 0.5, 2))
        opacus = RDPAccountant()
        opacus.history = [(1.0, 0.5, 2 * len(history))]
        loss = ledger_epsilon(history, 1e-3)
        assert opacus.get_epsilon(delta=1e-3) == pytest.approx(known, abs=5e-5)
        # Opacus' orders are whole tenths, and its series bounds more than the integral.
        assert known - 5e-3 < loss.epsilon_rdp < known + 5e-5
        assert loss.epsilon < loss.epsilon_rdp
    assert loss == example_epsilon(1.0, 0.5, 6, 1e-3)


def test_full_batches_are_the_plain_gaussian() -> None:
    loss = example_epsilon(8.0, 1.0, 20, 1e-5)
    assert gaussian_delta(loss.epsilon, math.sqrt(20) / 8) == pytest.approx(1e-5, rel=1e-2)


def test_a_ledger_may_hold_rounds_of_several_noises() -> None:
    mixed = [(4.0, 0.2, 3), (2.0, 0.2, 3), (4.0, 0.2, 3)]
    assert ledger_epsilon(mixed, 1e-5) == ledger_epsilon(mixed[::-1], 1e-5)
    assert ledger_epsilon([], 1e-5).epsilon == 0
    assert 0 < ledger_epsilon(mixed[:1], 1e-5).epsilon < ledger_epsilon(mixed, 1e-5).epsilon


def test_local_epsilon_is_for_updates_two_clip_norms_apart() -> None:
    assert gaussian_delta(local_epsilon(4.0, 3, 1e-5), 2 * math.sqrt(3) / 4) == pytest.approx(1e-5)
    assert local_epsilon(4.0, 0, 1e-5) == 0


# -- what is refused, and what is said ------------------------------------------------------------

CYCLIC_TREE = {"mechanism": "tree", "sampler": "cyclic"}
GROUPS = {"mechanism": "banded", "sampler": "groups"}

REFUSED = [
    ({"delta": 1e-5}, "take N^-1.1 = 3.16e-06"),
    ({"delta": 0.0}, "must be above 0"),
    ({"delta": math.nan}, "must be above 0"),
    ({"cohort": 100_001}, "more than the 100000 users"),
    ({"cohort": 0}, "must be 1 or more"),
    ({"rounds": -1}, "must be 0 or more"),
    ({"users": 1, "cohort": 1, "delta": 0.5}, "users"),
    ({"noise_multiplier": -1.0}, "usually between 0.3 and 10"),
    ({"noise_multiplier": math.nan}, "usually between 0.3 and 10"),
    ({"noise_multiplier": math.inf}, "usually between 0.3 and 10"),
    ({"mechanism": "tree"}, "take sampler 'cyclic', or mechanism 'gaussian'"),
    ({"mechanism": "blt", "sampler": "fixed"}, "take sampler 'cyclic'"),
    ({"mechanism": "sqrt", "sampler": "truncated"}, "take sampler 'cyclic'"),
    ({"mechanism": "banded"}, "take sampler 'groups'"),
    ({"sampler": "groups"}, "take mechanism 'banded', or sampler 'poisson'"),
    ({"mechanism": "tree", "sampler": "groups"}, "take mechanism 'banded', or sampler 'cyclic'"),
    ({"mechanism": "gausian"}, "did you mean 'gaussian'?"),
    ({"sampler": "poison"}, "did you mean 'poisson'?"),
    ({"participations": 3}, "take sampler 'cyclic'"),
    ({"sampler": "fixed", "min_separation": 3}, "take sampler 'cyclic'"),
    ({"max_cohort": 2_000}, "take sampler 'truncated'"),
    ({"sampler": "truncated", "max_cohort": 999}, "between the expected cohort 1000 and"),
    ({**CYCLIC_TREE, "rounds": 450, "participations": 4}, "allow 5, or make it 400 rounds"),
    ({**CYCLIC_TREE, "min_separation": 101}, "lower it to 100"),
    (GROUPS, "needs min_separation"),
    ({**GROUPS, "min_separation": 101}, "lower it to 100, or the cohort to 990"),
    ({**GROUPS, "min_separation": 4, "options": {"bands": 5}}, "lower it to 4"),
    ({"mechanism": "banded", "sampler": "cyclic", "options": {"bands": 101}}, "lower it to 100"),
    ({"options": {"bands": 4}}, "bands has no effect with mechanism 'gaussian'"),
    ({**CYCLIC_TREE, "options": {"bands": 4}}, "Unknown key 'bands'"),
]


@pytest.mark.parametrize(("changed", "said"), REFUSED)
def test_refused_with_the_fix(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(FedsimError) as error:
        guarantee(plan(**changed))
    assert said in str(error.value)


def test_warnings() -> None:
    assert guarantee(plan()).warnings == ()
    weak = guarantee(plan(sampler="cyclic", users=500, cohort=50, noise_multiplier=1.0, delta=1e-3))
    text = " ".join(weak.warnings)
    assert "more than 1/(10 N)" in text
    assert "few" in text
    assert "above 20" in text
    assert guarantee(plan(sampler="cyclic", delta=default_delta(100_000))).warnings == ()


EVERY_SAMPLER: list[dict[str, Any]] = [
    {}, {"sampler": "truncated"}, {"sampler": "fixed"}, {"sampler": "cyclic"}, CYCLIC_TREE,
    {**GROUPS, "min_separation": 4, "options": {"bands": 2}},
]  # fmt: skip


def test_little_noise_has_a_large_epsilon_that_json_can_hold() -> None:
    """Of one Gaussian with mu = sqrt(10) / 0.001, or a little less for who is drawn by chance."""
    tiny = guarantee(plan(noise_multiplier=0.001, rounds=10))
    assert 1e5 < tiny.epsilon <= dp.get_epsilon_gaussian(0.001 / math.sqrt(10), 1e-6)
    assert json.loads(json.dumps(tiny.as_dict(), allow_nan=False))["epsilon"] == tiny.epsilon


@pytest.mark.parametrize("changed", EVERY_SAMPLER)
def test_without_noise_epsilon_is_infinite_and_without_rounds_0(changed: dict[str, Any]) -> None:
    bare = guarantee(plan(**changed, noise_multiplier=0.0))
    assert bare.epsilon == bare.epsilon_rdp == bare.rho == bare.mu == math.inf
    said = json.loads(json.dumps(bare.as_dict(), allow_nan=False))
    assert said["epsilon"] == said["rho"] == "inf"
    nothing = guarantee(plan(**changed | {"rounds": 0}))
    assert nothing.epsilon == nothing.epsilon_rdp == nothing.rho == nothing.mu == 0
    assert nothing.events == ()
    assert guarantee(plan(**changed | {"rounds": 0}, noise_multiplier=0.0)).epsilon == 0
    assert guarantee(plan(**changed | {"rounds": 1}, noise_multiplier=1e-30)).epsilon > 1e50


def test_ledgers_and_local_noise_of_nothing() -> None:
    assert ledger_epsilon([(0.0, 0.2, 3)], 1e-5).epsilon == math.inf
    assert ledger_epsilon([(0.0, 0.2, 0), (0.0, 0.0, 3)], 1e-5).epsilon == 0
    assert local_epsilon(0.0, 3, 1e-5) == math.inf
    assert local_epsilon(0.0, 0, 1e-5) == 0
    with pytest.raises(FedsimError, match="0 or more"):
        local_epsilon(-1.0, 3, 1e-5)
    with pytest.raises(FedsimError, match="0 or more"):
        ledger_epsilon([(math.nan, 0.2, 3)], 1e-5)


# -- calibration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sampler": "cyclic"},
        {"mechanism": "tree", "sampler": "cyclic", "rounds": 64},
        pytest.param(
            {"sampler": "fixed", "users": 2_000, "cohort": 20, "delta": 1e-4, "rounds": 20},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_least_noise_keeps_the_budget_and_a_little_less_does_not(
    changed: dict[str, Any],
) -> None:
    z = calibration.noise_for(plan(**changed), 2.0)
    assert guarantee(plan(**changed, noise_multiplier=z)).epsilon <= 2.0
    assert guarantee(plan(**changed, noise_multiplier=z / 1.002)).epsilon > 2.0


def test_cyclic_noise_in_closed_form() -> None:
    exact = dp.get_sigma_gaussian(1.5, 1e-6) * math.sqrt(2)
    z = calibration.noise_for(plan(sampler="cyclic"), 1.5)
    assert exact <= z <= 1.001 * exact


@pytest.mark.parametrize("sampler", [pytest.param("poisson", marks=pytest.mark.slow), "cyclic"])
@pytest.mark.parametrize("name", ["rounds", "cohort"])
def test_the_most_rounds_and_the_largest_cohort(name: str, sampler: str) -> None:
    solve = {"rounds": calibration.rounds_for, "cohort": calibration.cohort_for}[name]
    asked = plan(sampler=sampler, noise_multiplier=3.0)
    found = solve(asked, 1.5)
    assert guarantee(dataclasses.replace(asked, **{name: found})).epsilon <= 1.5
    assert guarantee(dataclasses.replace(asked, **{name: found + 1})).epsilon > 1.5


def test_a_cap_on_participations_ends_the_rounds() -> None:
    asked = plan(sampler="cyclic", noise_multiplier=50.0, participations=2)
    assert calibration.rounds_for(asked, 8.0) == 200


@pytest.mark.parametrize(
    ("solve", "changed", "epsilon", "said"),
    [
        (calibration.rounds_for, {"sampler": "cyclic", "noise_multiplier": 0.1}, 1.0, "raise"),
        (calibration.cohort_for, {"sampler": "cyclic", "noise_multiplier": 0.1}, 1.0, "raise"),
        (calibration.noise_for, {}, 0.0, "give a number from"),
        (calibration.noise_for, {}, math.inf, "give a number from"),
        (calibration.noise_for, {"sampler": "cyclic", "rounds": 10**9}, 1e-6, "out of reach"),
        (calibration.noise_for, {"cohort": 10**6}, 1.0, "lower it"),
        (calibration.rounds_for, {"noise_multiplier": 0.0}, 8.0, "raise noise_multiplier"),
    ],
)
def test_budgets_out_of_reach(solve: Any, changed: dict[str, Any], epsilon: float,
                              said: str) -> None:  # fmt: skip
    with pytest.raises(FedsimError, match=said):
        solve(plan(**changed), epsilon)
