"""A comparison from end to end: cells, equal budgets, the cache, failures, and kill -9."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from federations import Here, cached_cells, write_chat, write_preset
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.cli.studying import check_out
from fedsim.config import load
from fedsim.data.store import open_corpus
from fedsim.errors import FedsimError
from fedsim.privacy.accountants import exact_gaussian
from fedsim.privacy.events import Event
from fedsim.privacy.selection import COMPOSITION, select
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.studies import compare
from fedsim.studies.attack import not_measured
from fedsim.studies.audit import audit_run
from fedsim.studies.cells import Plan, parse_axes, parse_strategies
from fedsim.studies.compare import Study, run_study
from fedsim.studies.comparison import ALL_REACH, Comparison
from fedsim.studies.guarantees import guarantees
from fedsim.studies.server_optimizers import sentence, server_optimizers

ROOT = Path(__file__).resolve().parents[1]
AXES = (("client.epochs", ("1", "3")),)
TIMES = ["seconds"]  # columns that no repetition reproduces


def quiet(name: str, done: int, of: int, seconds_left: float) -> None:
    """Nobody watches."""


def study(tiny: str, trials: int = 0) -> Study:
    """Two strategies, two seeds, few rounds."""
    keys = ("server.rounds=3",) if trials else ("server.rounds=3", "fedsgd:optimizer.lr=2")
    return Study(Plan(("fedavg", "fedsgd"), tiny, keys, AXES), (1, 2), trials, ALL_REACH)


def assert_same(one: Comparison, other: Comparison) -> None:
    """The same figures."""
    assert_frame_equal(one.runs.drop(columns=TIMES), other.runs.drop(columns=TIMES))
    for name in ("curves", "chosen", "trials"):
        assert_frame_equal(getattr(one, name), getattr(other, name))


# -- cells ----------------------------------------------------------------------------------------


def test_cells_are_strategies_times_axes_with_the_overrides_of_each(tiny: str) -> None:
    axes = parse_axes(["client.epochs=1,3", "server.cohort=5, 7"])
    plan = Plan(("fedavg", "fedsgd"), tiny, ("server.rounds=2", "fedsgd:optimizer.lr=4"), axes)
    cells = plan.cells()
    assert [cell.name for cell in cells] == [
        f"{strategy}, client.epochs={epochs}, server.cohort={cohort}"
        for strategy in ("fedavg", "fedsgd")
        for epochs in (1, 3)
        for cohort in (5, 7)
    ]
    configs = [plan.config(cell, 9) for cell in cells]
    assert {config.seed for config in configs} == {9}
    assert {config.server.rounds for config in configs} == {2}
    assert [config.server.cohort for config in configs] == [5, 7] * 4
    assert [config.client.epochs for config in configs] == [1, 1, 3, 3] + [1] * 4
    assert [config.optimizer.options.lr for config in configs] == [1.0] * 4 + [4.0] * 4
    ones = {plan.config(cell, 9).identity() for cell in cells[4:]}
    assert len(ones) == 2, "local epochs have no effect with FedSGD: those cells are one"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["seed=3"], "--seeds"),
        (["strategy=fedsgd"], "--strategies"),
        (["fedprox:client.lr=2"], "not among --strategies"),
        (["client.epochs=2"], "client.epochs is an axis"),
        (["fedavg:client.epochs=2"], "client.epochs is an axis"),
        (["client.batch_size=2"], "no effect with strategy 'fedsgd'"),
        (["client.ephocs=2"], "did you mean 'client.epochs'"),
    ],
)
def test_what_is_no_cell_is_refused_before_anything_is_trained(
    here: Here, tiny: str, tmp_path: Path, keys: list[str], said: str
) -> None:
    asked = Study(Plan(("fedavg", "fedsgd"), tiny, tuple(keys), AXES), (1,))
    with pytest.raises(FedsimError, match=said):
        run_study(asked, tmp_path, 1, quiet)
    assert not here.given
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client.epochs", "has no values"),
        ("client.epochs=", "has no values"),
        ("=1", "has no values"),
        ("seed=1,2", "--seeds"),
        ("strategy=fedavg,fedsgd", "--strategies"),
        ("client.epochs=1,5,1", r"--axis client\.epochs names 1 twice"),
    ],
)
def test_axes_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(FedsimError, match=said):
        parse_axes([text])
    with pytest.raises(FedsimError, match=r"--axis client\.lr is given twice"):
        parse_axes(["client.lr=1", "client.lr=2"])


@pytest.mark.parametrize(
    ("overrides", "axes", "said"),
    [
        ((), ["client.epochs=1,abc"], "--axis client.epochs=abc: client.epochs = 'abc'"),
        ((), ["server.cohort=5", "client.lr=0"], "--axis client.lr=0: client.lr = 0"),
        (("client.lr=0",), ["client.epochs=1"], "client.lr = 0"),
    ],
)
def test_a_value_that_an_axis_cannot_take_is_said_to_be_the_axiss(
    tiny: str, overrides: tuple[str, ...], axes: list[str], said: str
) -> None:
    plan = Plan(("fedavg",), tiny, overrides, parse_axes(axes))
    with pytest.raises(FedsimError) as caught:
        plan.config(plan.cells()[-1], 1)
    assert str(caught.value).startswith(said)


def test_strategies_are_named_once_and_exist() -> None:
    assert parse_strategies("fedavg, fedsgd,") == ("fedavg", "fedsgd")
    for text, said in ((" , ", "names none"), ("fedavg,fedavg", "twice"), ("fedsgb", "'fedsgd'")):
        with pytest.raises(FedsimError, match=said):
            parse_strategies(text)


# -- the whole ------------------------------------------------------------------------------------


def test_a_comparison_holds_what_its_runs_hold_and_comes_from_the_cache(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    found = run_study(study(tiny), tmp_path, 1, quiet)
    assert len(here.given) == 6, "FedSGD's cells along an axis without effect are the same runs"
    assert len(found.runs) == 8
    assert (found.runs.state == "finished").all()
    for row in found.runs.to_dict("records"):
        run = Run.open(tmp_path / row["run"])
        assert (run.config.strategy.name, run.config.seed) == (row["strategy"], row["seed"])
        test, rounds = run.results.iloc[0], run.rounds
        assert row["top1"] == test.top1_recall
        assert row["tokens"] == rounds.tokens.sum()
        assert row["upload_bytes"] == rounds.upload_bytes.sum()
        users = run.table("users").query("words >= 1")
        rates = np.sort((users.hits_top1 / users.words).to_numpy())
        assert row["worst_decile_top1"] == pytest.approx(rates[: -(-len(rates) // 10)].mean())
        last = run.exposure[run.exposure["round"] == 3]
        seen = last[(last.kind == "planted") & (last.holder_participations > 0)]
        assert row["exposure_bits"] == pytest.approx(seen.exposure_bits.mean())
        assert row["canaries_trained"] == seen.canary.nunique() == len(seen)
        curve = found.curves.query("strategy == @row['strategy'] and seed == @row['seed']")
        curve = curve[curve["client.epochs"] == row["client.epochs"]].set_index("round")
        assert row["validation_top1"] == curve.top1[3]
        assert curve.tokens[2] == rounds.tokens[:2].sum()
        first = curve.index[curve.top1 >= found.target][0]
        assert row["rounds_to_target"] == first
        assert row["bytes_to_target"] == rounds.upload_bytes[:first].sum()
        assert row["download_to_target"] == rounds.download_bytes[:first].sum()
    assert found.target == found.runs.validation_top1.min()
    assert found.trials.empty
    assert found.chosen.empty
    assert_same(found, run_study(study(tiny), tmp_path, 1, quiet))
    assert len(here.given) == 6
    alone = simulate(study(tiny).plan.config(study(tiny).plan.cells()[0], 1), tmp_path / "alone",
                     quiet=True)  # fmt: skip
    assert alone.digest == Run.open(tmp_path / found.runs.run[0]).digest


def test_every_cell_is_tuned_with_the_same_budget(here: Here, tiny: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    asked = replace(study(tiny, trials=4), seeds=(1,))  # a search does not know of the others
    keys = (*asked.plan.overrides, "canaries.per_cell=0")  # nothing here looks at a canary
    asked = replace(asked, plan=replace(asked.plan, overrides=keys))
    found = run_study(asked, tmp_path, 1, lambda _, i, of, s: told.append((i, of)))
    assert told[-1][0] == told[-1][1], "it is known before how many steps there are"
    for _, mine in found.trials.groupby(["strategy", "client.epochs"]):
        assert mine.trial.tolist() == [0, 1, 2, 3]
        assert sorted(mine["rounds"]) == [1, 1, 2, 3]
        assert sorted(mine.state) == ["finished", "stopped", "stopped", "stopped"]
    own = found.trials[found.trials.trial == 0].set_index(["strategy", "client.epochs"])
    assert (own.loc["fedavg", "optimizer.lr"] == 1.0).all()
    assert own.loc["fedsgd", "client.lr"].isna().all()
    ended = found.trials[found.trials.state == "finished"]
    ended = ended.set_index(["strategy", "client.epochs"])
    for row in found.chosen.to_dict("records"):
        assert row["value"] == ended.loc[(row["strategy"], row["client.epochs"]), row["key"]]
    cells = found.runs[found.runs.strategy == "fedavg"]
    for row in cells.to_dict("records"):
        config, at = Run.open(tmp_path / row["run"]).config, found.chosen["client.epochs"]
        mine = found.chosen[(found.chosen.strategy == "fedavg") & (at == row["client.epochs"])]
        assert mine.set_index("key")["value"].to_dict() == {
            "client.lr": config.client.lr,
            "optimizer.lr": config.optimizer.options.lr,
        }
    trained = len(here.given)
    assert_same(found, run_study(asked, tmp_path, 1, quiet))
    assert len(here.given) == trained
    trials = [Run.open(path) for path in cached_cells()]
    assert {t.status["state"] for t in trials} == {"finished", "paused"}
    assert all(t.results.empty for t in trials if t.status["state"] == "paused")


def test_the_counter_ends_at_its_total_though_stopped_trials_come_back(
    here: Here, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both leaders of four diverge after round 1, so that the other two are trained after all."""
    rates: list[float] = []

    def score(run: Run, round: int) -> float | None:
        rate = run.config.client.lr
        if round == 1:
            rates.append(rate)
        return None if round > 1 and rate in sorted(rates)[-2:] else rate

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(compare, "score_at", score)
    plan = Plan(("fedavg",), tiny, ("server.rounds=4", "optimizer.lr=1"))
    asked = Study(plan, (1,), trials=4)
    run_study(asked, tmp_path, 1, lambda _, i, of, s: told.append((i, of)))
    assert [i for i, _ in told] == list(range(1, len(told) + 1))
    assert told[0][1] == 4 + 2 + 1 + 1
    assert len(told) > told[0][1]
    assert all(i <= of for i, of in told)
    assert told[-1][0] == told[-1][1]


