"""The federated round: sums, order, losses and failures; FedAvg against Flower's own."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import AdverseGrid, fresh_strategy, play
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from clients.training import local_sgd
from fedsim.config import Config, load
from fedsim.data.sequences import Sequences
from fedsim.engines.flower_compat import set_identity
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import from_record, to_record, users_in
from fedsim.errors import FedsimError
from fedsim.federation import Federation
from fedsim.models import build
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.parameters import Parameters
from fedsim.seeding import stream
from fedsim.simulation import simulate
from fedsim.updates import UserResult
from server.state import ServerState

APP = "clients.app:app"


def sent_users(config: Config, round: int = 1) -> list[int]:
    """A round's cohort in the order in which it is sent: most text first."""
    strategy, _, federation = fresh_strategy(config)
    cohort = strategy.cohort(round)
    tokens = federation.sizes(cohort)[:, 1]
    return cohort[np.argsort(-tokens, kind="stable")].tolist()


def single_updates(config: Config, users: list[int]) -> list[tuple[np.ndarray, UserResult]]:
    """What each user alone would contribute to round 1, not weighted."""
    strategy, _, federation = fresh_strategy(config)
    model = build(config.model.options, len(federation.corpus.vocabulary))
    cpu = torch.device("cpu")
    kernel, _ = resolve_kernel(config.engine.kernel, config.model.options, cpu)
    flat, out = flat_model(model, cpu, kernel), []
    start = torch.from_numpy(strategy.state.parameters.flat)
    for user in users:
        flat.values.copy_(start)
        order = stream(config.seed, "batches", 1, user)
        text = federation.sequences(user)
        delta, nats = local_sgd(flat, start, text, config.client, order)
        size = federation.sizes([user])[0].tolist()
        result = UserResult(user, *size, nats, flat.norm(delta))
        out.append((delta.numpy().copy(), result))
    return out


# -- the mean -------------------------------------------------------------------------------------


def test_a_round_of_fedavg_gives_the_model_of_flowers_fedavg(config: Config) -> None:
    strategy, _, _ = fresh_strategy(config)
    before = strategy.state.parameters
    cohort = [int(u) for u in strategy.cohort(1)]
    set_identity()
    replies = []
    for delta, result in single_updates(config, cohort):
        model = Parameters(before.layout, before.flat + delta)
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(np.array(a)) for name, a in model.items()}),
                "metrics": MetricRecord({"num-examples": result.sequences}),
            }
        )
        question = Message(RecordDict(), dst_node_id=2, message_type="train")
        replies.append(Message(content, reply_to=question))
    theirs, _ = flower.FedAvg().aggregate_train(1, replies)
    assert theirs is not None

    played, notes = play(config)
    for name, ours in played.state.parameters.items():
        np.testing.assert_allclose(ours, theirs[name].numpy(), rtol=1e-5, atol=1e-7)
    weights = [r.sequences for r in notes.outcomes[0].results]
    assert len(set(weights)) > 1, "equal weights would not show whether weights are used"


def test_the_round_reports_the_step_it_made(config: Config) -> None:
    strategy, _, _ = fresh_strategy(config)
    played, notes = play(config)
    step = played.state.parameters.flat.astype(np.float64) - strategy.state.parameters.flat
    (outcome,) = notes.outcomes
    assert outcome.update_norm == pytest.approx(float(np.linalg.norm(step)), rel=1e-9)
    assert [r.user for r in outcome.results] == outcome.cohort.tolist()
    expected = [result for _, result in single_updates(config, outcome.cohort.tolist())]
    assert outcome.results == expected


def test_a_round_of_fedsgd_is_fedavg_with_one_full_batch(tiny: str) -> None:
    avg = load(tiny, ["client.batch_size=500", "client.lr=0.5", "client.epochs=1",
                           "client.max_grad_norm=0"])  # fmt: skip
    sgd = load(tiny, ["strategy=fedsgd", "optimizer.lr=0.5"])
    ours, theirs = play(avg)[0].state, play(sgd)[0].state
    start = fresh_strategy(avg)[0].state.parameters.flat
    assert np.abs(ours.parameters.flat - start).max() > 1e-3
    np.testing.assert_allclose(ours.parameters.flat, theirs.parameters.flat, rtol=1e-5, atol=1e-7)


def test_the_size_of_chunks_changes_nothing(config: Config) -> None:
    digests = set()
    for chunk in (1, 2, 3, 7):
        engine = config.engine.model_copy(update={"chunk": chunk})
        digests.add(play(replace(config, engine=engine), rounds=2)[0].state.parameters.digest())
    assert len(digests) == 1


