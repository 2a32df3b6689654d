"""What a contender is asked to do, and how it says when what was done.

A contender appends a line of JSON to its report for each thing that happened, with the time of the
clock that all processes share. A round lasts from the end of the one before (the first: from
`ready`) to its own end, whatever a simulator does in between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speed.work_order import WorkOrder

PROCESSES = 2  # or threads of one process: everybody has as much


@dataclass(frozen=True)
class Job:
    """One contender's process.

    rounds: how many, from 1; model_out: where the model after the last one goes, if it is asked
    for; variant: what the contender makes of it; folder: for whatever it writes.
    """

    order: Path
    report: Path
    folder: Path
    rounds: int
    variant: str = ""
    model_out: Path | None = None

    def work(self) -> WorkOrder:
        """The work order, read."""
        return WorkOrder.load(self.order)

    def say(self, event: str, at: float | None = None, **more: Any) -> None:
        """Report an event that happened `at`, by default now."""
        line = json.dumps({"event": event, "at": time.time() if at is None else at, **more})
        with self.report.open("a") as file:
            file.write(line + "\n")

    def save(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Keep the final model, if it is asked for."""
        if self.model_out is not None:
            np.savez(self.model_out, **dict(parameters))


def events(report: Path) -> list[dict[str, Any]]:
    """What a contender has said so far; half a line of one that was killed is left out."""
    if not report.is_file():
        return []
    whole = report.read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole]