def test_what_fails_is_listed_and_the_others_go_on(here: Here, tiny: str, tmp_path: Path) -> None:
    plan = Plan(("fedavg", "fedsgd"), tiny, ("server.rounds=2", "fedavg:client.lr=1e12"))
    found = run_study(Study(plan, (1, 2)), tmp_path, 1, quiet)
    assert found.runs.state.tolist() == ["failed"] * 2 + ["finished"] * 2
    assert found.runs.error.str.contains("lower client.lr").tolist() == [True, True, False, False]
    assert found.runs.top1.isna().tolist() == [True, True, False, False]
    assert set(found.curves.strategy) == {"fedsgd"}
    alone = Plan(("fedavg",), tiny, plan.overrides[:1], ranges=("client.lr=1e11,1e12",))
    wild = replace(alone, overrides=("server.rounds=2",), ranges=("client.lr=1e11,1e12",))
    tuned = run_study(Study(wild, (1,), trials=3), tmp_path, 1, quiet)
    assert sorted(tuned.trials.state) == ["failed", "failed", "finished"]
    assert tuned.chosen.set_index("key")["value"]["client.lr"] == 1.0


def test_membership_is_that_of_one_attack_whatever_was_audited(here: Here, tmp_path: Path) -> None:
    """A user's audit in between, of fewer people, changes no figure, and is not lost either."""
    crowd = write_preset(tmp_path / "crowd.toml", write_chat(tmp_path / "crowd.csv", people=80))
    keys = ["--preset", str(crowd), "--strategies", "fedavg", "--seeds", "1", "server.cohort=12"]
    command = ["compare", *keys, "--leakage", "--json", "--out", str(tmp_path / "out")]

    def compared() -> dict[str, Any]:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    (row,) = compared()["runs"]
    path = tmp_path / "out" / row["run"]
    audit_run(Run.open(path), ["membership"], ["membership.users=20", "membership.sentences=2"])
    audited = Run.open(path).table("leakage")
    theirs = audited.query("quantity == 'auc' and group == 'score=reference'").estimate
    assert theirs.tolist() != [row["membership_auc"]], "else this test can tell nothing"
    done = len(here.given)
    assert compared()["runs"][0]["membership_auc"] == row["membership_auc"]
    assert len(here.given) == done, "neither trained nor attacked again"
    assert_frame_equal(Run.open(path).table("leakage"), audited)
    shutil.rmtree(path / "audit")
    assert compared()["runs"][0]["membership_auc"] == row["membership_auc"], "it is made again"
    command.remove("--leakage")
    command[command.index("fedavg")] = "fedavg,fedsgd"
    assert "membership_auc" not in compared()["runs"][0], "the other has none to compare with"


