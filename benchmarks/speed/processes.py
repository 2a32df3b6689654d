"""One process at a time: started clean, watched, ended with all that it started (Linux).

Simulators leave processes behind: Ray's agents have a session of their own and outlive a killed
driver. So this process declares itself the one that orphans go to, and whatever it has below it
that was not there before is the contender's.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

LOOK_S = 0.1
# Looking at the memory of all processes is work too: at most this share of the time of one core.
SAMPLE_S, SAMPLE_SHARE = 1.0, 0.01
# What a caller's shell may say about threads is not what a contender is started with.
_NOT_PASSED_ON = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH")
_PR_SET_CHILD_SUBREAPER = 36


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
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON} | more
    memory: list[tuple[float, int]] = []
    with log.open("ab") as output, _everything_ended() as mine:
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
                memory.append((before, _pss(mine())))
                due = before + max(SAMPLE_S, (time.time() - before) / SAMPLE_SHARE)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
        return Outcome(process.poll(), started, memory)


def _pss(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


@contextmanager
def _everything_ended() -> Iterator[Callable[[], list[psutil.Process]]]:
    """Gives the processes that were started inside; none is left, however the block ends."""
    adopt = partial(ctypes.CDLL(None).prctl, _PR_SET_CHILD_SUBREAPER)
    adopt(1, 0, 0, 0)
    this = psutil.Process()
    before = set(this.children(recursive=True))

    def mine() -> list[psutil.Process]:
        return [child for child in this.children(recursive=True) if child not in before]

    try:
        yield mine
    finally:
        while left := mine():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)  # reaps the orphans too
        adopt(0, 0, 0, 0)
