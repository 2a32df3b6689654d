"""What is to go wrong inside a run: told to its processes through the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "FEDSIM_FAULTS"
ALWAYS = 10**6


@dataclass(frozen=True)
class ClientFault:
    """A client that does something else than train, the first `times` times it is asked to."""

    do: str  # raise | hang | die | nan | inf | huge
    round: int
    user: int | None = None  # None: every user
    times: int = ALWAYS


@dataclass(frozen=True)
class WriteFault:
    """What happens at one of the main process's writes, counted from 1.

    Writes are the rows added to a table, and the files that are synced to the disk.
    """

    do: str  # kill | full
    at: int
    moment: str = "before"  # before | torn | after


@dataclass(frozen=True)
class Orders:
    """All that is to go wrong in one attempt, and how its processes are told from others."""

    attempt: str  # hexadecimal: in the environment of its processes, in its segments' names
    folder: str  # notes of what has been done already lie here
    clients: list[ClientFault] = field(default_factory=list)
    write: WriteFault | None = None
    slow_writes_s: float = 0.0
    count_writes: bool = False

    def environment(self) -> dict[str, str]:
        """The variable that carries the orders."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def received(cls) -> Orders:
        """The orders of this process."""
        tree: dict[str, Any] = json.loads(os.environ[VARIABLE])
        tree["clients"] = [ClientFault(**fault) for fault in tree["clients"]]
        tree["write"] = WriteFault(**tree["write"]) if tree["write"] else None
        return cls(**tree)

    def due(self, round: int, user: int) -> Iterator[str]:
        """What a user of a round is to do; each is handed out `times` times over all processes."""
        for number, fault in enumerate(self.clients):
            if fault.round != round or fault.user not in (None, user):
                continue
            if fault.times == ALWAYS or self._take(f"{number}-{user}", fault.times):
                yield fault.do

    def _take(self, name: str, times: int) -> bool:
        """Take one of `times` tickets; false where all are taken."""
        for ticket in range(times):
            try:
                (Path(self.folder) / f"ticket-{name}-{ticket}").open("x").close()
            except FileExistsError:
                continue
            return True
        return False