def test_runs_of_other_versions_are_told(here: Here, tiny: str, tmp_path: Path) -> None:
    """Cells that an earlier version trained are served; the page must not call them its own."""
    keys = ["--preset", tiny, "--strategies", "fedavg", "--seeds", "2", "server.rounds=1"]
    command = ["compare", *keys, "--checklist", "--out", str(tmp_path / "out")]
    said = "1 of 2 runs, trials included, were trained under other versions"
    assert said not in CliRunner().invoke(app, command).output
    path = cached_cells()[0] / "provenance.json"
    told = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(told | {"python": "2.7.18"}), "utf-8")
    path.with_name("checksums.json").unlink()  # they would tell what this test has changed
    assert said in CliRunner().invoke(app, command).output
    assert said in (tmp_path / "out" / "comparison.html").read_text("utf-8")


def test_membership_that_cannot_be_measured_is_said(here: Here, tiny: str, tmp_path: Path) -> None:
    """Once for all runs: the tiny federation of 23 is too small, by another number in each."""
    plan = Plan(("fedavg", "fedsgd"), tiny, ("server.rounds=3",), AXES)
    found = run_study(Study(plan, (1, 2), leakage=True), tmp_path, 1, quiet)
    assert "membership_auc" not in found.runs
    (told,) = found.made["not_measured"]
    assert told.startswith(
        "Membership was not measured in 8 of 8 runs: needs at least 20 training users that never "
        "took part, and there are "
    )
    assert told.endswith("; set audit.set_apart=200 before training.")


