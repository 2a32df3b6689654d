"""The product's ClientApp with faults: it does as its orders say and is itself otherwise."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
from flwr.app import Context, Message

import clients.training
from clients.app import app as real
from faulty.orders import Orders
from fedsim.federation import Federation

HANG_S = 3600
VALUES = {"nan": float("nan"), "inf": float("inf"), "huge": 1e30}


class Faulty:
    """Calls the real app; the users' faults come where their text is read or their training ends.

    Both are calls of the app into what it is built on, so that nothing of the product changes.
    """

    def __init__(self) -> None:
        self.orders = Orders.received()
        self.round: int | None = None  # of the train message at hand
        self.value: float | None = None  # what the user at hand is to reply with
        self._sequences, self._local_sgd = Federation.sequences, clients.training.local_sgd
        Federation.sequences = self.sequences  # type: ignore[method-assign]
        clients.training.local_sgd = self.local_sgd

    def __call__(self, message: Message, context: Context) -> Message:
        """The real app's reply."""
        if message.metadata.message_type.startswith("train"):
            self.round = message.content.config_records["config"]["round"]
        try:
            return real(message=message, context=context)
        finally:
            self.round = None

    @property
    def sequences(self) -> Any:
        """`Federation.sequences`, before which a user's fault comes."""

        def read(federation: Federation, user: int, part: str = "train") -> Any:
            self.value = None
            if self.round is not None:
                for deed in self.orders.due(self.round, user):
                    self._do(deed, user)
            return self._sequences(federation, user, part)

        return read

    def local_sgd(self, *arguments: Any) -> tuple[torch.Tensor, float]:
        """`clients.training.local_sgd`, whose result a fault may spoil."""
        delta, nats = self._local_sgd(*arguments)
        if self.value is not None:
            delta = delta.clone()
            delta[len(delta) // 2] = self.value
        return delta, nats

    def _do(self, deed: str, user: int) -> None:
        if deed == "raise":
            raise ValueError(f"user {user} was told to fail")
        if deed == "hang":
            time.sleep(HANG_S)
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        self.value = VALUES[deed]


app = Faulty()
