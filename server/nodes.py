"""The connected nodes, and which users each of them hosts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedsim.engines.wire import record_of
from fedsim.errors import FedsimError, last_line
from server.chunks import cut
from server.exchange import IDLE_S, NOWHERE, UNANSWERED, exchange

PATIENCE_S = 5.0  # before saying that a node is waited for


class Unfit(Exception):
    """Why a node cannot take part."""


class Nodes:
    """Asks every node once what it hosts, and spreads users over the nodes.

    On the engines of one machine each node hosts everybody: users are then cut into chunks that
    go to the nodes in turn. Where nodes hold shards, each gets its own users in one message,
    since a SuperNode handles one message at a time and starts a process for each.
    """

    def __init__(
        self,
        grid: Grid,
        question: ConfigRecord,
        users: int,
        timeout_s: float,
        notice: Callable[[str], None],
    ) -> None:
        """`question` holds the run's client config and the server's corpus digest."""
        self.grid = grid
        self._question = question
        self._users = users
        self._timeout_s = timeout_s
        self._notice = notice
        self._hosted: dict[int, np.ndarray | None] = {}  # node -> flag of each user; None: all
        self._unfit: dict[int, str] = {}  # node -> why it cannot take part
        self._seen = np.zeros(users, bool)  # whom a node has hosted at any time
        self._failed: dict[int, set[int]] = {}  # user -> nodes where the user has failed

    @property
    def count(self) -> int:
        """Nodes that take part."""
        return len(self._hosted)

    def spread(
        self, users: np.ndarray, tokens: np.ndarray, chunk: int, alone: bool = False
    ) -> list[tuple[int, list[int]]]:
        """(node, users) pairs that cover `users`; `NOWHERE` for those that no node has.

        Where all nodes host everybody, `chunk` and the users' `tokens` decide how they are cut.
        `alone`: each user gets a pair of its own, wherever its text is.

        Waits for a node that hosts them until the timeout: one may be restarting. Raises
        FedsimError where no node is there, or one that would host them cannot take part.
        """
        if not len(users):
            return []
        started = time.monotonic()
        said = False
        while True:
            self._refresh()
            homeless = self._homeless(users)
            waited = time.monotonic() - started
            if not homeless or waited > self._timeout_s:
                break
            # Users that had a node will have it again; others may be those of the unfit one.
            if self._unfit and not self._seen[homeless].all():
                self._give_up()
            if waited > PATIENCE_S and not said:
                self._notice(f"waiting for a node that hosts {len(homeless)} of the users")
                said = True
            time.sleep(max(IDLE_S, min(1.0, self._timeout_s / 10)))
        if not self._hosted:
            self._give_up()
        everywhere = [node for node, flags in self._hosted.items() if flags is None]
        if everywhere:
            chunks = cut(users, tokens, len(everywhere), 1 if alone else chunk)
            return [(everywhere[i % len(everywhere)], mine) for i, mine in enumerate(chunks)]
        given = self._by_host(users.tolist(), set(homeless))
        return _one_by_one(given) if alone else given

    def failed(self, node: int, users: Iterable[int]) -> None:
        """Users failed there: the node may be gone, or not have their text as it says."""
        for user in users:
            self._failed.setdefault(user, set()).add(node)

    def _give_up(self) -> None:
        for node, reason in self._unfit.items():
            raise FedsimError(f"Node {node} cannot take part: {reason}")
        raise FedsimError(
            f"No node connected within {self._timeout_s:.0f} s; start one and resume."
        )

    def _by_host(self, users: Sequence[int], homeless: set[int]) -> list[tuple[int, list[int]]]:
        given: dict[int, list[int]] = {}
        for user in users:
            hosts = [n for n, flags in self._hosted.items() if flags is not None and flags[user]]
            hosts = [n for n in hosts if n not in self._failed.get(user, ())] or hosts
            node = NOWHERE if user in homeless else hosts[user % len(hosts)]
            given.setdefault(node, []).append(user)
        return list(given.items())

    def _homeless(self, users: np.ndarray) -> list[int]:
        alone = np.ones(len(users), bool)
        for flags in self._hosted.values():
            alone &= False if flags is None else ~flags[users]
        return users[alone].tolist()

    def _refresh(self) -> None:
        """Forget nodes that went away and ask the new ones what they host."""
        connected = sorted(self.grid.get_node_ids())
        self._hosted = {n: self._hosted[n] for n in connected if n in self._hosted}
        self._unfit = {n: self._unfit[n] for n in connected if n in self._unfit}
        new = [node for node in connected if node not in self._hosted and node not in self._unfit]
        if not new:
            return
        content = RecordDict({"config": self._question})
        questions = [Message(content, node, "query", ttl=self._timeout_s) for node in new]
        for question, reply in exchange(self.grid, questions, self._timeout_s):
            node = question.metadata.dst_node_id
            if reply.has_error() and reply.error.code in UNANSWERED:
                continue  # it may have gone again; if it is there, it is asked once more
            try:
                flags = self._hosted[node] = self._flags(reply)
                self._seen |= True if flags is None else flags
            except Unfit as error:
                self._unfit[node] = str(error)
                self._notice(f"node {node} cannot take part: {error}")
        self._hosted = dict(sorted(self._hosted.items()))

    def _flags(self, reply: Message) -> np.ndarray | None:
        """Which users a node says it hosts; None where it says all."""
        if reply.has_error():
            raise Unfit(last_line((reply.error.reason or "").strip() or "it gave no reason"))
        try:
            hosted: Any = record_of(reply.content, "hosted", ConfigRecord)
            corpus, users, flags = hosted["corpus"], hosted["users"], hosted["flags"]
            bits = np.frombuffer(flags, np.uint8)
        except (KeyError, TypeError, ValueError) as error:
            raise Unfit(f"its answer is malformed ({error})") from None
        if corpus != self._question["corpus"] or users != self._users:
            raise Unfit(
                "it holds another corpus than the server, or another version of it; write the "
                "shards again and copy them"
            )
        if not len(bits):
            return None
        if len(bits) != -(-self._users // 8):
            raise Unfit("its answer is malformed (the number of flags)")
        return np.unpackbits(bits, count=self._users).astype(bool)


def _one_by_one(given: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    """One user a pair, the nodes in turn: what is sent first keeps all of them at work."""
    most = max(len(users) for _, users in given)
    return [(node, users[i : i + 1]) for i in range(most) for node, users in given if users[i:]]
