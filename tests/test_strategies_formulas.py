"""Each strategy against its formula, on three users worked by hand, and against Flower's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from federations import fresh_strategy, play
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from clients.training import batches
from fedsim.config import load
from fedsim.engines.flower_compat import set_identity
from fedsim.engines.wire import encode_update
from fedsim.models import build
from fedsim.models.flat import FlatModel, flat_model
from fedsim.seeding import stream
from fedsim.updates import RESOLUTION, ChunkUpdate, UserResult
from server.strategy import FederatedStrategy

# Three users' sequences: with batches of 16 they make 1, 2 and 3 local steps.
SEQUENCES = (16, 32, 48)


def reply(user: int, update: np.ndarray, sequences: int, start_nats: float) -> Message:
    """What a client would send."""
    total = np.trunc(update * (sequences / RESOLUTION)).astype(np.int64)
    norm = float(np.linalg.norm(update.astype(np.float64)))
    result = UserResult(user, sequences, 100, 50.0, norm, start_nats)
    question = Message(RecordDict(), dst_node_id=2, message_type="train")
    return Message(encode_update(ChunkUpdate(total, [result])), reply_to=question)


def hear(
    strategy: FederatedStrategy, updates: list[Any], losses: tuple[float, ...] = (0, 0, 0)
) -> np.ndarray:
    """One round in which users 0, 1, 2 send these (numbers: all coordinates are alike); the step
    that the global model makes."""
    set_identity()
    before = strategy.state.parameters.flat
    ones = np.ones(len(before), np.float32)
    replies = [
        # A loss F is a training loss: nats a sequence over ten.
        reply(user, update * ones, n, F * 10 * n)
        for user, (update, n, F) in enumerate(zip(updates, SEQUENCES, losses, strict=True))
    ]
    strategy.aggregate_train(strategy.state.round + 1, replies[::-1])
    return strategy.state.parameters.flat - before


def fresh(tiny: str, *keys: str) -> FederatedStrategy:
    """Before round 1, from a model of zeros: nothing is lost in the difference of two models."""
    strategy, _, _ = fresh_strategy(load(tiny, list(keys)))
    strategy.state.parameters.flat[:] = 0
    return strategy


def assert_alike(step: np.ndarray, expected: float) -> None:
    """Every coordinate made the expected step."""
    np.testing.assert_allclose(step, expected, rtol=2e-6)


# -- by hand --------------------------------------------------------------------------------------

# Weights 1/6, 1/3, 1/2. First round: 1/24 - 1/6 + 1/2 = 3/8. Second: 1/6 + 1/6 - 1/8 = 5/24.
FIRST, SECOND = [0.25, -0.5, 1.0], [1.0, 0.5, -0.25]
MEANS = (3 / 8, 5 / 24)


def test_fedavg_and_fedprox_take_the_weighted_mean(tiny: str) -> None:
    for name in ("fedavg", "fedprox"):
        strategy = fresh(tiny, f"strategy={name}")
        assert_alike(hear(strategy, FIRST), 3 / 8)
        assert_alike(hear(strategy, SECOND), 5 / 24)


def test_fedavgm_rolls_on(tiny: str) -> None:
    strategy = fresh(tiny, "strategy=fedavgm", "optimizer.lr=0.5", "optimizer.momentum=0.8")
    assert_alike(hear(strategy, FIRST), 0.5 * 3 / 8)
    assert_alike(hear(strategy, SECOND), 0.5 * (0.8 * 3 / 8 + 5 / 24))


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
def test_the_adaptive_ones_follow_algorithm_2(name: str, tiny: str) -> None:
    adagrad = name == "fedadagrad"
    keys = ["optimizer.lr=0.1", "optimizer.tau=0.5", "optimizer.beta_1=0.5"]
    strategy = fresh(
        tiny, f"strategy={name}", *keys, *([] if adagrad else ["optimizer.beta_2=0.75"])
    )
    m, v = 0.0, 0.25  # v begins with tau^2
    for updates, mean in zip((FIRST, SECOND), MEANS, strict=True):
        m = 0.5 * m + 0.5 * mean
        square = mean * mean
        if adagrad:
            v = v + square
        elif name == "fedadam":
            v = 0.75 * v + 0.25 * square
        else:
            v = v - 0.25 * square * (1 if v > square else -1)
        assert_alike(hear(strategy, updates), 0.1 * m / (v**0.5 + 0.5))


def test_fednova_divides_by_the_steps_and_multiplies_by_their_mean(tiny: str) -> None:
    strategy = fresh(tiny, "strategy=fednova", "client.batch_size=16")
    # Steps 1, 2, 3: tau_eff = 1/6 + 2/3 + 3/2 = 7/3. Normalised updates 1/4, -1/4, 1/3, whose
    # weighted mean is 1/24 - 1/12 + 1/6 = 1/8.
    assert_alike(hear(strategy, FIRST), 7 / 3 * 1 / 8)
    # Two epochs: tau_eff = 14/3, normalised 1/8, -1/8, 1/6, mean 1/16: the same.
    strategy = fresh(tiny, "strategy=fednova", "client.batch_size=16", "client.epochs=2")
    assert_alike(hear(strategy, FIRST), 7 / 3 * 1 / 8)


def test_fednova_counts_the_steps_of_proximal_training_by_what_is_left_of_them(tiny: str) -> None:
    keys = ["client.batch_size=16", "client.lr=0.5", "client.proximal_mu=0.5"]
    strategy = fresh(tiny, "strategy=fednova", *keys)
    # |a| = 1, 1 + 3/4, 1 + 3/4 + 9/16 = 1, 7/4, 37/16.
    effective = 1 / 6 + 7 / 4 / 3 + 37 / 16 / 2
    normalised = 0.25 / 6 - 0.5 / (7 / 4) / 3 + 1.0 / (37 / 16) / 2
    assert_alike(hear(strategy, FIRST), effective * normalised)


def test_qfedavg_weighs_by_loss(tiny: str) -> None:
    strategy = fresh(tiny, "strategy=qfedavg", "strategy.q=1", "client.lr=0.5")
    size = len(strategy.state.parameters.flat)
    # L = 2, F = 1, 2, 4: the numerator is 2 (1/4 - 1 + 4) = 6.5; h = 4 |d|^2 + 2 F.
    squares = size * (1 / 16 + 1 / 4 + 1)
    assert_alike(hear(strategy, FIRST, (1, 2, 4)), 6.5 / (4 * squares + 14))
    # q = 2: F^2 = 1, 4, 16; numerator 2 (1/4 - 2 + 16), h = 2 F 4 |d|^2 + 2 F^2.
    strategy = fresh(tiny, "strategy=qfedavg", "strategy.q=2", "client.lr=0.5")
    squares = size * (1 / 16 + 2 * 1 / 4 + 4 * 1)
    assert_alike(hear(strategy, FIRST, (1, 2, 4)), 28.5 / (8 * squares + 42))
    # q = 0 is the plain mean over users.
    strategy = fresh(tiny, "strategy=qfedavg", "strategy.q=0")
    assert_alike(hear(strategy, FIRST, (1, 2, 4)), 0.25)


def test_scaffold_moves_its_control_variates(tiny: str) -> None:
    strategy = fresh(tiny, "strategy=scaffold", "client.batch_size=16", "client.lr=0.5")
    population = len(strategy.federation.population)
    correction = strategy.beside()
    assert correction is not None
    # All zero at first. Steps K = 1, 2, 3 of 0.5: c_i+ = -d_i / (K lr) = -1/2, 1/2, -2/3.
    assert_alike(hear(strategy, FIRST), 0.25)
    c = (-2 / 3) / population
    assert_alike(strategy.state.strategy["c"], c)
    for user, own in enumerate((-1 / 2, 1 / 2, -2 / 3)):
        (record,) = correction(user).values()
        assert_alike(record["correction"].numpy(), c - own)
    # Second round: c_i+ - c_i = -c - d_i / (K lr): in all -3 c - (2 + 1/2 - 1/6).
    assert_alike(hear(strategy, SECOND), 1.25 / 3)
    assert_alike(strategy.state.strategy["c"], c + (-3 * c - 7 / 3) / population)
    (record,) = correction(0).values()
    assert_alike(record["correction"].numpy(), strategy.state.strategy["c"][0] - (-1 / 2 - c - 2))


def test_scaffold_takes_the_global_step_of_its_server_optimizer(tiny: str) -> None:
    assert_alike(hear(fresh(tiny, "strategy=scaffold", "optimizer.lr=2.0"), FIRST), 0.5)


# -- whole local training, by other means ---------------------------------------------------------


def model_of(strategy: FederatedStrategy, kernel: str) -> FlatModel:
    """The model of a run, to train by hand."""
    corpus, cpu = strategy.federation.corpus, torch.device("cpu")
    model = build(strategy.config.model.options, len(corpus.vocabulary), cpu)
    return flat_model(model, cpu, kernel)


def gradients(strategy: FederatedStrategy, flat: FlatModel, round: int, user: int) -> Any:
    """For each local step of a user the gradient where the model is by then, clipped."""
    client, text = strategy.config.client, strategy.federation.sequences(user)
    flat.model.train()
    order = stream(strategy.config.seed, "batches", round, user)
    for _ in range(client.epochs):
        for batch in batches(text, client.batch_size, flat.device, order.permutation(len(text))):
            flat.gradients.zero_()
            flat.add_gradient(batch)
            norm = float(flat.gradients.norm())
            yield flat.gradients * min(1.0, client.max_grad_norm / norm)


@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_scaffold_is_that_of_clients_which_keep_their_own_state(kernel: str, tiny: str) -> None:
    """Algorithm 1 as it stands, option II, with clients that remember c_i."""
    keys = ["strategy=scaffold", "client.batch_size=4", "server.cohort=15", "client.lr=0.5"]
    config = load(tiny, [*keys, "client.epochs=2", f"engine.kernel={kernel}", "optimizer.lr=0.8"])
    strategy, _, federation = fresh_strategy(config)
    flat = model_of(strategy, kernel)
    x = torch.from_numpy(strategy.state.parameters.flat).double()
    c, c_of = torch.zeros_like(x), {}
    for round in (1, 2, 3):
        dy, dc = torch.zeros_like(x), torch.zeros_like(x)
        cohort = strategy.cohort(round).tolist()
        for user in cohort:
            c_i = c_of.get(user, torch.zeros_like(x))
            flat.values.copy_(x)
            steps = 0
            for gradient in gradients(strategy, flat, round, user):
                flat.values.sub_(0.5 * (gradient - c_i + c).float())
                steps += 1
            y = flat.values.double()
            c_of[user] = c_i - c + (x - y) / (steps * 0.5)
            dy, dc = dy + (y - x), dc + (c_of[user] - c_i)
        x = x + 0.8 * dy / len(cohort)
        c = c + dc / len(federation.population)
    assert len(c_of) < 3 * 15, "nobody came again"
    played, _ = play(config, rounds=3)
    np.testing.assert_allclose(played.state.parameters.flat, x, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(played.state.strategy["c"], c, rtol=1e-3, atol=2e-6)
    other, _ = play(load(tiny, ["client.batch_size=4", "server.cohort=15", "client.lr=0.5",
                                "client.epochs=2", "optimizer.lr=0.8"]), rounds=3)  # fmt: skip
    assert np.abs(other.state.parameters.flat - x.numpy()).max() > 1e-2


def test_fedprox_pulls_every_step_back(tiny: str) -> None:
    config = load(tiny, ["strategy=fedprox", "client.proximal_mu=0.7", "client.batch_size=4",
                              "server.cohort=3", "client.lr=0.5"])  # fmt: skip
    strategy, _, _ = fresh_strategy(config)
    flat = model_of(strategy, "torch")
    start = torch.from_numpy(strategy.state.parameters.flat)
    total, weight = torch.zeros(len(start), dtype=torch.float64), 0
    for user in strategy.cohort(1).tolist():
        flat.values.copy_(start)
        for gradient in gradients(strategy, flat, 1, user):
            flat.values.sub_(0.5 * (gradient + 0.7 * (flat.values - start)))
        n = len(strategy.federation.sequences(user))
        total, weight = total + n * (flat.values - start).double(), weight + n
    played, _ = play(config)
    expected = start + total / weight
    np.testing.assert_allclose(played.state.parameters.flat, expected, rtol=1e-4, atol=1e-6)


def test_qfedavg_asks_for_the_loss_of_the_model_that_it_sends(tiny: str) -> None:
    config = load(tiny, ["strategy=qfedavg"])
    strategy, _, federation = fresh_strategy(config)
    flat = model_of(strategy, "torch")
    flat.values.copy_(torch.from_numpy(strategy.state.parameters.flat))
    _, notes = play(config)
    for result in notes.outcomes[0].results:
        text = federation.sequences(result.user)
        (batch,) = batches(text, len(text), flat.device, np.arange(len(text)))
        assert result.start_nats == pytest.approx(flat.add_gradient(batch), rel=1e-5)
    _, plain = play(load(tiny))
    assert {r.start_nats for r in plain.outcomes[0].results} == {0.0}


# -- against Flower's -----------------------------------------------------------------------------


def theirs_of(updates: list[np.ndarray], metrics: dict[str, list[float]]) -> list[Message]:
    """What Flower's strategies expect: models (of a global one of zeros), and numbers a user."""
    set_identity()
    out = []
    for i, update in enumerate(updates):
        said = {name: values[i] for name, values in metrics.items()}
        arrays = ArrayRecord({"all": Array(update.astype(np.float32))})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(said)})
        question = Message(RecordDict(), dst_node_id=2, message_type="train")
        out.append(Message(content, reply_to=question))
    return out