# -- order and loss of replies --------------------------------------------------------------------


def test_replies_out_of_order_give_the_same_bits(config: Config) -> None:
    expected, noted = play(config, rounds=3)
    rng = random.Random(7)

    def shuffled(replies: list[Message]) -> list[Message]:
        return rng.sample(replies, len(replies))

    for order in (shuffled, lambda replies: replies[::-1]):
        found, notes = play(config, AdverseGrid(APP, order), rounds=3)
        assert found.state.parameters.digest() == expected.state.parameters.digest()
        for ours, theirs in zip(notes.outcomes, noted.outcomes, strict=True):
            assert ours.results == theirs.results


def test_a_reply_that_comes_twice_counts_once(config: Config) -> None:
    expected, _ = play(config)
    found, _ = play(config, AdverseGrid(APP, lambda replies: [r for r in replies for _ in "ab"]))
    assert found.state.parameters.digest() == expected.state.parameters.digest()


def trained(reply: Message) -> bool:
    """Whether it answers a train message, not a query or an evaluation."""
    return reply.metadata.message_type == "train"


class Lossy:
    """Loses the first `times` replies to train messages that contain the user."""

    def __init__(self, user: int, times: int) -> None:
        self.user, self.times = user, times

    def __call__(self, replies: list[Message]) -> list[Message]:
        """What is delivered."""
        out = []
        for reply in replies:
            if trained(reply) and self.user in users_in(reply.content) and self.times:
                self.times -= 1
            else:
                out.append(reply)
        return out


def test_lost_replies_become_failed_users_and_the_mean_is_over_the_others(tiny: str) -> None:
    config = load(tiny, ["server.retries=0"])
    strategy, _, _ = fresh_strategy(config)
    cohort = strategy.cohort(1)
    lost = sent_users(config)[2:4]
    played, notes = play(config, AdverseGrid(APP, Lossy(lost[0], 1)), timeout=0.2)
    (outcome,) = notes.outcomes
    assert outcome.failures == dict.fromkeys(lost, "no reply within 0.2 s")
    assert notes.failures == {1: outcome.failures}
    there = [int(u) for u in cohort if u not in lost]
    assert [r.user for r in outcome.results] == there

    updates = single_updates(config, there)
    weights = [result.sequences for _, result in updates]
    mean = np.average([d.astype(np.float64) for d, _ in updates], axis=0, weights=weights)
    step = played.state.parameters.flat - strategy.state.parameters.flat
    np.testing.assert_allclose(step, mean, rtol=1e-3, atol=1e-7)
    assert played.state.participations.sum() == len(there)
    assert (played.state.participations[there] == 1).all()


def test_a_lost_reply_is_asked_for_again_and_the_bits_are_the_same(config: Config) -> None:
    expected, _ = play(config, rounds=2)
    victim = int(fresh_strategy(config)[0].cohort(1)[2])
    found, notes = play(config, AdverseGrid(APP, Lossy(victim, 1)), rounds=2, timeout=0.5)
    assert found.state.parameters.digest() == expected.state.parameters.digest()
    assert notes.failures == {}


def test_a_user_that_fails_keeps_its_chunk_mates_when_asked_again(config: Config) -> None:
    """The chunk is lost for good, but asked one by one only the culprit is."""
    cohort = fresh_strategy(config)[0].cohort(1)
    culprit = int(cohort[2])
    _, notes = play(config, AdverseGrid(APP, Lossy(culprit, 9)), timeout=0.5)
    assert set(notes.failures[1]) == {culprit}
    assert len(notes.outcomes[0].results) == len(cohort) - 1


def test_a_node_that_answers_about_other_users_is_not_believed(tiny: str) -> None:
    config = load(tiny, ["server.retries=0"])

    def swapped(replies: list[Message]) -> list[Message]:
        if len(replies) < 2 or not trained(replies[0]):
            return replies
        first, second, *rest = replies
        forged = Message(second.content, reply_to=first)
        forged.metadata.__dict__["_reply_to_message_id"] = first.metadata.reply_to_message_id
        return [forged, second, *rest]

    _, notes = play(config, AdverseGrid(APP, swapped))
    said = "the node sent a malformed reply: it is about other users"
    assert notes.failures == {1: dict.fromkeys(sent_users(config)[:2], said)}