def test_reasons_that_differ_in_a_number_are_one() -> None:
    least = "A membership attack needs at least 20 users that took part, and there are {}; train."
    assert not_measured([least.format(7), "Killed.", least.format(12)], 4) == [
        "Membership was not measured in 2 of 4 runs: needs at least 20 users that took part, and "
        "there are 7 to 12; train.",
        "Membership was not measured in 1 of 4 runs: Killed.",
    ]
    assert not_measured([], 4) == []


def test_leakage_of_too_few_is_refused_before_anything_is_trained(tiny: str) -> None:
    """2 rounds of 7 users are 14 at most; with coins any number can come."""
    few = Plan(("fedavg",), tiny, ("server.rounds=2",))
    with pytest.raises(FedsimError, match=r"at least 20 users.*at most 14; raise one of them"):
        Study(few, (1,), leakage=True).checked()
    Study(few, (1,)).checked()
    for more in ({"overrides": ("server.rounds=3",)}, {"axes": (("server.rounds", ("2", "3")),)},
                 {"overrides": ("server.rounds=2", "server.sampler=poisson")}):  # fmt: skip
        plan = Plan(("fedavg",), tiny, **more)  # type: ignore[arg-type]
        Study(plan, (1,), leakage=True).checked()


def test_a_search_of_one_and_ranges_without_a_search_are_refused(tiny: str) -> None:
    with pytest.raises(FedsimError, match="--tune 1"):
        study(tiny, trials=1).checked()
    plan = Plan(("fedavg",), tiny, ranges=("client.lr=1,2",))
    with pytest.raises(FedsimError, match="no effect without --tune"):
        Study(plan, (1,)).checked()


