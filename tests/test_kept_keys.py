"""Keys of runs that did not finish: listed, and removed only where nothing can ask for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.config import load
from fedsim.errors import FedsimError
from fedsim.privacy import noise_keys
from fedsim.privacy.kept_keys import ELSEWHERE, OF_CLIENTS, UNKNOWN, forget, kept_keys, prune
from fedsim.runs import Run
from fedsim.simulation import resume, simulate

KEYS = ["privacy=dp-fedavg", "privacy.noise_multiplier=3", "server.sampler=poisson",
        "server.rounds=3", "canaries.per_cell=0", "server.checkpoint_every=1"]  # fmt: skip


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of keys of the test's own."""
    monkeypatch.setenv("FEDSIM_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def paused(tiny: str, tmp_path: Path, keys: Path) -> Run:
    """A private run after round 1 of 3."""
    return simulate(load(tiny, KEYS), tmp_path / "run", quiet=True, until=1)


def listed(*more: str) -> Any:
    """What `cache keys --json` prints."""
    result = CliRunner().invoke(app, ["cache", "keys", *more, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_the_key_of_a_run_that_can_be_resumed_is_listed_and_never_removed(
    paused: Run, keys: Path
) -> None:
    (key,) = kept_keys()
    assert (key.run, key.state) == (paused.path, "paused")
    assert key.id == paused.provenance["noise"]["id"]
    assert listed("--prune")["removed"] == []
    with pytest.raises(FedsimError, match="can be resumed with the key"):
        forget([key.id])
    out = CliRunner().invoke(app, ["cache", "keys"]).stdout
    assert key.id[:12] in out
    assert str(paused.path) in out
    assert "1 key of private runs" in CliRunner().invoke(app, ["cache"]).stdout
    assert resume(paused.path, quiet=True).status["state"] == "finished"
    assert kept_keys() == []
    assert not [path for path in keys.iterdir() if path.name != noise_keys.CLIENTS]


def test_the_key_of_a_moved_run_is_kept_until_somebody_names_it(
    paused: Run, tmp_path: Path, keys: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(paused.path, moved)
    (key,) = kept_keys()
    assert key.state == ELSEWHERE
    assert prune() == []
    resume(moved, quiet=True, until=2)
    (key,) = kept_keys()
    assert (key.run, key.state) == (moved, "paused"), "it is known where it is"
    shutil.rmtree(moved)
    assert listed("--prune")["removed"] == []
    told = listed("--forget", key.id[:12])
    assert [one["id"] for one in told["removed"]] == [key.id]
    assert told["keys"] == []
    assert not [path for path in keys.iterdir() if path.name != noise_keys.CLIENTS]


def test_a_run_in_the_place_of_another_does_not_need_its_key(
    paused: Run, tiny: str, keys: Path
) -> None:
    shutil.rmtree(paused.path)
    simulate(load(tiny, KEYS), paused.path, quiet=True, until=1)
    assert sorted(key.state for key in kept_keys()) == sorted([ELSEWHERE, "paused"])


def test_what_a_run_left_that_was_killed_at_its_end_is_pruned(paused: Run, keys: Path) -> None:
    secret = (keys / f"{kept_keys()[0].id}.key").read_bytes()
    run = resume(paused.path, quiet=True)
    noise_keys.keep(noise_keys.NoiseKey("fresh", secret), run.path)
    assert [key.state for key in kept_keys()] == ["finished"]
    assert len(listed("--prune")["removed"]) == 1
    assert kept_keys() == []


def test_keys_of_earlier_versions_say_that_nobody_knows_whose_they_are(
    paused: Run, keys: Path
) -> None:
    (note,) = keys.glob("*.run")
    note.unlink()
    assert [key.state for key in kept_keys()] == [UNKNOWN]
    assert prune() == []


@pytest.mark.parametrize(("name", "why"), [("ffff", "is no key"), ("", "is no key")])
def test_an_id_that_is_none_is_refused(paused: Run, name: str, why: str) -> None:
    with pytest.raises(FedsimError, match=why):
        forget([name])
    assert len(kept_keys()) == 1


@pytest.mark.parametrize("name", ["local", "dp-sgd"])
def test_the_secret_of_clients_stays_until_no_unfinished_run_is_there(
    name: str, tiny: str, tmp_path: Path, keys: Path
) -> None:
    settings = [f"privacy={name}", *KEYS[1:], "privacy.delta=1e-3"]
    run = simulate(load(tiny, settings), tmp_path / "run", quiet=True, until=1)
    assert [key.id for key in kept_keys()] == [run.provenance["noise"]["id"], OF_CLIENTS]
    assert listed("--prune")["removed"] == []
    with pytest.raises(FedsimError, match="finish or forget those runs first"):
        forget([OF_CLIENTS])
    resume(run.path, quiet=True)
    secret = (keys / noise_keys.CLIENTS).read_bytes()
    assert [key["id"] for key in listed()["keys"]] == [OF_CLIENTS], "a run does not remove it"
    assert [key["id"] for key in listed("--prune")["removed"]] == [OF_CLIENTS]
    assert not list(keys.iterdir())
    words = (run.path / "privacy.txt").read_text()
    told = " ".join(words.split())
    assert "until it is removed (`cache keys --prune`" in told
    assert "Name of the server's key, which names the run to clients and made none" in told
    assert secret.hex() not in words