def test_an_error_reply_fails_its_users_with_the_reason(tiny: str) -> None:
    config = load(tiny, ["server.retries=0"])
    errors = [Error(code=2, reason="Traceback\nValueError: no text\n"), Error(code=8)]

    def broken(replies: list[Message]) -> list[Message]:
        for reply, error in zip(replies, errors, strict=False):
            if trained(reply):
                reply.__dict__["_error"], reply.__dict__["_content"] = error, None
        return replies

    users = sent_users(config)
    _, notes = play(config, AdverseGrid(APP, broken))
    raised, silent = errors[0].reason, "the node replied with error code 8"
    assert notes.failures[1] == dict(zip(users[:4], [raised, raised, silent, silent], strict=True))


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("server.on_failure=abort", "1 of 7 clients of round 1 failed and server.on_failure"),
        ("server.min_completed=7", "Only 6 of 7 clients completed round 1, below"),
    ],
)
def test_the_policy_may_stop_the_run_at_a_failure(policy: str, says: str, tiny: str) -> None:
    config = load(tiny, [policy, "server.retries=0", "engine.chunk=1"])
    strategy, notes, _ = fresh_strategy(config)
    before = strategy.state
    grid = AdverseGrid(APP, Lossy(int(strategy.cohort(1)[0]), 1))
    with pytest.raises(FedsimError, match=says):
        strategy.start(grid, to_record(before.parameters), 1, timeout=0.2)
    assert strategy.state is before
    assert len(notes.failures[1]) == 1, "told before the run stops"


def test_a_small_poisson_cohort_is_not_a_failure(tiny: str) -> None:
    keys = ["server.sampler=poisson", "server.cohort=2", "server.min_completed=2"]
    config = load(tiny, [*keys, "server.on_failure=abort"])
    _, notes = play(config, rounds=4)
    assert min(len(o.cohort) for o in notes.outcomes) < 2


def test_when_nobody_completes_the_run_stops_with_the_reason(config: Config) -> None:
    strategy, notes, _ = fresh_strategy(config)
    before = strategy.state
    grid = AdverseGrid(APP, lambda replies: [r for r in replies if not trained(r)])
    with pytest.raises(FedsimError, match=r"All 7 clients of round 1 failed; .* no reply within"):
        strategy.start(grid, to_record(before.parameters), 1, timeout=0.1)
    assert strategy.state is before
    assert notes.outcomes == []


def test_an_evaluation_that_lacks_a_reply_is_an_error_and_not_a_smaller_average(
    config: Config,
) -> None:
    def lost_in_evaluation(replies: list[Message]) -> list[Message]:
        return [r for r in replies if r.metadata.message_type != "evaluate"]

    with pytest.raises(FedsimError, match=r"evaluation after round 1 failed for .* no reply"):
        play(config, AdverseGrid(APP, lost_in_evaluation), timeout=0.3)


def test_a_grid_without_nodes_is_waited_for_and_then_said(config: Config) -> None:
    server = config.server.model_copy(update={"timeout_s": 0.05})
    with pytest.raises(FedsimError, match="No node connected"):
        play(replace(config, server=server), LocalGrid(APP, nodes=0))


def test_a_client_that_raises_is_recorded_and_the_run_goes_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, _, _ = fresh_strategy(config)
    victim = int(strategy.cohort(2)[0])
    real = Federation.sequences

    def broken(self: Federation, user: int, part: str = "train") -> Sequences:
        if user == victim:
            raise OSError("the phone is in the river")
        return real(self, user, part)

    monkeypatch.setattr(Federation, "sequences", broken)
    run = simulate(config, tmp_path / "run", quiet=True)
    assert run.status["state"] == "finished"
    failures = run.table("failures")
    rounds_with_victim = [r for r in range(1, 5) if victim in strategy.cohort(r)]
    assert failures["round"].tolist() == rounds_with_victim
    assert set(failures.user) == {victim}
    assert set(failures.reason) == {"OSError: the phone is in the river"}
    failed = run.rounds.set_index("round").users_failed
    assert failed.to_dict() == {r: int(r in rounds_with_victim) for r in range(1, 5)}
    assert victim not in set(run.clients.user)
    log = (run.path / "run.log").read_text()
    assert f"user {victim} failed" in log
    assert "Traceback" in log


# -- the loop -------------------------------------------------------------------------------------


def test_evaluations_come_when_they_are_due(config: Config) -> None:
    evaluation = config.evaluation.model_copy(update={"every": 2})
    for rounds, due in ((1, [1]), (4, [2, 4]), (5, [2, 4, 5])):
        _, notes = play(replace(config, evaluation=evaluation), rounds=rounds)
        assert notes.evaluations == [(r, "validation") for r in due]


