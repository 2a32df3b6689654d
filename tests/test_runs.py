"""The run folder: tables, checkpoints, and interruption at any moment followed by a resume."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from federations import assert_same_record
from pandas.testing import assert_frame_equal

import fedsim.checkpoints
import server.app
import server.recording
from clients import app as client_app
from fedsim.checkpoints import load_arrays, load_latest, save_arrays, save_checkpoint
from fedsim.config import Config, load
from fedsim.data.sources import cache_folder
from fedsim.errors import FedsimError
from fedsim.files import affixes
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate
from fedsim.tables import LATER, TABLES

CHECKPOINTS = "round-*.safetensors"


class Interrupted:
    """Wraps a function: the call number `at` (from 1) ends in a Ctrl-C, before or after it."""

    def __init__(self, function: Callable[..., Any], at: int, after: bool = False) -> None:
        self.function, self.at, self.after, self.calls = function, at, after, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return self.function(*arguments, **named)
        if self.after:
            self.function(*arguments, **named)
        raise KeyboardInterrupt

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        return lambda *arguments, **named: self(instance, *arguments, **named)


def interrupt(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, after: bool = False
) -> None:
    """Make the call number `at` of `owner.name` a Ctrl-C."""
    monkeypatch.setattr(owner, name, Interrupted(getattr(owner, name), at, after))


# -- interruption and resume ----------------------------------------------------------------------


def interrupted_run(
    monkeypatch: pytest.MonkeyPatch,
    config: Config,
    path: Path,
    owner: Any,
    name: str,
    at: int,
    after: bool = False,
) -> Run:
    """A run of `config` that a Ctrl-C ended."""
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, at, after)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, path, quiet=True)
    return Run.open(path)


# The tiny run writes 15 times to its tables: rounds and clients of four rounds, evaluations and
# exposure after the second and the fourth, test scores, results, users.
@pytest.mark.parametrize(("at", "after"), [(2, False), (5, True), (6, False), (6, True), (8, True),
                                           (13, False), (14, True), (15, True)])  # fmt: skip
def test_a_run_cut_off_while_it_writes_its_tables_resumes_to_the_unbroken_record(
    at: int,
    after: bool,
    config: Config,
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", Run, "append", at, after)
    assert run.status["state"] == "interrupted"
    done = resume(run.path, quiet=True)
    assert done.status["state"] == "finished"
    assert_same_record(done, finished)


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (client_app, "train_chunk", 1),  # in the first round: nothing has been learned yet
        (client_app, "train_chunk", 7),  # four chunks a round: in the second
        (client_app, "evaluate_user", 1),  # in the evaluation after the second round
        (server.recording, "measure_exposure", 2),
        (server.app, "finish", 1),  # when all that is left is the final scoring
        (server.app, "latency", 1),
    ],
)
def test_a_run_stopped_while_it_computes_resumes_to_the_unbroken_record(
    owner: Any,
    name: str,
    at: int,
    config: Config,
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", owner, name, at)
    assert run.status["state"] == "interrupted"
    assert_same_record(resume(run.path, quiet=True), finished)


def test_a_run_may_be_interrupted_again_and_again(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 5)
    for expected_round in (1, 2):
        assert run.status["round"] == expected_round
        with monkeypatch.context() as patch:
            interrupt(patch, client_app, "train_chunk", at=5)
            with pytest.raises(KeyboardInterrupt):
                resume(run.path, quiet=True)
    assert_same_record(resume(run.path, quiet=True), finished)


def test_a_second_ctrl_c_waits_until_the_first_has_saved(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No checkpoint but the first and that of the interruption, in which the second comes.
    config = replace(config, server=config.server.model_copy(update={"checkpoint_every": 50}))
    real, saved = fedsim.checkpoints.write_atomically, []

    def again(path: Path, data: bytes) -> None:
        if path.name == "round-0000003.safetensors":
            signal.raise_signal(signal.SIGINT)
            saved.append(path)
        real(path, data)

    monkeypatch.setattr(fedsim.checkpoints, "write_atomically", again)
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 14)
    assert saved
    assert run.status == {"state": "interrupted", "round": 3, "error": ""}
    assert run.rewind()[0] == 3


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "yogi", "adagrad"])
def test_optimizer_state_and_averages_survive_a_resume(
    optimizer: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["server.average=0.5", "server.sampler=poisson", "canaries.per_cell=0"]
    config = load(tiny, [f"optimizer={optimizer}", *keys])
    whole = simulate(config, tmp_path / "whole", quiet=True)
    broken = interrupted_run(monkeypatch, config, tmp_path / "run", Run, "append", 7)
    assert_same_record(resume(broken.path, quiet=True), whole)


def test_tables_of_before_go_on_without_the_columns_that_came_later(
    finished: Run, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    for name in ("users", "results", "evaluations"):
        path = run.path / f"{name}.csv"
        old = run.table(name).drop(columns=LATER, errors="ignore")
        assert len(old.columns) < len(TABLES[name])
        path.write_text(old.to_csv(index=False))
        there = run.table(name)
        assert list(there.columns) == list(TABLES[name])
        assert there[[c for c in there if c in LATER]].isna().all(axis=None)
        rows = finished.table(name).to_dict("records")
        run.append(name, rows)
        assert path.read_text().splitlines()[0] == ",".join(old.columns)
        assert_frame_equal(run.table(name)[old.columns], pd.concat([old, old], ignore_index=True))
    path = run.path / "users.csv"
    path.write_text(path.read_text().replace("hits_top1,", "", 1))
    with pytest.raises(FedsimError, match="is damaged"):
        run.table("users")


def test_a_full_disk_is_one_sentence_and_costs_nothing_but_the_round(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(self: Path, *arguments: Any, **named: Any) -> Any:
        appending = arguments == ("ab",) and self.name == "clients.csv" and self.exists()
        if appending and self.stat().st_size > 600:
            with real(self, "ab") as file:
                file.write(b"3,1,Fal")  # half a row
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(FedsimError, match=r"No space left.*free space, then `.*resume"):
            simulate(config, tmp_path / "run", quiet=True)
    run = Run.open(tmp_path / "run")
    assert run.status["state"] == "failed"
    assert_same_record(resume(run.path, quiet=True), finished)


def test_a_disk_that_stays_full_does_not_hide_what_failed_first(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = Path.open, []

    def no_room(self: Path, *arguments: Any, **named: Any) -> Any:
        writing = arguments and arguments[0][0] in "aw"
        late = self.name == "run.log" and self.with_name("rounds.csv").exists()
        if writing and (full or late):
            full.append(self)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", no_room)
        with pytest.raises(FedsimError, match=r"Cannot write .*run\.log \(No space left"):
            simulate(config, tmp_path / "run", quiet=True)
    # The state and the status were tried as well, and could not be written either.
    assert {file.suffix for file in full} >= {".tmp"}
    assert Run.open(tmp_path / "run").status == {"state": "stopped", "round": 2}


@pytest.mark.parametrize("way", ["interrupted", "killed"])
def test_half_written_files_do_not_stay(
    way: str, config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def stop(descriptor: int) -> None:
        if len(list((tmp_path / "run" / "checkpoints").glob("round-*"))) == 2:
            raise KeyboardInterrupt
        real(descriptor)

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, run.path, quiet=True)
    assert not list(run.path.rglob("*.tmp"))
    if way == "killed":  # which runs no code of ours: what a writer had begun is still there
        for name in (".status.json.77.tmp", "checkpoints/.round-0000002.safetensors.77.tmp"):
            (run.path / name).write_text("{")
    assert_same_record(resume(run.path, quiet=True), finished)
    assert not list(run.path.rglob("*.tmp"))


def test_what_killed_writers_left_is_cleared_by_whoever_opens_the_folder(
    finished: Run, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = affixes("")[0].removeprefix("..").rpartition("-")[0]
    dead = [f".profile.json.{ended.pid}.tmp", f".report.html.{host}-{ended.pid}.tmp",
            f".draft.{host}-{ended.pid}_ab1.tmp", f"audit/.a.parquet.{host}-{ended.pid}.tmp",
            f"checkpoints/.round-0000004.safetensors.{host}-{ended.pid}.tmp",
            ".old.elsewhere-1.tmp"]  # fmt: skip
    alive = [f".status.json.{host}-{os.getpid()}.tmp", ".young.elsewhere-1.tmp", ".mine.tmp"]
    (run.path / "audit").mkdir()
    for name in dead + alive:
        (run.path / name).write_text("{")
    os.utime(run.path / ".old.elsewhere-1.tmp", (1e9, 1e9))
    Run.open(run.path)
    assert not [name for name in dead if (run.path / name).exists()]
    assert [name for name in alive if (run.path / name).exists()] == alive


def test_a_cache_is_cleared_of_what_killed_builds_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path))
    draft = tmp_path / "corpora" / f".own-1.{ended.pid}_x.tmp"
    draft.mkdir(parents=True)
    (draft / "tokens.npy").touch()
    assert cache_folder() == tmp_path
    assert not draft.exists()


def test_a_resumed_run_keeps_its_config_and_may_change_engine(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 9)
    file = run.path / "config.json"
    untouched = file.read_text()
    tree = json.loads(untouched)
    tree["client"]["lr"] = 0.5
    file.write_text(json.dumps(tree))
    with pytest.raises(FedsimError, match=r"config\.json was changed after the run wrote it"):
        resume(run.path, quiet=True)
    (run.path / "checksums.json").unlink()  # as in a folder of an earlier version
    with pytest.raises(FedsimError, match="changed after the run began"):
        resume(run.path, quiet=True)
    file.write_text(untouched)
    other = EngineOptions(name="local", workers=3)
    assert_same_record(resume(run.path, quiet=True, engine=other), finished)


def test_a_finished_run_is_not_resumed(finished: Run) -> None:
    with pytest.raises(FedsimError, match="is finished"):
        resume(finished.path, quiet=True)


# -- damaged checkpoints --------------------------------------------------------------------------


def flip_a_bit(file: Path) -> None:
    """Change one bit in the last tenth of the file, which is data."""
    data = bytearray(file.read_bytes())
    data[-len(data) // 10] ^= 0x04
    file.write_bytes(data)


def truncate(file: Path) -> None:
    """Keep the first half, as a full disk would."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    """Nothing left."""
    file.write_bytes(b"")


def test_damaged_checkpoints_are_removed_and_do_not_count_towards_keep(
    config: Config, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config, {})
    folder, arrays = run.path / "checkpoints", {"w": np.zeros(2, np.float32)}

    def names() -> list[str]:
        return [file.stem for file in sorted(folder.glob(CHECKPOINTS))]

    for round in (2, 3, 8, 9):
        run.save_checkpoint(round, arrays, {}, keep=4)
    for round in (8, 9):
        truncate(folder / f"round-000000{round}.safetensors")
    round, _, problems = run.rewind()
    assert round == 3
    assert [p.split("round-000000")[1][0] for p in problems] == ["9", "8"]
    assert names() == ["round-0000002", "round-0000003"]
    run.save_checkpoint(4, arrays, {}, keep=2)
    assert names() == ["round-0000003", "round-0000004"]


def test_damaged_checkpoints_stay_where_nothing_can_be_resumed(
    config: Config, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config, {})
    run.save_checkpoint(1, {"w": np.zeros(2, np.float32)}, {}, keep=2)
    (file,) = (run.path / "checkpoints").iterdir()
    truncate(file)
    with pytest.raises(FedsimError, match="Start the run anew"):
        run.rewind()
    assert file.exists()


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(
    damage: Callable[[Path], None],
    config: Config,
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 14)
    older, newest = sorted((run.path / "checkpoints").glob(CHECKPOINTS))
    assert (older.stem, newest.stem) == ("round-0000002", "round-0000003")
    damage(newest)
    assert_same_record(resume(run.path), finished)
    said = capfd.readouterr().err
    assert "round-0000003.safetensors is damaged" in said
    assert "Using the checkpoint of round 2 instead." in said


def test_without_a_whole_checkpoint_one_sentence_says_what_to_do(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 14)
    for file in (run.path / "checkpoints").glob(CHECKPOINTS):
        truncate(file)
    with pytest.raises(FedsimError, match="Start the run anew") as caught:
        resume(run.path, quiet=True)
    assert "\n" not in str(caught.value)
    assert run.status["state"] == "failed"


def test_no_damage_to_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    """Every byte changed, every length cut: an error of ours, or the arrays as they were."""
    file = tmp_path / "one.safetensors"
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([3], np.int32)}
    save_arrays(file, arrays, {"round": 3})
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    broken = [whole[:cut] for cut in range(len(whole))]
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        broken.append(bytes(changed))
    noticed = 0
    for data in broken:
        file.write_bytes(data)
        try:
            read, meta = load_arrays(file)
        except FedsimError:
            noticed += 1
            continue
        assert meta == {"round": 3}
        assert {k: v.tolist() for k, v in read.items()} == {
            k: v.tolist() for k, v in arrays.items()
        }
    assert noticed >= 0.98 * len(broken)


def test_checkpoints_keep_arrays_exactly_and_only_the_last_few(tmp_path: Path) -> None:
    arrays = {
        "w": np.array([[np.pi, -0.0], [1e-38, 3e38]], np.float32),
        "v": np.array([1.0 + 2**-52]),
        "n": np.array([2**31 - 1], np.int32),
        "scalar": np.array(1.5, np.float32),
        "none": np.zeros((0, 3), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    for round in (1, 2, 10):
        save_checkpoint(tmp_path, round, arrays, {"identity": "x", "tables": {}}, keep=2)
    kept = [file.name for file in sorted(tmp_path.iterdir())]
    assert kept == ["round-0000002.safetensors", "round-0000010.safetensors"]
    read, meta, problems = load_latest(tmp_path)
    assert (meta, problems) == ({"identity": "x", "tables": {}, "round": 10}, [])
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_a_folder_without_checkpoints_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(FedsimError, match="there is no checkpoint"):
        load_latest(tmp_path)


# -- the folder and its tables --------------------------------------------------------------------


def test_a_finished_folder_holds_the_whole_record(finished: Run, config: Config) -> None:
    kept = {key: getattr(finished.config.engine, key) for key in ("device", "kernel")}
    assert finished.config == replace(config, engine=config.engine.model_copy(update=kept))
    assert "auto" not in kept.values(), "a run keeps the device and the kernel it began with"
    assert finished.status["state"] == "finished"
    assert finished.status["round"] == config.server.rounds
    made_with = finished.provenance
    assert made_with["packages"]["flwr"].startswith("1.")
    assert len(made_with["corpus"]["digest"]) == 64
    for name, schema in TABLES.items():
        table = finished.table(name)
        assert list(table.columns) == list(schema)
        none = ("failures", "privacy", "leakage", "audit", "first_corpus")
        if name not in none:
            parquet = pd.read_parquet(finished.path / f"{name}.parquet")
            assert_frame_equal(table, parquet)
    assert not list(finished.path.rglob("*.tmp"))


def test_the_tables_agree_with_each_other(finished: Run, config: Config) -> None:
    rounds, clients = finished.rounds, finished.clients
    assert rounds["round"].tolist() == [1, 2, 3, 4]
    assert (rounds.users_sampled == config.server.cohort).all()
    by_round = clients.groupby("round")
    assert by_round.size().tolist() == rounds.users_completed.tolist()
    assert by_round.tokens.sum().tolist() == rounds.tokens.tolist()
    assert by_round.sequences.sum().tolist() == rounds.sequences.tolist()
    nats = (clients.loss_nats_per_token * clients.tokens).groupby(clients["round"]).sum()
    np.testing.assert_allclose(nats / rounds.tokens.to_numpy(), rounds.train_loss_nats_per_token)
    np.testing.assert_allclose(by_round.update_norm.mean(), rounds.mean_client_norm)
    parameters = finished.results.parameters[0]
    assert (rounds.download_bytes == 4 * parameters * config.server.cohort).all()
    scores = finished.evaluations
    assert scores["round"].tolist() == [2, 4, 4]
    assert scores.split.tolist() == ["validation", "validation", "test"]
    users = finished.table("users")
    assert users.words.sum() == finished.results.words[0]
    assert users.hits_top1.sum() / users.words.sum() == finished.results.top1_recall[0]


def test_the_saved_model_is_the_one_that_was_scored(finished: Run) -> None:
    from fedsim.parameters import Parameters

    model = finished.model()
    assert not model.training
    assert Parameters.from_model(model).digest() == finished.digest
    words = finished.vocabulary()
    assert words[:4] == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert len(words) == model.vocabulary_size


def test_rows_read_back_exactly(config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    assert run.table("failures").empty
    awkward = ['comma, "quote"', "newline\nin it", "ümläut 🙂", "NA", "None"]
    rows = [{"round": i, "user": 2**40, "reason": text} for i, text in enumerate(awkward)]
    run.append("failures", rows[:2])
    run.append("failures", rows[2:])
    assert run.table("failures").reason.tolist() == awkward
    assert run.table("failures").user.tolist() == [2**40] * 5
    values = dict.fromkeys(TABLES["results"], 1) | {
        "model": "trigram",
        "top1_recall": 0.1 + 0.2,
        "top3_recall": np.float32(1 / 3),
        "perplexity": float("inf"),
        "latency_p50_ms": float("nan"),
        "parameters": None,
    }
    run.append("results", [values])
    row = run.results.iloc[0]
    assert row.top1_recall == 0.1 + 0.2
    assert row.top3_recall == float(np.float32(1 / 3))
    assert row.perplexity == float("inf")
    assert np.isnan(row.latency_p50_ms)
    assert row.parameters is pd.NA
    with pytest.raises(ValueError, match="extra"):
        run.append("failures", [{"round": 1, "user": 1, "reason": "", "extra": 1}])


def failures(count: int) -> list[dict[str, Any]]:
    """Rows whose text has line breaks, commas and quotes."""
    return [{"round": i, "user": i, "reason": f'a, "b"\nc {i}'} for i in range(count)]


def test_a_table_cut_anywhere_shows_its_whole_rows(config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    file, ends = run.path / "failures.csv", []
    for row in failures(3):
        run.append("failures", [row])
        ends.append(file.stat().st_size)
    whole = file.read_bytes()
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        table = run.table("failures")
        assert len(table) == sum(end <= cut for end in ends)
        assert list(table.columns) == list(TABLES["failures"])
        assert table["round"].tolist() == list(range(len(table)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("round,user,reason\n1,2\n1,2,x,y\n", "line 3"),
        ("round,user,reason\n1,two,x\n", "two"),
        ("round,user,reason\n1,,x\n", "NA values"),
        ("round,user\n1,2\n", "its columns should be round, user, reason"),
        (b"round,user,reason\n1,2,\xff\n", "utf-8"),
    ],
)
def test_a_damaged_table_is_one_sentence(
    text: str | bytes, said: str, config: Config, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config, {})
    file = run.path / "failures.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FedsimError, match=r"failures\.csv is damaged \(.*\); restore it") as caught:
        run.table("failures")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_was_begun_after_the_checkpoint_is_empty_again(
    config: Config, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config, {})
    run.save_checkpoint(0, {"w": np.zeros(2, np.float32)}, run.table_lengths(), keep=2)
    run.append("failures", failures(2))
    run.export_tables()
    assert len(pd.read_parquet(run.path / "failures.parquet")) == 2
    run.rewind()
    assert run.table("failures").empty
    assert not (run.path / "failures.parquet").exists()
    run.export_tables()
    assert pd.read_parquet(run.path / "failures.parquet").empty


@pytest.mark.parametrize("gone", [True, False])
def test_a_record_that_lost_rows_is_not_resumed(gone: bool, config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    run.append("failures", failures(3))
    run.save_checkpoint(1, {"w": np.zeros(2, np.float32)}, run.table_lengths(), keep=2)
    file = run.path / "failures.csv"
    if gone:
        file.unlink()
    else:
        truncate(file)
    run.append("rounds", [dict.fromkeys(TABLES["rounds"], 1)])
    kept = (run.path / "rounds.csv").read_bytes()
    with pytest.raises(FedsimError, match=r"failures\.csv is missing or shorter"):
        run.rewind()
    assert (run.path / "rounds.csv").read_bytes() == kept, "cut back before all was looked at"


# -- one process at a time ------------------------------------------------------------------------


def test_a_run_is_locked_for_others_and_free_afterwards(config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    code = (
        "import sys, fedsim.runs\n"
        "from fedsim.errors import FedsimError\n"
        "try:\n"
        f"    with fedsim.runs.Run({str(run.path)!r}).locked(): print('mine')\n"
        "except FedsimError as error: print(error)"
    )

    def other_process() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with run.locked():
        said = other_process()
        assert f"is in use by another process (id {os.getpid()})" in said
        assert said.count("\n") == 1
        # The one that was refused changed nothing, so a third learns the same.
        with pytest.raises(FedsimError, match=rf"id {os.getpid()}"), Run(run.path).locked():
            pass
    assert other_process() == "mine\n"
    with pytest.raises(KeyError), run.locked():
        raise KeyError
    with run.locked():
        pass


def test_a_killed_process_leaves_no_lock(config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    code = (
        "import time, fedsim.runs\n"
        f"with fedsim.runs.Run({str(run.path)!r}).locked():\n"
        "    print('mine', flush=True)\n"
        "    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(FedsimError, match=rf"id {other.pid}"), run.locked():
            pass
        other.kill()
        other.wait()
    with run.locked():
        pass


def test_without_locks_a_run_goes_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", config, {})

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        with run.locked():
            pass
    monkeypatch.setattr("fedsim.locks.fcntl", None)
    with run.locked(), run.locked():
        pass


def test_a_folder_that_exists_is_never_written_into(config: Config, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", config, {})
    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    with pytest.raises(FedsimError, match="exists"):
        Run.create(tmp_path / "run", config, {})
    with pytest.raises(FedsimError, match="exists"):
        simulate(config, tmp_path / "run", quiet=True)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


def test_what_is_no_run_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FedsimError, match=r"not a run folder: it has no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(FedsimError, match=r"config\.json is not valid JSON"):
        Run.open(tmp_path)
    run = Run(tmp_path)
    with pytest.raises(FedsimError, match=r"config\.json is not valid JSON"):
        _ = run.config
    with pytest.raises(FedsimError, match=r"status\.json is not valid JSON"):
        _ = run.status


def test_an_unfinished_run_has_no_model_and_says_so(config: Config, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config, {})
    with pytest.raises(FedsimError, match="no model yet"):
        run.model()


def test_a_failed_run_says_why(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(server.app, "finish", broken)
    with pytest.raises(OSError, match="disk on fire"):
        simulate(config, tmp_path / "run", quiet=True)
    status = Run.open(tmp_path / "run").status
    assert (status["state"], status["round"]) == ("failed", 4)
    assert "disk on fire" in status["error"]


def test_the_seed_decides_the_model(config: Config, finished: Run, tmp_path: Path) -> None:
    again = simulate(config, tmp_path / "again", quiet=True)
    assert_same_record(again, finished)
    other = simulate(replace(config, seed=2), tmp_path / "other", quiet=True)
    assert other.digest != finished.digest
