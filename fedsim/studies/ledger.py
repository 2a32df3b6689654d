"""How far a study of several stages is, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fedsim.studies.grid import Told

Said = Callable[[str, int, int, float], None]  # name, done, of, seconds left


class Ledger:
    """Counts steps, and their rounds, which is what takes the time.

    Seconds left are those of a round that was trained in this call, times the rounds that remain;
    what comes from the cache took none.
    """

    def __init__(self, steps: int, rounds: int, said: Said) -> None:
        """steps, rounds: of all stages together."""
        self.steps, self.rounds, self._said = steps, rounds, said
        self._done = self._passed = self._trained = 0
        self._began = time.monotonic()

    def expect(self, steps: int, rounds: int) -> None:
        """What is still to come after the stages that were begun, where it was not known before."""
        self.steps, self.rounds = self._done + steps, self._passed + rounds

    def stage(self, rounds: Mapping[str, int]) -> Told:
        """What the next stage's cells tell; `rounds` that each of them trains, by name."""
        before, passed = self._done, self._passed
        self._done += len(rounds)
        self._passed += sum(rounds.values())
        mean = sum(rounds.values()) / max(len(rounds), 1)

        def told(name: str, done: int, of: int) -> None:
            self._trained += rounds[name]
            remaining = max(0.0, self.rounds - passed - done * mean)
            seconds = (time.monotonic() - self._began) / self._trained * remaining
            self._said(name, before + done, self.steps, seconds)

        return told
