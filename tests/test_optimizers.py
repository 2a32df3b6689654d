"""Server optimizers: the papers' formulas by hand, Flower's strategies, and purity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fedsim.engines.flower_compat import set_identity
from server.optimizers import OPTIMIZERS, ServerOptimizer

UPDATES = [0.5, -0.25, 2.0, 0.0, -1.0]


def make(name: str, **options: float | bool) -> ServerOptimizer:
    """An optimizer by its registered name."""
    kind = OPTIMIZERS[name]
    return kind(kind.Options(**options))


def path(optimizer: ServerOptimizer, updates: list[float], start: float = 1.0) -> list[float]:
    """The value of one parameter after each update."""
    values, out = np.array([start], np.float32), []
    state = optimizer.initial_state(1)
    for update in updates:
        values, state = optimizer.step(values, np.array([update], np.float32), state)
        out.append(float(values[0]))
    return out


def by_hand(name: str, updates: list[float], w: float = 1.0) -> list[float]:
    """Reddi et al. 2021, algorithm 2, and Hsu et al. 2019, in plain Python floats."""
    lr, beta_1, beta_2, tau = 0.1, 0.9, 0.8, 0.05
    m, v, out = 0.0, tau**2, []
    for update in updates:
        if name == "sgd":
            w += lr * update
        elif name in ("momentum", "nesterov"):
            m = beta_1 * m + update
            w += lr * (update + beta_1 * m if name == "nesterov" else m)
        else:
            m = beta_1 * m + (1 - beta_1) * update
            if name == "adam":
                v = beta_2 * v + (1 - beta_2) * update**2
            elif name == "yogi":
                sign = (v > update**2) - (v < update**2)
                v -= (1 - beta_2) * update**2 * sign
            else:
                v += update**2
            w += lr * m / (math.sqrt(v) + tau)
        out.append(w)
    return out


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("sgd", make("sgd", lr=0.1)),
        ("momentum", make("momentum", lr=0.1, momentum=0.9)),
        ("nesterov", make("momentum", lr=0.1, momentum=0.9, nesterov=True)),
        ("adam", make("adam", lr=0.1, beta_1=0.9, beta_2=0.8, tau=0.05)),
        ("yogi", make("yogi", lr=0.1, beta_1=0.9, beta_2=0.8, tau=0.05)),
        ("adagrad", make("adagrad", lr=0.1, beta_1=0.9, tau=0.05)),
    ],
)
def test_steps_follow_the_papers(name: str, optimizer: ServerOptimizer) -> None:
    np.testing.assert_allclose(path(optimizer, UPDATES), by_hand(name, UPDATES), rtol=2e-6)


def test_all_registered_optimizers_are_among_those() -> None:
    assert sorted(OPTIMIZERS) == ["adagrad", "adam", "momentum", "sgd", "yogi"]


# -- against Flower's own -------------------------------------------------------------------------

START = {"w": np.array([[0.5, -1.0], [2.0, 0.25]], np.float32), "b": np.array([0.125], np.float32)}


def client_models(round: int) -> list[tuple[dict[str, np.ndarray], int]]:
    """(change of the parameters, number of examples) of three clients."""
    rng = np.random.default_rng(round)
    changes = [{k: rng.normal(size=v.shape).astype(np.float32) for k, v in START.items()}
               for _ in range(3)]  # fmt: skip
    return list(zip(changes, (3, 10, 7), strict=True))


def replies(current: dict[str, np.ndarray], round: int) -> list[Message]:
    """What Flower's strategies expect of clients: whole models and `num-examples`."""
    set_identity()
    out = []
    for change, examples in client_models(round):
        question = Message(RecordDict(), dst_node_id=2, message_type="train")
        content = RecordDict(
            {
                "arrays": ArrayRecord({k: Array(current[k] + change[k]) for k in current}),
                "metrics": MetricRecord({"num-examples": examples}),
            }
        )
        out.append(Message(content, reply_to=question))
    return out


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """All arrays in one row."""
    return np.concatenate([np.ravel(a) for a in arrays.values()])


ADAPTIVE = {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.01}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (make("sgd", lr=1.0), flower.FedAvg()),
        (
            make("momentum", lr=0.5, momentum=0.9),
            flower.FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
        ),
        (make("adam", lr=0.1, tau=0.01), flower.FedAdam(**ADAPTIVE)),
        (make("yogi", lr=0.1, tau=0.01), flower.FedYogi(**ADAPTIVE)),
        (make("adagrad", lr=0.1, tau=0.01), flower.FedAdagrad(eta=0.1, tau=0.01)),
    ],
    ids=["sgd", "momentum", "adam", "yogi", "adagrad"],
)
def test_four_rounds_agree_with_flower(ours: ServerOptimizer, theirs: flower.FedAvg) -> None:
    """Where Flower differs from the paper, the difference is undone here: its v starts at zero
    (the paper: at least tau^2), and its FedAdam corrects the bias of the learning rate with the
    factor of the *next* round (the paper's algorithm 2 corrects nothing)."""
    adaptive = isinstance(theirs, flower.FedAdam | flower.FedYogi | flower.FedAdagrad)
    if adaptive:
        theirs.v_t = {k: np.full_like(v, 0.01**2) for k, v in START.items()}
    current, state = START, ours.initial_state(5)
    for round in range(1, 5):
        if adaptive:
            theirs.current_arrays = current
        elif isinstance(theirs, flower.FedAvgM):
            theirs.current_arrays = ArrayRecord({k: Array(v) for k, v in current.items()})
        record, _ = theirs.aggregate_train(round, replies(current, round))
        assert record is not None
        next_theirs = flat({k: record[k].numpy() for k in START})

        clients = client_models(round)
        weight = sum(n for _, n in clients)
        mean = sum(n / weight * flat(change).astype(np.float64) for change, n in clients)
        values, state = ours.step(flat(current), mean.astype(np.float32), state)
        step = values.astype(np.float64) - flat(current)
        if isinstance(theirs, flower.FedAdam):
            step *= np.sqrt(1 - 0.99 ** (round + 1)) / (1 - 0.9 ** (round + 1))
        np.testing.assert_allclose(flat(current) + step, next_theirs, rtol=1e-5, atol=1e-6)

        # Both go on from our values, so that only one step's rounding can differ.
        parts = np.split(values, [4])
        current = {"w": parts[0].reshape(2, 2), "b": parts[1]}


# -- purity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_step_leaves_its_arguments_as_they_were_and_stays_in_float32(name: str) -> None:
    optimizer = make(name)
    rng = np.random.default_rng(0)
    values, update = (rng.normal(size=6).astype(np.float32) for _ in range(2))
    state = optimizer.initial_state(6)
    before = [values.copy(), update.copy(), {k: v.copy() for k, v in state.items()}]
    new, new_state = optimizer.step(values, update, state)
    again, again_state = optimizer.step(values, update, state)
    assert np.array_equal(values, before[0])
    assert np.array_equal(update, before[1])
    for name_, array in before[2].items():
        assert np.array_equal(state[name_], array)
    assert new.dtype == np.float32
    assert np.array_equal(new, again)
    assert set(new_state) == set(state)
    for name_, array in new_state.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again_state[name_])
    assert (np.sign(new - values) == np.sign(update)).all(), "the update is followed, not fled"
