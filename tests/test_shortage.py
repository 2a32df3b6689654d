"""Too little memory, as libraries and the system say it: one sentence and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedsim import shortage as module
from fedsim.runs import Run
from fedsim.shortage import require_address_space, shortage

ROOT = Path(__file__).resolve().parents[1]
ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)
MAPPED = "libtorch_cpu.so: failed to map segment from shared object"


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """As if that were the limit, in kB."""
    monkeypatch.setattr(module, "_limit_kb", lambda: request.param)


@pytest.mark.parametrize("limit", [None, 500_000], indirect=True)
@pytest.mark.parametrize(
    "error",
    [MemoryError(), ImportError(MAPPED), RuntimeError(ALLOCATOR), OSError(12, "Cannot allocate "
     "memory"), RuntimeError("can't start new thread"), RuntimeError("std::bad_alloc")],
    ids=repr,
)  # fmt: skip
def test_a_shortage_is_one_in_every_librarys_words(error: Exception, limit: None) -> None:
    said = shortage(error)
    assert said is not None
    assert ("`ulimit -v 500000`" in said) == (module._limit_kb() is not None)


@pytest.mark.parametrize("limit", [None], indirect=True)
def test_other_errors_are_none(limit: None) -> None:
    for error in (ImportError("No module named x"), RuntimeError("a bug"), ValueError(MAPPED),
                  SystemError("error return without exception set")):  # fmt: skip
        assert shortage(error) is None


@pytest.mark.parametrize("limit", [500_000], indirect=True)
def test_what_a_library_made_of_it_is_one_too(limit: None) -> None:
    """NumPy and pandas wrap what the loader says; some extensions say nothing at all."""
    wrapped = ValueError("Importing the C extensions failed")
    wrapped.__cause__ = ImportError(MAPPED)
    assert shortage(wrapped) is not None
    assert shortage(SystemError("error return without exception set")) is not None


@pytest.mark.parametrize("limit", [600_000], indirect=True)
def test_libraries_that_would_not_survive_are_not_loaded(limit: None) -> None:
    """They are tried in another process, which may end as it likes."""
    with pytest.raises(MemoryError):
        require_address_space()


@pytest.mark.parametrize("limit", [None], indirect=True)
def test_without_a_limit_nothing_is_tried(limit: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libraries_fit", None)
    require_address_space()


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [100, 500, 1000, 2000, 4000])
@pytest.mark.parametrize("words", ["show {run}", "data show own --path {chat}", "train --preset "
                                   "{tiny} --engine local --out {out}"])  # fmt: skip
def test_a_limit_on_address_space_is_one_sentence(
    words: str, megabytes: int, finished: Run, chat: Path, tiny: str, tmp_path: Path
) -> None:
    places = {"run": finished.path, "chat": chat, "tiny": tiny, "out": tmp_path / "out"}
    command = f"{sys.executable} {ROOT / 'run_sim.py'} {words.format(**places)}"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v {megabytes}000; {command}"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2), done.stderr
    if megabytes <= 500:
        assert done.stderr.count("\n") == 1, done.stderr
    if done.returncode:
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"Error: This needs more address space than `ulimit -v {megabytes}")
        assert done.stderr.count("Error: ") == 1
        state = Run(tmp_path / "out").status if (tmp_path / "out").exists() else {}
        assert state.get("state") != "running"
    else:
        assert done.stdout
        assert megabytes > 500
