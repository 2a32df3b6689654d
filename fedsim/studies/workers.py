"""The processes of a study: they end with it, and stop where they are when it is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

_stopped = False  # of this process: it begins nothing any more
_working = False


def new_pool(workers: int) -> Executor:
    """Processes that start from nothing; give them tasks through `stoppable`."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare)


def stop_all() -> None:
    """End what the processes of this one are at, as a Ctrl-C in a terminal does.

    A scheduler's signal reaches the main process only, and a cell may go on for an hour.
    """
    for process in multiprocessing.active_children():
        process.terminate()


def stoppable(does: Callable[..., None], *given: Any) -> None:
    """Call it, unless the process was stopped, also while the task waited."""
    global _working
    _working = True  # first: a stop that comes before it would be lost
    try:
        if _stopped:
            raise KeyboardInterrupt
        does(*given)
    finally:
        _working = False


def _prepare() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(*_: object) -> None:
    """Once, and only out of a task: a second signal must not tear what the first has begun to save,
    and between tasks there is nothing to stop but the next one."""
    global _stopped
    first, _stopped = not _stopped, True
    if first and _working:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Else a study that was killed would leave processes that train on, and lock their runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
