"""Empirical epsilon: the bounds against known truth, and the audit of builds right and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.federation import Federation, open_federation
from fedsim.leakage import audit_runs, auditing
from fedsim.leakage.auditing import Errors, Guesses
from fedsim.leakage.base import Findings, Subject
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.measures.epsilon import Epsilon, Promise, verdict
from fedsim.models import build
from fedsim.privacy.accountants import exact_gaussian
from fedsim.privacy.contributions import Clipped
from fedsim.privacy.mechanisms.adaptive import Adaptive
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.runs import Run
from fedsim.seeding import stream
from fedsim.simulation import simulate
from fedsim.steps import Heard, nobody
from fedsim.studies.audit import chosen
from fedsim.updates import UserResult

CHECKED = ("one-run audit", "error-rate audit", "one-shot audit")


# -- the bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKED)
def test_the_self_checks_pass(name: str) -> None:
    assert [c.truth for c in CHECKS[name]() if not c.passed] == []


def fails(name: str) -> bool:
    return any(not check.passed for check in CHECKS[name]())


def test_a_number_of_guesses_chosen_afterwards_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = auditing.guess

    def best(scores: np.ndarray, included: np.ndarray, made: int) -> Guesses:
        tried = [real(scores, included, r) for r in (50, 100, 200)]
        return max(tried, key=lambda g: auditing.one_run(g, 1e-5))

    monkeypatch.setattr(auditing, "guess", best)
    assert fails("one-run audit")


def test_a_threshold_chosen_on_the_tested_canaries_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auditing, "halves", lambda n, rng: (np.arange(n), np.arange(n)))
    assert fails("error-rate audit")


def test_an_alpha_that_is_not_halved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = auditing.highest_rate
    monkeypatch.setattr(auditing, "highest_rate", lambda k, n, alpha: real(k, n, 2 * alpha))
    assert fails("error-rate audit")


def test_a_fitted_deviation_passed_off_as_the_null_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = auditing.one_shot
    monkeypatch.setattr(
        auditing, "one_shot", lambda s, null, delta, fitted=True: real(s, null, delta)
    )
    assert fails("one-shot audit")


def test_a_forgotten_delta_term_is_noticed() -> None:
    """With delta > 0 fewer wrong claims are refuted, so the bound is lower."""
    found = Guesses(90, 100, 1000)
    assert (
        auditing.one_run(found, 1e-3) < auditing.one_run(found, 1e-5) < auditing.one_run(found, 0)
    )


@pytest.mark.parametrize(("correct", "made"), [(50, 100), (83, 100), (100, 100), (37, 40)])
def test_the_f_dp_bound_is_the_one_of_the_paper(correct: int, made: int) -> None:
    """Algorithm 3 written out with its tables, on a grid of claims."""
    canaries, alpha = 200, 0.05
    found = Guesses(correct, made, canaries)

    def refuted(mu: float) -> bool:
        h, r = np.zeros(correct + 1), np.zeros(correct + 1)
        h[correct] = alpha * (made - correct) / canaries
        r[correct] = alpha * correct / canaries
        for i in range(correct - 1, -1, -1):
            h[i] = max(h[i + 1], stats.norm.cdf(stats.norm.ppf(r[i + 1]) - mu))
            r[i] = min(1.0, r[i + 1] + i / (made - i) * (h[i] - h[i + 1]))
        return bool(r[0] + h[0] > made / canaries)

    grid = np.arange(0.002, 3, 0.02)
    mu = max((m for m in grid if refuted(m)), default=0.0)
    bound = auditing.one_run_gaussian(found, 1e-5)
    assert bound >= (exact_gaussian(1 / mu, 1e-5) if mu else 0.0) - 1e-9
    assert bound <= exact_gaussian(1 / (mu + 0.02), 1e-5)


@pytest.mark.parametrize("other", [(0.7, 1.0), (0.0, 1.3), (-0.4, 0.8), (0.0, 1.0)])
def test_two_gaussians_by_integration(other: tuple[float, float]) -> None:
    delta = 1e-3
    found = auditing.between_gaussians((0.0, 1.0), other, delta)
    x = np.linspace(-30, 30, 600_001)
    p, q = stats.norm.pdf(x), stats.norm.pdf(x, *other)

    def divergence(epsilon: float) -> float:
        one = np.maximum(p - math.exp(epsilon) * q, 0).sum()
        return float(max(one, np.maximum(q - math.exp(epsilon) * p, 0).sum()) * (x[1] - x[0]))

    assert divergence(found) <= delta * (1 + 1e-4)
    assert not found or divergence(found - 1e-3) > delta


def test_error_rates_that_say_nothing_bound_nothing() -> None:
    for bound in (auditing.from_errors, auditing.gaussian_from_errors):
        assert bound(Errors(1.0, 1.0), 1e-5) == 0
        assert bound(Errors(0.6, 0.6), 1e-5) == 0
        assert bound(Errors(0.5, 0.5), 1e-5) == 0


# -- the audit ------------------------------------------------------------------------------------

LARGER = ("engine.chunk=0", "model.hidden=24", "model.embedding=16")
SHARP = ("privacy=dp-fedavg", "server.sampler=poisson", "privacy.noise_multiplier=8",
         "privacy.delta=1e-5", *LARGER)  # fmt: skip
EVERYBODY = Epsilon()  # everybody in all four rounds: nothing is hidden, the bounds are tight


class Bench:
    """Trains in this process, so that a test can break the build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Run] = []

    def train(self, cells: Mapping[str, Config], heard: Heard = nobody) -> Mapping[str, Run]:
        """See `Workbench.train`."""
        made = {name: simulate(c, self.folder / name, quiet=True) for name, c in cells.items()}
        self.runs += made.values()
        return made

    def updates(self, *_: object) -> list[np.ndarray]:
        """Not asked for."""
        raise NotImplementedError


