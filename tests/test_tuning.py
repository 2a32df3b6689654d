"""The search of a comparison: its design, halving by hand, and Optuna's record of it."""

from __future__ import annotations

import math
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from federations import Here

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.search_space import Range
from fedsim.studies import compare, grid, tuning
from fedsim.studies.cells import Plan
from fedsim.studies.compare import Study, run_study
from fedsim.studies.frontier import SEARCH_SEED
from fedsim.studies.grid import Train
from fedsim.studies.trial_record import TrialRecord
from fedsim.studies.tuning import (
    Search,
    better_half,
    budget,
    design,
    own_values,
    rungs,
    search_of,
    trial_config,
)

RANGES = {"client.lr": Range(0.3, 6.0), "optimizer.lr": Range(0.1, 3.0)}


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [(60, (15, 30, 60)), (30, (8, 16, 30)), (5, (2, 4, 5)), (2, (1, 2)), (1, (1,))],
)
def test_trials_are_compared_after_a_quarter_the_half_and_all(
    rounds: int, expected: tuple[int, ...]
) -> None:
    assert rungs(rounds) == expected
    assert all(rung % expected[0] == 0 for rung in expected[:-1]), "where they are evaluated"


def test_the_budget_by_hand() -> None:
    """8 trials to round 15, 4 of them to 30, 2 of those to 60; of 3 it is 3, 2, 1."""
    assert budget(8, 60) == 8 * 15 + 4 * 15 + 2 * 30 == 240
    assert budget(3, 60) == 3 * 15 + 2 * 15 + 1 * 30


def test_what_is_left_of_a_search_is_its_budget_at_first(tiny: str) -> None:
    (cell,) = Plan(("fedavg",), tiny).cells()
    search = Search(cell, RANGES, [{}] * 8, rungs(60))
    assert search.left() == (8 + 4 + 2, budget(8, 60))


def test_the_better_half_keeps_the_earlier_of_equals() -> None:
    assert better_half({0: 0.1, 1: 0.3, 2: 0.2, 3: 0.2}) == [1, 2]
    assert better_half({4: 0.1, 2: 0.1, 7: 0.1}) == [2, 4]
    assert better_half({}) == []


def test_halving_by_hand(tiny: str) -> None:
    """Six trials; trial 2 leads early and falls back, trial 4 fails, trial 5 wins at the end."""
    (cell,) = Plan(("fedavg",), tiny).cells()
    values = [{"client.lr": float(i + 1)} for i in range(6)]
    search = Search(cell, {"client.lr": Range(0.5, 8.0)}, values, (2, 4, 8))
    assert search.due == dict.fromkeys(range(6), 2)
    search.tell({0: 0.10, 1: 0.11, 2: 0.30, 3: 0.09, 4: 0.20, 5: 0.15})
    assert search.due == {2: 4, 4: 4, 5: 4}
    assert search.chosen is None
    search.tell({2: 0.31, 4: None, 5: 0.40})
    assert search.due == {5: 8}
    search.tell({5: 0.35})
    assert search.due == {}
    assert search.chosen == {"client.lr": 6.0}
    told = [(row["trial"], row["rounds"], row["top1"], row["state"]) for row in search.rows]
    assert told == [
        (0, 2, 0.10, "stopped"),
        (1, 2, 0.11, "stopped"),
        (2, 4, 0.31, "stopped"),
        (3, 2, 0.09, "stopped"),
        (4, 2, 0.20, "failed"),
        (5, 8, 0.35, "finished"),
    ]


def test_where_the_leaders_diverge_those_that_were_stopped_come_back(tiny: str) -> None:
    (cell,) = Plan(("fedavg",), tiny).cells()
    values = [{"client.lr": float(i + 1)} for i in range(4)]
    search = Search(cell, {"client.lr": Range(0.5, 8.0)}, values, (2, 4, 8))
    search.tell({0: 0.05, 1: 0.06, 2: 0.20, 3: 0.30})
    assert search.due == {2: 4, 3: 4}
    assert search.left() == (2 + 1, 2 * 2 + 4)
    search.tell({2: None, 3: None})
    assert search.due == {1: 4}  # the better half of the other two
    assert search.left() == (1 + 1, 2 + 4)
    search.tell({1: 0.10})
    assert search.due == {1: 8}
    search.tell({1: None})
    assert search.due == {0: 8}
    assert search.left() == (1, 6)
    search.tell({0: 0.07})
    assert search.due == {}
    assert search.left() == (0, 0)
    assert search.chosen == {"client.lr": 1.0}
    assert [row["state"] for row in search.rows] == ["finished", "failed", "failed", "failed"]


def test_a_search_of_failures_ends_with_nothing(tiny: str) -> None:
    (cell,) = Plan(("fedavg",), tiny).cells()
    search = Search(cell, RANGES, design(dict.fromkeys(RANGES, 1.0), RANGES, 2), (1, 2))
    search.tell({0: None, 1: None})
    assert search.due == {}
    assert search.chosen is None
    assert [row["state"] for row in search.rows] == ["failed", "failed"]


def test_a_design_begins_with_its_own_values_and_fills_the_ranges_evenly() -> None:
    own = {"client.lr": 50.0, "optimizer.lr": 1.0}
    values = design(own, RANGES, 17)
    assert values[0] == own, "even where they lie outside of the range"
    assert design(own, RANGES, 9) == values[:9], "a trial's values do not depend on how many"
    for key, range in RANGES.items():
        shares = [math.log(v[key] / range.low) / math.log(range.high / range.low)
                  for v in values[1:]]  # fmt: skip
        counts, _ = np.histogram(shares, bins=8, range=(-0.001, 1.001))
        assert counts.tolist() == [2] * 8
        assert all(float(f"{v[key]:.3g}") == v[key] for v in values)


