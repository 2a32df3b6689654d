"""q-FedAvg (Li et al. 2020, Fair Resource Allocation): who is served badly counts for more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from fedsim.config import Config
from fedsim.models.loss import NOMINAL_TOKENS
from fedsim.options import Options
from fedsim.search_space import Range
from fedsim.updates import Aggregate, UserResult
from server.individual import Rows, blocks, combination, row_bytes
from server.strategy import FederatedStrategy


class QOptions(Options):
    """How much fairer than a plain mean."""

    q: float = Field(0.1, ge=0, le=10, description="0: the mean over users, each with weight one")


class QFedAvg(FederatedStrategy):
    """Algorithm 2: x - sum_k F_k^q L (x - x_k) / sum_k (q F_k^(q-1) |L (x - x_k)|^2 + L F_k^q).

    F_k is the global model's training loss on the user's text before it trains there (nats a
    sequence / 10, what local steps descend), L = 1 / client.lr of the round. Users are drawn
    uniformly here, so that sum_k F_k^(q+1) is over users of equal weight.
    """

    Options = QOptions
    one_reply_per_user = True
    asks: ClassVar[Mapping[str, Any]] = {"score_first": True}
    mechanisms = ("none",)
    mechanisms_because = "weighs each user's update by its loss"
    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "sgd"}
    search: ClassVar[Mapping[str, Range]] = {
        **FederatedStrategy.search,
        "strategy.q": Range(0.01, 5.0),
    }

    @classmethod
    def memory(cls, config: Config, parameters: int) -> int:
        """The updates of a cohort."""
        return row_bytes(config.server.cohort, parameters)

    def aggregate(self) -> Aggregate:
        """Rows, since weights that are powers of losses may differ by more than integers allow."""
        return Rows(self.state.parameters.layout, self._contribution(), self._centre)

    def _centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        client, server = self.config.client, self.config.server
        lipschitz = 1 / client.lr_in(self.state.round + 1, server.rounds)
        losses = [r.start_nats / (NOMINAL_TOKENS * r.sequences) for r in results]
        return combination(rows, fair_weights(losses, _squares(rows), lipschitz, self._q))

    @property
    def _q(self) -> float:
        return float(self.config.strategy.options.q)


def fair_weights(
    losses: list[float], squares: np.ndarray, lipschitz: float, q: float
) -> np.ndarray:
    """What each user's update x_k - x is multiplied with, (users,), from its loss and |x_k - x|^2.

    All losses are divided by the largest first: only their ratios and the last term's matter.
    """
    loss, largest = np.array(losses), max(losses)
    power = (loss / largest) ** q
    h = q * power / loss * lipschitz**2 * squares + lipschitz * power
    return lipschitz * power / h.sum()


def _squares(rows: list[np.ndarray]) -> np.ndarray:
    """|row|^2 of each, float64."""
    out = np.zeros(len(rows))
    for _, values in blocks(rows):
        out += np.square(values, dtype=np.float64).sum(1)
    return out
