"""Robust strategies: Flower's own centres, a brute-force minimum, and what one liar can do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from federations import AdverseGrid, fresh_strategy, play
from flwr.app import Message
from flwr.serverapp import strategy as flower
from test_strategies_formulas import reply, theirs_of

import clients.app
from fedsim.config import load
from fedsim.engines.flower_compat import set_identity
from fedsim.errors import FedsimError
from fedsim.updates import UserResult
from server.strategies.geometric_median import weiszfeld
from server.strategies.robust import Robust, squared_distances
from server.strategies.trimmed_mean import fewest, trimmed
from server.strategy import FederatedStrategy

ROBUST = ["trimmed-mean", "median", "krum", "multi-krum", "geometric-median"]


def fresh(tiny: str, name: str, *keys: str) -> FederatedStrategy:
    """Before round 1, from a model of zeros."""
    cohort = [] if any(key.startswith("server.cohort") for key in keys) else ["server.cohort=10"]
    strategy, _, _ = fresh_strategy(load(tiny, [f"strategy={name}", *cohort, *keys]))
    strategy.state.parameters.flat[:] = 0
    return strategy


def know(
    monkeypatch: pytest.MonkeyPatch, strategy: FederatedStrategy, sequences: list[int]
) -> None:
    """The server knows that users 0, 1, ... have these."""
    sizes = np.array([[n, 10 * n] for n in sequences])
    monkeypatch.setattr(strategy.federation, "sizes", lambda users: sizes[users])


def step(
    strategy: FederatedStrategy, updates: list[np.ndarray], sequences: list[int]
) -> np.ndarray:
    """The global model's step where users 0, 1, ... send these."""
    set_identity()
    replies = [
        reply(user, update, n, 0.0)
        for user, (update, n) in enumerate(zip(updates, sequences, strict=True))
    ]
    before = strategy.state.parameters.flat
    strategy.aggregate_train(1, replies)
    return strategy.state.parameters.flat - before


def drawn(strategy: FederatedStrategy, users: int) -> list[np.ndarray]:
    """Updates that agree in a direction, each with its own noise."""
    size = len(strategy.state.parameters.flat)
    rng = np.random.default_rng(3)
    common = rng.normal(scale=0.05, size=size)
    spread = rng.uniform(0.02, 0.2, size=users)
    return [(common + s * rng.normal(size=size)).astype(np.float32) for s in spread]


# -- against Flower's -----------------------------------------------------------------------------


@pytest.mark.parametrize("users", [9, 10])
@pytest.mark.parametrize(
    ("name", "keys", "theirs"),
    [
        ("median", [], flower.FedMedian()),
        ("trimmed-mean", ["strategy.trimmed_share=0.25"], flower.FedTrimmedAvg(beta=0.25)),
        ("krum", ["strategy.malicious=2"], flower.Krum(num_malicious_nodes=2)),
        (
            "multi-krum",
            ["strategy.malicious=3", "strategy.kept=4"],
            flower.MultiKrum(num_malicious_nodes=3, num_nodes_to_select=4),
        ),
    ],
    ids=["median", "trimmed-mean", "krum", "multi-krum"],
)
def test_the_centre_is_flowers(
    name: str, keys: list[str], theirs: flower.FedAvg, users: int, tiny: str
) -> None:
    """Flower's Multi-Krum weighs the chosen by their number of examples, which a liar may choose;
    the paper and ours do not: equal numbers here."""
    strategy = fresh(tiny, name, *keys)
    updates = drawn(strategy, users)
    arrays, _ = theirs.aggregate_train(1, theirs_of(updates, {"num-examples": [5.0] * users}))
    assert arrays is not None
    expected = arrays["all"].numpy().copy()
    ours = step(strategy, updates, [5] * users)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(expected, np.mean(updates, axis=0), atol=1e-3)


