"""Deployments: keys, processes, and the digest of every engine on real SuperLinks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from fedsim.config import Config
from fedsim.deploy import keys
from fedsim.deploy.deployment import Deployment, node_command
from fedsim.deploy.processes import (
    Process,
    complaint,
    environment,
    free_port,
    program,
    start,
)
from fedsim.deploy.submit import _check_outcome
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import simulate

ROOT = Path(__file__).parents[1]


# -- keys -----------------------------------------------------------------------------------------


def test_the_servers_certificate_is_valid_for_this_machine_and_no_other(tmp_path: Path) -> None:
    keys.write_certificates(tmp_path)
    ca = x509.load_pem_x509_certificate((tmp_path / keys.CA).read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / keys.CERTIFICATE).read_bytes())
    server.verify_directly_issued_by(ca)
    builder = PolicyBuilder().store(Store([ca]))
    builder.build_server_verifier(x509.DNSName("localhost")).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("evil.example.org")).verify(server, [])
    assert not list(tmp_path.glob("ca.key")), "the CA's key is not kept"


def test_secrets_are_for_the_owner_only_and_nodes_differ(tmp_path: Path) -> None:
    keys.write_certificates(tmp_path)
    publics = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        keys.write_node_key(folder)
        private = load_ssh_private_key((folder / keys.NODE_KEY).read_bytes(), None)
        public = load_ssh_public_key((folder / keys.NODE_PUBLIC_KEY).read_bytes())
        assert private.public_key() == public
        publics.add((folder / keys.NODE_PUBLIC_KEY).read_bytes())
    assert len(publics) == 2
    for secret in (tmp_path / keys.SERVER_KEY, tmp_path / "a" / keys.NODE_KEY):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


# -- processes ------------------------------------------------------------------------------------


def test_a_process_is_ended_with_its_children_and_only_once(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    process = start("parent", [sys.executable, "-c", script], dict(os.environ), log)
    while not log.read_text().strip():
        assert process.alive
    child = psutil.Process(int(log.read_text()))
    assert process.end()
    assert not process.alive
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not process.end()


def test_another_process_that_got_the_id_is_left_alone() -> None:
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        created = psutil.Process(innocent.pid).create_time()
        earlier = Process("node-0", innocent.pid, created - 3600)
        assert not earlier.alive
        assert not earlier.end()
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_programs_are_found_where_the_environment_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's SuperLink and SuperNode start a `flower-superexec` by its name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = shutil.which("flower-superexec", path=environment(tmp_path)["PATH"])
    assert found == program("flower-superexec")


def test_a_programs_complaint_is_found_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO: up\nERROR: Exit Code: 305\nNo such key.\nAsk somebody.\n\nINFO: down\n")
    assert complaint(log) == "No such key. Ask somebody."
    log.write_text("INFO: up\nOSError: address in use\n\n")
    assert complaint(log) == "OSError: address in use"
    log.write_text("")
    assert complaint(log) == "it said nothing"


# -- the folder -----------------------------------------------------------------------------------


@pytest.fixture
def deployment(config: Config, tmp_path: Path) -> Deployment:
    """Two nodes with keys; nothing is started."""
    return Deployment.create(tmp_path / "deployment", config, 2, True, False, free_port())


def test_a_nodes_folder_is_all_that_it_needs_and_names_nobody_else(deployment: Deployment) -> None:
    mine, other = deployment.node_folder(0), deployment.node_folder(1)
    command = " ".join(node_command(mine, "server:9092", 1234))
    assert str(mine / keys.NODE_KEY) in command
    assert f'shard="{mine}"' in command
    assert str(other) not in command
    assert "--insecure" not in command
    (mine / keys.NODE_KEY).unlink()
    assert "--insecure" in node_command(mine, "server:9092", 1234)
    with pytest.raises(FedsimError, match="is not the folder of a node"):
        node_command(deployment.folder, "server:9092", 1234)


def test_a_deployment_is_found_again_and_nothing_else_is(
    deployment: Deployment, tmp_path: Path, config: Config
) -> None:
    assert Deployment.open(deployment.folder) == deployment
    on = EngineOptions(name="deploy", address=str(deployment.folder))
    with pytest.raises(FedsimError, match=r"no deployment in .*; start one"):
        Deployment.open(tmp_path)
    with pytest.raises(FedsimError, match=r"does not run: `.*deploy up` again"):
        simulate(replace(config, engine=on), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    (deployment.folder / "deployment.json").write_text('{"nodes": 2')
    with pytest.raises(FedsimError, match="is damaged"):
        Deployment.open(deployment.folder)


def test_a_superlink_is_reached_from_this_machine_only(deployment: Deployment) -> None:
    """Its port takes commands from whoever reaches it, keys or not."""
    command = deployment._superlink_command()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert deployment.address.startswith("127.0.0.1:")


def test_a_port_in_use_is_refused_before_nodes_join_a_stranger(deployment: Deployment) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", deployment.port))
        stranger.listen()
        with pytest.raises(FedsimError, match=rf"Port {deployment.port} is in use; choose another"):
            deployment.up()
    assert deployment.processes == []


def test_other_data_than_the_shards_is_refused_before_the_run(
    deployment: Deployment, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deployment, "running", lambda self, name: True)
    on = EngineOptions(name="deploy", address=str(deployment.folder))
    other = replace(config, engine=on, data=config.data.model_copy(update={"max_words": 4}))
    with pytest.raises(FedsimError, match=r"was made with other data \(.*data\.min_words=10"):
        simulate(other, tmp_path / "run", quiet=True)


def test_a_folder_that_flower_cannot_quote_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FedsimError, match="choose another --folder"):
        Deployment.create(tmp_path / 'my "own"', config, 2, False, False, 0)


def test_a_run_whose_superlink_has_ended_says_so(
    deployment: Deployment, config: Config, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config, {})
    said = r"The SuperLink has ended .*superlink\.log\): `.*deploy up --folder .*, then `.*resume"
    with pytest.raises(FedsimError, match=said):
        _check_outcome(run.path, "", deployment)


# -- every engine ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_engine_ends_with_the_same_model_and_the_same_clients(tiny: str) -> None:
    """`local`, `pool` of 1, 2 and 3, `ray`, a SuperLink without and one with TLS and keys."""
    pytest.importorskip("ray")
    command = [sys.executable, str(ROOT / "benchmarks" / "engines.py"), "--json"]
    done = subprocess.run(
        [*command, "--preset", tiny, "server.rounds=2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads(done.stdout)
    assert len(table) == 7
    assert len({row["digest"] for row in table}) == 1
    assert table[0]["digest"]
    assert all(row["clients_equal"] for row in table)
