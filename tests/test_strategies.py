"""Every strategy of the registry: the same bits on all engines, in any order, after any stop."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import AdverseGrid, assert_same_record, fresh_strategy, play
from flwr.app import ConfigRecord, Message
from test_runs import interrupt, interrupted_run
from test_shards import ShardGrid

from clients import app as client_app
from fedsim.cli.dry_run import estimate
from fedsim.config import Config, load
from fedsim.data.shards import write_shards
from fedsim.data.store import open_corpus
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import CORRECTION, to_record, users_in
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate
from server.client_vectors import FOLDER, ClientVectors
from server.strategies import STRATEGIES

APP = "clients.app:app"
ALL = list(STRATEGIES)
ONE_BY_ONE = [name for name in ALL if STRATEGIES[name].one_reply_per_user]


def of(tiny: str, name: str, *overrides: str) -> Config:
    """The tiny federation under a strategy with the options that it has by default. Large cohorts,
    so that users come again; small batches, so that users make more or fewer steps."""
    keys = [f"strategy={name}", "server.cohort=15", "server.rounds=3", "canaries.per_cell=0"]
    if "client.batch_size" not in STRATEGIES[name].without_effect:
        keys.append("client.batch_size=4")
    return load(tiny, [*keys, *overrides])


@pytest.fixture(scope="module")
def whole(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """An unbroken run of each strategy."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: simulate(of(tiny, name), folder / name, quiet=True) for name in ALL}


def test_no_two_strategies_make_the_same_model(whole: dict[str, Run]) -> None:
    """And none the model it began with: what tests below compare is not nothing."""
    assert len({run.digest for run in whole.values()}) == len(ALL)
    assert all(run.rounds.update_norm.min() > 0 for run in whole.values())


@pytest.mark.parametrize("name", ALL)
def test_replies_in_any_order_and_chunks_of_any_size_give_the_same_bits(
    name: str, tiny: str, whole: dict[str, Run]
) -> None:
    rng = random.Random(7)
    grid = AdverseGrid(APP, lambda replies: rng.sample(replies, len(replies)))
    chunk = [] if name in ONE_BY_ONE else ["engine.chunk=1"]  # the preset has 2
    found, _ = play(of(tiny, name, *chunk), grid, rounds=3)
    assert found.state.released.digest() == whole[name].digest


