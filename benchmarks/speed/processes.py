"""One process at a time: started clean, watched, ended with all that it started.

Every process that is started carries a mark in its environment, which its children inherit even
where they leave its process group, as Ray's do: whatever still has the mark afterwards is killed.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "FEDSIM_SPEED_PROCESS"
LOOK_S = 0.1
# Looking at the memory of all processes is work too: at most this share of the time of one core.
SAMPLE_S, SAMPLE_SHARE = 1.0, 0.01
# What a caller's shell may say about threads is not what a contender is started with.
_NOT_PASSED_ON = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH")


@dataclass(frozen=True)
class Outcome:
    """How a process went; times are those of `time.time`.

    code: its exit status, None where it was ended for taking too long; memory: (time, bytes) of
    all its processes together, shared pages counted once (PSS).
    """

    code: int | None
    started: float
    memory: list[tuple[float, int]]


def run_process(command: list[str], more: dict[str, str], log: Path, timeout_s: float) -> Outcome:
    """Run it to its end or to the timeout; what it prints goes to `log`."""
    mark = uuid.uuid4().hex
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
    environment |= {**more, MARK: mark}
    memory: list[tuple[float, int]] = []
    with log.open("ab") as output, _ended(mark):
        started = time.time()
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is ours to handle
        )
        due = started
        while process.poll() is None and time.time() < started + timeout_s:
            if time.time() >= due:
                before = time.time()
                memory.append((before, tree_pss(process.pid)))
                due = before + max(SAMPLE_S, (time.time() - before) / SAMPLE_SHARE)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
        return Outcome(process.poll(), started, memory)


def tree_pss(pid: int) -> int:
    """Bytes of a process and its descendants."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


@contextmanager
def _ended(mark: str) -> Iterator[None]:
    """Nothing with the mark is left, however the block ends."""
    try:
        yield
    finally:
        while left := list(_marked(mark)):
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Not of this user, gone meanwhile, or a zombie: none of them holds anything of ours.
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
