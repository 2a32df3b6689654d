"""Programs of a deployment that are killed inside a round: what is lost, and what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from deployments import running
from test_deploy_nodes import kill

from fedsim.config import Config, load
from fedsim.data.store import open_folder
from fedsim.deploy import deployment as module
from fedsim.deploy.deployment import Deployment
from fedsim.deploy.submit import serve
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate
from server.privacy import resolved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TESTS = Path(__file__).parent
QUICK = [sys.executable, str(TESTS / "quick_supernode.py")]
PROGRAM = [sys.executable, str(TESTS.parent / "run_sim.py")]


def wait_for(what: Path, patience_s: float = 120.0) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + patience_s
    while not what.exists():
        assert time.monotonic() < deadline, f"{what.name} never came"
        time.sleep(0.05)


class Hung(threading.Thread):
    """A run on a deployment whose node 1 hangs in round 2, in a thread."""

    def __init__(self, deployment: Deployment, tiny: str, out: Path, keys: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self.engine = EngineOptions(name="deploy", address=str(deployment.folder))
        config = replace(load(tiny, keys), engine=self.engine)
        config = resolved(config, open_federation(config))
        self.settings = {"config": config.as_json(), "run": str(out), "quiet": True}

    def hangs(self, order: Path) -> None:
        """Wait until node 1 hangs in round 2."""
        while not order.with_suffix(".hangs").exists():
            assert self.is_alive(), f"the run has ended: {self.error}"
            time.sleep(0.05)

    def run(self) -> None:
        """Until it has ended."""
        try:
            serve("server.app:app", "hanging_client:app", self.settings, self.engine)
        except FedsimError as error:
            self.error = error


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While it is there, node 1 hangs in round 2, and leaves `order.hangs`."""
    path = tmp_path / "order"
    path.touch()
    monkeypatch.setenv("FEDSIM_TEST_HANG", str(path))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    return path


@pytest.fixture
def real(
    order: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """Two nodes with keys that run, and are missed soon."""
    real_command = module.node_command

    def quick(folder: Path, superlink: str, port: int) -> list[str]:
        return [*QUICK, *real_command(folder, superlink, port)[1:]]

    monkeypatch.setattr(module, "node_command", quick)
    with running(tmp_path / "deployment", config) as deployment:
        yield deployment


def test_a_node_killed_in_a_round_and_started_again_loses_nothing(
    real: Deployment, order: Path, tiny: str, tmp_path: Path
) -> None:
    keys = ["server.rounds=3", "server.timeout_s=120", "evaluation.every=3"]
    run = Hung(real, tiny, tmp_path / "run", keys)
    run.start()
    run.hangs(order)
    kill(real, "node-1")
    order.unlink()
    said: list[str] = []
    assert real.up(said.append) == ["node-1"]
    run.join(180)
    assert run.error is None
    found = Run.open(tmp_path / "run")
    assert found.status["state"] == "finished"
    assert not len(found.table("failures"))
    assert found.digest == simulate(load(tiny, keys), tmp_path / "local", quiet=True).digest
    assert said[-1] == "node-1 is connected"


def test_a_node_killed_in_a_round_costs_its_users_until_it_is_started_again(
    real: Deployment, order: Path, tiny: str, tmp_path: Path
) -> None:
    """Its users are left out by name; held-out users cannot be, so the evaluation ends the run."""
    keys = ["server.rounds=2", "server.timeout_s=40", "server.retries=0", "evaluation.every=2",
            "server.cohort=29", "server.checkpoint_every=1"]  # fmt: skip
    run = Hung(real, tiny, tmp_path / "run", keys)
    run.start()
    run.hangs(order)
    kill(real, "node-1")
    order.unlink()
    run.join(180)
    found = Run.open(tmp_path / "run")
    theirs = open_folder(real.node_folder(1)).hosted
    left_out = found.table("failures")
    assert set(left_out["round"]) == {2}
    assert all(theirs[user] for user in left_out.user if user < len(theirs))
    (reason,) = set(left_out.reason)
    assert reason in ("no reply within 40 s", "its node has disconnected") or "Node Un" in reason
    assert "The evaluation after round 2 failed for" in str(run.error)
    assert f"resume {tmp_path / 'run'}" in str(run.error)
    real.up()
    done = resume(tmp_path / "run", quiet=True, engine=run.engine)
    assert done.status["state"] == "finished"
    assert len(done.table("failures")) == len(left_out)


def test_a_superlink_killed_in_a_run_is_started_again_and_the_run_resumed(
    tiny: str, tmp_path: Path
) -> None:
    """As at a terminal: `deploy up`, `deploy run`, kill -9, `deploy up`, `resume`."""
    folder, out = tmp_path / "deployment", tmp_path / "run"
    where = ["--folder", str(folder)]
    keys = ["server.rounds=6", "server.checkpoint_every=1", "evaluation.every=6"]

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words], capture_output=True, text=True, timeout=300, cwd=tmp_path
        )

    try:
        up = command("deploy", "up", "--preset", tiny, "--nodes", "2", *where)
        assert up.returncode == 0, up.stderr
        run = subprocess.Popen(
            [*PROGRAM, "deploy", "run", "--preset", tiny, *keys, *where, "--out", str(out)],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        wait_for(out / "rounds.csv")
        wait_for(out / "checkpoints" / "round-0000002.safetensors")
        processes = json.loads((folder / "deployment.json").read_text())["processes"]
        superlink = psutil.Process(next(p["pid"] for p in processes if p["name"] == "superlink"))
        os.kill(superlink.pid, signal.SIGKILL)
        _, said = run.communicate(timeout=120)
        assert run.returncode == 2, said
        last = said.strip().splitlines()[-1]
        assert last.startswith("Error: The SuperLink has ended while the run was under way (see")
        assert last.endswith(f"resume {out}`.")
        again = command("deploy", "up", *where)
        assert again.returncode == 0, again.stderr
        done = command("resume", str(out))
        assert done.returncode == 0, done.stderr
    finally:
        command("deploy", "down", *where)
    found = Run.open(out)
    assert found.status["state"] == "finished"
    assert found.digest == simulate(load(tiny, keys), tmp_path / "local", quiet=True).digest