def test_by_hand_on_three_to_five_users(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each coordinate alike: numbers on a line."""

    def of(name: str, numbers: list[float], *keys: str) -> float:
        strategy = fresh(tiny, name, f"server.cohort={len(numbers)}", *keys)
        ones = np.ones(len(strategy.state.parameters.flat), np.float32)
        sequences = [1, 2, 4, 8, 16][: len(numbers)]
        know(monkeypatch, strategy, sequences)
        found = step(strategy, [x * ones for x in numbers], sequences)
        assert np.ptp(found) < 1e-6
        return float(found[0])

    assert of("median", [0.5, -1.0, 0.25]) == 0.25
    assert of("median", [0.5, -1.0, 0.25, 1.0]) == 0.375
    assert of("trimmed-mean", [0.5, -9.0, 0.25, 8.0, 0.75]) == 0.5
    # f = 1 and n = 5: the two nearest. 0.25 has 0.0625 + 0.0625, the others more.
    assert of("krum", [0.0, 0.25, 0.5, 1.0, 8.0]) == 0.25
    # Scores by the two nearest: 0.25: 0.125; 0: 0.3125; 0.5: 0.3125; 1: 0.8125; 8: above 100.
    assert of("multi-krum", [0.0, 0.25, 0.5, 1.0, 8.0], "strategy.kept=3") == 0.25
    assert of("multi-krum", [0.0, 0.25, 0.5, 1.0, 8.0]) == 0.125  # n - f - 2 = 2: user 0 of equals
    # On a line the weighted median: 16 of 31 are at 0.75.
    assert of("geometric-median", [0.5, -9.0, 0.25, 8.0, 0.75]) == pytest.approx(0.75, abs=1e-4)


# -- the geometric median -------------------------------------------------------------------------


@pytest.mark.parametrize("users", [3, 4, 9])
def test_the_geometric_median_is_the_brute_force_minimum(users: int) -> None:
    rng = np.random.default_rng(users)
    points = rng.normal(size=(users, 3)).astype(np.float32)
    points[0] *= 50
    weights = rng.integers(1, 9, size=users).astype(np.float64)
    weights[0] = 0.3 * weights.sum()

    def objective(v: np.ndarray) -> float:
        return float(weights @ np.linalg.norm(points - v, axis=1))

    shares = weiszfeld(squared_distances(list(points)), weights, 2000, 1e-9)
    assert shares.sum() == pytest.approx(1)
    found = shares @ points
    best = min(
        (scipy.optimize.minimize(objective, p, method="Nelder-Mead",
                                 options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000})
         for p in [*points, found]),
        key=lambda result: float(result.fun),
    )  # fmt: skip
    assert objective(found) <= best.fun * (1 + 1e-6)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_the_geometric_median_weighs_users_by_the_sequences_that_the_server_knows(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A liar that claims half of all text would be the centre."""
    strategy = fresh(tiny, "geometric-median")
    know(monkeypatch, strategy, [5, 5, 5])
    size = len(strategy.state.parameters.flat)
    corners = [np.zeros(size, np.float32) for _ in range(3)]
    for i, corner in enumerate(corners):
        corner[i] = 1.0
    even = step(strategy, corners, [5, 5000, 5])
    np.testing.assert_allclose(even[:3], 1 / 3, rtol=1e-5)
    # A user with half of the weight or more is the median.
    another = fresh(tiny, "geometric-median")
    know(monkeypatch, another, [5, 10, 5])
    heavy = step(another, corners, [5, 5, 5])
    np.testing.assert_allclose(heavy[:3], [0, 1, 0], atol=0.02)


# -- one liar -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedavg", *ROBUST])
def test_one_update_of_loud_noise_moves_the_mean_and_no_robust_centre(name: str, tiny: str) -> None:
    honest, lied = fresh(tiny, name), fresh(tiny, name)
    updates = drawn(honest, 10)
    rng = np.random.default_rng(1)
    noise = 1e3 * np.linalg.norm(updates[4]) * rng.normal(size=len(updates[4]))
    noise /= np.sqrt(len(noise))
    forged = [*updates[:4], noise.astype(np.float32), *updates[5:]]
    sequences = [5] * 10
    moved = float(np.linalg.norm(step(honest, updates, sequences) - step(lied, forged, sequences)))
    largest = max(float(np.linalg.norm(u)) for u in updates)
    assert moved > 5 * largest if name == "fedavg" else moved < largest


def test_squared_distances_are_those_of_float64() -> None:
    rng = np.random.default_rng(0)
    rows = [(1 + 1e-2 * rng.normal(size=40_000)).astype(np.float32) for _ in range(4)]
    found = squared_distances(rows)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            exact = float(np.square(a.astype(np.float64) - b).sum())
            assert found[i, j] == pytest.approx(exact, rel=1e-7, abs=1e-7)


def test_the_median_of_private_updates_is_post_processing(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under DP-SGD a client's update is private by itself, whatever the server makes of them."""
    monkeypatch.setattr(clients.app.Workplace, "noise_key", lambda *_: bytes(32))
    private = ["privacy=dp-sgd", "privacy.noise_multiplier=0.5", "privacy.delta=1e-3",
               "privacy.steps=2"]  # fmt: skip
    robust, notes = play(load(tiny, ["strategy=median", *private]))
    plain, others = play(load(tiny, private))
    assert notes.outcomes[0].results == others.outcomes[0].results, "clients do the same"
    assert robust.state.parameters.digest() != plain.state.parameters.digest()


# -- what cannot be had ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["strategy=krum", "strategy.malicious=3"],
         "needs a cohort of at least 2f + 3 = 9; raise server.cohort = 7, or set "
         "strategy.malicious=2."),
        (["strategy=krum", "server.sampler=poisson"], "set server.sampler=fixed."),
        (["strategy=multi-krum", "strategy.kept=7"], "set it to at most 6."),
        (["strategy=trimmed-mean", "strategy.trimmed_share=0.1"], "set it to at least 0.143"),
        (["strategy=trimmed-mean", "server.sampler=poisson"], "set server.sampler=fixed."),
        (["strategy=trimmed-mean", "strategy.trimmed_share=0.5"], "strategy.trimmed_share = 0.5"),
        (["strategy=trimmed-mean", "server.cohort=2"], "nothing to trim"),
    ],
)  # fmt: skip
def test_settings_that_protect_nobody_are_refused(keys: list[str], said: str, tiny: str) -> None:
    with pytest.raises(FedsimError) as caught:
        load(tiny, keys)
    assert said in str(caught.value)


