"""Work on users, as messages to the nodes that host them; failed users are asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedsim.config import Config
from fedsim.engines.wire import failures_in, record_of, timing_in
from fedsim.federation import Federation
from fedsim.profile import Profile
from fedsim.updates import NOT_FINITE, Contribution
from server.exchange import exchange
from server.inspection import inspected
from server.nodes import Nodes

Pair = tuple[Message, Message]  # what was asked, and the reply
Beside = Callable[[int], Mapping[str, ArrayRecord]]  # records of one user's own, by their names

AHEAD = 2  # messages with records of their own that are made for each node before one is answered


class Dispatch:
    """Builds the messages of a run and brings back a reply about every user."""

    def __init__(
        self,
        config: Config,
        federation: Federation,
        size: int,
        notice: Callable[[str], None],
        profile: Profile,
        noise: str = "",
    ) -> None:
        """`size` is that of the model; `notice` takes what whoever watches the run should know.
        `noise` is what clients are told to call the run where they draw noise themselves."""
        self._client_config = config.for_clients().as_json()
        self._federation = federation
        self._corpus = federation.corpus.digest
        self._noise = {"noise": noise} if noise else {}
        self._server = config.server
        self._size = size
        self._notice = notice
        self._profile = profile
        self._nodes: Nodes | None = None
        self._sequences: dict[int, int] = {}  # of the users in the newest messages about training

    def messages(
        self,
        grid: Grid,
        message_type: str,
        users: Sequence[int] | np.ndarray,
        arrays: ArrayRecord,
        work: dict[str, Any],
        chunk: int = 0,
        part: str = "train",
        alone: bool = False,
    ) -> list[Message]:
        """One message for each chunk of users, or for each node where nodes hold shards.

        `chunk` users a message, or as many as `server.chunks` finds best for this `part` of their
        text. `alone`: each user gets a message of its own on every engine.
        """
        run = {"config": self._client_config, "corpus": self._corpus, **self._noise}
        ids = np.asarray(users, np.int64)
        sizes = self._federation.sizes(ids, part)
        self._federation.corpus.forget_pages()
        if part == "train":
            self._sequences = dict(zip(ids.tolist(), sizes[:, 0].tolist(), strict=True))
        messages = []
        with self._profile.part("start"):
            spread = self._nodes_of(grid).spread(ids, sizes[:, 1], chunk, alone)
        for node, mine in spread:
            config = ConfigRecord({**work, **run, "users": mine})
            content = RecordDict({"arrays": arrays, "config": config})
            ttl = self._server.timeout_s
            messages.append(Message(content, node, message_type, ttl=ttl))
        return messages

    def replies(
        self,
        grid: Grid,
        messages: Sequence[Message],
        timeout_s: float,
        contribution: Contribution | None = None,
        alone: bool = False,
        beside: Beside | None = None,
    ) -> Iterator[Message]:
        """Replies in order of arrival, then those of users asked again, one by one.

        What went wrong on the way comes as a reply that says so of each user. A user whose update
        was dropped is not asked again: the same update would come. `contribution` is what a user
        may add to the sum, where sums are asked for. `beside` makes what each message carries of
        its user's own, shortly before it is sent; who is asked again gets it too.
        """
        at_once = AHEAD * max(self.nodes, 1) if beside else None
        for attempt in range(1 + self._server.retries):
            failures: dict[int, str] = {}
            complete = _with(messages, beside)
            known = {} if contribution is None else self._known(messages)
            for message, reply in self._timed(exchange(grid, complete, timeout_s, at_once)):
                if beside:
                    _strip(message)
                content = inspected(message, reply, self._size, contribution, known)
                failed = failures_in(content)
                self._told_of(message, failed)
                failures |= failed
                if (timing := timing_in(content)) is not None:
                    self._profile.heard(*timing)
                yield Message(content, reply_to=message)
                del message, reply, content  # a reply's memory is the next one's, if nobody looks
            users = sorted(u for u, reason in failures.items() if reason != NOT_FINITE)
            if not users or attempt == self._server.retries:
                return
            messages = self._again(grid, messages[0], users, alone)

    @property
    def nodes(self) -> int:
        """How many nodes have answered what they host: so many work at the same time."""
        return self._nodes.count if self._nodes is not None else 0

    def _known(self, messages: Sequence[Message]) -> dict[int, int]:
        """User -> how many sequences it trains on; nobody's where the server has no text.

        `messages` are the newest about training: looking up sizes again would cost as much.
        """
        if self._federation.corpus.shard is not None:
            return {}
        users = (user for message in messages for user in _users(message))
        return {user: self._sequences[user] for user in users}

    def _told_of(self, message: Message, failed: Mapping[int, str]) -> None:
        """Who failed somewhere is asked again elsewhere, where another node has the text too."""
        if failed and self._nodes is not None:
            self._nodes.failed(message.metadata.dst_node_id, failed)

    def _timed(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """The same pairs; the time until each is there counts as waiting."""
        while True:
            with self._profile.waiting():
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair
            del pair

    def _again(self, grid: Grid, like: Message, users: list[int], alone: bool) -> list[Message]:
        work: dict[str, Any] = dict(record_of(like.content, "config", ConfigRecord))
        arrays = record_of(like.content, "arrays", ArrayRecord)
        kind = like.metadata.message_type
        return self.messages(grid, kind, users, arrays, work, chunk=1, alone=alone)

    def _nodes_of(self, grid: Grid) -> Nodes:
        if self._nodes is None or self._nodes.grid is not grid:
            question = ConfigRecord({"config": self._client_config, "corpus": self._corpus})
            self._nodes = Nodes(
                grid, question, self._federation.users, self._server.timeout_s, self._notice
            )
        return self._nodes


def _with(messages: Sequence[Message], beside: Beside | None) -> Iterator[Message]:
    """The messages, each completed when it is asked for."""
    for message in messages:
        if beside is not None:
            (user,) = _users(message)
            for name, record in beside(user).items():
                message.content[name] = record
        yield message


def _strip(message: Message) -> None:
    """Take from an answered message what was its user's own: a model's bytes."""
    for name in set(message.content) - {"arrays", "config"}:
        del message.content[name]


def _users(message: Message) -> list[int]:
    work: Any = record_of(message.content, "config", ConfigRecord)
    return list(work["users"])
