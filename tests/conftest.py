"""Fixtures for every test: a cache of its own for the session, and small federations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from federations import Here, write_chat, write_preset
from hypothesis import settings

import fedsim.api
from fedsim.config import Config, load
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.studies import cell_store, grid

# The same examples in every run; `--hypothesis-profile=searching` looks for new ones.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("searching", derandomize=False, print_blob=True)
settings.load_profile("fixed")

_CELLS_FOLDER = cell_store.cells_folder


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache or the keys of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FEDSIM_CACHE", "FEDSIM_KEYS"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(autouse=True)
def _own_cells(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Cells of studies are those of the test: others may have been made by code that is patched."""
    cells = tmp_path_factory.mktemp("cells")
    monkeypatch.setattr(cell_store, "cells_folder", lambda: cells)


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _own_cells: None) -> Path:
    """A cache of the test's own, cells included, for tests that start the real command."""
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "own cache"))
    monkeypatch.setattr(cell_store, "cells_folder", _CELLS_FOLDER)
    return tmp_path / "own cache"


@pytest.fixture(scope="session", autouse=True)
def _no_reports() -> Iterator[None]:
    """Runs in tests write no report: it has tests of its own and costs more than a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedsim.api, "write_report", lambda run: None)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One torch thread, as the engines have: the last bits of sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file with the messages of 30 people."""
    return write_chat(tmp_path_factory.mktemp("chat") / "chat.csv")


@pytest.fixture(scope="session")
def tiny(chat: Path) -> str:
    """The preset file of a run of less than a second on `chat`, on the local engine."""
    return str(write_preset(chat.with_name("tiny.toml"), chat))


@pytest.fixture(scope="session")
def config(tiny: str) -> Config:
    """The tiny preset's config."""
    return load(tiny)


@pytest.fixture(scope="session")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `config` that nobody disturbed; tests only read it."""
    return simulate(config, tmp_path_factory.mktemp("runs") / "finished", quiet=True)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Studies start no process; what they trained is in `given`."""
    pool = Here()
    monkeypatch.setattr(grid, "new_pool", lambda workers: pool)
    return pool
