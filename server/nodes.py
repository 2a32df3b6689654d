"""The connected nodes, and which users each of them hosts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedsim.errors import FedsimError
from server.exchange import IDLE_S, NOWHERE, UNANSWERED, exchange


class Nodes:
    """Asks every node once what it hosts, and spreads users over the nodes.

    On the engines of one machine each node hosts everybody: users are then cut into chunks that
    go to the nodes in turn. Where nodes hold shards, each gets its own users in one message,
    since a SuperNode handles one message at a time and starts a process for each.
    """

    def __init__(self, grid: Grid, question: ConfigRecord, users: int, timeout_s: float) -> None:
        """`question` holds the run's client config and the server's corpus digest."""
        self.grid = grid
        self._question = question
        self._users = users
        self._timeout_s = timeout_s
        self._hosted: dict[int, np.ndarray | None] = {}  # node -> flag of each user; None: all

    def spread(self, users: Sequence[int], chunk: int) -> list[tuple[int, list[int]]]:
        """(node, users) pairs that cover `users`; `NOWHERE` for those that no node has.

        Waits for a node that hosts them until the timeout: one may be restarting.
        """
        if not users:
            return []
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._refresh()
            homeless = self._homeless(users)
            if not homeless or time.monotonic() > deadline:
                break
            time.sleep(max(IDLE_S, min(1.0, self._timeout_s / 10)))
        if not self._hosted:
            raise FedsimError(
                f"No node connected within {self._timeout_s:.0f} s; start one and resume."
            )
        everywhere = [node for node, flags in self._hosted.items() if flags is None]
        if everywhere:
            starts = range(0, len(users), chunk)
            return [
                (everywhere[i % len(everywhere)], list(users[start : start + chunk]))
                for i, start in enumerate(starts)
            ]
        return self._by_host(users, set(homeless))

    def _by_host(self, users: Sequence[int], homeless: set[int]) -> list[tuple[int, list[int]]]:
        given: dict[int, list[int]] = {}
        for user in users:
            hosts = [n for n, flags in self._hosted.items() if flags is not None and flags[user]]
            node = NOWHERE if user in homeless else hosts[user % len(hosts)]
            given.setdefault(node, []).append(user)
        return list(given.items())

    def _homeless(self, users: Sequence[int]) -> list[int]:
        flags = list(self._hosted.values())
        return [u for u in users if not any(f is None or f[u] for f in flags)]

    def _refresh(self) -> None:
        """Forget nodes that went away and ask the new ones what they host."""
        connected = sorted(self.grid.get_node_ids())
        self._hosted = {n: self._hosted[n] for n in connected if n in self._hosted}
        new = [node for node in connected if node not in self._hosted]
        if not new:
            return
        content = RecordDict({"config": self._question})
        questions = [Message(content, node, "query", ttl=self._timeout_s) for node in new]
        for question, reply in exchange(self.grid, questions, self._timeout_s):
            node = question.metadata.dst_node_id
            if reply.has_error() and reply.error.code in UNANSWERED:
                continue  # it may have gone again
            if reply.has_error():
                reason = (reply.error.reason or "it gave no reason").strip().splitlines()[-1]
                raise FedsimError(f"Node {node} cannot take part: {reason}")
            self._hosted[node] = self._flags(node, reply.content.config_records["hosted"])
        self._hosted = dict(sorted(self._hosted.items()))

    def _flags(self, node: int, hosted: Any) -> np.ndarray | None:
        if hosted["corpus"] != self._question["corpus"] or hosted["users"] != self._users:
            raise FedsimError(
                f"Node {node} holds another corpus than the server, or another version of it; "
                "write the shards again with `data shard` and copy them."
            )
        if not hosted["flags"]:
            return None
        bits = np.frombuffer(hosted["flags"], np.uint8)
        return np.unpackbits(bits, count=self._users).astype(bool)
