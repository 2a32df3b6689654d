"""The base of strategies that put a robust centre of the users' updates in place of their mean.

The centres are made here, in blocks of coordinates and in float64, and not by Flower's own
aggregators, against which they are tested: those want every user's whole model as messages, a
second copy of the cohort, and take distances between models in float32, where updates drown.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsim.config import Config
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.updates import Aggregate, UserResult
from server.individual import Rows, blocks, row_bytes
from server.strategy import FederatedStrategy

FIXED = ("fixed", "cyclic")  # samplers whose cohorts have the size that is asked for


class Robust(FederatedStrategy):
    """`centre` of the updates of those who completed goes to the server optimizer.

    Under DP-SGD it is post-processing of updates that are private each by itself.
    """

    one_reply_per_user = True
    mechanisms = ("none", "dp-sgd")
    mechanisms_because = "puts another centre in place of the mean whose sensitivity is accounted"

    @classmethod
    def memory(cls, config: Config, parameters: int) -> int:
        """The updates of a cohort."""
        return row_bytes(config.server.cohort, parameters)

    def aggregate(self) -> Aggregate:
        """Rows and their centre."""
        return Rows(self.state.parameters.layout, self._contribution(), self._centre)

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """float32 (size,) from at least one row (size,) and result a user, ascending by user."""
        raise NotImplementedError

    def needed(self) -> tuple[int, str]:
        """With how few users the centre protects somebody, and for what so many are needed."""
        return 1, ""

    def _centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """The centre. Where fewer completed than are needed, FedsimError, which stops the run;
        with a guarantee no step instead, since who fails must not decide whether a run ends."""
        needed, why = self.needed()
        if len(rows) >= needed:
            return self.centre(rows, results)
        said = (
            f"Only {len(rows)} users completed round {self.state.round + 1}, and strategy "
            f"'{self.config.strategy.name}' {why} needs {needed}"
        )
        if self.mechanism.never_stops:
            self.listener.notice(f"{said}: the model stays as it is.")
            return np.zeros_like(rows[0])
        raise FedsimError(
            f"{said}; resume, or begin a run with a larger cohort or more server.retries."
        )


def require_fixed_cohorts(config: Config) -> None:
    """Raises FedsimError for a sampler that may draw fewer than a strategy can work with."""
    sampler = config.server.sampler
    if sampler not in FIXED:
        raise FedsimError(
            f"strategy = '{config.strategy.name}' needs cohorts of one size, and server.sampler = "
            f"'{sampler}' draws larger and smaller ones; set server.sampler=fixed."
        )


def squared_distances(rows: list[np.ndarray]) -> np.ndarray:
    """|row_i - row_j|^2, float64 (rows, rows)."""
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    with threads(1):  # the last bits of a product depend on their number
        for _, values in blocks(rows):
            part = torch.from_numpy(values).double()
            products.addmm_(part, part.T)
    inner = products.numpy()
    squares = np.diag(inner)
    return np.maximum(squares[:, None] + squares[None, :] - inner - inner.T, 0.0)
