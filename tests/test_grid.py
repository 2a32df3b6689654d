"""Cells of a study: cached, isolated failures, killed processes, runs that pause and go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federations import Here, assert_same_record, write_chat
from pandas.testing import assert_frame_equal

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.simulation import resume, simulate
from fedsim.studies import cell_store, grid
from fedsim.studies.audit import audit_run
from fedsim.studies.grid import Crew, run_all
from fedsim.studies.pooled import train_pooled

ROOT = Path(__file__).resolve().parents[1]


def quiet(name: str, done: int, of: int) -> None:
    """Nobody watches."""


def cells(tiny: str, **keys: str) -> dict[str, Config]:
    """A config a name, each from the tiny preset and one override."""
    return {name: load(tiny, ["server.rounds=2", key]) for name, key in keys.items()}


# -- paused runs ----------------------------------------------------------------------------------


def test_a_run_that_was_paused_ends_as_one_that_was_not(
    config: Config, finished: Run, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    run = simulate(config, path, quiet=True, until=2)
    assert run.status == {"state": "paused", "round": 2}
    assert run.evaluations[["round", "split"]].values.tolist() == [[2, "validation"]]
    assert run.results.empty, "test users are seen by no run that is paused"
    run = resume(path, quiet=True, until=4)
    assert run.status == {"state": "paused", "round": 4}
    assert run.results.empty
    assert not run.digest
    run = resume(path, quiet=True)
    assert run.status["state"] == "finished"
    assert_same_record(run, finished)


def test_the_learning_rate_of_a_paused_run_is_that_of_the_whole_run(
    tiny: str, tmp_path: Path
) -> None:
    falling = load(tiny, ["client.lr_decay=1"])
    whole = simulate(falling, tmp_path / "whole", quiet=True)
    simulate(falling, tmp_path / "parts", quiet=True, until=1)
    assert_same_record(resume(tmp_path / "parts", quiet=True), whole)


@pytest.mark.parametrize("until", [0, 5])
def test_a_run_pauses_after_one_of_its_rounds(config: Config, tmp_path: Path, until: int) -> None:
    with pytest.raises(FedsimError, match="4 rounds cannot be paused after round"):
        simulate(config, tmp_path / "run", until=until)
    assert not (tmp_path / "run").exists()


# -- cells ----------------------------------------------------------------------------------------


def test_one_cell_that_fails_stops_no_other(here: Here, tiny: str, tmp_path: Path) -> None:
    asked = cells(tiny, before="seed=1", diverges="client.lr=1e12", after="seed=2")
    with Crew(tmp_path, 1) as crew:
        outcomes = crew.work(asked, quiet)
        assert isinstance(outcomes["before"], Run)
        assert isinstance(outcomes["after"], Run)
        assert "lower client.lr" in str(outcomes["diverges"])
        assert len(here.given) == 3
        again = crew.work(asked, quiet)
        assert str(again["diverges"]) == str(outcomes["diverges"])
        assert len(here.given) == 3, "what failed is not trained again"
        crew.work(asked, quiet, retry=True)
        assert len(here.given) == 4
    with pytest.raises(FedsimError, match=r"The cell 'diverges' failed: .*lower client.lr"):
        run_all(asked, tmp_path, 1, quiet)


def test_cells_are_trained_once_and_go_on_from_where_they_are(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    asked = cells(tiny, one="seed=1", same="seed=1", other="seed=2")
    told: list[tuple[str, int, int]] = []
    with Crew(tmp_path, 1) as crew:
        first = crew.work(asked, lambda *said: told.append(said), {"one": 1, "same": 1, "other": 1})
        assert {name for name, _, _ in told} == set(asked)
        assert [counted for _, *counted in told] == [[1, 3], [2, 3], [3, 3]]
        assert first["one"].path == first["same"].path
        assert [run.status["round"] for run in first.values()] == [1, 1, 1]
        crew.work(asked, quiet, {"one": 1, "same": 1})
        assert [given[3] for given in here.given] == [1, 1, None], "only the third goes on"
        assert first["other"].status["state"] == "finished"


@pytest.mark.parametrize("until", [None, 1])
@pytest.mark.parametrize("which", ["own", "first"])
def test_a_cell_of_a_text_that_was_changed_is_another_one(
    until: int | None, which: str, here: Here, tiny: str, tmp_path: Path
) -> None:
    """The config is the same: it names the file only."""
    chats = {name: write_chat(tmp_path / f"{name}.csv", seed=i)
             for i, name in enumerate(("own", "first"))}  # fmt: skip
    keys = [f"data.path={chats['own']}", "data.min_words=10", "server.rounds=2"]
    keys += [f"pretrain.path={chats['first']}", "pretrain.min_words=10", "pretrain.epochs=0"]
    asked = {"one": load(tiny, keys)}
    until_of = {"one": until} if until else None
    paths = []
    for _ in range(2):
        for _ in range(2):
            with Crew(tmp_path, 1) as crew:
                outcome = crew.work(asked, quiet, until_of)["one"]
                assert isinstance(outcome, Run)
        paths.append(outcome.path)
        write_chat(chats[which], seed=9)
    assert len(here.given) == 2, "one for each text"
    assert paths[0] != paths[1]
    write_chat(chats[which], seed=["own", "first"].index(which))
    with Crew(tmp_path, 1) as crew:
        assert crew.work(asked, quiet, until_of)["one"].path == paths[0]  # type: ignore[union-attr]


def test_a_failure_is_not_that_of_another_text_nor_of_other_code(
    here: Here, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether these fail too nobody knows."""
    chat = write_chat(tmp_path / "own.csv", seed=1)
    keys = [f"data.path={chat}", "data.min_words=10", "server.rounds=2", "client.lr=1e12"]
    asked = {"wild": load(tiny, keys)}

    def trained() -> int:
        with Crew(tmp_path, 1) as crew:
            assert isinstance(crew.work(asked, quiet)["wild"], FedsimError)
        return len(here.given)

    assert [trained(), trained()] == [1, 1]
    write_chat(chat, seed=2)
    assert [trained(), trained()] == [2, 2]
    monkeypatch.setattr(cell_store, "code_digest", lambda: "of tomorrow")
    assert [trained(), trained()] == [3, 3]


