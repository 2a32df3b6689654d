"""Where the time goes: parts that add up, kept over interruptions, printed when asked."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from federations import assert_same_record

import clients.app
import fedsim.profile
from fedsim.cli import main as cli
from fedsim.config import Config
from fedsim.profile import PARTS, Profile, added
from fedsim.runs import Run
from fedsim.simulation import resume, simulate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until its first element is raised."""
    now = [100.0]
    monkeypatch.setattr(fedsim.profile.time, "perf_counter", lambda: now[0])
    return now


# -- the stopwatch --------------------------------------------------------------------------------


def test_a_part_is_without_the_parts_inside(clock: list[float]) -> None:
    profile = Profile()
    clock[0] += 1
    with profile.part("record"):
        clock[0] += 2
        with profile.part("leakage"):
            clock[0] += 4
        clock[0] += 8
    with suppress(ValueError), profile.part("data"):
        clock[0] += 16
        raise ValueError
    clock[0] += 32
    found = profile.as_dict()
    assert {k: v for k, v in found["parts"].items() if v} == {
        "other": 33, "record": 10, "leakage": 4, "data": 16
    }  # fmt: skip
    assert found["wall_seconds"] == 63


@pytest.mark.parametrize(
    ("waited", "added_s", "said", "expected"),
    [
        # Two workers said 6 s each: 12 s of waiting, of which the mean worker trained 6.
        (12, 2, (6, 6), {"compute": 6, "aggregation": 2, "communication": 6}),
        # Adding went on while they trained: what training hid is no time of its own.
        (4, 3, (5, 5), {"compute": 5, "aggregation": 2, "communication": 0}),
        (4, 1, (5, 5), {"compute": 5, "aggregation": 0, "communication": 0}),
        # Nobody can have trained for longer than the round was.
        (4, 1, (50, 50), {"compute": 5, "aggregation": 0, "communication": 0}),
        (4, 1, (), {"compute": 0, "aggregation": 1, "communication": 4}),
    ],
)
def test_a_round_is_split_by_what_the_clients_say(
    clock: list[float],
    waited: float,
    added_s: float,
    said: tuple[float, ...],
    expected: dict[str, float],
) -> None:
    profile = Profile()
    for _ in range(2):
        with profile.adding():
            clock[0] += added_s
            with profile.waiting():
                clock[0] += waited
        for worker, seconds in enumerate(said):
            profile.heard(str(worker), seconds)
        profile.trained(nodes=2, tokens=10)
    with profile.part("evaluation"), profile.waiting():
        clock[0] += 7  # waiting for scores is evaluation
    found = profile.as_dict()
    assert {k: found["parts"][k] for k in expected} == {k: 2 * v for k, v in expected.items()}
    assert found["parts"]["evaluation"] == 7
    assert (found["rounds"], found["tokens"]) == (2, 20)
    assert [w["seconds"] for w in found["workers"]] == [2 * s for s in said]
    assert {w["of_seconds"] for w in found["workers"]} <= {2 * (waited + added_s)}
    twice = added([found, found])
    assert twice["wall_seconds"] == 2 * found["wall_seconds"]
    assert len(twice["workers"]) == 2 * len(said)


# -- of a run -------------------------------------------------------------------------------------


def test_the_parts_of_a_run_are_its_wall_time(config: Config, tmp_path: Path) -> None:
    started = time.perf_counter()
    run = simulate(config, tmp_path / "run", quiet=True)
    wall = time.perf_counter() - started
    found = run.profile
    assert list(found["parts"]) == list(PARTS)
    assert min(found["parts"].values()) >= 0
    assert sum(found["parts"].values()) == pytest.approx(found["wall_seconds"])
    assert found["wall_seconds"] <= wall
    assert (found["rounds"], found["tokens"]) == (4, run.rounds.tokens.sum())
    (worker,) = found["workers"]  # the local engine trains in one process
    assert worker["seconds"] == pytest.approx(found["parts"]["compute"])
    for name in ("compute", "evaluation", "leakage", "data", "record"):
        assert found["parts"][name] > 0, name


def test_a_resumed_run_counts_all_of_its_sessions(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = clients.app.train_chunk, []

    def interrupted(*arguments: object) -> object:
        calls.append(0)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(clients.app, "train_chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, tmp_path / "run", quiet=True)
    before = Run.open(tmp_path / "run").profile
    assert before["rounds"] == 2
    run = resume(tmp_path / "run", quiet=True)
    assert_same_record(run, finished)
    assert run.profile["rounds"] == 4
    assert run.profile["tokens"] == run.rounds.tokens.sum()
    assert run.profile["wall_seconds"] > before["wall_seconds"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"profiles": [{"parts": {"x": 1}}]}'])
def test_a_damaged_profile_does_no_harm(text: str, config: Config, tmp_path: Path) -> None:
    run = simulate(config, tmp_path / "run", quiet=True)
    (run.path / "profile.json").write_text(text)
    assert run.profile["wall_seconds"] == 0
    run.add_profile(Profile())
    assert run.profile["wall_seconds"] > 0


# -- on the command line --------------------------------------------------------------------------


def test_train_prints_where_the_time_went_when_it_is_asked(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for out, more in {"asked": ["--profile"], "not": [], "json": ["--profile", "--json"]}.items():
        arguments = ["run_sim.py", "train", "--preset", tiny, "--out", str(tmp_path / out), *more]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        said[out] = capsys.readouterr().out
    assert "Where" not in said["not"]
    assert "4 training rounds" in said["asked"]
    assert all(name in said["asked"] for name in PARTS)
    told = json.loads(said["json"])["profile"]
    assert sum(told["parts"].values()) == pytest.approx(told["wall_seconds"])
    assert told["rounds"] == 4
