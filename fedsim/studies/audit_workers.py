"""Several measures of one run at a time, each in a process of its own that says how far it is."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedsim.device import available_cores
from fedsim.errors import FedsimError
from fedsim.interrupts import NUMBERS, held_back
from fedsim.leakage.audit import Audited
from fedsim.leakage.base import Measure
from fedsim.steps import Heard, nobody
from fedsim.studies.workers import end_with_parent

EVERY_S = 1.0  # somebody who watches is told so often
_LEAST_SHARE, _LEAST_S = 0.02, 2.0  # before the time left can be said

Outcome = Audited | FedsimError
Ended = Callable[[str, Outcome], None]  # a measure's name, and what came of it


@dataclass(frozen=True)
class MeasureProgress:
    """A measure that is being taken: the share that is done, and since when it has been."""

    name: str
    share: float
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """About how long it will still take; None while too little is done to tell."""
        if self.share < _LEAST_SHARE or self.seconds < _LEAST_S:
            return None
        return self.seconds * (1.0 - self.share) / self.share


Watching = Callable[[list[MeasureProgress]], None]  # is told of all that are being taken


class Take(Protocol):
    """Takes a measure of the run in a folder; a function of a module, for other processes."""

    def __call__(
        self, path: Path, name: str, measure: Measure, round: int, heard: Heard = nobody
    ) -> Audited: ...


def take_together(
    take: Take,
    path: Path,
    measures: Mapping[str, Measure],
    round: int,
    jobs: int,
    ended: Ended,
    watching: Watching,
) -> None:
    """Take the measures, `jobs` at a time (0: one a core); `ended` is told of each as it ends.

    Where it is stopped (KeyboardInterrupt), `ended` has been told of all that had ended, and no
    process is left.
    """
    spawn = multiprocessing.get_context("spawn")
    # Two numbers for each: the share that is done, and when it was begun; 0: not yet. Shared memory
    # has no lock that a process could die with.
    board = spawn.RawArray("d", 2 * len(measures))
    with ProcessPoolExecutor(jobs or available_cores(), spawn, _prepare, (board,)) as pool:
        left: dict[Future[Audited], str] = {}
        try:
            with held_back():  # it starts the processes, and must not lose count of them
                for place, (name, measure) in enumerate(measures.items()):
                    left[pool.submit(_take, take, place, path, name, measure, round)] = name
            while left:
                for task in wait(left, EVERY_S, FIRST_COMPLETED).done:
                    ended(left[task], outcome(task.result))
                    del left[task]
                watching(_on(board, measures, left.values()))
        except BaseException as error:
            with held_back():  # a Ctrl-C: nobody waits for the rest
                there = [task for task in left if task.done()]
                _kill(pool)
                for task in there if isinstance(error, KeyboardInterrupt) else ():
                    ended(left[task], outcome(task.result))
            raise


def outcome(taken: Callable[[], Audited]) -> Outcome:
    """What came of it; another error than a FedsimError is a fault and raised."""
    try:
        return taken()
    except FedsimError as error:
        return error
    except BrokenProcessPool:
        return FedsimError("Its process was killed, likely for want of memory; try --jobs 1.")


def _on(board: Any, measures: Mapping[str, Measure], left: Any) -> list[MeasureProgress]:
    """Those that are being taken, in the order of the measures."""
    now, waited = time.monotonic(), set(left)
    return [
        MeasureProgress(name, board[2 * place], now - board[2 * place + 1])
        for place, name in enumerate(measures)
        if name in waited and board[2 * place + 1]
    ]


def _kill(pool: Executor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


# -- in a process of its own ----------------------------------------------------------------------

_board: Any = None


def _prepare(board: Any) -> None:
    """What a terminal sends to all is the main process's to handle; without it nothing goes on."""
    global _board
    _board = board
    for number in (number for number in NUMBERS if number != signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _take(take: Take, place: int, path: Path, name: str, measure: Measure, round: int) -> Audited:
    if _board is None:  # in the main process, as in a test
        return take(path, name, measure, round)

    def heard(share: float) -> None:
        _board[2 * place] = share

    _board[2 * place + 1] = time.monotonic()
    return take(path, name, measure, round, heard)
