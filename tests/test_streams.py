"""Standard streams that are closed, full or without a reader, and a terminal that is closed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from federations import assert_same_record

from fedsim.runs import Run
from fedsim.simulation import resume
from fedsim.streams import Outlet

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = f"{sys.executable} {ROOT / 'run_sim.py'}"


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command line of bash, with its exit code of its first program that failed."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **more},
    )


def test_an_outlet_without_a_reader_takes_everything_and_remembers() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    outlet = Outlet(writes)
    assert outlet.write(b"one") == 3
    assert outlet.write(b"three") == 5
    assert outlet.failed is not None
    assert outlet.failed.errno == errno.EPIPE
    os.close(writes)


def test_an_outlet_writes_what_it_can() -> None:
    reads, writes = os.pipe()
    outlet = Outlet(writes)
    assert outlet.write(b"one") == 3
    assert os.read(reads, 10) == b"one"
    assert outlet.failed is None
    os.close(reads)
    os.close(writes)


# What the shell does with the streams -> exit code, and what is said on stderr where it is open.
SHOWN = {
    ">&-": (0, ""),
    ">/dev/full": (2, "Error: The result could not be printed (No space left on device)"),
    "| head -1": (141, ""),
    "| true": (141, ""),
    "2>&-": (0, ""),
    "2>/dev/full": (0, ""),
    "<&-": (0, ""),
    ">&- 2>&- <&-": (0, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("streams", SHOWN)
def test_a_result_that_cannot_be_printed_is_no_traceback(streams: str, finished: Run) -> None:
    code, said = SHOWN[streams]
    done = shell(f"{PROGRAM} show {finished.path} {streams}")
    # Short enough for a pipe, it may all be written before the reader has gone.
    assert done.returncode in ({code, 0} if "|" in streams else {code}), done.stderr
    assert done.stderr.startswith(said) if said else done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["2>&1 | head -1", ">&- 2>&-", ">/dev/full 2>&1"])
def test_a_run_whose_progress_nobody_reads_goes_on(
    streams: str, tiny: str, finished: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shell(f"{PROGRAM} train --preset {tiny} --out {folder} {streams}")
    assert_same_record(Run.open(folder), finished)
    assert (folder / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "pool"])
def test_a_terminal_that_is_closed_is_a_ctrl_c(engine: str, tiny: str, tmp_path: Path) -> None:
    """The terminal tells every process of the session, and then nothing can be written to it."""
    folder = tmp_path / "run"
    master, terminal = os.openpty()
    keys = ["--preset", tiny, "server.rounds=2000", "evaluation.every=2000"]
    process = subprocess.Popen(
        [*PROGRAM.split(), "train", *keys, "--engine", engine, "--out", str(folder)],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(master, False)
    # The row of a round is written before its state is the newest: one more, and one is kept.
    while _lines(folder / "rounds.csv") < 3 and process.poll() is None:
        time.sleep(0.01)
        _drain(master)
    os.close(master)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(60) == 130
    assert Run.open(folder).status["state"] == "interrupted"
    done = Run.open(folder).status["round"]
    assert done >= 1
    assert resume(folder, quiet=True, until=done + 1).status["state"] == "paused"


def _lines(table: Path) -> int:
    """Of a table that may not be there yet, its header included."""
    return len(table.read_text().splitlines()) if table.is_file() else 0


def _drain(master: int) -> None:
    with suppress(OSError):
        os.read(master, 1 << 16)


@pytest.mark.slow
def test_a_program_started_with_nohup_is_not_ended_by_its_terminal(
    tiny: str, finished: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        ["nohup", *PROGRAM.split(), "train", "--preset", tiny, "--out", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not folder.is_dir() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(60) == 0
    assert_same_record(Run.open(folder), finished)
