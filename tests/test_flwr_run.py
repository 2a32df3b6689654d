"""`flwr run .` from a clean copy of the checkout: the same bits, a run folder, a report."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from federations import assert_same_record

from fedsim.config import load
from fedsim.deploy.processes import free_port, program
from fedsim.errors import FedsimError
from fedsim.runs import Run
from server.app import _config_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"out": "runs/mine"},
        {"preset": "mine.toml"},
        {"overrides": "server.rounds=3 data.path=messages.csv"},
        {"overrides": "data.name=mine/recipe.toml"},
    ],
)
def test_a_relative_path_is_refused_since_nobody_knows_what_to(settings: dict[str, str]) -> None:
    with pytest.raises(FedsimError, match="is not an absolute path"):
        _config_of(settings)


def test_the_run_config_carries_preset_and_overrides(tiny: str) -> None:
    settings = {"preset": tiny, "overrides": "server.rounds=3 'model.name=lstm-small'"}
    assert _config_of(settings) == load(tiny, ["server.rounds=3", "model.name=lstm-small"])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home for Flower; whatever it started there is ended."""
    folder = tmp_path / "flower"
    yield folder
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("FLWR_HOME") == str(folder):
                process.kill()


@pytest.mark.slow
def test_flwr_run_from_a_clean_checkout(
    tiny: str, finished: Run, home: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    ignored = shutil.ignore_patterns(".*", "runs", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored)
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
    }
    out = tmp_path / "run"
    done = subprocess.run(
        [program("flwr"), "run", ".", "--stream", "-c", f'preset="{tiny}" out="{out}"'],
        cwd=tmp_path / "checkout",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert out.is_dir(), done.stdout + done.stderr
    run = Run.open(out)
    assert run.status["state"] == "finished"
    assert_same_record(run, finished)
    assert not (out / "report.html").exists(), "`report` writes it: a bundle has no pages"
