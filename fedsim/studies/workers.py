"""The processes of a study: they end with it, and stop where they are when it is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from fedsim.interrupts import NUMBERS, held_back

EXIT_INTERRUPTED = 130

_stopped = False  # of this process
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


def wait_for_all() -> None:
    """Until every process of this one has ended; a signal meanwhile stops them."""
    try:
        for process in multiprocessing.active_children():
            process.join()
    except KeyboardInterrupt:
        with held_back():  # schedulers repeat themselves
            stop_all()
            for process in multiprocessing.active_children():
                process.join()
        raise


def stoppable(does: Callable[..., None], *given: Any) -> None:
    """Call it. A stop meanwhile interrupts it, and ends this process once it has saved."""
    global _working
    _working = True
    try:
        does(*given)
    finally:
        _working = False
        if _stopped:
            _leave()


def _prepare() -> None:
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _stop(*_: object) -> None:
    """Out of a task once: a second signal must not tear what the first has begun to save.

    Between tasks it ends the process: the main one may have been torn from its books, and then
    never tells an idle process to end, but waits for it.
    """
    global _stopped
    first, _stopped = not _stopped, True
    if not _working:
        _leave()
    if first:
        raise KeyboardInterrupt


def _leave() -> None:
    os._exit(EXIT_INTERRUPTED)


def end_with_parent() -> None:
    """Else a study that was killed would leave processes that train on, and lock their runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