def test_a_round_of_krum_that_too_few_complete_stops_the_run(tiny: str) -> None:
    strategy = fresh(tiny, "krum", "strategy.malicious=2")
    updates, before = drawn(strategy, 6), strategy.state
    with pytest.raises(FedsimError, match=r"Only 6 users completed round 1, .* needs 7"):
        step(strategy, updates, [5] * 6)
    assert strategy.state is before


def test_a_round_that_leaves_nobody_to_trim_stops_the_run(tiny: str) -> None:
    """A fifth of four is nobody: the plain mean, which one liar moves anywhere."""
    strategy = fresh(tiny, "trimmed-mean", "server.cohort=5")
    updates, before = drawn(strategy, 4), strategy.state
    said = r"Only 4 users completed round 1, .*trimmed_share = 0\.2, to trim any, needs 5; resume"
    with pytest.raises(FedsimError, match=said):
        step(strategy, updates, [5] * 4)
    assert strategy.state is before


@pytest.mark.parametrize("hundredths", range(1, 50))
def test_the_trimmed_share_of_a_hundred_users_is_exact(hundredths: int) -> None:
    """In floats 0.29 * 100 is 28.999..."""
    share = hundredths / 100
    assert trimmed(share, 100) == hundredths
    assert trimmed(share, fewest(share)) == 1
    assert trimmed(share, fewest(share) - 1) == 0


def test_who_claims_more_sequences_than_it_has_is_left_out(tiny: str) -> None:
    """Its weight in the mean would be what it likes; the others' round is as without it."""
    _, notes = play(load(tiny, ["engine.chunk=1"]))
    liar = int(notes.outcomes[0].cohort[2])

    def lies(replies: list[Message]) -> list[Message]:
        for answer in replies:
            results = answer.content.metric_records.get("results", {})
            if results.get("user") == [liar]:
                results["sequences"] = [5000]
        return replies

    grid = AdverseGrid("clients.app:app", lies)
    _, told = play(load(tiny, ["engine.chunk=1"]), grid)
    (outcome,) = told.outcomes
    assert list(outcome.failures) == [liar]
    assert f"user {liar} claims 5000 sequences and has" in outcome.failures[liar]
    assert outcome.results == [r for r in notes.outcomes[0].results if r.user != liar]


def test_a_base_has_no_centre_of_its_own(tiny: str) -> None:
    strategy = fresh(tiny, "median")
    with pytest.raises(NotImplementedError):
        Robust.centre(strategy, [np.zeros(1, np.float32)], [UserResult(0, 1, 1, 0.0, 0.0)])  # type: ignore[arg-type]