def drawn(strategy: FederatedStrategy, round: int = 1) -> list[np.ndarray]:
    """Updates of three users."""
    size = len(strategy.state.parameters.flat)
    rng = np.random.default_rng(round)
    return [rng.normal(scale=0.1, size=size).astype(np.float32) for _ in range(3)]


# Flower's FedAvgM, FedAdam, FedYogi and FedAdagrad are compared in test_optimizers.py over four
# rounds; where they differ from the papers is said there.
PAIRS = {
    "fedavg": ([], flower.FedAvg()),
    "fedavgm": (
        ["optimizer.lr=0.5"],
        flower.FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
    ),
    "fedadagrad": (
        ["optimizer.lr=0.1", "optimizer.tau=0.01"],
        flower.FedAdagrad(eta=0.1, tau=0.01),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_round_is_that_of_flowers_strategy(name: str, tiny: str) -> None:
    keys, theirs = PAIRS[name]
    strategy = fresh(tiny, f"strategy={name}", *keys)
    size, updates = len(strategy.state.parameters.flat), drawn(strategy)
    if isinstance(theirs, flower.FedAvgM):
        theirs.current_arrays = ArrayRecord({"all": Array(np.zeros(size, np.float32))})
    if isinstance(theirs, flower.FedAdagrad):  # their v begins at zero, the paper's at tau^2
        theirs.current_arrays = {"all": np.zeros(size, np.float32)}
        theirs.v_t = {"all": np.full(size, 0.01**2, np.float32)}
    arrays, _ = theirs.aggregate_train(1, theirs_of(updates, {"num-examples": list(SEQUENCES)}))
    assert arrays is not None
    ours = hear(strategy, updates)
    np.testing.assert_allclose(ours, arrays["all"].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("q", [0.1, 1.0, 3.0])
def test_qfedavg_is_flowers(q: float, tiny: str) -> None:
    """Flower adds 1e-10 to a loss."""
    strategy = fresh(tiny, "strategy=qfedavg", f"strategy.q={q}", "client.lr=0.5")
    updates, losses = drawn(strategy), (0.7, 2.5, 4.0)
    theirs = flower.QFedAvg(client_learning_rate=0.5, q=q)
    size = len(strategy.state.parameters.flat)
    theirs.current_arrays = ArrayRecord({"all": Array(np.zeros(size, np.float32))})
    replies = theirs_of(updates, {"num-examples": [1, 1, 1], "train_loss": list(losses)})
    arrays, _ = theirs.aggregate_train(1, replies)
    assert arrays is not None
    ours = hear(strategy, updates, losses)
    np.testing.assert_allclose(ours, arrays["all"].numpy(), rtol=1e-4, atol=1e-8)
