"""Shards: nobody holds another's text, and a federation over shards is the whole one's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import Notes, fresh_strategy, play
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from fedsim.config import Config, from_dict, load
from fedsim.data.shards import SERVER, words_of_one_user, write_shards
from fedsim.data.store import Corpus, open_corpus
from fedsim.engines.flower_compat import FIRST_NODE, RUN_ID, isolated
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import to_record
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.simulation import check

APP = "clients.app:app"


@pytest.fixture
def shards(config: Config, tmp_path: Path) -> list[Path]:
    """The tiny corpus on three nodes."""
    return write_shards(open_corpus(config.data), tmp_path / "shards", 3)


# -- what is in a shard ---------------------------------------------------------------------------


def test_every_users_text_is_in_one_shard_and_nowhere_else(
    config: Config, shards: list[Path]
) -> None:
    whole, parts = open_corpus(config.data), [Corpus(shard) for shard in shards]
    hosted = np.array([part.hosted for part in parts])
    assert hosted.sum(axis=0).tolist() == [1] * whole.users
    assert hosted.sum(axis=1).min() > 0
    for part, mine in zip(parts, hosted, strict=True):
        assert part.digest == whole.digest
        assert part.vocabulary.words == whole.vocabulary.words
        for user in range(whole.users):
            for name in ("train", "heldout", "all"):
                there = part.sequences(user, name)
                expected = list(whole.sequences(user, name)) if mine[user] else []
                assert [s.tolist() for s in there] == [s.tolist() for s in expected]
            assert part.user_name(user) == (whole.user_name(user) if mine[user] else "")
        assert part.counts["words"] == sum(whole.words_per_user()[mine])


def test_the_servers_part_holds_no_sentence(config: Config, shards: list[Path]) -> None:
    folder = shards[0].with_name(SERVER)
    part, whole = Corpus(folder), open_corpus(config.data)
    assert not part.hosted.any()
    assert part.counts["words"] == part.counts["sentences"] == 0
    assert (folder / "names.bin").read_bytes() == b""
    assert part.digest == whole.digest
    assert [part.split(name) for name in ("train", "donors", "test")] == [
        whole.split(name) for name in ("train", "donors", "test")
    ]


def test_canary_users_live_where_the_donors_do(config: Config, shards: list[Path]) -> None:
    whole = open_federation(config)
    first, second = (open_federation(config, str(shard)) for shard in shards[:2])
    donors = whole.corpus.split("donors")
    assert first.corpus.hosted[donors.start : donors.stop].all()
    for user in range(whole.corpus.users, whole.users):
        assert first.sequences(user).tokens.tolist() == whole.sequences(user).tokens.tolist()
        with pytest.raises(FedsimError, match=f"User {user} is not hosted here"):
            second.sequences(user)
    assert first.planted.canaries == second.planted.canaries == whole.planted.canaries


def test_text_of_others_is_refused_and_not_taken_for_none(
    config: Config, shards: list[Path]
) -> None:
    federation = open_federation(config, str(shards[1]))
    stranger = int(np.flatnonzero(~federation.corpus.hosted)[0])
    with pytest.raises(FedsimError, match="is not hosted here"):
        federation.sequences(stranger)


def test_shards_are_not_cut_again_nor_written_over(
    config: Config, shards: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(FedsimError, match="is a shard itself"):
        write_shards(Corpus(shards[0]), tmp_path / "again", 2)
    with pytest.raises(FedsimError, match="exists; choose another folder"):
        write_shards(open_corpus(config.data), tmp_path / "shards", 2)
    with pytest.raises(FedsimError, match="30 users cannot be spread over 31 nodes"):
        write_shards(open_corpus(config.data), tmp_path / "many", 31)


def test_a_server_without_text_trains_but_has_no_baselines(
    config: Config, shards: list[Path]
) -> None:
    tree = {**config.as_dict(), "data": {"path": str(shards[0].with_name(SERVER))}}
    blind = from_dict(tree)
    check(blind)
    evaluation = blind.evaluation.model_copy(update={"trigram": True})
    with pytest.raises(FedsimError, match=r"evaluation\.trigram=false"):
        check(replace(blind, evaluation=evaluation))
    played, _ = play(blind, ShardGrid(shards))
    assert played.state.parameters.digest() == play(config)[0].state.parameters.digest()


def test_rare_words_in_the_vocabulary_are_counted_and_can_be_left_out(
    config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    people = [f"p{i},hello there my friend secret{i}" for i in range(30)]
    file.write_text("user,text\n" + "\n".join(people * 3))
    tree = {**config.as_dict(), "data": {"path": str(file), "min_words": 1}}
    whole = open_corpus(from_dict(tree).data)
    trained = {f"secret{i}" for i in range(30)} & set(whole.vocabulary.words)
    assert words_of_one_user(whole) == len(trained) > 15
    tree["data"]["word_users"] = 2
    careful = open_corpus(from_dict(tree).data)
    assert words_of_one_user(careful) == 0
    for shard in write_shards(careful, tmp_path / "careful", 2):
        assert "secret" not in (shard / "vocabulary.txt").read_text()


# -- a federation over shards ---------------------------------------------------------------------


class ShardGrid(LocalGrid):
    """The local engine with a node a shard; nodes may be away."""

    def __init__(self, shards: list[Path]) -> None:
        super().__init__(APP, len(shards))
        self.shards = shards
        self.away: set[int] = set()
        self.sent: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are not away."""
        return [n for n in super().get_node_ids() if n not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push and remember."""
        messages = list(messages)
        self.sent += messages
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Execute the first waiting message whose node is there, on its own shard."""
        for message_id in message_ids:
            message = self._inbox.get(message_id)
            if message is None or message.metadata.dst_node_id in self.away:
                continue
            del self._inbox[message_id]
            message.content = isolated(message.content)
            node = message.metadata.dst_node_id
            shard = {"shard": str(self.shards[node - FIRST_NODE])}
            try:
                context = Context(RUN_ID, node, shard, RecordDict(), {})
                return [self._app(message=message, context=context)]
            except Exception as error:
                return [Message(Error(code=2, reason=str(error)), reply_to=message)]
        return []

    def asked(self, kind: str) -> list[Message]:
        """The messages of a type that were sent."""
        return [m for m in self.sent if m.metadata.message_type == kind]


def test_a_federation_over_shards_has_the_bits_of_the_whole_one(
    config: Config, shards: list[Path]
) -> None:
    expected, noted = play(config, rounds=3)
    grid = ShardGrid(shards)
    found, notes = play(config, grid, rounds=3)
    assert found.state.parameters.digest() == expected.state.parameters.digest()
    for ours, theirs in zip(notes.outcomes, noted.outcomes, strict=True):
        assert ours.results == theirs.results
    assert len(grid.asked("query")) == 3, "each node is asked once what it hosts"
    rounds = [m.content["config"]["round"] for m in grid.asked("train")]
    nodes = [m.metadata.dst_node_id for m in grid.asked("train")]
    assert len(set(zip(rounds, nodes, strict=True))) == len(rounds), "one message a node and round"


class Returning(Notes):
    """Lets the missing node come back when the first round has failed for its users."""

    def __init__(self, grid: ShardGrid) -> None:
        super().__init__()
        self.grid = grid

    def clients_failed(self, round: int, cohort: np.ndarray, failures: dict[int, str]) -> None:
        """See `server.strategy.Listener`."""
        super().clients_failed(round, cohort, failures)
        self.grid.away.clear()


def test_users_of_a_node_that_is_away_fail_and_take_part_again_when_it_is_back(
    tiny: str, shards: list[Path]
) -> None:
    config = load(tiny, ["server.timeout_s=0.2", "server.retries=0", "evaluation.every=9"])
    strategy, _, _ = fresh_strategy(config)
    grid = ShardGrid(shards)
    grid.away.add(FIRST_NODE + 1)
    strategy.listener = notes = Returning(grid)
    strategy.start(grid, to_record(strategy.state.parameters), 2, 5)
    theirs = Corpus(shards[1]).hosted
    lost = {int(u) for u in strategy.cohort(1) if u < len(theirs) and theirs[u]}
    assert notes.failures == {1: dict.fromkeys(lost, "no connected node hosts this user")}
    assert lost
    assert len(notes.outcomes[1].results) == config.server.cohort


def test_a_node_that_leaves_with_a_message_is_noticed_before_the_timeout(
    tiny: str, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.exchange.LOOK_S", 0.1)
    config = load(tiny, ["server.retries=0", "evaluation.every=9"])
    strategy, notes, _ = fresh_strategy(config)
    grid = ShardGrid(shards)
    strategy.configure_train(1, to_record(strategy.state.parameters), ConfigRecord(), grid)
    messages = strategy.configure_train(
        1, to_record(strategy.state.parameters), ConfigRecord(), grid
    )
    grid.away.add(FIRST_NODE)
    replies = list(strategy.dispatch.replies(grid, messages, 3600))
    strategy.aggregate_train(1, replies)
    assert set(notes.failures[1].values()) == {"its node has disconnected"}


def test_a_node_with_another_corpus_is_refused(
    config: Config, tiny: str, shards: list[Path], tmp_path: Path
) -> None:
    other = replace(config, data=config.data.model_copy(update={"max_words": 4}))
    foreign = write_shards(open_corpus(other.data), tmp_path / "foreign", 3)
    with pytest.raises(FedsimError, match=r"Node 3 cannot take part: .* is not the server's"):
        play(config, ShardGrid([shards[0], foreign[1], shards[2]]))


def test_a_stray_node_is_told_once_and_left_out(
    config: Config, shards: list[Path], tmp_path: Path
) -> None:
    other = replace(config, data=config.data.model_copy(update={"max_words": 4}))
    foreign = write_shards(open_corpus(other.data), tmp_path / "foreign", 3)
    played, notes = play(config, ShardGrid([*shards, foreign[1]]), rounds=2)
    assert played.state.parameters.digest() == play(config, rounds=2)[0].state.parameters.digest()
    (notice,) = notes.notices
    assert notice.startswith("node 5 cannot take part: ")


class Mute(ShardGrid):
    """A node whose first answer is Flower's own 'node unavailable'."""

    muted = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The query to the first node fails once."""
        replies = list(super().pull_messages(message_ids))
        for i, reply in enumerate(replies):
            if reply.metadata.message_type == "query" and not self.muted:
                self.muted = 1
                question = next(m for m in self.sent if m.metadata.message_id
                                == reply.metadata.reply_to_message_id)  # fmt: skip
                replies[i] = Message(Error(code=5, reason="Node Unavailable"), reply_to=question)
        return replies


def test_a_node_that_dies_while_it_answers_is_waited_for(
    tiny: str, config: Config, shards: list[Path]
) -> None:
    grid = Mute(shards)
    played, _ = play(load(tiny, ["server.timeout_s=5"]), grid)
    assert grid.muted
    assert played.state.parameters.digest() == play(config)[0].state.parameters.digest()


def test_a_stray_node_does_not_end_a_run_that_waits_for_another(
    tiny: str, shards: list[Path], tmp_path: Path
) -> None:
    config = load(tiny, ["server.timeout_s=30", "evaluation.every=9"])
    other = config.data.model_copy(update={"max_words": 4})
    foreign = write_shards(open_corpus(other), tmp_path / "foreign", 3)
    grid = Blinking([*shards, foreign[1]])
    played, _ = play(config, grid, rounds=3)
    assert grid.looks > 3, "the first node was away, and was waited for"
    expected, _ = play(config, rounds=3)
    assert played.state.parameters.digest() == expected.state.parameters.digest()


class Blinking(ShardGrid):
    """The first node is away for three looks once the first round has been sent."""

    looks = 0

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, but for those three looks."""
        nodes = list(super().get_node_ids())
        if self.asked("train") and self.looks < 9:
            self.looks += 1
            return nodes[1:] if self.looks <= 3 else nodes
        return nodes


class Boasting(ShardGrid):
    """The second node says that it hosts everybody."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """What it hosts becomes all."""
        for reply in super().pull_messages(message_ids):
            hosted = reply.content.get("hosted") if reply.has_content() else None
            if hosted is not None and reply.metadata.src_node_id == FIRST_NODE + 1:
                hosted["flags"] = b"\xff" * len(hosted["flags"])
            yield reply


def test_a_node_that_claims_others_users_loses_nobody(
    tiny: str, config: Config, shards: list[Path]
) -> None:
    """Users that it does not have fail there, and are asked again where their text is."""
    grid = Boasting(shards)
    played, notes = play(load(tiny), grid, rounds=3)
    expected, _ = play(config, rounds=3)
    assert played.state.parameters.digest() == expected.state.parameters.digest()
    assert not notes.failures
    theirs = Corpus(shards[1]).hosted
    claimed = [
        u
        for m in grid.asked("train")
        for u in m.content["config"]["users"]
        if m.metadata.dst_node_id == FIRST_NODE + 1 and u < len(theirs) and not theirs[u]
    ]
    assert claimed, "it was believed at first"
    assert len(claimed) == len(set(claimed)), "and about each user once"