def test_a_start_from_a_state_goes_on_after_its_round(config: Config) -> None:
    whole, _ = play(config, rounds=3)
    half, _ = play(config, rounds=2)
    strategy, notes, _ = fresh_strategy(config)
    strategy.state = half.state
    strategy.start(LocalGrid(APP), to_record(half.state.parameters), 3, 60)
    assert [o.round for o in notes.outcomes] == [3]
    assert strategy.state.parameters.digest() == whole.state.parameters.digest()


def test_a_poisson_cohort_may_be_empty_and_the_round_passes(tiny: str) -> None:
    config = load(tiny, ["server.sampler=poisson", "server.cohort=1"])
    strategy, notes, _ = fresh_strategy(config)
    sizes = [len(strategy.cohort(r)) for r in range(1, 9)]
    assert 0 in sizes
    assert max(sizes) > 1
    first = strategy.state
    strategy.start(LocalGrid(APP), to_record(first.parameters), 8, 60)
    assert [len(o.results) for o in notes.outcomes] == sizes
    for before, after, size in zip([first, *notes.states], notes.states, sizes, strict=False):
        moved = before.parameters.digest() != after.parameters.digest()
        assert moved == (size > 0)


def test_the_average_of_iterates_is_a_plain_mean_first_and_then_decays() -> None:
    start = Parameters.from_arrays({"w": np.array([9.0])})
    state = ServerState(0, start, {}, start.copy(), np.zeros(3, np.int32))
    iterates, averages = [1.0, 2.0, 6.0, 7.0, 10.0, 4.0], []
    for value in iterates:
        parameters = Parameters.from_arrays({"w": np.array([value])})
        state = state.stepped(parameters, {}, {}, [1], decay=0.75)
        assert state.parameters.flat[0] == value
        averages.append(float(state.released.flat[0]))
    assert averages[:4] == pytest.approx([1.0, 1.5, 3.0, 4.0])  # means of the first ones
    assert averages[4:] == pytest.approx([0.75 * 4 + 0.25 * 10, 0.75 * 5.5 + 0.25 * 4])
    assert state.participations.tolist() == [0, 6, 0]
    assert state.round == 6


class ListeningGrid(LocalGrid):
    """The local engine, remembering which models it was sent for what."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push and note."""
        messages = list(messages)
        self.sent: dict[str, str] = getattr(self, "sent", {})
        for message in messages:
            if message.metadata.message_type == "query":
                continue
            model = from_record(message.content.array_records["arrays"])
            self.sent[message.metadata.message_type] = model.digest()
        return super().push_messages(messages)


def test_clients_train_the_iterate_but_the_average_is_evaluated(tiny: str) -> None:
    strategy, notes, _ = fresh_strategy(load(tiny, ["server.average=0.9"]))
    grid = ListeningGrid(APP)
    strategy.start(grid, to_record(strategy.state.parameters), 3, 60)
    assert grid.sent["train"] == notes.states[1].parameters.digest()
    assert grid.sent["evaluate"] == strategy.state.released.digest()
    assert strategy.state.released.digest() != strategy.state.parameters.digest()


def test_a_state_survives_its_arrays() -> None:
    start = Parameters.from_arrays({"b": np.array([1.0, 2.0]), "a": np.array([[3.0]])})
    state = ServerState(
        4, start, {"m": np.ones(3, np.float32)}, start.copy(), np.array([1, 0], np.int32)
    )
    back = ServerState.from_arrays(4, state.arrays(), start.layout)
    assert back.parameters.digest() == start.digest()
    assert back.average is not None
    assert back.average.digest() == start.digest()
    assert back.optimizer["m"].tolist() == [1, 1, 1]
    assert back.participations.tolist() == [1, 0]


def test_messages_carry_users_in_chunks_to_nodes_in_turn(config: Config) -> None:
    by_nodes = {}
    for nodes in (1, 3):
        strategy, _, _ = fresh_strategy(config)
        arrays = to_record(strategy.state.parameters)
        cohort = sent_users(config, 3)
        messages = strategy.configure_train(3, arrays, ConfigRecord(), LocalGrid(APP, nodes))
        users = [list(m.content["config"]["users"]) for m in messages]
        assert users == [cohort[0:2], cohort[2:4], cohort[4:6], cohort[6:7]]
        assert all(m.content["config"]["round"] == 3 for m in messages)
        assert all(m.content["arrays"] is arrays for m in messages)
        by_nodes[nodes] = [m.metadata.dst_node_id for m in messages]
    assert by_nodes == {1: [2, 2, 2, 2], 3: [2, 3, 4, 2]}
