"""Holding signals that ask for an end back while something has to be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Ctrl-C, a scheduler's stop, and a terminal that is closed where there is such a signal.
NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes inside the block acts after it; one of each at most.

    People press Ctrl-C twice, and schedulers repeat themselves: the second must not tear what the
    first has begun to save. In another thread than the main one no signal ever arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: dict[int, None] = {}
    before = {number: signal.getsignal(number) for number in NUMBERS}
    # Who ignores a signal goes on ignoring it; what no Python code has set cannot be put back.
    held = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in held:
        signal.signal(number, lambda arrived, _: came.setdefault(arrived))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for arrived in came:
            signal.raise_signal(arrived)
