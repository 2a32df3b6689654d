"""The ray engine: a dead actor costs a restart, a Ctrl-C a checkpoint; the bits stay."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from federations import assert_same_record
from flwr.app import Error, Message, RecordDict

import fedsim.engines.ray as engine
import fedsim.simulation
from fedsim.config import Config
from fedsim.engines.local import LocalGrid
from fedsim.errors import EngineLost, FedsimError
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate

RAY = EngineOptions(name="ray", workers=2)


class Told(LocalGrid):
    """A grid whose every reply is the error given."""

    reason = ""

    def pull_messages(self, message_ids: Any) -> list[Message]:
        """One error."""
        question = Message(RecordDict(), dst_node_id=2, message_type="train")
        return [Message(Error(code=0, reason=self.reason), reply_to=question)]


def test_the_death_of_an_actor_is_told_from_an_error_of_a_client() -> None:
    grid = Told("toy_apps:app")
    watched = engine.WatchedGrid(grid, threading.Event())
    grid.reason = "<class 'flwr.clientapp.exception.ClientAppException'>:<'no text'>"
    assert [r.error.reason for r in watched.pull_messages(["x"])] == [grid.reason]
    grid.reason = "<class 'ray.exceptions.ActorDiedError'>:<'The actor died unexpectedly'>"
    with pytest.raises(EngineLost, match="has died"):
        watched.pull_messages(["x"])


def test_a_stop_reaches_the_server_at_its_next_look_for_replies() -> None:
    stop = threading.Event()
    watched = engine.WatchedGrid(LocalGrid("toy_apps:app"), stop)
    assert list(watched.pull_messages(["none"])) == []
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        watched.pull_messages(["none"])


def test_without_ray_one_sentence_says_what_to_install(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FedsimError, match=r"pip install 'fedsim\[ray\]'"):
        simulate(replace(config, engine=RAY), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


class Dying:
    """An engine that is lost at its n-th call for each n given, else the local one."""

    def __init__(self, losses: set[int]) -> None:
        self.losses, self.calls, self.resumed = losses, 0, []  # type: ignore[var-annotated]

    def __call__(self, server: str, client: str, settings: dict[str, Any], _: Any) -> None:
        """See `fedsim.simulation.ENGINES`."""
        from fedsim.engines.local import run_server

        self.calls += 1
        self.resumed.append(settings.get("resume", False))
        grid = LocalGrid(client)
        if self.calls in self.losses:
            pulled = grid.pull_messages
            count = 0

            def pull(ids: Any) -> Any:
                nonlocal count
                count += 1
                if count == 8:  # the query, four messages of round 1, and into round 2
                    raise EngineLost("a process has died")
                return pulled(ids)

            grid.pull_messages = pull  # type: ignore[method-assign]
        run_server(server, grid, settings)


def test_a_lost_engine_is_started_anew_and_the_record_is_the_unbroken_one(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = Dying({1, 2})
    monkeypatch.setattr(fedsim.simulation, "load_reference", lambda name: dying)
    run = simulate(config, tmp_path / "run", quiet=True)
    assert dying.resumed == [False, True, True]
    assert_same_record(run, finished)


def test_an_engine_that_is_lost_in_one_round_again_and_again_is_given_up(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = Dying(set(range(1, 99)))
    monkeypatch.setattr(fedsim.simulation, "load_reference", lambda name: dying)
    config = replace(config, engine=EngineOptions(name="local", chunk=1))  # lost within round 1
    with pytest.raises(FedsimError, match="Round 1 failed twice: a process has died"):
        simulate(config, tmp_path / "run", quiet=True)
    assert dying.calls == 2


# -- the real thing -------------------------------------------------------------------------------


def actors() -> list[psutil.Process]:
    """The processes of this process's Ray that run clients."""
    family = psutil.Process().children(recursive=True)
    return [p for p in family if "ClientAppActor" in " ".join(p.cmdline())]


def when(condition: Callable[[], Any], deed: Callable[[], None]) -> threading.Thread:
    """Do something in the background as soon as a condition holds."""

    def wait() -> None:
        for _ in range(60_000):
            if condition():
                deed()
                return
            time.sleep(0.002)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.slow
def test_killed_and_interrupted_on_ray_a_run_keeps_its_bits(
    config: Config, finished: Run, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    on_ray = replace(config, engine=RAY)
    folder = tmp_path / "run"

    def rounds() -> int:
        table = folder / "rounds.csv"
        return len(table.read_text().splitlines()) - 1 if table.is_file() else 0

    killed: list[int] = []

    def kill() -> None:
        for actor in actors():
            killed.append(actor.pid)
            actor.kill()

    killer = when(lambda: rounds() == 1 and actors(), kill)
    stopper = when(lambda: rounds() == 3 and killed, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        simulate(on_ray, folder, quiet=True)
    killer.join()
    stopper.join()
    assert len(killed) == 2
    run = Run.open(folder)
    assert run.status["state"] == "interrupted"
    assert run.status["round"] >= 3
    assert_same_record(resume(folder, quiet=True, engine=config.engine), finished)
