"""How far long work is: its phases, each with its share of the time, and the steps of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")

Heard = Callable[[float], None]  # is told what share of the work is done, 0 to 1, rising


def nobody(share: float) -> None:
    """In the place of somebody who is told."""


class Steps:
    """Makes of steps within phases the share of the whole that is done.

    phases: by name and in their order, how long each takes beside the others; where that is
    misjudged, the time left is, and nothing else. heard: is told.
    """

    def __init__(self, phases: Mapping[str, float], heard: Heard) -> None:
        whole, before = sum(phases.values()), 0.0
        self._heard = heard
        self._spans: dict[str, tuple[float, float]] = {}
        for name, length in phases.items():
            self._spans[name] = (before / whole, length / whole)
            before += length

    def part(self, phase: str) -> Heard:
        """For whoever tells the share of one phase: is told it, and tells that of the whole."""
        before, length = self._spans[phase]
        self._heard(before)
        return lambda share: self._heard(before + length * min(1.0, share))

    def over(self, phase: str, items: Iterable[T], count: int) -> Iterator[T]:
        """The items of a phase, `count` of them: each a step, done when the next is asked for."""
        yield from steps(items, count, self.part(phase))


def steps(items: Iterable[T], count: int, heard: Heard) -> Iterator[T]:
    """The items, with somebody who is told after each what share of `count` is done."""
    for done, item in enumerate(items, 1):
        yield item
        heard(done / max(count, 1))