@pytest.mark.parametrize("name", ALL)
def test_a_run_that_was_stopped_twice_resumes_to_the_unbroken_record(
    name: str,
    tiny: str,
    whole: dict[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, messages = of(tiny, name), 15 if name in ONE_BY_ONE else 8
    at = messages + messages // 2  # in the second round
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", at)
    with monkeypatch.context() as patch:
        interrupt(patch, client_app, "train_chunk", at)
        with pytest.raises(KeyboardInterrupt):
            resume(run.path, quiet=True)
    assert run.status["round"] == 2
    assert_same_record(resume(run.path, quiet=True), whole[name])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_the_pool_gives_the_bits_of_the_local_engine(
    name: str, workers: int, tiny: str, whole: dict[str, Run], tmp_path: Path
) -> None:
    config = replace(of(tiny, name), engine=EngineOptions(name="pool", workers=workers))
    assert_same_record(simulate(config, tmp_path / "run", quiet=True), whole[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scaffold", "qfedavg", "median"])
def test_ray_gives_the_bits_of_the_local_engine(
    name: str, tiny: str, whole: dict[str, Run], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    config = replace(of(tiny, name), engine=EngineOptions(name="ray", workers=2))
    assert_same_record(simulate(config, tmp_path / "run", quiet=True), whole[name])


# -- a user a message -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_nodes_with_shards_get_a_message_a_user_in_turn(
    name: str, tiny: str, whole: dict[str, Run], tmp_path: Path
) -> None:
    config = of(tiny, name)
    shards = write_shards(open_corpus(config.data), tmp_path / "shards", 3)
    grid = ShardGrid(shards)
    found, _ = play(config, grid, rounds=3)
    assert found.state.released.digest() == whole[name].digest
    trained = [m for m in grid.sent if m.metadata.message_type == "train"]
    assert len(trained) == 3 * 15
    assert all(len(m.content["config"]["users"]) == 1 for m in trained)
    first = [m.metadata.dst_node_id for m in trained[:3]]
    assert len(set(first)) == 3, "all nodes are at work from the beginning"


class Losing(LocalGrid):
    """Loses every third reply to a train message, once a user."""

    def __init__(self) -> None:
        super().__init__(APP)
        self.count, self.carried = 0, 0
        self.open, self.most_open = 0, 0

    def push_messages(self, messages: Any) -> Any:
        """Count what is under way, and what carries a correction."""
        messages = list(messages)
        for message in messages:
            if message.metadata.message_type == "train":
                self.open += 1
                self.carried += CORRECTION in message.content
        self.most_open = max(self.most_open, self.open)
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Any) -> list[Message]:
        """The reply, or an error in its place."""
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            if reply.metadata.message_type == "train":
                self.open -= 1
                self.count += 1
                if self.count % 3 == 0 and self.count < 15:
                    users = users_in(reply.content)
                    for record in ("update", "results"):
                        del reply.content[record]
                    reply.content["failures"] = ConfigRecord(
                        {"users": users, "reasons": ["lost"] * len(users)}
                    )
        return replies


def test_a_user_that_is_asked_again_gets_its_correction_again(
    tiny: str, whole: dict[str, Run]
) -> None:
    grid = Losing()
    found, notes = play(of(tiny, "scaffold"), grid, rounds=3)
    assert found.state.released.digest() == whole["scaffold"].digest
    assert notes.failures == {}
    assert grid.carried == grid.count == 3 * 15 + 4
    assert grid.most_open == 2, "corrections of a whole cohort are never there at once"


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "geometric-median", "fednova",
                                  "qfedavg", "scaffold"])  # fmt: skip
def test_the_round_goes_on_with_those_who_completed(name: str, tiny: str) -> None:
    config = of(tiny, name, "server.retries=0")
    cohort = fresh_strategy(config)[0].cohort(1).tolist()

    def lossy(replies: list[Message]) -> list[Message]:
        return [r for r in replies if set(users_in(r.content)).isdisjoint(cohort[:4])]

    played, notes = play(config, AdverseGrid(APP, lossy), timeout=0.3)
    (outcome,) = notes.outcomes
    assert sorted(outcome.failures) == cohort[:4]
    assert [r.user for r in outcome.results] == cohort[4:]
    assert outcome.update_norm > 0
    assert played.state.participations[cohort[:4]].sum() == 0


# -- what SCAFFOLD keeps --------------------------------------------------------------------------


def test_scaffold_keeps_what_a_checkpoint_may_need_and_nothing_when_it_is_done(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("server.rounds=7", "server.cohort=20")
    config = of(tiny, "scaffold", *keys)  # a checkpoint every second round, two are kept
    complete = simulate(config, tmp_path / "whole", quiet=True)
    assert not (complete.path / FOLDER).exists()
    at = 6 * 20 + 10  # in round 7: the checkpoints of rounds 4 and 6
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", at)
    rounds: dict[int, list[int]] = {}
    for path in (run.path / FOLDER).glob("*.npy"):
        user, round = (int(part.split("-")[1]) for part in path.stem.split("."))
        rounds.setdefault(user, []).append(round)
    drawn = fresh_strategy(config)[0]
    for user, kept in rounds.items():
        took_part = [r for r in range(1, 7) if user in drawn.cohort(r)]
        expected = {max((r for r in took_part if r <= at), default=0) for at in (4, 6)} - {0}
        assert {r for r in kept if r <= 6} == expected
    assert max(len(kept) for kept in rounds.values()) > 1
    # The newest checkpoint is damaged: the run goes back to the one before it.
    newest = max((run.path / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(b"damaged")
    assert_same_record(resume(run.path, quiet=True), complete)


def test_a_vector_that_is_gone_is_said(tiny: str, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    config = of(tiny, "scaffold", "server.cohort=20")
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 21)
    for path in (run.path / FOLDER).glob("*.npy"):
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FedsimError, match=r"user-\d+\.round-1\.npy is missing or damaged"):
        resume(run.path, quiet=True)


def test_vectors_in_memory_and_in_files_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    values = np.arange(3, dtype=np.float32)
    for vectors in (ClientVectors(tmp_path, 3), ClientVectors(None, 3)):
        assert vectors.get(5, 0).tolist() == [0, 0, 0]
        for round in (1, 2, 4):
            vectors.put(5, round, values + round)
        vectors.forget_after(2)
        assert vectors.get(5, 2).tolist() == [2, 3, 4]
        vectors.forget_unneeded(2)  # no checkpoint: only the state of round 2
        assert vectors._there() == [(5, 2)]
        vectors.forget_all()
        assert vectors._there() == []
    assert not (tmp_path / FOLDER).exists()


def test_scaffold_says_what_it_costs(tiny: str, whole: dict[str, Run]) -> None:
    config = of(tiny, "scaffold")
    _, _, federation = fresh_strategy(config)
    plan = estimate(config, federation)
    model = 4 * plan["parameters"]
    assert plan["download_bytes_per_client"] == 2 * model
    assert plan["upload_bytes_per_client"] == model
    users = len(federation.population)
    assert plan["disk_bytes_for_the_strategy"] == model * (users + 15 * 2)
    rounds = whole["scaffold"].rounds
    assert (rounds.download_bytes == 2 * rounds.upload_bytes).all()
    assert "disk_bytes_for_the_strategy" not in estimate(of(tiny, "fedavg"), federation)


def test_messages_without_a_correction_carry_none(tiny: str) -> None:
    strategy, _, _ = fresh_strategy(of(tiny, "median"))
    arrays = to_record(strategy.state.parameters)
    messages = strategy.configure_train(1, arrays, ConfigRecord(), LocalGrid(APP))
    assert {frozenset(m.content) for m in messages} == {frozenset({"arrays", "config"})}
