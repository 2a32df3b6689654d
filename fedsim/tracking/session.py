"""All trackers of one run: each round is sent once and whole, and a failing one stops nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedsim.config import Config
from fedsim.errors import FedsimError, last_line
from fedsim.files import write_atomically
from fedsim.privacy.claims import Claim
from fedsim.runs import Run
from fedsim.tracking.base import TRACKERS, Story, Tracker, without_login
from fedsim.tracking.figures import SENT, figures

MEMORY = "tracking.json"  # tracker -> what it calls the run

Rows = Iterable[Mapping[str, Any]]
Notice = Callable[[str], None]


def require(config: Config) -> None:
    """Raise FedsimError for a tracker of the config that cannot be used here, or must not be:
    seeded noise of a private run follows from its config."""
    guessed = getattr(config.privacy.options, "noise", "") == "seeded"
    for name in config.tracking.to:
        if guessed and TRACKERS[name].sends:
            raise FedsimError(
                f"tracking.to = '{name}' is sent the config, from which anybody can make the noise "
                f"of privacy = '{config.privacy.name}' again while it is seeded; set "
                "privacy.noise=fresh."
            )
        TRACKERS[name].require(name)


class Tracking:
    """The trackers that a run's config names, none by default.

    A round is sent when the next one begins or the run ends well, so that it is whole: what comes
    after an interruption is made again by `resume`, and nothing is sent twice.
    """

    def __init__(self, run: Run, config: Config, notice: Notice) -> None:
        self.notice = notice
        self._open: dict[str, Tracker] = {}
        self._step, self._figures = 0, dict[str, float]()
        known = _remembered(run.path)
        claim = Claim.of(run.privacy) if config.tracking.to else None
        for name in config.tracking.to:
            story = Story.of(run.path, config, known.get(name, ""), claim)
            self._guarded([name], partial(self._begin, name, story))
        if self._open:
            self._remember(run, known)
            self._guarded(list(self._open), partial(self._send_again, run))

    def add(self, table: str, rows: Rows, step: int) -> None:
        """Rows of round `step` of one of the run's tables, as they are written."""
        if self._open:
            self._guarded(list(self._open), partial(self._add, table, rows, step))

    def _add(self, table: str, rows: Rows, step: int) -> None:
        if step > self._step:
            self._send()
            self._step = step
        self._figures |= figures(table, rows)

    def finished(self, run: Run) -> None:
        """The run has ended well: its last round, and the final scores.

        A Ctrl-C ends the sending, not the run, which is finished.
        """
        if not self._open:
            return
        try:
            results = run.results.to_dict("records")
            self.add("results", results, self._step)
            self._send()
            self.close("finished")
        except KeyboardInterrupt:
            self.notice(f"Interrupted while {', '.join(self._open)} was told; the run is finished.")
            self._open.clear()

    def paused(self) -> None:
        """The run stops after a whole round, to go on later or never; the next run of this process
        must not find a tool that still holds this one."""
        if self._open:
            self._guarded(list(self._open), self._send)
        self.close("interrupted")

    def close(self, state: str) -> None:
        """The run is over, in this state; a second time nothing happens."""
        for name, tracker in list(self._open.items()):
            self._guarded([name], partial(tracker.close, state))
        self._open.clear()

    def _begin(self, name: str, story: Story) -> None:
        TRACKERS[name].require(name)
        tracker = self._open[name] = TRACKERS[name](story)
        self.notice(f"Tracked by {name}: {tracker.where}")

    def _remember(self, run: Run, known: dict[str, str]) -> None:
        known |= {name: tracker.known_as for name, tracker in self._open.items()}
        try:
            write_atomically(run.path / MEMORY, (json.dumps(known, indent=2) + "\n").encode())
        except OSError as error:
            self.notice(
                f"Cannot write {run.path / MEMORY}: {error.strerror}; a resumed run would "
                "be another one to who is told of it."
            )

    def _send_again(self, run: Run) -> None:
        """What the tables of a resumed run hold already, for trackers that lack some of it."""
        found: dict[int, list[tuple[str, Any]]] = defaultdict(list)
        for table in SENT:
            if table != "results":  # without a round: they end a run
                for step, rows in run.table(table).groupby("round"):
                    found[int(step)].append((table, rows.to_dict("records")))
        for step in sorted(found):
            for table, rows in found[step]:
                self.add(table, rows, step)

    def _send(self) -> None:
        step, values = self._step, self._figures
        self._figures = {}
        if not values:
            return
        for name, tracker in list(self._open.items()):
            if step > tracker.sent_until:
                self._guarded([name], partial(tracker.send, step, values))

    def _guarded(self, names: list[str], call: Callable[[], None]) -> None:
        """Call, and go on without these trackers where that fails, whatever it raises."""
        try:
            call()
        except Exception as error:
            for name in names:
                self._open.pop(name, None)
            reason = without_login(last_line(str(error) or type(error).__name__)).rstrip(".")
            self.notice(
                f"Tracking by {', '.join(names)} stopped ({reason}); the run goes on without it."
            )


def _remembered(folder: Path) -> dict[str, str]:
    try:
        known = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a new run, or a file that was damaged: it becomes another run there
    return {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, dict) else {}