def test_who_runs_with_which_server_optimizer_is_said(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    """A preset's momentum goes to fedavg; scaffold implies plain SGD, and has none of it."""
    own = tmp_path / "momentum.toml"
    text = Path(tiny).read_text("utf-8")
    own.write_text(text.replace('optimizer = "sgd"', 'optimizer = "momentum"'), "utf-8")
    names, keys = ["fedavg", "fedsgd", "scaffold"], ["--seeds", "1", "server.rounds=1"]
    given = ["compare", "--strategies", ",".join(names), *keys, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*given, "--preset", str(own)])
    assert result.exit_code == 0, result.output
    said = "Server optimizer: momentum for fedavg, fedsgd; sgd for scaffold."
    warned = "fedavg and scaffold differ in that too, not in the strategy alone; "
    warned += "scaffold:optimizer=momentum would give both the same."
    page = (tmp_path / "out" / "comparison.md").read_text("utf-8")
    for told in (result.stderr, result.stdout, page):
        assert said in told
        assert warned in told
    same = Plan(tuple(names), str(own), ("scaffold:optimizer=momentum",))
    assert server_optimizers(same, same.cells()) == {"momentum": names}
    assert sentence(server_optimizers(same, same.cells())).endswith("fedsgd, scaffold.")
    meant = Plan(("fedavg", "fedadam"), tiny)  # the optimizer is what tells these apart
    assert sentence(server_optimizers(meant, meant.cells())) == (
        "Server optimizer: sgd for fedavg; adam for fedadam."
    )
    axis = Plan(("fedavg",), tiny, axes=(("optimizer", ("sgd", "momentum")),))
    assert sentence(server_optimizers(axis, axis.cells())) == (
        "Server optimizer: sgd for fedavg, optimizer=sgd; momentum for fedavg, optimizer=momentum."
    )


def test_the_cost_is_said_before(tiny: str) -> None:
    """3 cells that differ x 2 seeds x 3 rounds; 4 trials: 4 to round 1, 2 to 2, 1 to 3."""
    asked = study(tiny, trials=4)
    assert asked.cost(asked.plan.cells()) == "6 runs, 18 rounds; before them 12 trials, 21 rounds"
    plain = study(tiny)
    assert plain.cost(plain.plan.cells()) == "6 runs, 18 rounds"


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tiny: str, tmp_path: Path) -> None:
    one, two = (
        run_study(study(tiny, trials=4), tmp_path / str(jobs), jobs, quiet) for jobs in (1, 2)
    )
    assert_same(one, two)
    assert one.made["jobs"] == 1


