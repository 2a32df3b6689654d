"""SCAFFOLD (Karimireddy et al. 2020): control variates against the drift of local training.

Option II of algorithm 1, with the clients' part of the bookkeeping at the server: it knows x and
gets y_i, so that c_i+ = c_i - c + (x - y_i) / (K lr) needs no memory at the client. What travels is
x and c - c_i one way and y_i back: one model more down than FedAvg, and none more up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fedsim.config import Config
from fedsim.engines.wire import CORRECTION, correction_record
from fedsim.errors import FedsimError
from fedsim.privacy.base import Release
from fedsim.updates import Aggregate, ChunkUpdate
from server.client_vectors import ClientVectors
from server.dispatch import Beside
from server.individual import Reweighed, update_of
from server.optimizers import State
from server.state import ServerState
from server.strategy import FederatedStrategy


class Scaffold(FederatedStrategy):
    """Every local step adds c - c_i to its gradient; uniform weights; c moves by |S| / N.

    `client.max_grad_norm` clips the gradient before c - c_i is added, so that c_i is the mean of
    the clipped gradients. The state holds c and the round of each user's c_i, which themselves
    are files in the run's folder until the run is finished.
    """

    one_reply_per_user = True
    mechanisms = ("none",)
    mechanisms_because = "remembers each user's update"
    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "sgd"}
    models_sent = 2

    @classmethod
    def check(cls, config: Config) -> None:
        """c_i estimates the gradient of the user's loss alone."""
        if config.client.proximal_mu:
            raise FedsimError(
                f"strategy = 'scaffold' with client.proximal_mu = {config.client.proximal_mu:g}: "
                "the proximal term would count as part of the user's gradient; set "
                "client.proximal_mu=0, or strategy=fedprox."
            )

    @classmethod
    def initial_state(cls, size: int, users: int) -> State:
        """c = 0, and no c_i yet: those are zero too."""
        return {"c": np.zeros(size, np.float32), "versions": np.zeros(users, np.int32)}

    @classmethod
    def memory(cls, config: Config, parameters: int) -> int:
        """c, and while it is moved its sum in float64 with one c_i before and after."""
        return (4 + 8 + 2 * 4) * parameters

    @classmethod
    def disk(cls, config: Config, parameters: int, users: int) -> int:
        """A c_i for every user that has taken part, and those of a round replaced."""
        server = config.server
        seen = min(users, server.cohort * server.rounds)
        return 4 * parameters * (seen + server.cohort * server.keep_checkpoints)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """See the base; and what nothing can go back to any more is deleted."""
        self._vectors.forget_unneeded(self.state.round)
        return super().configure_train(server_round, arrays, config, grid)

    def beside(self) -> Beside:
        """c - c_i."""

        def records(user: int) -> dict[str, ArrayRecord]:
            return {CORRECTION: correction_record(self._c - self._c_of(user))}

        return records

    def aggregate(self) -> Aggregate:
        """The mean over users, each with weight one."""
        layout, contribution = self.state.parameters.layout, self._contribution()
        return Reweighed(layout, contribution, lambda r: 1 / r.sequences, lambda rs: float(len(rs)))

    def heard(self, update: ChunkUpdate) -> None:
        """c_i+, from the reply of its user."""
        for result in update.results:
            client, server = self.config.client, self.config.server
            lr = client.lr_in(self.state.round + 1, server.rounds)
            passed = np.float32(client.steps(result.sequences) * lr)
            moved = self._c_of(result.user) - self._c - update_of(update) / passed
            self._vectors.put(result.user, self.state.round + 1, moved)

    def apply(self, release: Release, completed: list[int]) -> ServerState:
        """The server optimizer on the mean update, and c + sum_i (c_i+ - c_i) / N."""
        before, state = self.state, super().apply(release, completed)
        change = np.zeros(len(self._c))  # added by user: the order of the replies does not matter
        for user in completed:
            change += self._vectors.get(user, state.round)
            change -= self._c_of(user)
        versions = before.strategy["versions"].copy()
        versions[completed] = state.round
        c = (self._c + change / len(self.federation.population)).astype(np.float32)
        return replace(state, strategy={"c": c, "versions": versions})

    def finished(self) -> None:
        """No file is left."""
        self._vectors.forget_all()

    @cached_property
    def _vectors(self) -> ClientVectors:
        vectors = ClientVectors(self.folder, self.state.parameters.layout.size)
        vectors.forget_after(self.state.round)
        return vectors

    @property
    def _c(self) -> np.ndarray:
        return self.state.strategy["c"]

    def _c_of(self, user: int) -> np.ndarray:
        """The user's c_i before the round that is under way."""
        return self._vectors.get(user, int(self.state.strategy["versions"][user]))
