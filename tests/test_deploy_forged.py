"""Replies that a node forges, on the wire of a real SuperLink: what is lost, and what is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rogue_node
from deployments import running
from flwr.app import Array, ArrayRecord, Message, RecordDict
from rogue_node import RogueNode

import clients.app
from clients.training import train_chunk
from fedsim.config import Config, load
from fedsim.deploy.deployment import Deployment
from fedsim.engines.flower_compat import isolated, set_identity
from fedsim.engines.wire import SUM
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import simulate
from fedsim.updates import ChunkUpdate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KEYS = ["server.rounds=8", "server.cohort=29", "server.retries=0", "server.timeout_s=120",
        "evaluation.every=8", "privacy=none"]  # fmt: skip
TWICE = 6  # the round whose reply is sent twice


def nan(content: RecordDict, asked: list[int]) -> None:
    """A norm that is no number."""
    content.metric_records["results"]["update_norm"] = [float("nan")] * len(asked)


def shape(content: RecordDict, asked: list[int]) -> None:
    """The sum of another model."""
    content["update"] = ArrayRecord({SUM: Array(np.zeros(7, np.int64))})


def others(content: RecordDict, asked: list[int]) -> None:
    """People of another node, who were not asked here."""
    users = [u for u in range(100) if u not in asked][: len(asked)]
    content.metric_records["results"]["user"] = users


def large(content: RecordDict, asked: list[int]) -> None:
    """A sum that no such updates have."""
    size = content.array_records["update"][SUM].shape
    content["update"] = ArrayRecord({SUM: Array(np.full(size, 2**55, np.int64))})


# Round -> what is done to the honest reply, and what the record of the failure says.
FORGED: dict[int, tuple[Callable[[RecordDict, list[int]], None], str]] = {
    2: (nan, "has an update of norm nan"),
    3: (shape, r"a sum of int64 \(7,\) instead of int64"),
    4: (others, "it is about other users"),
    7: (large, "a sum larger than the norms that it reports"),
}
REPLAYED = 5  # the round in which the reply of round 1 comes once more


class Forger:
    """What node 1 does with its replies; remembers whom it was asked about."""

    def __init__(self) -> None:
        self.first: RecordDict | None = None
        self.users: list[int] = []

    def __call__(self, asked: Message, reply: Message) -> Sequence[Message]:
        """See `rogue_node.Lie`."""
        work: Any = asked.content["config"]
        if asked.metadata.message_type != "train":
            return [reply]
        round, users = work["round"], list(work["users"])
        self.users = users
        if round == 1:
            self.first = isolated(reply.content)
        if round == REPLAYED:
            assert self.first is not None
            return [Message(isolated(self.first), reply_to=asked)]
        if round in FORGED:
            FORGED[round][0](reply.content, users)
        return [reply, reply] if round == TWICE else [reply]


@pytest.fixture
def superlink(config: Config, tmp_path: Path) -> Iterator[Deployment]:
    """A SuperLink that runs, and the shards of two nodes that do not."""
    set_identity()
    with running(tmp_path / "deployment", config, tls=False, remote=True) as deployment:
        yield deployment


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both nodes are threads here, and the ClientApp is made for a process each."""
    lock, real = threading.Lock(), rogue_node.app

    def guarded(message: Message, context: Any) -> Message:
        with lock:
            return real(message, context)

    monkeypatch.setattr(rogue_node, "app", guarded)


def expected(tiny: str, lost: set[int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run in which those users fail, by themselves, in the rounds that are forged."""

    def without(flat: Any, start: Any, users: list[int], *rest: Any) -> ChunkUpdate:
        round = rest[4]
        failing = lost if round in FORGED or round == REPLAYED else set()
        update = train_chunk(flat, start, [u for u in users if u not in failing], *rest)
        update.failures |= dict.fromkeys(set(users) & failing, "they fail here")
        return update

    monkeypatch.setattr(clients.app, "train_chunk", without)
    return simulate(load(tiny, KEYS), folder, quiet=True)


def test_nothing_of_a_forged_reply_is_used(
    superlink: Deployment,
    one_at_a_time: None,
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NaN, another shape, others' users, an earlier round, too large, and one reply twice."""
    engine = EngineOptions(name="deploy", address=str(superlink.folder))
    forger = Forger()
    with ExitStack() as stack:
        shards = [superlink.node_folder(number) for number in (0, 1)]
        honest = RogueNode(superlink.address, shards[0], lambda asked, reply: [reply])
        rogue = RogueNode(superlink.address, shards[1], forger)
        for node in (honest, rogue):
            stack.enter_context(node)
        run = simulate(replace(load(tiny, KEYS), engine=engine), tmp_path / "run", quiet=True)
    theirs = set(forger.users)
    assert theirs
    assert len(theirs) < 29
    failures = run.table("failures")
    said = {r: set(rows.reason) for r, rows in failures.groupby("round")}
    assert set(said) == {*FORGED, REPLAYED}, "the round that came twice counts once"
    for round, rows in failures.groupby("round"):
        assert set(rows.user) == theirs, round
    for round, (_, words) in FORGED.items():
        assert failures[failures["round"] == round].reason.str.contains(words).all(), said[round]
    (replay,) = said[REPLAYED]
    assert replay == f"the node sent a malformed reply: it is about round 1, not {REPLAYED}"
    clients_of = run.clients.groupby("round").user.apply(set)
    assert len(clients_of[TWICE]) == 29
    alone = expected(tiny, theirs, tmp_path / "alone", monkeypatch)
    assert run.digest == alone.digest
    assert not honest.refusals
