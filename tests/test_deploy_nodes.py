"""Nodes of a deployment that are killed, refused, or never let in; and what is said of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from deployments import running

from fedsim.config import Config
from fedsim.deploy import deployment as module
from fedsim.deploy import keys
from fedsim.deploy.deployment import Deployment
from fedsim.deploy.processes import Process, free_port
from fedsim.errors import FedsimError

IN = "INFO: SuperNode ID: 123\n"
REFUSED = "ERROR: Exit Code: 305\nFailed to activate SuperNode.\n\n"


class Nodes:
    """Stands for the programs: what each start of a node prints, and whether it runs on."""

    def __init__(self, deployment: Deployment, prints: dict[str, Sequence[str]]) -> None:
        self.deployment, self.prints = deployment, {n: iter(p) for n, p in prints.items()}
        self.alive: set[str] = set()
        self.ended: list[str] = []

    def start(self, name: str, command: Sequence[str]) -> Process:
        with self.deployment.log(name).open("a") as log:
            log.write(next(self.prints[name]))
        self.alive.add(name)
        process = Process(name, os.getpid(), 0.0)
        self.deployment.processes.append(process)
        return process


@pytest.fixture
def deployment(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Two nodes with keys; nothing is started, and nobody waits."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    return Deployment.create(tmp_path / "deployment", config, 2, True, False, free_port())


def scripted(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, **prints: Sequence[str]
) -> Nodes:
    """The deployment with such nodes, `node_0` and so on."""
    nodes = Nodes(deployment, {name.replace("_", "-"): texts for name, texts in prints.items()})
    monkeypatch.setattr(deployment, "_start", nodes.start)
    monkeypatch.setattr(deployment, "running", lambda name: name in nodes.alive)
    monkeypatch.setattr(deployment, "_end", nodes.ended.append)
    return nodes


def test_a_refused_node_that_still_runs_is_started_again_until_it_is_let_in(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.log("node-1").write_text(IN)  # of its life before it was killed
    nodes = scripted(deployment, monkeypatch, node_0=[IN], node_1=[REFUSED, REFUSED, IN])
    said: list[str] = []
    assert deployment._start_nodes(said.append) == ["node-0", "node-1"]
    assert nodes.ended == ["node-1", "node-1"]
    assert said.count("starting node-1") == 3
    assert "node-1 is connected" in said
    assert any("node-1 is refused so far: a killed node is taken for connected" in s for s in said)


def test_a_node_that_is_never_let_in_is_named_with_its_reason(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ONLINE_S", 0.0)
    scripted(deployment, monkeypatch, node_0=[IN], node_1=[REFUSED] * 3)
    with pytest.raises(FedsimError, match=r"node-1 is not let in: Failed to activate SuperNode"):
        deployment._start_nodes(lambda text: None)


def test_a_node_that_only_tries_is_named_after_a_while(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ONLINE_S", 0.0)
    tries = "WARNING: Connection attempt failed, retrying\n"
    scripted(deployment, monkeypatch, node_0=[IN], node_1=[tries])
    with pytest.raises(FedsimError, match=r"node-1 did not connect within 0 s: WARNING: Conn"):
        deployment._start_nodes(lambda text: None)


@pytest.fixture
def real(config: Config, tmp_path: Path) -> Iterator[Deployment]:
    """Two nodes with keys that run."""
    with running(tmp_path / "deployment", config) as deployment:
        yield deployment


def kill(deployment: Deployment, name: str) -> None:
    """kill -9 of a program and what it started."""
    (process,) = (p for p in deployment.processes if p.name == name)
    os.killpg(process.pid, signal.SIGKILL)
    while deployment.running(name):
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_after_a_killed_node_waits_until_it_is_let_in(real: Deployment) -> None:
    kill(real, "node-1")
    said: list[str] = []
    assert real.up(said.append) == ["node-1"]
    assert said[-1] == "node-1 is connected"
    assert real.online() == 2
    assert real.up() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_superlink_is_started_again_and_its_nodes_come_back(real: Deployment) -> None:
    kill(real, "superlink")
    assert real.up() == ["superlink"]
    deadline = time.monotonic() + 120
    while real.online() < 2:
        assert time.monotonic() < deadline, "the nodes try again by themselves"
        time.sleep(2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_with_another_certificate_is_named_and_the_others_stay(
    real: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ONLINE_S", 15.0)
    keys.write_certificates(tmp_path)
    (process,) = (p for p in real.processes if p.name == "node-1")
    process.end()
    (real.node_folder(1) / keys.CA).write_bytes((tmp_path / keys.CA).read_bytes())
    with pytest.raises(FedsimError, match=r"node-1 (is not let in|did not connect).*node-1\.log"):
        real.up()
    assert real.running("node-0")
