"""Audits of runs: what the folder then holds, what is refused, and that they change nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from scipy import stats

import fedsim.cli.audit
import fedsim.leakage.checks
import fedsim.report.leakage_cards  # before a test's own measures are in the registry's place
import fedsim.studies.audit
import fedsim.studies.audit_workers
from fedsim.cli import main as cli
from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import selfcheck
from fedsim.leakage.base import MEASURES, Finding, Findings, Measure, Subject
from fedsim.leakage.intervals import clopper_pearson, mean_interval, over_users, wilson
from fedsim.leakage.scoring import score
from fedsim.models import Batch
from fedsim.registry import Registry
from fedsim.runs import Run
from fedsim.sections import AuditOptions, FederationOptions
from fedsim.seeding import stream
from fedsim.simulation import resume, simulate
from fedsim.studies.audit import audit_run, subject_of

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def own(finished: Run, tmp_path: Path) -> Run:
    """A copy of a finished run, to write into."""
    shutil.copytree(finished.path, tmp_path / "run")
    return Run.open(tmp_path / "run")


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Registry[type[Measure]]:
    """A registry of this test's own measures, taken in this process."""
    registry: Registry[type[Measure]] = Registry("leakage measure")
    registry.register("rounds")(Rounds)
    for module in (fedsim.studies.audit, sys.modules["fedsim.leakage.measures"]):
        monkeypatch.setattr(module, "MEASURES", registry)
    return registry


class Rounds(Measure):
    """How often members took part on average: known from the run's own table."""

    title: ClassVar[str] = "Rounds"
    threat: ClassVar[str] = "everybody"
    meaning: ClassVar[str] = "Nothing."
    times: int = 1

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        mean = self.times * float(subject.participations[subject.members].mean())
        detail = pd.DataFrame({"user": subject.members})
        return Findings([Finding("rounds", mean, n=len(subject.members))], {"members": detail})


class Fussy(Rounds):
    """Cannot be taken of anything."""

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        raise FedsimError("This run is too small; train a larger one.")


class Alarm(Rounds):
    """Finds that a guarantee does not hold."""

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        return Findings([Finding("bound", 9.0)], broken="A bound of 9 exceeds the proven 8.")


