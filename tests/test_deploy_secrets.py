"""All that nodes receive in a private run, and all that it leaves, searched for secrets."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deployments import running

from fedsim.config import Config, load
from fedsim.data.store import open_folder
from fedsim.deploy.deployment import Deployment
from fedsim.deploy.submit import serve
from fedsim.federation import open_federation
from fedsim.privacy import noise_keys
from fedsim.privacy.noise_keys import NoiseKey
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from server.privacy import draw_of, resolved
from server.sampling import sample_cohort

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TESTS = Path(__file__).parent
# Of what a client is told beside the model; the clip norm is public.
WORK = {"config", "corpus", "users", "round", "lr", "clip_norm", "server-round"}


@pytest.fixture
def scene(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Deployment, Path]]:
    """Two nodes that write down what they are given, and the folder where it lies."""
    record = tmp_path / "record"
    record.mkdir()
    monkeypatch.setenv("FEDSIM_TEST_RECORD", str(record))
    monkeypatch.setenv("FEDSIM_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with running(tmp_path / "deployment", config, tls=False) as deployment:
        yield deployment, record


def trained(deployment: Deployment, tiny: str, out: Path, until: int, *keys: str) -> Config:
    engine = EngineOptions(name="deploy", address=str(deployment.folder))
    config = replace(load(tiny, [*keys, "privacy.delta=1e-3"]), engine=engine)
    config = resolved(config, open_federation(config))
    settings = {"config": config.as_json(), "run": str(out), "quiet": True, "until": until}
    serve("server.app:app", "recording_client:app", settings, engine)
    return config


def left_behind(deployment: Deployment, run: Path) -> dict[str, bytes]:
    """Files of the deployment, nodes' and logs included, and of the run."""
    folders = (deployment.folder, run)
    return {str(p): p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()}


def forms_of(secret: bytes) -> list[bytes]:
    return [secret, secret.hex().encode(), secret.hex().upper().encode()]


def test_nodes_receive_no_key_no_noise_and_no_other_nodes_users(
    scene: tuple[Deployment, Path], tiny: str, tmp_path: Path
) -> None:
    deployment, record = scene
    keys = ("privacy=blt", "server.sampler=cyclic", "privacy.noise_multiplier=0.5",
            "server.rounds=3", "server.checkpoint_every=1")  # fmt: skip
    config = trained(deployment, tiny, tmp_path / "run", 2, *keys)
    (file,) = (tmp_path / "keys").glob("*.key")  # the run is paused: its key is still needed
    key = NoiseKey("fresh", file.read_bytes())
    assert key.id == Run.open(tmp_path / "run").provenance["noise"]["id"]
    received = {p.name: p.read_bytes() for p in record.iterdir()}
    assert {name[0] for name in received} == {"0", "1"}
    for name, content in {**received, **left_behind(deployment, tmp_path / "run")}.items():
        for form in forms_of(key.secret):
            assert form not in content, name
    federation = open_federation(config)
    secrets = [key.named("cohorts"), config.fingerprint(), str(deployment.settings)]
    for name, content in received.items():
        assert not any(secret.encode() in content for secret in secrets), name
        told = json.loads(content)
        assert set(told["run config"]) <= {"settings"}, name
        assert "noise_key" not in content.decode()
        assert set(told["message"]) <= {"arrays", "config"}, name
        assert set(told["message"]["config"]) <= WORK, name
    hosted = [open_folder(deployment.node_folder(n)).hosted for n in (0, 1)]
    users = [set[int](), set[int]()]
    for name, content in received.items():
        told = json.loads(content)
        if told["kind"] == "train":
            users[int(name[0])] |= set(ast.literal_eval(told["message"]["config"]["users"]))
    drawn = {
        int(u) for r in (1, 2) for u in sample_cohort("cyclic", draw_of(config, federation, r, key))
    }
    assert users[0] | users[1] == drawn
    for node in (0, 1):
        real = {u for u in users[node] if u < len(hosted[node])}
        assert all(hosted[node][u] for u in real), "a node is told of its own users only"
    guessed = {
        int(u) for r in (1, 2) for u in sample_cohort("cyclic", draw_of(config, federation, r))
    }
    assert guessed != drawn, "who is drawn does not follow from the seed, which nodes have"


def test_what_clients_draw_from_stays_with_their_node(
    scene: tuple[Deployment, Path], tiny: str, tmp_path: Path
) -> None:
    deployment, record = scene
    trained(deployment, tiny, tmp_path / "run", 1, "privacy=local",
            "privacy.noise_multiplier=0.5", "server.rounds=2")  # fmt: skip
    secrets = [(deployment.node_folder(n) / noise_keys.CLIENTS).read_bytes() for n in (0, 1)]
    assert len(set(secrets)) == 2
    own = {str(deployment.node_folder(n) / noise_keys.CLIENTS) for n in (0, 1)}
    told = {p.name: p.read_bytes() for p in record.iterdir()}
    for name, content in {**told, **left_behind(deployment, tmp_path / "run")}.items():
        for secret in secrets:
            assert name in own or not any(form in content for form in forms_of(secret)), name