@pytest.fixture
def audited(tiny: str, tmp_path: Path) -> Callable[..., tuple[Findings, Run]]:
    """What `measure` finds on the tiny preset with overrides, and the last audit run."""

    def find(measure: Epsilon, *overrides: str) -> tuple[Findings, Run]:
        config = load(tiny, overrides)
        federation = open_federation(config)
        model = build(config.model.options, len(federation.corpus.vocabulary))
        bench = Bench(tmp_path / str(len(list(tmp_path.iterdir()))))
        took_part = np.zeros(federation.users, np.int32)
        found = measure.measure(Subject(model, config, federation, took_part, config.seed, bench))
        return found, bench.runs[-1]

    return find


def bounds(found: Findings) -> dict[str, float]:
    rows = [row for row in found.rows if row.quantity == "epsilon_lower_bound"]
    return {row.group.removeprefix("method="): row.estimate for row in rows}


def test_a_right_build_keeps_its_promise(audited: Callable) -> None:
    found, run = audited(EVERYBODY, *SHARP)
    proven = next(row for row in found.rows if row.quantity == "epsilon_proven")
    assert proven.estimate == pytest.approx(exact_gaussian(8 / 2, 1e-5), rel=0.01)
    assert run.privacy["guarantee"]["epsilon"] == proven.estimate
    assert found.broken == ""
    judged = next(row for row in found.rows if row.quantity == "epsilon_contradicted")
    assert judged.estimate == 0
    assert "does not contradict" in judged.note
    most = [row.estimate for row in found.rows if row.quantity == "epsilon_bound_most"]
    assert len(most) == 2
    assert min(most) > proven.estimate
    assert 0 <= max(bounds(found).values()) <= proven.estimate
    assert set(bounds(found)) == {"one-run", "one-run f-DP", "Clopper-Pearson", "GDP"}
    assert len(found.details["canaries"]) == 200


class Unclipped(Clipped):
    """On the grid of what is clipped, and as large as it came."""

    def add(self, flat: Any, total: Any, update: Any, *rest: Any) -> bool:
        """See `Contribution.add`."""
        flat.add_multiples(total, update, 1 / self.resolution)
        return True

    def reach(self, result: UserResult) -> float:
        """Anything."""
        return result.update_norm


