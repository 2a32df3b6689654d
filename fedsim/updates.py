"""What a chunk of clients sends back, and the sum the server makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fedsim.parameters import Layout, Parameters


@dataclass(frozen=True)
class UserResult:
    """What the server learns of one user beside the update."""

    user: int
    sequences: int  # the user's weight, McMahan et al. 2017's n_k
    tokens: int  # trained on, over all local epochs
    loss_nats: float  # summed over those tokens
    update_norm: float  # l2


@dataclass
class ChunkUpdate:
    """The chunk's sum of weight x update, one row a user, and the users that failed."""

    total: Parameters
    results: list[UserResult] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)  # user -> traceback or reason


class Aggregate:
    """A round's sum over chunks, in float64, and what it weighs."""

    def __init__(self, layout: Layout) -> None:
        self.total = Parameters.zeros(layout, np.float64)
        self.results: list[UserResult] = []
        self.failures: dict[int, str] = {}

    def add(self, update: ChunkUpdate) -> None:
        """Add one chunk. The order of the calls decides the last bits: use chunk order."""
        if update.results:
            self.total.flat += update.total.flat
        self.results += update.results
        self.failures |= update.failures

    @property
    def weight(self) -> int:
        """Sum of the weights of the users that completed."""
        return sum(r.sequences for r in self.results)

    def mean(self) -> np.ndarray:
        """The weighted mean update, float32; zero where nobody completed."""
        return (self.total.flat / max(self.weight, 1)).astype(np.float32)