@pytest.mark.slow
def test_what_was_killed_goes_on(here: Here, tiny: str, tmp_path: Path, own_cache: Path) -> None:
    keys = ["--preset", tiny, "server.rounds=40", "--tune", "2", "--seeds", "2", "--jobs", "2"]
    folder = tmp_path / "killed"
    command = [sys.executable, "run_sim.py", "compare", *keys, "--out", str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("3/"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name for path in cached_cells()}
    time.sleep(2)  # the processes that it had started end too, and let go of their runs
    plan = Plan(("fedavg", "fedsgd"), tiny, ("server.rounds=40",))
    asked = Study(plan, (1, 2), trials=2)
    found = run_study(asked, folder, 1, quiet)
    assert (found.runs.state == "finished").all()
    assert done <= {path.name for path in cached_cells()}
    shutil.rmtree(own_cache / "cells")
    unbroken = run_study(asked, tmp_path / "unbroken", 1, quiet)
    assert_same(found, unbroken)


def test_made_says_what_a_checklist_asks(here: Here, tiny: str, tmp_path: Path) -> None:
    asked = Study(Plan(("fedavg",), tiny, ("server.rounds=2",)), (1,), trials=2)
    made = run_study(asked, tmp_path, 1, quiet).made
    assert made["seeds"] == [1]
    assert made["ranges"] == {"fedavg": {"client.lr": "0.3 to 6, log",
                                         "optimizer.lr": "0.1 to 3, log"}}  # fmt: skip
    assert made["tuning"] == {"trials": 2, "seed": compare.SEARCH_SEED,
                              "rounds": {"fedavg": [1, 2]}}  # fmt: skip
    runs = [Run.open(path) for path in cached_cells()]
    spent = sum(r.profile["wall_seconds"] for r in runs)
    assert made["compute_seconds"] == pytest.approx(spent, abs=0.001)
    assert (made["of_other_versions"], made["without_a_cost"]) == (0, 0)
    assert 0 < made["tuning_seconds"] < made["compute_seconds"]
    assert made["corpus"]["digest"] == runs[0].corpus_digest
    corpus = open_corpus(runs[0].config.data)
    assert made["corpus"]["licence"] == corpus.licence
    assert made["corpus"]["citation"] == corpus.citation
    assert made["data"]["splits"]["train"] == corpus.split_counts("train")
    assert sum(part["users"] for part in made["data"]["splits"].values()) == corpus.users
    assert made["data"]["options"]["min_words"] == 10
    assert {"optuna", "torch", "flwr"} <= set(made["packages"])
    assert isinstance(pd.Timestamp(made["started"]), pd.Timestamp)


def test_a_private_cell_says_what_it_costs_with_its_search(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    """Its search is a private selection, of whose trials none is listed."""
    keys = ("server.rounds=2", "privacy=dp-fedavg", "privacy.clip_norm=0.5",
            "privacy.noise_multiplier=4", "server.sampler=cyclic",
            "fedsgd:privacy.noise_multiplier=0")  # fmt: skip
    asked = Study(Plan(("fedavg", "fedsgd"), tiny, keys), (1, 2), trials=2)
    found = run_study(asked, tmp_path, 1, quiet)
    mine, other = found.privacy.to_dict("records")
    guarantee = Run.open(tmp_path / found.runs.run[0]).privacy["guarantee"]
    assert mine["epsilon"] == guarantee["epsilon"]
    assert not mine["private"], "a composition, which tells how many trials were drawn"
    deviation = 4 / guarantee["sensitivity"]
    # Not more than one run where no trial was drawn.
    assert guarantee["epsilon"] <= mine["epsilon_with_search"] < mine["epsilon_of_all"]
    for runs, together in ((1, mine["epsilon_with_search"]), (2, mine["epsilon_of_all"])):
        event = Event("gaussian", deviation)
        selected = select([event], 2, [event] * runs, guarantee["delta"])
        made = [round(k) for k in range(12) if math.isclose(
            together, exact_gaussian(deviation / math.sqrt(k + runs), guarantee["delta"]),
            rel_tol=1e-3)]  # fmt: skip
        assert made or together == pytest.approx(selected.epsilon)
    assert mine["theorem"].startswith(COMPOSITION if mine["trials"] else "")
    assert set(found.trials.strategy) == {"fedsgd"}
    assert found.made["tuning"]["private"] == ["fedavg"]
    assert math.isnan(other["epsilon"])
    assert "no guarantee" in other["note"]


def test_trials_that_failed_are_paid_for_too(tiny: str, tmp_path: Path) -> None:
    """One trial that finished and two that did not, then the run: four times the same noise."""
    (cell,) = Plan(("fedavg",), tiny).cells()
    config = load(tiny, ["server.rounds=2", "privacy=local", "privacy.noise_multiplier=20"])
    run = simulate(config, tmp_path / "run", quiet=True)
    (row,) = guarantees({(cell, 1): run}, {cell: [run]}, {}, {cell: 2}).to_dict("records")
    alone = run.privacy["guarantee"]
    assert row["trials"] == 3
    assert row["epsilon_with_search"] == pytest.approx(
        exact_gaussian(1 / alone["mu"] / math.sqrt(4), alone["delta"])
    )


def test_without_a_target_none_is_discussed(here: Here, tiny: str, tmp_path: Path) -> None:
    keys = ["--preset", tiny, "--seeds", "2", "server.rounds=2", "evaluation.every=1"]
    keys += ["--out", str(tmp_path / "out")]
    plain = CliRunner().invoke(app, ["compare", *keys])
    assert plain.exit_code == 0, plain.output
    page = (tmp_path / "out" / "comparison.html").read_text("utf-8")
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert not [name for name in runs if "target" in name]
    for text in (plain.stdout, page.partition("</style>")[2]):
        assert "to target" not in text
        assert "the target" not in text.replace("tuning and the target use", "")
    assert "What a run costs" in plain.stdout
    asked = CliRunner().invoke(app, ["compare", *keys, "--target", "all"])
    assert "top-1 recall on validation users: means over seeds" in asked.stdout
    assert "rounds to target" in (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert len(here.given) == 4, "of the same cells"


@pytest.mark.parametrize("target", ["60", "-0.1", "nan", "much"])
def test_a_target_is_a_share(target: str) -> None:
    """60 would be trained for and never reached."""
    result = CliRunner().invoke(app, ["compare", "--target", target])
    assert isinstance(result.exception, FedsimError)
    assert str(result.exception) == (
        f"--target {target} is not accepted: it is a share between 0 and 1, or 'all'; write 0.12 "
        "for 12 %."
    )


@pytest.mark.parametrize("what", ["file", "folder"])
def test_an_out_that_is_no_study_is_refused_before_anything_is_trained(
    what: str, here: Here, tiny: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["compare", "--preset", tiny, "--out", str(out)])
    assert isinstance(result.exception, FedsimError)
    assert f"--out {out} " in str(result.exception)
    assert not here.given


def test_an_out_of_an_earlier_study_or_an_empty_one_goes_on(tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    check_out(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "mine.txt").touch()
    check_out(tmp_path)