def test_what_is_searched_is_what_has_an_effect_and_is_not_set(tiny: str) -> None:
    plan = Plan(("fedavg", "fedsgd"), tiny, ("fedavg:client.lr=2",), ranges=("optimizer.lr=1,9",))
    fedavg, fedsgd = plan.cells()
    assert plan.searched(fedavg) == {"optimizer.lr": Range(1.0, 9.0)}
    assert plan.searched(fedsgd) == {"optimizer.lr": Range(1.0, 9.0)}
    one = Plan(("fedavg", "fedsgd"), tiny, ranges=("fedsgd:optimizer.lr=1,30", "optimizer.lr=2,3"))
    assert [one.searched(c)["optimizer.lr"].high for c in one.cells()] == [3.0, 30.0]
    assert "client.lr" in one.searched(one.cells()[0])
    axis = Plan(("fedavg",), tiny, axes=(("client.lr", ("1", "2")),))
    assert list(axis.searched(axis.cells()[0])) == ["optimizer.lr"]
    adam = Plan(("fedavg",), tiny, ("optimizer=adam",))
    assert adam.searched(adam.cells()[0])["optimizer.lr"] == Range(0.001, 0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client.lr=3,1", "the lower end first"),
        ("client.lr=a,b", "the lower end first"),
        ("client.lr=0,1", "the lower end first"),
        ("client.epochs=1,5", "client.epochs is not searched; searched is client.lr, optimizer"),
        ("fedsgd:client.lr=1,5", "client.lr is not searched; searched is optimizer.lr"),
        ("fedprox:client.lr=1,5", "not among --strategies"),
    ],
)
def test_ranges_that_mean_nothing_are_refused(tiny: str, text: str, said: str) -> None:
    plan = Plan(("fedavg", "fedsgd"), tiny, ranges=(text,))
    with pytest.raises(FedsimError, match=said):
        plan.check_ranges(plan.cells())


def test_a_trial_is_scored_at_every_rung_on_a_seed_of_its_own(tiny: str) -> None:
    plan = Plan(("fedavg",), tiny, ("server.rounds=30", "evaluation.every=7"))
    (cell,) = plan.cells()
    config = trial_config(plan, cell, {"client.lr": 0.5})
    assert config.seed == SEARCH_SEED
    assert config.evaluation.every == 8
    assert config.client.lr == 0.5
    assert own_values(config, ["client.lr", "optimizer.lr"]) == {"client.lr": 0.5,
                                                                 "optimizer.lr": 1.0}  # fmt: skip


def test_optuna_holds_what_happened_and_goes_on_with_it(tiny: str, tmp_path: Path) -> None:
    plan = Plan(("fedavg",), tiny)
    (cell,) = plan.cells()
    search = search_of(plan, cell, 4, tmp_path)
    assert search is not None
    search.tell({0: 0.1, 1: 0.4, 2: None, 3: 0.3})  # and then the process is killed
    again = search_of(plan, cell, 4, tmp_path)
    assert again is not None
    again.tell({0: 0.1, 1: 0.4, 2: None, 3: 0.3})
    again.tell({1: 0.5, 3: 0.6})
    again.tell({3: 0.7})
    assert isinstance(again.record, TrialRecord)
    storage = f"sqlite:///{tmp_path / 'tuning.db'}"
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert [trial.params for trial in study.trials] == again.designed
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED", "FAIL", "COMPLETE"]
    assert study.trials[3].intermediate_values == {1: 0.3, 2: 0.6, 4: 0.7}
    assert study.best_params == again.chosen
    assert study.best_value == 0.7


def test_optuna_is_told_of_a_failed_trial_that_was_trained_again(
    here: Here, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial of the largest rate fails, as for want of memory, and with --retry it is best."""
    plan = Plan(("fedavg",), tiny, ("server.rounds=2", "optimizer.lr=1"))
    rates: list[float] = []

    def out_of_memory(train: Train | None, config: Config, path: Path, until: int | None) -> None:
        rates.append(config.client.lr)
        make(train, config, path, until)
        if config.client.lr == 2.0:
            Run.open(path).set_status("failed", 1, error="killed")
            raise FedsimError("Its process was killed, likely for want of memory.")

    make = grid._make
    asked = Study(plan, (1,), trials=2)
    monkeypatch.setattr(compare, "score_at", lambda run, round: run.config.client.lr / 10)
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "design", lambda *_: [{"client.lr": 1.0}, {"client.lr": 2.0}])
        patch.setattr(grid, "_make", out_of_memory)
        found = run_study(asked, tmp_path, 1, lambda *_: None)
        assert found.trials.state.tolist() == ["finished", "failed"]
        patch.setattr(grid, "_make", make)
        for _ in range(2):  # the second call finds everything done, and adds nothing
            found = run_study(replace(asked, retry=True), tmp_path, 1, lambda *_: None)
            assert found.chosen["value"].tolist() == [2.0]
    storage = f"sqlite:///{tmp_path / 'tuning.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    assert study.best_params == {"client.lr": 2.0}
    assert study.best_value == pytest.approx(0.2)
    told = [(t.state.name, t.params["client.lr"], t.user_attrs) for t in study.trials]
    assert told == [
        ("COMPLETE", 1.0, {}),
        ("FAIL", 2.0, {}),
        ("COMPLETE", 2.0, {"again": 1}),
    ]


def test_a_secret_is_never_readable_for_others(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the moment either in which it is written."""
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("it was readable before"))
    config = load(tiny, ["privacy=dp-fedavg", "privacy.noise_multiplier=2", "privacy.noise=fresh"])
    secret = tuning._secret(config, tmp_path / "search")
    path = tmp_path / "search" / "selection.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret == path.read_text() == tuning._secret(config, tmp_path / "search")