def command(*arguments: object) -> int:
    """The exit code of a command that runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run_sim.py", *(str(a) for a in arguments)])
        patch.setattr("fedsim.report.write_report", lambda run, *_, **__: run.path / "report.html")
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


# -- what an audit leaves -------------------------------------------------------------------------


def test_an_audit_is_kept_in_the_folder_and_a_second_one_takes_its_place(
    own: Run, measures: Registry[type[Measure]]
) -> None:
    clients = own.clients[~own.clients.canary_user]
    truth = len(clients) / clients.user.nunique()
    audit_run(own, ["rounds"])
    audit_run(own, ["rounds"], ["rounds.times=3"])
    row = own.table("leakage").iloc[0]
    assert len(own.table("leakage")) == 1
    assert row.estimate == pytest.approx(3 * truth)
    assert (row["round"], row.measure, row.threat) == (4, "rounds", "everybody")
    detail = own.detail("rounds", "members")
    assert detail is not None
    assert detail.user.tolist() == sorted(clients.user.unique())
    assert_frame_equal(own.table("leakage"), pd.read_parquet(own.path / "leakage.parquet"))


def test_an_audit_changes_nothing_else(own: Run, measures: Registry[type[Measure]]) -> None:
    def content() -> dict[str, bytes]:
        files = (f for f in own.path.rglob("*") if f.is_file() and "leakage" not in f.name)
        own_files = (f for f in files if f.parent.name != "audit" and f.name != "checksums.json")
        return {str(f): f.read_bytes() for f in own_files}

    before = content()
    audit_run(own, ["rounds"])
    assert {k: v for k, v in content().items() if k in before} == before


def test_a_measure_that_is_refused_does_not_cost_the_others(
    own: Run, measures: Registry[type[Measure]], capsys: pytest.CaptureFixture[str]
) -> None:
    measures.register("fussy")(Fussy)
    said: dict[str, str] = {}
    done = audit_run(
        own, ["fussy", "rounds"], jobs=1, refused=lambda n, e: said.update({n: str(e)})
    )
    assert [one.name for one in done] == ["rounds"]
    assert list(said) == ["fussy"]
    with pytest.raises(FedsimError, match="too small"):
        audit_run(own, ["fussy", "rounds"], jobs=1)
    assert len(own.table("leakage")) == 1


def test_a_contradicted_guarantee_ends_with_exit_code_3_after_everything_is_kept(
    own: Run, measures: Registry[type[Measure]], capsys: pytest.CaptureFixture[str]
) -> None:
    measures.register("alarm")(Alarm)
    assert command("audit", own.path, "--measures", "alarm") == 3
    assert "A bound of 9 exceeds the proven 8." in capsys.readouterr().err
    assert own.table("leakage").estimate.tolist() == [9.0]


class Bounded(Rounds):
    """As `epsilon` does."""

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        bound = Finding("epsilon_lower_bound", 1.25, "method=one-run")
        return Findings([Finding("epsilon_proven", 7.5), bound])


def test_what_an_attack_achieved_stands_in_the_privacy_statement(
    config: Config, measures: Registry[type[Measure]], tmp_path: Path
) -> None:
    measures.register("epsilon")(Bounded)
    keys = ["privacy=dp-fedavg", "privacy.noise_multiplier=2.0", "privacy.delta=1e-3"]
    chat = str(config.data.path)
    private = load("default", [f"data.path={chat}", "data.min_words=10", "engine.name=local",
                               "evaluation.central=false", "evaluation.trigram=false",
                               "server.rounds=1", "server.cohort=5", *keys])  # fmt: skip
    run = simulate(private, tmp_path / "run", quiet=True)
    assert "no lower bound was measured" in (run.path / "privacy.txt").read_text()
    audit_run(run, ["epsilon"])
    said = " ".join((run.path / "privacy.txt").read_text().split())
    assert "epsilon >= 1.25 (one-run, 95 %)" in said
    assert "7.5 is proven" in said
    statement = run.privacy
    assert statement is not None
    assert "1.25" in statement["empirical"]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures of a test are not known to another process."""

    class Now:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Now:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, call: Callable[..., object], *arguments: object) -> object:
            from concurrent.futures import Future

            future: Future[object] = Future()
            try:
                future.set_result(call(*arguments))
            except FedsimError as error:
                future.set_exception(error)
            return future

    monkeypatch.setattr(fedsim.studies.audit_workers, "ProcessPoolExecutor", Now)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measures", "canarys"], "did you mean 'canaries'"),
        (["membership.userz=30", "--measures", "membership"], "did you mean 'membership.users'"),
        (["membership.users=30", "--measures", "canaries"], "has no effect"),
        (["membership=30"], "measure.option=value"),
        (["membership.users=3"], "should be at least 20"),
    ],
)
def test_bad_requests_are_one_sentence(
    own: Run, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("audit", own.path, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_that_is_not_finished_has_no_model_to_audit(
    own: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (own.path / "model.safetensors").unlink()
    (own.path / "checksums.json").unlink()
    (own.path / "status.json").write_text('{"state": "interrupted", "round": 1}')
    assert command("audit", own.path) == 2
    assert "has no model yet" in capsys.readouterr().err


def test_a_run_says_at_once_what_it_cannot_audit(tiny: str) -> None:
    with pytest.raises(FedsimError, match="trains runs of its own"):
        load(tiny, ['audit.measures=["epsilon"]'])
    with pytest.raises(FedsimError, match="is no multiple of"):
        load(tiny, ['audit.measures=["canaries"]', "audit.every=3"])
    with pytest.raises(FedsimError, match=r"no audit\.measures"):
        load(tiny, ["audit.every=2"])
    with pytest.raises(FedsimError, match="There is no leakage measure 'canary'"):
        load(tiny, ['audit.measures=["canary"]'])


# -- audits of a run while it trains --------------------------------------------------------------


def audited(config: Config, measures: tuple[str, ...], every: int = 2) -> Config:
    """The config with an audit."""
    return replace(config, audit=AuditOptions(measures=measures, every=every))


def test_a_run_audits_itself_and_keeps_its_model(
    config: Config, finished: Run, measures: Registry[type[Measure]], tmp_path: Path
) -> None:
    measures.register("fussy")(Fussy)
    run = simulate(audited(config, ("rounds", "fussy")), tmp_path / "run", quiet=True)
    assert run.digest == finished.digest
    table = run.table("leakage")
    assert table["round"].tolist() == [2, 4]
    early = run.clients[(run.clients["round"] <= 2) & ~run.clients.canary_user]
    assert table.estimate[0] == pytest.approx(len(early) / early.user.nunique())
    assert "audit, fussy: This run is too small" in (run.path / "run.log").read_text()


def test_the_audits_of_a_resumed_run_are_those_of_the_unbroken_one(
    config: Config, tmp_path: Path
) -> None:
    chosen = audited(config, ("canaries",))
    whole = simulate(chosen, tmp_path / "whole", quiet=True)
    broken = tmp_path / "broken"
    shutil.copytree(whole.path, broken)
    (broken / "checkpoints" / "round-000004.safetensors").unlink(missing_ok=True)
    for file in sorted((broken / "checkpoints").iterdir())[1:]:
        file.unlink()
    (broken / "status.json").write_text('{"state": "interrupted", "round": 2}')
    again = resume(broken, quiet=True)
    assert again.digest == whole.digest
    assert_frame_equal(again.table("leakage"), whole.table("leakage"))
    assert set(whole.table("leakage")["round"]) == {2, 4}


# -- members and those set apart ------------------------------------------------------------------


def test_users_that_are_set_apart_never_take_part(config: Config, tmp_path: Path) -> None:
    apart = replace(config, audit=AuditOptions(set_apart=9))
    federation = open_federation(apart)
    train = federation.corpus.split("train")
    assert len(federation.set_apart) == 9
    assert set(federation.set_apart) <= set(train)
    assert set(federation.population) == set(range(federation.users)) & (
        (set(train) | set(range(federation.corpus.users, federation.users)))
        - set(federation.set_apart)
    )
    run = simulate(apart, tmp_path / "run", quiet=True)
    assert not run.clients.user.isin(federation.set_apart).any()
    subject = subject_of(run)
    assert set(federation.set_apart) <= set(subject.nonmembers)
    assert sorted([*subject.members, *subject.nonmembers]) == list(train)
    assert set(subject.members) == set(run.clients.user[~run.clients.canary_user])
    with pytest.raises(FedsimError, match="leaves nobody of the 23"):
        open_federation(replace(config, audit=AuditOptions(set_apart=23)))


def test_other_seeds_set_others_apart_and_a_plain_run_is_what_it_was(config: Config) -> None:
    chosen = {
        tuple(open_federation(replace(config, seed=s, audit=AuditOptions(set_apart=9))).set_apart)
        for s in (1, 2, 3)
    }
    assert len(chosen) == 3
    assert config.identity() != replace(config, audit=AuditOptions(set_apart=9)).identity()
    assert "audit" not in config._what_counts()


def test_where_text_was_dealt_out_copies_count_and_nobody_is_a_member(
    config: Config, tmp_path: Path
) -> None:
    dealt = replace(config, federation=FederationOptions(partition="iid"))
    run = simulate(dealt, tmp_path / "run", quiet=True)
    subject = subject_of(run)
    done = audit_run(run, ["canaries"])
    said = run.exposure[run.exposure["round"] == 4].holder_participations.tolist()
    assert said == subject.federation.holder_participations(subject.participations).tolist()
    assert len(done[0].table)
    for name in ("user_membership", "membership", "memorisation", "generation"):
        with pytest.raises(FedsimError, match="partition=user"):
            audit_run(run, [name])


# -- scores and intervals -------------------------------------------------------------------------


def test_scores_are_those_of_one_sentence_at_a_time(finished: Run) -> None:
    model, texts = finished.model(), open_federation(finished.config).sequences(3)
    found = score(model, texts, moments=True)
    for index, words in enumerate(texts):
        alone = Batch.of(words, np.array([0, len(words)]))
        log_probs = model.log_probs(alone).double()[: len(words)]
        part = slice(texts.offsets[index], texts.offsets[index + 1])
        own = log_probs[torch.arange(len(words)), torch.from_numpy(words.astype(np.int64))]
        p = log_probs.exp()
        mean = (p * log_probs).sum(1)
        deviation = (p * (log_probs - mean[:, None]) ** 2).sum(1).sqrt()
        np.testing.assert_allclose(found.log_probs[part], own, atol=1e-5)
        np.testing.assert_allclose(found.mean[part], mean, atol=1e-4)
        np.testing.assert_allclose(found.deviation[part], deviation, atol=1e-4)
        assert found.nats[index] == pytest.approx(-float(own.sum()), abs=1e-4)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = stream(0, "coverage")
    hits = rng.binomial(60, 0.1, 4000)
    for method, least in ((wilson, 0.93), (clopper_pearson, 0.95)):
        ends = {k: method(int(k), 60) for k in np.unique(hits)}
        covered = np.mean([ends[k][0] <= 0.1 <= ends[k][1] for k in hits])
        assert covered >= least
    means = [mean_interval(rng.normal(3, 2, 8)) for _ in range(4000)]
    covered = np.mean([low <= 3 <= high for _, low, high in means])
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025**0.1)  # closed form
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_draws_people_not_sentences() -> None:
    """Ten people of one opinion each, a hundred sentences each: ten opinions, not a thousand."""
    rng = stream(0, "people")
    opinions = rng.normal(size=10)
    users, values = np.repeat(np.arange(10), 100), np.repeat(opinions, 100)
    low, high = over_users(lambda rows: float(values[rows].mean()), users, rng)
    of_ten = stats.sem(opinions) * 1.96 * 2
    assert 0.6 * of_ten < high - low < 1.3 * of_ten


# -- the self-check, and the page -----------------------------------------------------------------


def test_a_self_check_that_fails_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"now": 2.0}
    registry: Registry[Callable[[], list[selfcheck.Check]]] = Registry("self-check")
    registry.register("sums")(lambda: [selfcheck.Check("1 + 1", found["now"], 2.0, 2.0)])
    monkeypatch.setattr(sys.modules["fedsim.leakage.checks"], "CHECKS", registry)
    assert command("selfcheck") == 0
    assert "ok     sums: 1 + 1" in capsys.readouterr().out
    found["now"] = float("nan")
    assert command("selfcheck", "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["passed"] is False
    assert "1 of 1 self-checks failed" in printed.err


def test_the_page_names_every_measure() -> None:
    page = (DOCS / "leakage.md").read_text()
    for name in MEASURES:
        assert f"| `{name}` |" in page, f"docs/leakage.md does not list '{name}'"


def test_every_measure_says_who_the_adversary_is() -> None:
    for name in MEASURES:
        measure = MEASURES[name]
        assert measure.title
        assert measure.threat
        assert len(measure.meaning.split()) > 8
        assert all(f.description for f in measure.model_fields.values()), name