def test_studies_share_their_cells_and_keep_copies_that_can_be_moved(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    asked = cells(tiny, one="seed=1", other="seed=2")
    first = run_all(asked, tmp_path / "a", 1, quiet)
    again = run_all(asked, tmp_path / "b", 1, quiet)
    assert len(here.given) == 2, "the second study trained nothing"
    assert {n: run.path for n, run in first.items()} == {n: run.path for n, run in again.items()}
    (tmp_path / "b").rename(tmp_path / "moved")
    for run in first.values():
        shutil.rmtree(run.path)  # as `cache prune` does
    for folder in ("a", "moved"):
        copies = [Run.open(path) for path in sorted((tmp_path / folder / "cells").iterdir())]
        assert len(copies) == 2
        for copy in copies:
            assert copy.status["state"] == "finished"
            assert copy.model().vocabulary_size == len(copy.vocabulary())


def test_a_copy_that_was_audited_stays_so_and_the_cache_does_not_change(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    asked = cells(tiny, one="seed=1")
    (cell,) = run_all(asked, tmp_path / "a", 1, quiet).values()
    (path,) = (tmp_path / "a" / "cells").iterdir()
    audit_run(Run.open(path), ["canaries"])
    found = Run.open(path).table("leakage")
    assert len(found)
    assert Run.open(cell.path).table("leakage").empty
    (later,) = run_all(asked, tmp_path / "a", 1, quiet).values()
    assert len(here.given) == 1
    assert_frame_equal(Run.open(path).table("leakage"), found)
    assert Run.open(later.path).table("leakage").empty


def test_a_damaged_cell_is_made_again(here: Here, tiny: str, tmp_path: Path) -> None:
    asked = cells(tiny, one="seed=1")
    (whole,) = run_all(asked, None, 1, quiet).values()
    digest = whole.digest
    table = whole.path / "rounds.csv"
    table.write_bytes(table.read_bytes()[:-9])
    (again,) = run_all(asked, None, 1, quiet).values()
    assert len(here.given) == 2
    assert again.digest == digest
    assert len(again.rounds) == 2


def test_two_studies_at_a_time_train_a_cell_once(tiny: str, tmp_path: Path) -> None:
    """The second one waits for the first one's, and finds it there."""
    asked, store = cells(tiny, one="seed=1")["one"], cell_store.CellStore()
    path = store.path(asked)
    with ThreadPoolExecutor(2) as threads, cell_store.alone(path):
        second = threads.submit(grid._make, None, asked, path, None)
        time.sleep(0.3)
        assert not second.done()
        simulate(asked, path, quiet=True)
        made = (path / "status.json").stat().st_mtime_ns
    second.result()
    assert (path / "status.json").stat().st_mtime_ns == made, "it was not made again"


@pytest.mark.parametrize("left", [[], ["status.json"], ["status.json", "config.json"]])
def test_a_cell_that_was_killed_before_its_first_checkpoint_begins_anew(
    left: list[str], here: Here, tiny: str, tmp_path: Path
) -> None:
    asked = cells(tiny, one="seed=1")
    with Crew(tmp_path, 1) as crew:
        whole = crew.work(asked, quiet)["one"]
        assert isinstance(whole, Run)
        config, digest, path = (whole.path / "config.json").read_bytes(), whole.digest, whole.path
        shutil.rmtree(path)
        (path / "checkpoints").mkdir(parents=True)
        files = {"status.json": b'{"state": "running", "round": 0}', "config.json": config}
        for name in left:
            (path / name).write_bytes(files[name])
        again = crew.work(asked, quiet)["one"]
    assert isinstance(again, Run)
    assert (again.status["state"], again.digest) == ("finished", digest)


def test_a_bug_in_a_cell_is_its_error_too(
    here: Here, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any, **__: Any) -> Run:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(grid, "simulate", bug)
    with Crew(tmp_path, 1) as crew:
        outcomes = crew.work(cells(tiny, one="seed=1"), quiet)
    assert isinstance(outcomes["one"], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        run_all(cells(tiny, one="seed=1"), tmp_path, 1, quiet)


def _dies_for(name: str, folder: Path) -> None:
    """A task that kills its process where it is called so."""
    if name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / name).touch()


STOPPED = """
import os, signal, sys, time
from pathlib import Path
from fedsim.studies.grid import Crew

def task(seconds, file):
    Path(file).touch()
    time.sleep(seconds)

def stop_when_there(file):
    while not Path(file).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep({again})
    os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    import threading
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = sys.argv[1]
    with Crew(Path(folder), 2) as crew:
        tasks = {{name: ({seconds}, folder + "/" + name) for name in "ab"}}
        threading.Thread(target=stop_when_there, args=(folder + "/b",), daemon=True).start()
        for _ in crew.each(task, tasks):
            pass
        time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("again", [0.0, 0.3], ids=["twice at once", "twice"])
@pytest.mark.parametrize("seconds", [0, 600], ids=["idle", "at work"])
def test_a_stop_ends_every_process_and_the_study(
    again: float, seconds: int, tmp_path: Path
) -> None:
    """It once waited for an idle process that nobody had told to end."""
    script = tmp_path / "script.py"
    script.write_text(STOPPED.format(again=again, seconds=seconds), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment,
                          stderr=subprocess.PIPE, text=True, timeout=120)  # fmt: skip
    assert done.returncode in (130, -signal.SIGINT), done.stderr


@pytest.mark.slow
def test_a_process_that_is_killed_takes_no_other_cell_along(tmp_path: Path) -> None:
    names = ("a", "killer", "b", "c")
    tasks: Mapping[str, tuple[Any, ...]] = {name: (name, tmp_path) for name in names}
    with Crew(tmp_path, 2) as crew:
        errors = dict(crew.each(_dies_for, tasks))
    assert set(errors) == set(names)
    assert [name for name, error in errors.items() if error] == ["killer"]
    assert "killed" in str(errors["killer"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_the_engine_of_a_cell_is_no_part_of_it(config: Config) -> None:
    other = replace(config, engine=config.engine.model_copy(update={"chunk": 5}))
    store = cell_store.CellStore()
    assert store.path(config) == store.path(other)
    assert store.path(config) != store.path(replace(config, seed=2))
    assert store.path(config) != cell_store.CellStore(train_pooled).path(config)
