"""How far an audit is, on stderr: a bar a measure in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from fedsim.consoles import new_console
from fedsim.studies.audit_workers import MeasureProgress

LINE_EVERY_S = 10.0


class AuditProgress:
    """Shows the measures that are being taken; `say` prints a line that stays."""

    def __init__(self) -> None:
        self._console = new_console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last = time.monotonic()

    def __enter__(self) -> AuditProgress:
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """One line, above the bars where there are any."""
        self._console.print(text, soft_wrap=True)

    def __call__(self, measures: Sequence[MeasureProgress]) -> None:
        """These are being taken."""
        if self._bars is not None:
            self._show(self._bars, measures)
        elif measures and time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            self.say(", ".join(f"{one.name} {one.share:.0%}{_left(one)}" for one in measures))

    def _show(self, bars: Progress, measures: Sequence[MeasureProgress]) -> None:
        names = [one.name for one in measures]
        for name in [name for name in self._tasks if name not in names]:
            bars.remove_task(self._tasks.pop(name))
        for one in measures:
            if one.name not in self._tasks:
                self._tasks[one.name] = bars.add_task(one.name, total=1.0, left="")
            bars.update(self._tasks[one.name], completed=one.share, left=_left(one).strip(" ()"))


def _left(one: MeasureProgress) -> str:
    seconds = one.seconds_left
    if seconds is None:
        return ""
    minutes = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return f" (about {minutes} left)"
