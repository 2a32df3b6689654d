"""A program that watches a run: what it is told after each round, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RoundProgress:
    """What a program that watches a run is told after each round.

    loss: mean nats a token of the round's training. top1, top3: the newest recall on validation
    users, None before the first evaluation. seconds_left: of the rounds, by those of this session.
    """

    round: int
    rounds: int
    users: int
    tokens_per_second: float
    loss: float
    seconds_left: float
    top1: float | None = None
    top3: float | None = None


Listener = Callable[[RoundProgress], object]
# By the run's folder, since the ServerApp is given plain values only.
_listeners: dict[Path, Listener] = {}


@contextmanager
def listening(folder: Path, listener: Listener | None) -> Iterator[None]:
    """Tell `listener` of the run in `folder` while it trains in this process.

    What it raises ends the run, which `resume` continues.
    """
    if listener is not None:
        _listeners[folder.resolve()] = listener
    try:
        yield
    finally:
        _listeners.pop(folder.resolve(), None)


def listener_of(folder: Path) -> Listener | None:
    """Who is told of the run in `folder`."""
    return _listeners.get(folder.resolve())