def a_tenth_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the deviation that is stated."""
    for kind in (UserLevel, Adaptive):
        real = kind.noise_on_update
        monkeypatch.setattr(kind, "noise_on_update", lambda self, real=real: real(self) / 10)


def no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates enter the sum as they are, and the server lets them."""
    off = classmethod(lambda cls, options, work, *_: Unclipped(work["clip_norm"]))
    monkeypatch.setattr(UserLevel, "contribution", off)


def test_noise_divided_by_ten_is_caught(audited: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    a_tenth_of_the_noise(monkeypatch)
    found, _ = audited(EVERYBODY, *SHARP)
    assert "Implementation error" in found.broken


def test_clipping_that_is_off_is_caught(audited: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    no_clipping(monkeypatch)
    found, _ = audited(EVERYBODY, *SHARP)
    assert "Implementation error" in found.broken


@pytest.mark.slow
@pytest.mark.parametrize("build", ["right", "noise / 10", "no clipping"])
def test_builds_are_told_apart_in_every_seed(
    audited: Callable, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`benchmarks/audit_power.py` has more seeds."""
    if build == "noise / 10":
        a_tenth_of_the_noise(monkeypatch)
    if build == "no clipping":
        no_clipping(monkeypatch)
    accused = [bool(audited(EVERYBODY, *SHARP, f"seed={s}")[0].broken) for s in range(2, 7)]
    assert accused == [build != "right"] * 5


def test_clients_alone_that_do_not_clip_are_refused(
    audited: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server checks the norm of what comes, so that no canary gets through: no audit."""
    monkeypatch.setattr("fedsim.privacy.contributions.clip_factor", lambda norm, clip_norm: 1.0)
    with pytest.raises(FedsimError, match="No update canary completed"):
        audited(EVERYBODY, *SHARP)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("privacy=adaptive", "server.sampler=poisson", "privacy.noise_multiplier=4"),
        ("privacy=dp-fedavg", "server.sampler=cyclic"),
        ("privacy=dp-fedavg", "server.sampler=fixed"),
        ("privacy=dp-fedavg", "server.sampler=truncated", "optimizer=adam"),
        ("privacy=dp-fedavg", "server.sampler=cyclic", "privacy.secagg_bits=22"),
        ("privacy=tree", "server.sampler=cyclic"),
        ("privacy=sqrt", "server.sampler=cyclic"),
        ("privacy=banded", "server.sampler=cyclic"),
        ("privacy=blt", "server.sampler=cyclic"),
        ("privacy=banded", "server.sampler=groups", "server.groups=2"),
    ],
    ids=str,
)
def test_every_user_level_mechanism_keeps_its_promise(
    audited: Callable, overrides: tuple[str, ...]
) -> None:
    measure = Epsilon(rounds=12, cohort=60)
    found, _ = audited(measure, *SHARP[2:], *overrides)
    proven = next(row for row in found.rows if row.quantity == "epsilon_proven")
    assert found.broken == ""
    assert bounds(found)["one-run"] <= proven.estimate


@pytest.mark.parametrize(
    "overrides",
    [
        ("privacy=dp-fedavg", "server.sampler=cyclic"),
        ("privacy=adaptive", "server.sampler=poisson"),
        ("privacy=banded", "server.sampler=cyclic"),
        ("privacy=blt", "server.sampler=cyclic"),
    ],
    ids=str,
)
def test_every_mechanism_is_caught_without_its_noise(
    audited: Callable, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what the other tests find of them is not for want of power."""
    a_tenth_of_the_noise(monkeypatch)
    found, _ = audited(EVERYBODY, *SHARP[2:], *overrides)
    assert "Implementation error" in found.broken


def test_the_schedule_of_a_cyclic_sampler_makes_the_attack_stronger(audited: Callable) -> None:
    """Under correlated noise too: the sum over all rounds would tell much less."""
    overrides = (*SHARP, "privacy=tree", "server.sampler=cyclic", "privacy.noise_multiplier=2",
                 "privacy.delta=1e-5")  # fmt: skip
    found, _ = audited(Epsilon(rounds=12, cohort=20), *overrides)
    table = found.details["canaries"]
    known = table.score[table.included].mean() / table.score[~table.included].std()
    blind = table["sum"][table.included].mean() / table["sum"][~table.included].std()
    assert known > blind > 0
    assert bounds(found)["one-run f-DP"] > 0


def test_without_a_mechanism_nothing_is_promised_and_the_attack_is_measured(
    audited: Callable,
) -> None:
    found, _ = audited(EVERYBODY, *LARGER)
    proven = next(row for row in found.rows if row.quantity == "epsilon_proven")
    assert math.isnan(proven.estimate)
    assert "infinite" in proven.note
    assert bounds(found)["one-run"] > 3
    right = next(row for row in found.rows if row.quantity == "guesses_right")
    assert right.estimate > 0.95
    assert 0.3 < right.control < 0.7
    assert found.broken == ""


@pytest.mark.parametrize("name", ["dp-sgd", "local", "secagg"])
def test_what_is_not_audited_says_so(audited: Callable, name: str) -> None:
    with pytest.raises(FedsimError, match="is not audited"):
        audited(EVERYBODY, f"privacy={name}", *LARGER)


def test_too_many_canaries_or_guesses_are_refused(audited: Callable) -> None:
    with pytest.raises(FedsimError, match="has no room for 2000 canaries"):
        audited(Epsilon(canaries=2000), *SHARP)
    with pytest.raises(FedsimError, match="more than the 50 canaries"):
        audited(Epsilon(canaries=50), *SHARP)


def test_an_odd_number_of_guesses_is_refused() -> None:
    """Half of them say "in", half "out"."""
    with pytest.raises(FedsimError, match=r"epsilon\.guesses.*multiple of 2"):
        chosen(["epsilon"], ["epsilon.guesses=25"])


# -- the hook -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, Run]:
    config = load(tiny, ["privacy=dp-fedavg", "privacy.noise_multiplier=0.001",
                         "privacy.clip_norm=0.3", "engine.chunk=3"])  # fmt: skip
    audit = config.audit.model_copy(update={"update_canaries": 30})
    config = replace(config, audit=audit)
    run = simulate(config, tmp_path_factory.mktemp("audit") / "run", quiet=True)
    return open_federation(config), run


def test_audit_users_count_but_only_those_whose_coin_says_so_come(
    planted: tuple[Federation, Run],
) -> None:
    federation, run = planted
    assert run.privacy["users"] == len(federation.population) == 23 + 6 + 30
    ids, included = federation.audit_users, federation.audit.included
    assert 5 < included.sum() < 25
    table = run.table("audit")
    drawn = table[table.drawn]
    came = {(r, u) for r, u in zip(run.clients["round"], run.clients.user, strict=True)}
    for round, canary in zip(drawn["round"], drawn.canary, strict=True):
        assert ((round, ids[canary]) in came) == included[canary]
    assert drawn.canary[~included[drawn.canary]].any()
    absent = len(drawn) - included[drawn.canary].sum()
    assert run.rounds.users_sampled.sum() - run.rounds.users_completed.sum() == absent
    assert not run.rounds.users_failed.any()


def test_a_canary_arrives_with_exactly_the_clip_norm(planted: tuple[Federation, Run]) -> None:
    federation, run = planted
    table = run.table("audit")
    moved = table.projection * run.config.server.cohort / 0.3
    is_in = table.drawn & federation.audit.included[table.canary]
    assert moved[is_in].mean() == pytest.approx(1, abs=0.05)
    assert moved[~is_in].mean() == pytest.approx(0, abs=0.05)
    norms = run.clients[run.clients.user.isin(federation.audit_users)].update_norm
    assert norms.to_numpy() == pytest.approx(300, rel=1e-4)


def test_directions_are_of_norm_one_and_nearly_orthogonal() -> None:
    from fedsim.leakage.update_canaries import UpdateCanaries

    canaries = UpdateCanaries(40, 3)
    all_of_them = np.array([canaries.direction(i, 10_001) for i in range(40)], np.float64)
    products = all_of_them @ all_of_them.T
    assert np.diag(products) == pytest.approx(1, abs=1e-5)
    assert np.abs(products - np.eye(40)).max() < 0.05
    update = stream(1, "x").standard_normal(10_001).astype(np.float32)
    assert canaries.projections(update) == pytest.approx(all_of_them @ update, abs=1e-4)


@pytest.mark.parametrize(
    ("correct", "promise", "contradicted", "said"),
    [
        (100, Promise(1.0, 1e-5, True), 1, "contradicts the 1 that is proven"),
        (100, Promise(1.0, 1e-5, False), 1, "(one-run, 99.9 % confidence)"),
        (100, Promise(3.5, 1e-5, True), 1, "(one-run f-DP, 99.9 % confidence)"),
        (100, Promise(math.inf, 1e-5, True), 0, "nothing is promised"),
        (55, Promise(0.0, 1e-5, True), 0, "does not contradict"),
        (63, Promise(0.0, 1e-5, True), 0, "does not contradict"),  # its 95 % bound is above 0
        (100, Promise(3.5, 1e-5, False), 0, "too weak to contradict what is proven"),
        (100, Promise(8.0, 1e-5, True), 0, "too weak to contradict what is proven"),
    ],
)
def test_a_contradiction_needs_confidence_and_power(
    correct: int, promise: Promise, contradicted: int, said: str
) -> None:
    found = verdict(Guesses(correct, 100, 200), promise)
    assert found.estimate == contradicted
    assert said in found.note
    assert "agree" not in found.note


@pytest.mark.parametrize("gaussian", [True, False])
def test_a_right_build_is_accused_once_in_a_thousand_at_most(gaussian: bool) -> None:
    """Of the number of right guesses its chance is known where nothing leaks: fair coins."""
    promise = Promise(0.0, 1e-5, gaussian)
    accused = [k for k in range(101) if verdict(Guesses(k, 100, 200), promise).estimate]
    assert 1e-5 < stats.binom.sf(min(accused) - 1, 100, 0.5) <= 1e-3


def test_the_default_audit_has_everybody_in_every_round(tiny: str) -> None:
    """And where groups take turns, everybody of a group; noise is that of who is there."""
    reported = ["privacy=dp-fedavg", "privacy.noise_multiplier=5", "privacy.report_cohort=50"]
    derived = audit_runs.audit_config(load(tiny, reported), 23, 100, 3, 0, 9)
    assert derived.server.cohort == 123
    assert derived.privacy.options.report_cohort == 0
    assert audit_runs.audit_config(load(tiny, reported), 23, 100, 3, 7, 9).server.cohort == 7
    groups = load(tiny, ["privacy=banded", "privacy.noise_multiplier=5", "server.sampler=groups",
                         "server.groups=2"])  # fmt: skip
    assert audit_runs.audit_config(groups, 23, 100, 3, 0, 9).server.cohort == 61


def test_an_audit_run_that_diverged_is_no_evidence(
    planted: tuple[Federation, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Run.table

    def diverged(run: Run, name: str) -> pd.DataFrame:
        table = real(run, name).copy()
        if name == "audit":
            table.loc[table.index[-1], "projection"] = math.nan
        return table

    monkeypatch.setattr(Run, "table", diverged)
    with pytest.raises(FedsimError, match=r"diverged; lower client\.lr"):
        audit_runs.observed(planted[1])


def test_the_noise_of_an_audit_is_that_of_the_run(tiny: str) -> None:
    """A budget is not kept for fewer rounds, which would lower the noise."""
    config = load(tiny, ["privacy=dp-fedavg", "privacy.epsilon=2", "privacy.noise_multiplier=5"])
    derived = audit_runs.audit_config(config, 23, 100, 3, 0, 9)
    options = derived.privacy.options
    assert (options.noise_multiplier, options.epsilon) == (5.0, 0.0)
    assert options.delta <= 123**-1.1
    assert derived.server.sampler == config.server.sampler
    assert derived.audit.update_canaries == 100
    assert derived.canaries.per_cell == 0
