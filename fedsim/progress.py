"""Live progress on stderr: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from fedsim.consoles import new_console
from fedsim.watching import RoundProgress, listener_of


def say(text: str) -> None:
    """One line, before there is a `Reporter`."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Nothing, in the place of `say`."""


class Reporter:
    """Says what the run in a folder is doing. Keeps the latest scores beside the bar."""

    def __init__(
        self, total: int, done: int, quiet: bool = False, folder: Path | None = None
    ) -> None:
        self.console = new_console(stderr=True)
        self.quiet = quiet
        self._total = total
        self._started, self._done_at_start = time.monotonic(), done
        self._scores = ""
        self._recalls: tuple[float | None, float | None] = (None, None)
        self._listener = None if folder is None else listener_of(folder)
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("round"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TimeRemainingColumn(),
                # The one that gives way in a narrow terminal.
                TextColumn(
                    "{task.description}",
                    table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
                ),
                console=self.console,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, completed=done)

    def round(self, number: int, users: int, tokens_per_second: float, loss: float) -> None:
        """A round is done. Plain output prints at most one line in five seconds."""
        if self._listener is not None:
            seconds = self._seconds_left(number)
            self._listener(
                RoundProgress(
                    number, self._total, users, tokens_per_second, loss, seconds, *self._recalls
                )
            )
        now = f"{users} users  {tokens_per_second:,.0f} tokens/s  loss {_number(loss)}"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=number, description=f"{now}  {self._scores}", refresh=True
            )
        elif time.monotonic() - self._last_line > 5 or number == self._total:
            self._last_line = time.monotonic()
            left = self._time_left(number)
            self.say(f"round {number}/{self._total}  {now}  {self._scores}  {left}".rstrip())

    def scores(self, round: int, top1: float, top3: float) -> None:
        """The newest recall on held-out users."""
        self._recalls = (top1, top3)
        self._scores = f"after round {round}: top-1 {top1:.1%}  top-3 {top3:.1%}"

    def exposure(self, planted_bits: float) -> None:
        """The newest highest exposure of a planted canary."""
        self._scores += f"  highest exposure {planted_bits:.1f} bits"

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if not self.quiet:
            self.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _time_left(self, number: int) -> str:
        """Of the rounds: scores and baselines follow, and say so when they begin."""
        if number == self._total:
            return ""
        seconds = self._seconds_left(number)
        said = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return f"{said} of rounds left"

    def _seconds_left(self, number: int) -> float:
        done = max(number - self._done_at_start, 1)
        return (time.monotonic() - self._started) / done * (self._total - number)


def _number(loss: float) -> str:
    """A round in which nobody was drawn has no loss."""
    return "\N{EN DASH}" if math.isnan(loss) else f"{loss:.3f}"
