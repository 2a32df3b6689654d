"""Where a run's wall time goes: parts that exclude each other and add up to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Part -> what it is, in the order in which it is shown.
PARTS = {
    "compute": "clients' training, a mean over the workers",
    "communication": "the rest of the rounds: messages, and waiting for the last worker",
    "aggregation": "adding and stepping that no training hid",
    "evaluation": "scores on held-out users",
    "leakage": "exposure and extraction of canaries",
    "pretraining": "central training on a first corpus",
    "baselines": "trigram and central training",
    "data": "opening the corpus, building the model, compiling the kernel",
    "start": "starting and ending the workers, waiting for nodes",
    "record": "tables, checkpoints, the model",
    "report": "report.html",
    "other": "",
}
# Of a training round, until it is known how much of them the clients' training took.
_WAITING, _ADDING = "waiting for replies", "adding replies"


class Profile:
    """A stopwatch that always runs on one part; collected in every run, for it costs nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rounds = self.tokens = 0
        self._running = ["other"]
        self._since = time.perf_counter()
        self._training = 0.0  # seconds of the exchanges that trained
        self._clients: dict[str, float] = {}  # worker -> its clients' own seconds
        self._of_round = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block's time is that part's, without the blocks inside that name another."""
        self._stop()
        self._running.append(name)
        try:
            yield
        finally:
            self._stop()
            self._running.pop()

    def waiting(self) -> Any:
        """A block that waits for replies; those of a training round are told apart."""
        running = self._running[-1]
        return self.part(_WAITING if running == _ADDING else running)

    def adding(self) -> Any:
        """A block that takes in the replies of a training round."""
        return self.part(_ADDING)

    def heard(self, worker: str, seconds: float) -> None:
        """A worker has trained clients of the round for so long, as it says itself."""
        self._clients[worker] = self._clients.get(worker, 0.0) + seconds
        self._of_round += seconds

    def trained(self, nodes: int, tokens: int) -> None:
        """All replies of a round are there; `nodes` could work on it at the same time."""
        self._stop()
        waited = self.seconds.pop(_WAITING, 0.0)
        added = self.seconds.pop(_ADDING, 0.0)
        span = waited + added
        compute = min(self._of_round / max(nodes, 1), span)
        aggregation = min(added, span - compute)
        self._add("compute", compute)
        self._add("aggregation", aggregation)
        self._add("communication", span - compute - aggregation)
        self._training += span
        self._of_round = 0.0
        self.rounds += 1
        self.tokens += tokens

    def as_dict(self) -> dict[str, Any]:
        """The parts so far, and what share of the training exchanges each worker was at work."""
        self._stop()
        named = {_WAITING: "communication", _ADDING: "aggregation"}  # of a round that was cut off
        parts = dict.fromkeys(PARTS, 0.0)
        for name, seconds in self.seconds.items():
            parts[named.get(name, name)] += seconds
        return {
            "wall_seconds": sum(parts.values()),
            "parts": parts,
            "rounds": self.rounds,
            "tokens": self.tokens,
            "workers": [
                {"worker": worker, "seconds": seconds, "of_seconds": self._training}
                for worker, seconds in sorted(self._clients.items())
            ],
        }

    def _stop(self) -> None:
        now = time.perf_counter()
        self._add(self._running[-1], now - self._since)
        self._since = now

    def _add(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds


def added(profiles: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The profiles of a run's sessions as one: it may have been interrupted and resumed."""
    whole = Profile().as_dict()
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for profile in profiles:
        for name, seconds in profile["parts"].items():
            parts[name] += seconds
        for key in ("rounds", "tokens"):
            whole[key] += profile[key]
        whole["workers"] = [*whole["workers"], *profile["workers"]]
    return {**whole, "parts": parts, "wall_seconds": sum(parts.values())}
