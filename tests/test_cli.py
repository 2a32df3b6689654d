"""The command line: exit codes, one sentence for a mistake, JSON that parses, Ctrl-C."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import psutil
import pytest
from federations import Here, assert_same_record, cached_cells
from pandas.testing import assert_frame_equal
from typer.main import get_command

import server.app
from fedsim.cli import dry_run
from fedsim.cli import main as cli
from fedsim.config import Config, load
from fedsim.data.text import words
from fedsim.federation import open_federation
from fedsim.models.batch import N_SPECIALS
from fedsim.program import command
from fedsim.runs import Run
from server.strategies import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]


class Outcome:
    """What a command did: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def fedsim(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["run_sim.py", *(str(a) for a in arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def assert_one_sentence(outcome: Outcome, said: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that holds `said`.

    What the run would have guaranteed may have been told before.
    """
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = (s for s in outcome.err.splitlines() if not s.startswith("NO GUARANTEE: "))
    assert said in line
    assert line.startswith("Error: ")
    assert "Traceback" not in outcome.err


# -- mistakes -------------------------------------------------------------------------------------


# What is said when these are added to the tiny run's overrides.
MISTAKES = [
    (["client.ephocs=2"], "did you mean 'client.epochs'?"),
    (["cleint.epochs=2"], "did you mean 'client'?"),
    (["model=cfig"], "did you mean 'cifg'?"),
    (["strategy=fedagv"], "did you mean 'fedavg'?"),
    (["optimizer=adm"], "did you mean 'adam'?"),
    (["server.sampler=fixde"], "did you mean 'fixed'?"),
    (["client.epochs=two"], "client.epochs = 'two'"),
    (["client.epochs"], "section.key=value"),
    (["client.lr=0"], "client.lr = 0"),
    (["client.lr=inf"], "client.lr = inf"),
    (["client.lr=nan"], "client.lr = nan"),
    (["client.lr=2026-11-22"], "client.lr = "),
    (["client=3"], "client"),
    (["model=3"], "model"),
    (["model=[1]"], "model"),
    (["seed=one"], "seed = 'one'"),
    (["seed.x=1"], "seed.x"),
    (["server.cohort=100"], "server.cohort = 100 is more than the 29 users"),
    (["server.cohort=100", "server.sampler=poisson"], "server.cohort = 100"),
    (["canaries.prefix_words=5"], "canaries.prefix_words = 5"),
    (["canaries.repeats=[1,9]"], "raise the latter"),
    (["canaries.users=[0]"], "canaries.users"),
    (["canaries.repeats=[-1]"], "canaries.repeats"),
    (["canaries.references=999"], "canaries.references = 999"),
    (["data.vocabulary=10"], "too small"),
    (["engine.device=cudda"], "engine.device = 'cudda'"),
    (["strategy=fedsgd", "client.lr=0.5"], "client.lr has no effect with strategy 'fedsgd'"),
    (["data.name=chitchta"], "did you mean 'chitchat'?"),
    (["data.path=no-such-file.csv"], "no-such-file.csv"),
    (["data.user_column=who"], "no column 'who'"),
    (["data.min_words=2000"], "no user with at least 2000 words"),
]


@pytest.mark.parametrize(("keys", "said"), MISTAKES, ids=[" ".join(k) for k, _ in MISTAKES])
def test_a_mistake_in_the_keys_is_one_sentence_and_no_folder(
    keys: list[str], said: str, fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    assert_one_sentence(fedsim("train", "--preset", tiny, *keys), said)
    assert list(tmp_path.iterdir()) == []


BROKEN_FILES = {
    "line.jsonl": ('{"user": "ann", "text": "hello"}\n{"user": "ann", "te', "line 2"),
    "column.csv": ("user,message\nann,hello\n", "no column 'text'"),
    "user.csv": ("user,text\nann,hello\n,who am i\n", "line 3"),
    "short.csv": ("user,text\nann,hello\nbob\n", "line 3"),
    "latin.csv": (b"user,text\nann,caf\xe9\n", "UTF-8"),
    "few.csv": ("user,text\nann,one two three four five six seven eight nine ten\n", "too few"),
    "empty.csv": ("", "empty"),
    "notes.txt": ("hello", ".txt"),
    "table.parquet": ("hello", "Parquet"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_corpus_is_one_sentence_that_says_where(
    name: str, fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    content, said = BROKEN_FILES[name]
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    outcome = fedsim("train", "--preset", tiny, f"data.path={file}")
    assert_one_sentence(outcome, said)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_mistakes_around_presets_and_folders(
    fedsim: Callable[..., Outcome], tiny: str, finished: Run, tmp_path: Path
) -> None:
    assert_one_sentence(fedsim("train", "--preset", "defualt"), "did you mean 'default'?")
    assert_one_sentence(fedsim("train", "--preset", "none.toml"), "no preset file none.toml")
    (tmp_path / "mine.toml").write_text("[server\nrounds = 3")
    assert_one_sentence(fedsim("train", "--preset", "mine.toml"), "not valid TOML")
    (tmp_path / "mine.toml").write_text("server = 3")
    assert_one_sentence(fedsim("train", "--preset", "mine.toml", "server.rounds=2"), "server = 3")
    assert_one_sentence(fedsim("train", "--preset", tiny, "--out", finished.path), "exists")
    assert_one_sentence(fedsim("train", "--preset", tiny, "--engine", "dask"), "engine.name")
    assert_one_sentence(fedsim("train", "--preset", tiny, "--workers", "-1"), "engine.workers = -1")
    for name in ("resume", "show", "suggest"):
        assert_one_sentence(fedsim(name, "nowhere"), "nowhere is not a run folder")
    assert_one_sentence(fedsim("resume", finished.path), "is finished")
    (tmp_path / "file").write_text("")
    assert_one_sentence(fedsim("train", "--preset", tiny, "--out", "file/run"), "file/run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine.toml"]


def test_a_truncated_checkpoint_is_one_sentence(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server.app, "finish", stop)
        outcome = fedsim("train", "--preset", tiny, "--out", "run")
    assert outcome.code == 130
    assert f"Interrupted; continue with: {command('resume', 'run')}" in outcome.err
    assert Run.open("run").status["state"] == "interrupted"
    for file in Path("run/checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert_one_sentence(fedsim("resume", "run"), "is damaged")
    assert Run.open("run").status["state"] == "failed"


def test_a_run_whose_clients_all_fail_ends_with_one_sentence_and_a_status(
    fedsim: Callable[..., Outcome], tiny: str
) -> None:
    # Unbounded steps of 1e12 make every update infinite.
    keys = ["client.lr=1e12", "client.max_grad_norm=0", "client.batch_size=1"]
    outcome = fedsim("train", "--preset", tiny, *keys, "--out", "run")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "All 7 clients of round 1 failed" in outcome.err.splitlines()[-1]
    assert "lower client.lr" in outcome.err.splitlines()[-1]
    status = Run.open("run").status
    assert status["state"] == "failed"
    assert "All 7 clients" in status["error"]


# -- results --------------------------------------------------------------------------------------


def test_train_prints_the_result_as_json_and_as_a_table(
    fedsim: Callable[..., Outcome], tiny: str, finished: Run
) -> None:
    outcome = fedsim("train", "--preset", tiny, "--out", "run", "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert result["state"] == "finished"
    assert result["digest"] == finished.digest
    top1 = result["results"][0]["top1_recall"]
    assert top1 == pytest.approx(finished.results.top1_recall[0], abs=1e-14)
    assert len(result["exposure"]) == 8
    assert "round 4/4" in outcome.err
    shown = fedsim("show", "run")
    assert shown.code == 0
    assert f"{finished.results.top1_recall[0]:.2%}" in shown.out
    assert "finished after 4 rounds" in shown.out
    assert json.loads(fedsim("show", "run", "--json").out) == result


def test_a_run_without_a_name_gets_one_below_runs(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    assert fedsim("train", "--preset", tiny, "server.rounds=1").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-tiny")
    assert Run.open(folder).status["state"] == "finished"


def test_a_model_that_no_memory_holds_is_refused_before_the_run(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    outcome = fedsim("train", "--preset", tiny, "model.hidden=500000000")
    assert_one_sentence(outcome, "Make the model smaller, or lower engine.workers")
    assert not (tmp_path / "runs").exists()


# Of other samplers than this run has, and of mechanisms.
OF_OTHERS = (
    "tracking.",
    "pretrain.",
    "audit.every",
    "server.max_",
    "server.groups",
    "server.min_separation",
)


def test_the_keys_are_those_that_can_be_overridden(
    fedsim: Callable[..., Outcome], tiny: str
) -> None:
    rows = json.loads(fedsim("keys", "--preset", tiny, "model=lstm", "--json").out)
    values = {row["key"]: row["value"] for row in rows}
    assert values["model"] == "lstm"
    assert values["model.hidden"] == 670
    assert values["server.cohort"] == 7
    names = next(row["description"] for row in rows if row["key"] == "strategy")
    assert names == f"one of: {', '.join(sorted(STRATEGIES))}"
    again = [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]
    accepted = load(tiny, [a for a in again if "column" not in a and ".workers" not in a
                           and ".address" not in a and ".central_" not in a
                           and not a.startswith(OF_OTHERS)])  # fmt: skip
    assert accepted == load(tiny, ["model=lstm"])
    plain = fedsim("keys", "--preset", tiny).out
    assert "server.cohort = 7  users a round" in plain
    assert_one_sentence(fedsim("keys", "server.optimizer=adam"), "'optimizer' is a section")


def test_presets_and_help(fedsim: Callable[..., Outcome]) -> None:
    assert "default" in json.loads(fedsim("presets", "--json").out)
    assert "default" in fedsim("presets").out
    outcome = fedsim("--help")
    assert outcome.code == 0
    for name in ("train", "resume", "show", "report", "compare", "suggest", "data"):
        assert name in outcome.out
    assert fedsim("trian").code == 2


def test_the_dry_run_writes_nothing_and_its_numbers_are_those_of_the_run(
    fedsim: Callable[..., Outcome], tiny: str, finished: Run, tmp_path: Path
) -> None:
    outcome = fedsim("train", "--preset", tiny, "--dry-run", "--json")
    assert outcome.code == 0
    assert list(tmp_path.iterdir()) == []
    printed = json.loads(outcome.out)
    plan = printed["plan"]
    assert printed["config"] | {"engine": {}} == finished.config.as_dict() | {"engine": {}}
    rounds = finished.rounds
    assert (plan["users"], plan["people"], plan["canary_users"]) == (29, 23, 6)
    assert plan["parameters"] == finished.results.parameters[0]
    assert plan["download_bytes_per_client"] * 7 == rounds.download_bytes[0]
    assert plan["upload_bytes_per_client"] * 7 == rounds.upload_bytes[0]
    assert plan["bytes_in_all"] == (rounds.download_bytes + rounds.upload_bytes).sum()
    # Cohorts of 7 out of 29 differ in size: four standard errors of the mean of four rounds.
    spread = 4 * finished.clients.tokens.std() * 7**0.5 / 4**0.5
    assert abs(plan["tokens_per_round"] - rounds.tokens.mean()) < spread
    for_people = fedsim("train", "--preset", tiny, "--dry-run")
    assert for_people.code == 0
    assert "tokens per round" in for_people.out
    assert "seed = 1" in for_people.out


CALIBRATING = "calibrating the noise for privacy.epsilon=8 ...\n"


def test_a_run_says_once_that_it_calibrates_the_noise(
    fedsim: Callable[..., Outcome], tiny: str
) -> None:
    keys = ("privacy=tree", "server.sampler=cyclic", "privacy.epsilon=8", "server.rounds=1")
    outcome = fedsim("train", "--preset", tiny, *keys, "--out", "run", "--json")
    assert outcome.err.startswith(CALIBRATING)
    assert outcome.err.count(CALIBRATING) == 1
    json.loads(outcome.out)


def test_the_dry_run_calibrates_a_budget_and_says_what_it_guarantees(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    keys = ("--preset", tiny, "privacy=blt", "server.sampler=cyclic", "privacy.epsilon=8")
    outcome = fedsim("train", *keys, "--dry-run", "--json")
    assert outcome.err.startswith(f"{CALIBRATING}Guaranteed: epsilon of the whole run is ")
    printed = json.loads(outcome.out)
    noise = printed["config"]["privacy"]["noise_multiplier"]
    assert noise > 0
    assert printed["privacy"]["guarantee"]["epsilon"] == pytest.approx(8, rel=0.01)
    said = fedsim("train", *keys, "--dry-run").out
    assert "DP GUARANTEE" in said
    assert "zero out one user" in said
    given = fedsim("train", *keys, f"privacy.noise_multiplier={noise}", "--dry-run")
    assert given.code == 0
    assert CALIBRATING not in given.err
    assert list(tmp_path.iterdir()) == []


NOTHING = {
    "none": [],
    "secagg": ["privacy=secagg"],
    "dp-fedavg": ["privacy=dp-fedavg"],
    "local": ["privacy=local"],
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_run_that_guarantees_nothing_says_so_before_anything_else(
    name: str, fedsim: Callable[..., Outcome], tiny: str
) -> None:
    keys = ("--preset", tiny, *NOTHING[name], "server.rounds=1", "canaries.per_cell=0")
    first = f"NO GUARANTEE: privacy '{name}' "
    dry = fedsim("train", *keys, "--dry-run")
    assert dry.err.startswith(first)
    assert "\nNO GUARANTEE" in dry.out
    outcome = fedsim("train", *keys, "--out", "run")
    assert outcome.err.startswith(first)
    assert outcome.err.count("NO GUARANTEE") == 1
    assert first in Path("run/run.log").read_text()


def test_a_budget_beside_a_noise_says_which_of_them_counts(
    fedsim: Callable[..., Outcome], tiny: str
) -> None:
    keys = ("--preset", tiny, "privacy=dp-fedavg", "server.sampler=cyclic", "server.rounds=2",
            "privacy.epsilon=8", "canaries.per_cell=0")  # fmt: skip
    beside = "privacy.epsilon=8 is only held against it"
    both = fedsim("train", *keys, "privacy.noise_multiplier=20", "--dry-run")
    assert f"The noise is privacy.noise_multiplier=20, as given; {beside}" in both.err
    assert "privacy.noise_multiplier was given beside it" in " ".join(both.out.split())
    outcome = fedsim("train", *keys, "--out", "run")
    assert beside not in outcome.err
    said = " ".join(Path("run/privacy.txt").read_text().split())
    assert "budget privacy.epsilon=8 is the most that it may be, and is kept delta" in said


def test_the_dry_run_looks_at_a_sample_of_a_large_population(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = open_federation(config)
    tokens = federation.sizes(federation.population)[:, 1]
    assert len(tokens) == 29
    plan = dry_run.estimate(config, federation)
    assert plan["tokens_per_round"] == round(tokens.mean() * 7)
    monkeypatch.setattr(dry_run, "MOST_USERS", 10)
    plan = dry_run.estimate(config, federation)
    assert plan["tokens_per_round"] == round(tokens[::3].mean() * 7)


def test_the_dry_run_counts_local_epochs_where_there_are_any(config: Config) -> None:
    federation = open_federation(config)
    once = dry_run.estimate(config, federation)["tokens_per_round"]
    thrice = replace(config, client=config.client.model_copy(update={"epochs": 3}))
    exact = federation.sizes(federation.population)[:, 1].mean() * 7
    assert dry_run.estimate(thrice, federation)["tokens_per_round"] == round(3 * exact)
    sgd = replace(thrice, strategy=replace(config.strategy, name="fedsgd"))
    assert dry_run.estimate(sgd, federation)["tokens_per_round"] == once


def test_the_dry_run_refuses_what_the_run_would(fedsim: Callable[..., Outcome], tiny: str) -> None:
    outcome = fedsim("train", "--preset", tiny, "--dry-run", "server.cohort=100")
    assert_one_sentence(outcome, "server.cohort = 100")


def test_suggest_offers_the_word_that_the_model_learned(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    lines = ["user,text"]
    for n in range(20):
        lines += [f"p{n},x{n} y{n % 7}"] + [f"p{n},see you at the usual place tonight"] * 8
    (tmp_path / "one.csv").write_text("\n".join(lines))
    keys = ["data.path=one.csv", "canaries.per_cell=0", "canaries.held_out=1"]
    keys += ["client.epochs=5", "client.batch_size=2", "server.rounds=8", "evaluation.every=8"]
    trained = fedsim("train", "--preset", tiny, *keys, "--out", "run")
    assert trained.code == 0, trained.err
    sentence = words("see you at the usual place tonight")
    for n, word in enumerate(sentence):
        before = "".join(f"{done} " for done in sentence[:n])
        for typed in ("", word[:2]):
            found = json.loads(fedsim("suggest", "run", before + typed, "--json").out)
            assert (found["context"], found["typed"]) == (sentence[:n], typed)
            assert found["offers"][0]["word"] == word
            assert found["offers"][0]["probability"] > 0.5
    plain = fedsim("suggest", "run", "See YOU, at ", "--count", "1")
    assert plain.out.split()[0] == "the"
    assert "\nend of the sentence " in plain.out
    ended = json.loads(fedsim("suggest", "run", " ".join(sentence) + " ", "--json").out)
    assert ended["end"] > 0.5, "which no offer hides"
    every = json.loads(fedsim("suggest", "run", "--count", "99", "--json").out)
    offered = [offer["word"] for offer in every["offers"]]
    assert sorted(offered) == sorted(Run.open("run").vocabulary()[N_SPECIALS:])
    shares = sum(offer["probability"] for offer in every["offers"])
    assert shares < 1, "of which the end of the sentence has its part"
    assert every["beginning_so"] == pytest.approx(shares)


def test_suggest_says_which_words_it_does_not_know(
    fedsim: Callable[..., Outcome], finished: Run
) -> None:
    said = fedsim("suggest", finished.path, "Zounds, w1 zounds qq").out
    assert "read as an unknown word: 'zounds'." in said
    assert "No word of the vocabulary begins with 'qq'." in said
    found = json.loads(fedsim("suggest", finished.path, "zounds w1", "--json").out)
    assert (found["unknown"], found["typed"]) == (["zounds"], "w1")
    assert all(offer["word"].startswith("w1") for offer in found["offers"])


def test_compare_prints_what_it_found_and_keeps_what_is_finished(
    fedsim: Callable[..., Outcome], here: Here, tiny: str, tmp_path: Path
) -> None:
    keys = ["--out", "both", "--preset", tiny, "evaluation.every=1", "fedsgd:optimizer.lr=5",
            "--seeds", "2", "--target", "all"]  # fmt: skip
    outcome = fedsim("compare", *keys, "--json")
    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == "Compared are 4 runs, 16 rounds."
    assert outcome.err.splitlines()[1] == "Server optimizer: sgd for fedavg, fedsgd."
    assert {line.split("  ")[0] for line in outcome.err.splitlines()[2:]} == {
        "1/4", "2/4", "3/4", "4/4"
    }  # fmt: skip
    found = json.loads(outcome.out)
    cells = {row["strategy"]: row for row in found["cells"]}
    for name, lr in (("fedavg", 1.0), ("fedsgd", 5.0)):
        firsts = []
        for row in (row for row in found["runs"] if row["strategy"] == name):
            run = Run.open(tmp_path / "both" / row["run"])
            assert run.config.strategy.name == name
            assert run.config.optimizer.options.lr == lr
            curve = run.evaluations.query("split == 'validation'").set_index("round").top1_recall
            first = row["rounds_to_target"]
            assert curve[first] >= found["target_top1"]
            assert (curve[: first - 1] < found["target_top1"]).all()
            firsts.append(first)
        assert cells[name]["rounds_to_target"] == sum(firsts) / 2
        assert cells[name]["n"] == 2
    assert found["target_top1"] == min(row["validation_top1"] for row in found["runs"])
    trained = len(here.given)
    again = json.loads(fedsim("compare", *keys, "--json", "--checklist").out)
    assert again["cells"] == found["cells"]
    assert len(here.given) == trained == 4
    shown = fedsim("compare", *keys)
    replaced = "both/comparison.html is of an earlier call: page and tables are replaced"
    assert sum(line.startswith(replaced) for line in shown.err.splitlines()) == 1
    assert replaced not in outcome.err
    assert "Top-1 recall on test users" in shown.out
    assert "report: both/comparison.html" in shown.out
    assert (tmp_path / "both" / "comparison.html").is_file()
    both = fedsim("compare", *keys, "--checklist").out
    assert "Top-1 recall on test users" in both
    assert both.index("report: ") < both.index("# Reproducibility checklist")
    assert "Seeds: 1, 2" in both
    assert both.endswith((tmp_path / "both" / "checklist.md").read_text("utf-8") + "\n")
    assert len(here.given) == trained


def test_compare_tunes_and_says_what_it_searched(
    fedsim: Callable[..., Outcome], here: Here, tiny: str
) -> None:
    keys = ["--preset", tiny, "server.rounds=2", "--seeds", "1", "--strategies", "fedavg",
            "--tune", "2", "--range", "client.lr=0.5,2", "--out", "tuned"]  # fmt: skip
    outcome = fedsim("compare", *keys)
    assert outcome.code == 0
    assert "1 run, 2 rounds; before them 2 trials, 3 rounds" in outcome.err
    assert "0.5 to 2, log" in outcome.out
    (given,) = json.loads(fedsim("compare", *keys, "--json").out)["trials"][:1]
    assert given["client.lr"] == 1.0


def test_compare_ends_with_what_failed(
    fedsim: Callable[..., Outcome], here: Here, tiny: str
) -> None:
    keys = ["--preset", tiny, "server.rounds=1", "--seeds", "1", "--out", "some"]
    some = fedsim("compare", *keys, "fedavg:client.lr=1e12")
    assert some.code == 0
    assert "Failed: fedavg, seed 1: All 7 clients of round 1 failed" in some.err
    assert "--retry" in some.err
    none = fedsim("compare", *keys, "--strategies", "fedavg", "client.lr=1e12")
    assert none.code == 2
    assert none.out == ""
    assert none.err.splitlines()[-1].startswith("Error: No run finished")
    assert "Traceback" not in none.err


def test_compare_refuses_what_means_nothing(
    fedsim: Callable[..., Outcome], tiny: str, tmp_path: Path
) -> None:
    for keys, said in (
        (["fedprox:client.lr=2"], "fedprox"),
        (["--strategies", "fedavg,fedsgb"], "fedsgd"),
        (["--strategies", " , "], "--strategies names none"),
        (["--strategies", "fedavg,fedsgd, fedavg"], "--strategies names 'fedavg' twice"),
        (["--axis", "client.epochs"], "has no values"),
        (["--axis", "client.epochs=1,abc"], "Error: --axis client.epochs=abc: "),
        (["--strategies", "fedavg,", "fedadam"], "'fedadam' is not an override"),
        (["--target", "12"], "--target 12 is not accepted"),
        (["--tune", "1"], "--tune 1"),
        (["server.cohort=5000"], "server.cohort = 5000 is more than"),
    ):
        assert_one_sentence(fedsim("compare", "--preset", tiny, *keys), said)
    assert list(tmp_path.iterdir()) == []


# -- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_after_the_last_word_does_not_ask_for_a_resume(
    fedsim: Callable[..., Outcome], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedsim.api.write_report", stop)
    outcome = fedsim("train", "--preset", tiny, "server.rounds=1", "--out", "a run")
    assert outcome.code == 130
    assert f"the run is finished, see: {command('show', 'a run')}" in outcome.err
    assert fedsim("show", "a run").code == 0


def test_the_same_comparison_again_continues_an_interrupted_one(
    fedsim: Callable[..., Outcome],
    here: Here,
    tiny: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    keys = ["--preset", tiny, "server.rounds=2", "--seeds", "1", "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(server.app, "finish", stop)
        stopped = fedsim("compare", *keys)
    assert stopped.code == 130
    assert stopped.out == ""
    said, _, told = stopped.err.splitlines()[-1].partition(": ")
    assert said == "Interrupted; continue with"
    again = shlex.split(told)
    assert again[1:-1] == ["run_sim.py", "compare", *keys, "--out"]
    folder = tmp_path / again[-1]
    assert folder.parent == tmp_path / "runs"
    (path,) = cached_cells()
    assert Run.open(path).status["state"] == "interrupted"
    began = Run.open(path).rounds.seconds[0]
    done = fedsim(*again[2:])
    assert done.code == 0
    runs = {row["strategy"]: row["run"] for row in json.loads(done.out)["runs"]}
    assert set(runs) == {"fedavg", "fedsgd"}
    first = Run.open(folder / runs["fedavg"])
    assert first.rounds.seconds[0] == began  # that round was not repeated
    assert fedsim("train", "--preset", tiny, "server.rounds=2", "--out", "alone").code == 0
    assert_same_record(first, Run.open("alone"))


def test_settings_for_a_run_that_began_are_refused_with_what_to_do(
    fedsim: Callable[..., Outcome], finished: Run
) -> None:
    said = fedsim("resume", finished.path, "client.lr=0.1")
    assert_one_sentence(said, "a run keeps the settings that it began with")
    for typed in (["show", finished.path, "seed=2"], ["report", finished.path, "seed=2"],
                  ["privacy", "statement", finished.path, "seed=2"]):  # fmt: skip
        assert_one_sentence(fedsim(*typed), "'seed=2' has no place in `")


# -- unfinished runs ------------------------------------------------------------------------------


def test_an_unfinished_run_shows_what_is_missing_and_how_to_continue(
    fedsim: Callable[..., Outcome], config: Config, finished: Run
) -> None:
    run = Run.create("a run", config, finished.provenance)
    fedsim("presets")  # from here on the program is that of the fixture
    again = command("resume", "a run")
    missing = "missing: {}the scores on unseen test users; continue with: " + again + "\n"
    killed = fedsim("show", run.path).out
    assert killed.startswith("stopped after 0 rounds")  # the file still says that it is running
    assert missing.format("4 of 4 rounds and ") in killed
    with run.locked():
        alive = fedsim("show", run.path).out
    assert alive.startswith("running after 0 rounds")
    assert f"; process {os.getpid()} is at work on it\n" in alive
    run.append("rounds", finished.rounds.head(3).to_dict("records"))
    run.set_status("interrupted", 3, error="")
    shown = fedsim("show", run.path)
    assert shown.code == 0
    assert missing.format("1 of 4 rounds and ") in shown.out
    run.append("rounds", finished.rounds.tail(1).to_dict("records"))
    run.set_status("failed", 4, error="disk full")
    assert missing.format("") in fedsim("show", run.path).out
    assert json.loads(fedsim("show", run.path, "--json").out)["state"] == "failed"
    assert "missing" not in fedsim("show", finished.path).out


def test_a_cut_off_table_is_no_traceback(
    fedsim: Callable[..., Outcome], config: Config, finished: Run
) -> None:
    run = Run.create("run", config, finished.provenance)
    run.append("rounds", finished.rounds.to_dict("records"))
    table = run.path / "rounds.csv"
    table.write_bytes(table.read_bytes()[:-5])
    assert "1 of 4 rounds" in fedsim("show", "run").out
    table.write_bytes(table.read_bytes().replace(b"7", b"x") + b"\n")
    assert_one_sentence(fedsim("show", "run"), "rounds.csv is damaged")


def test_a_report_of_an_unfinished_run_comes_with_its_tables(
    fedsim: Callable[..., Outcome], config: Config, finished: Run
) -> None:
    run = Run.create("run", config, finished.provenance)
    run.append("rounds", finished.rounds.head(3).to_dict("records"))
    run.set_status("interrupted", 3)
    outcome = fedsim("report", "run")
    assert outcome.code == 0
    assert outcome.out == "run/report.html\n"
    assert outcome.err.startswith("missing: 1 of 4 rounds and ")
    assert outcome.err.endswith(f"continue with: {command('resume', 'run')}\n")
    assert_frame_equal(pd.read_parquet("run/rounds.parquet"), run.rounds)
    assert not Path("run/results.parquet").exists()


# -- the root command -----------------------------------------------------------------------------


def test_without_a_command_json_is_of_the_default_run(
    fedsim: Callable[..., Outcome],
    config: Config,
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fedsim.config.load", lambda: config)
    outcome = fedsim("--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["digest"] == finished.digest
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-default")
    assert_one_sentence(fedsim("--json", "show", folder), "Write --json after 'show'")


def below(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    yield names, command
    for name, child in getattr(command, "commands", {}).items():
        yield from below(child, *names, name)


@pytest.mark.parametrize("names", [names for names, _ in below(get_command(cli.app))])
def test_the_help_of_a_command_explains_every_argument_and_option(
    fedsim: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    command = dict(below(cli.command_line()))[names]
    # Wide enough that no text is broken.
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    outcome = fedsim(*names, "--help")
    assert outcome.code == 0
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    assert ("Arguments" in outcome.out) == bool(arguments)
    # What the code says, whatever typer made of it.
    function = inspect.unwrap(command.callback) if command.callback else below
    said = inspect.get_annotations(function, eval_str=True)
    for parameter in command.params:
        (told,) = typing.get_args(said[parameter.name])[1:]
        assert told.help, parameter.name
        assert told.help in outcome.out


def test_the_help_says_what_the_exit_codes_mean(fedsim: Callable[..., Outcome]) -> None:
    said = " ".join(fedsim("--help").out.split())
    assert "Exit codes: 0 fine; 2 something to mend" in said
    assert "130 interrupted with Ctrl-C; 141 nobody reads" in said
    assert "1 a bug" in said


# A real signal at the moment when the module whose name is given is imported.
SIGNAL_AT = """
import os, signal, sys
class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "{name}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Signal())
sys.argv = ["run_sim.py", "presets"]
{before}
from run_sim import main
main()
"""


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Python with some code, in the repository."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", ["fedsim.cli.main", "typer", "pandas", "fedsim.cli.train"])
def test_ctrl_c_while_the_libraries_load_is_quiet(name: str) -> None:
    done = run_code(SIGNAL_AT.format(name=name, before=""))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = run_code(SIGNAL_AT.format(name="typer", before=before))
    assert done.returncode == 0
    assert "default" in done.stdout


# -- Ctrl-C in processes --------------------------------------------------------------------------


def start(arguments: list[str], **more: Any) -> subprocess.Popen[str]:
    """The real command in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_sim.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_resume_and_resume_gives_the_unbroken_run(
    tiny: str, tmp_path: Path, fedsim: Callable[..., Outcome]
) -> None:
    # Rounds enough that the run is not over before the signal arrives.
    keys = ["--preset", tiny, "server.rounds=300", "evaluation.every=300"]
    folder = tmp_path / "run"
    process = start(["train", *keys, "--engine=pool", "--workers=1", "--out", str(folder)])
    while not (folder / "rounds.csv").is_file() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith(f"{os.sep}run_sim.py resume {folder}")
    assert Run.open(folder).status["state"] == "interrupted"
    assert fedsim("resume", folder, "--engine", "local").code == 0
    assert fedsim("train", *keys, "--out", "unbroken").code == 0
    assert_same_record(Run.open(folder), Run.open("unbroken"))


@pytest.mark.slow
def test_ctrl_c_while_the_workers_start_is_quiet_too(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    keys = ["--preset", tiny, "--engine=pool", "--workers=1", "--out", str(folder)]
    process = start(["train", *keys])
    # The first of its processes imports what the workers need; a worker comes after that.
    while not (below := psutil.Process(process.pid).children(recursive=True)):
        time.sleep(0.01)
    time.sleep(0.2)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not folder.exists(), "there was no run yet"
    assert psutil.wait_procs(below, timeout=30)[1] == [], "nothing is left behind"


@pytest.mark.slow
def test_a_stop_for_the_main_process_alone_stops_a_study(
    tiny: str, tmp_path: Path, own_cache: Path
) -> None:
    """As a scheduler sends it: no cell is trained to its end first."""
    folder = tmp_path / "study"
    keys = ["--preset", tiny, "server.rounds=100000", "evaluation.every=100000", "--seeds", "2"]
    process = start(["compare", *keys, "--jobs", "2", "--out", str(folder)])
    while len(list(own_cache.glob("cells/*/rounds.csv"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("Interrupted; continue with: ")
    assert "run_sim.py compare" in err.splitlines()[-1]
    assert psutil.wait_procs(below, timeout=30)[1] == [], "nothing is left behind"
    runs = [Run.open(path) for path in cached_cells()]
    assert {run.status["state"] for run in runs} == {"interrupted"}
