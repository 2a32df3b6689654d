"""Mechanisms in the federated round: what one user can do, what the noise is, what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import fresh_strategy, play
from torch import Tensor

import clients.app
import clients.training
from fedsim.config import Config, from_dict, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy import noise_keys
from fedsim.privacy.base import Setting
from fedsim.privacy.claims import rounded_up
from fedsim.privacy.contributions import grid_of
from fedsim.privacy.key_stream import KEY_BYTES
from fedsim.privacy.mechanisms.adaptive import Adaptive, AdaptiveOptions
from fedsim.privacy.noise_keys import NoiseKey
from fedsim.report import write_report
from fedsim.simulation import resume, simulate
from fedsim.updates import Aggregate, UserResult
from server.privacy import mechanism_of, resolved
from server.strategy import FederatedStrategy

CLIP = 0.05  # well below the norms of the tiny run's updates
COHORT = 7
USER_LEVEL = {
    "dp-fedavg": [f"privacy.clip_norm={CLIP}", "server.sampler=poisson"],
    "adaptive": [f"privacy.initial_clip_norm={CLIP}", "privacy.bit_noise=2",
                 "server.sampler=poisson"],
    "tree": [f"privacy.clip_norm={CLIP}", "server.sampler=cyclic"],
    "sqrt": [f"privacy.clip_norm={CLIP}", "server.sampler=cyclic"],
    "banded": [f"privacy.clip_norm={CLIP}", "server.sampler=cyclic"],
    "blt": [f"privacy.clip_norm={CLIP}", "server.sampler=cyclic"],
}  # fmt: skip


def configured(tiny: str, name: str, *more: str) -> Any:
    """A resolved config of the tiny federation under a mechanism, a simulation."""
    keys = [f"privacy={name}", *USER_LEVEL.get(name, []), *more]
    if name not in ("none", "secagg") and not any(k.startswith("privacy.noise=") for k in more):
        keys.append("privacy.noise=seeded")
    config = load(tiny, keys)
    return resolved(config, open_federation(config))


@pytest.fixture
def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with different settings draw other cohorts and other noise; here they do not."""
    monkeypatch.setattr(Config, "fingerprint", lambda self: "")
    monkeypatch.setattr(NoiseKey, "named", lambda self, purpose: "")


def one_step(tiny: str, name: str, *more: str) -> np.ndarray:
    """What round 1 adds to the parameters; the server optimizer is a plain step of 1."""
    config = configured(tiny, name, *more)
    before = fresh_strategy(config)[0].state.parameters.flat.astype(np.float64)
    return play(config)[0].state.parameters.flat - before


@contextmanager
def update_of(user_at: int, change: Callable[[Tensor], None]) -> Iterator[None]:
    """Alter the update of one of the users that train."""
    real, calls = clients.training.local_sgd, 0

    def altered(*arguments: Any) -> tuple[Tensor, float]:
        nonlocal calls
        delta, nats = real(*arguments)
        if calls == user_at:
            change(delta)
        calls += 1
        return delta, nats

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients.training, "local_sgd", altered)
        yield


def first_is_nan(delta: Tensor) -> None:
    """One bad number is enough."""
    delta[0] = float("nan")


ATTACKS: dict[str, Callable[[Tensor], Any]] = {
    "huge": lambda delta: delta.fill_(1e6),
    "huge and negative": lambda delta: delta.fill_(-3e38),
    "NaN": first_is_nan,
    "infinite": lambda delta: delta.fill_(float("inf")),
    "zero": lambda delta: delta.zero_(),
}


@pytest.mark.parametrize("name", USER_LEVEL)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_user_moves_the_mean_by_more_than_the_clip_norm(
    attack: str, name: str, tiny: str
) -> None:
    """Replace-one moves by 2 C / m at most; towards a zero update, by C / m."""
    with update_of(2, lambda delta: delta.zero_()):
        without = one_step(tiny, name)
    with update_of(2, ATTACKS[attack]):
        with_it = one_step(tiny, name)
    moved = float(np.linalg.norm(with_it - without))
    assert moved <= CLIP / COHORT * (1 + 1e-4) + 1e-6  # float32 parameters
    if attack.startswith("huge"):
        assert moved == pytest.approx(CLIP / COHORT, rel=1e-2), "a clipped update is not scaled up"
    else:
        assert moved < 1e-7


@pytest.mark.parametrize("name", ["dp-fedavg", "blt"])
def test_a_user_that_claims_a_billion_examples_weighs_one(
    name: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = one_step(tiny, name)
    real = clients.app.train_chunk

    def boasting(*arguments: Any) -> Any:
        update = real(*arguments)
        update.results[:] = [replace(r, sequences=10**9) for r in update.results]
        return update

    monkeypatch.setattr(clients.app, "train_chunk", boasting)
    assert np.array_equal(one_step(tiny, name), honest)


def test_a_node_cannot_send_more_than_its_users_may(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tiny, "dp-fedavg")
    real = clients.app.train_chunk

    def lying(*arguments: Any) -> Any:
        update = real(*arguments)
        update.total[:] = int(0.2 * CLIP / grid_of(CLIP))
        return update

    monkeypatch.setattr(clients.app, "train_chunk", lying)
    strategy, notes = play(config)
    assert notes.failures[1].keys() == set(strategy.cohort(1).tolist())
    assert all("may contribute" in reason for reason in notes.failures[1].values())
    start = fresh_strategy(config)[0].state.parameters
    assert strategy.state.parameters.digest() == start.digest(), "nothing of it was added"


def test_a_round_in_which_everybody_fails_is_a_step_of_noise(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the run goes on must not depend on one user's phone."""
    config = configured(tiny, "dp-fedavg", "privacy.noise_multiplier=1", "privacy.delta=1e-3")

    def broken(*arguments: Any) -> Any:
        raise OSError("the phone is in the river")

    monkeypatch.setattr(clients.training, "local_sgd", broken)
    before = fresh_strategy(config)[0].state.parameters.flat.astype(np.float64)
    step = play(config)[0].state.parameters.flat - before
    assert step.std() == pytest.approx(CLIP / COHORT, rel=0.05)


@pytest.mark.parametrize("name", USER_LEVEL)
def test_the_noise_has_its_deviation(name: str, tiny: str, same_draws: None) -> None:
    z = 1.3
    states = {}
    for noise in (0.0, z):
        config = configured(tiny, name, f"privacy.noise_multiplier={noise}", "privacy.delta=1e-3")
        strategy, _ = play(config)
        states[noise] = strategy.state.parameters.flat.astype(np.float64)
    noise = states[z] - states[0.0]
    expected = z * CLIP / COHORT
    if name == "adaptive":
        expected *= (1 - (z / 4) ** 2) ** -0.5  # the rest of the budget is the count's
    if name == "banded":  # unit columns, so that the first row of C^-1 is 1 / c_0
        expected *= np.sqrt(strategy.mechanism.factorisation.prefix_variances()[0])
    tolerance = 5 / np.sqrt(2 * len(noise))
    assert noise.std() / expected == pytest.approx(1.0, abs=tolerance + 1e-3)
    assert abs(noise.mean()) < 5 * expected / np.sqrt(len(noise))


def released_noise(tiny: str, name: str, rounds: int) -> np.ndarray:
    """(rounds, size): what each round's release holds beside the clipped sum."""
    found: dict[float, list[np.ndarray]] = {}
    for z in (0.0, 1e-3):  # so little that training is the same but for rounding
        config = configured(tiny, name, f"privacy.noise_multiplier={z}", "privacy.delta=1e-3",
                            "client.lr=1e-30", "server.rounds=6")  # fmt: skip
        strategy, _, _ = fresh_strategy(config)
        means = found.setdefault(z, [])
        mechanism, state = strategy.mechanism, strategy.state.mechanism
        layout = strategy.state.parameters.layout
        for round in range(1, rounds + 1):
            release = mechanism.release(Aggregate(layout), round, state)
            state = release.state
            assert release.mean is not None
            means.append(release.mean / (1e-3 * CLIP / COHORT))
    return np.array(found[1e-3]) - np.array(found[0.0])


def test_independent_noise_is_independent_and_correlated_noise_cancels(tiny: str) -> None:
    fresh = released_noise(tiny, "dp-fedavg", 4)
    size = fresh.shape[1]
    for a in range(4):
        for b in range(a):
            assert abs(np.corrcoef(fresh[a], fresh[b])[0, 1]) < 5 / np.sqrt(size)
    assert fresh.sum(0).std() == pytest.approx(2.0, rel=5 / np.sqrt(2 * size))  # sqrt(4)
    for name in ("tree", "sqrt", "blt"):
        correlated = released_noise(tiny, name, 4)
        assert np.corrcoef(correlated[0], correlated[1])[0, 1] < -0.2, name
        assert correlated.sum(0).std() < 1.9, name


def test_other_settings_have_other_noise_and_other_cohorts(tiny: str) -> None:
    """Else the noise of one run could be subtracted from the next, and they would not compose."""
    noises, cohorts = [], []
    for keys in ((), ("optimizer.lr=0.5",)):
        config = configured(tiny, "dp-fedavg", "privacy.noise_multiplier=1",
                            "privacy.delta=1e-3", *keys)  # fmt: skip
        strategy, _, _ = fresh_strategy(config)
        noises.append(strategy.mechanism.noise(1, 5000, 2.0**27, {})[0])
        cohorts.append([strategy.cohort(round).tolist() for round in range(1, 20)])
    assert abs(np.corrcoef(*noises)[0, 1]) < 5 / np.sqrt(5000)
    assert cohorts[0] != cohorts[1]


def test_what_is_drawn_does_not_depend_on_where_the_text_lies(tiny: str) -> None:
    config = load(tiny, ["privacy=dp-fedavg"])
    moved = replace(config, data=config.data.model_copy(update={"path": "/elsewhere/chat.csv"}))
    assert moved.fingerprint() == config.fingerprint()


def test_clients_are_not_told_the_servers_secret(tiny: str) -> None:
    config = configured(tiny, "dp-fedavg")
    assert config.fingerprint() not in config.for_clients().as_json()


def test_an_empty_cohort_makes_a_step_of_noise(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tiny, "dp-fedavg", "privacy.noise_multiplier=1", "privacy.delta=1e-3")
    monkeypatch.setattr(
        FederatedStrategy, "cohort", lambda self, server_round: np.zeros(0, np.int64)
    )
    before = fresh_strategy(config)[0].state.parameters.flat.astype(np.float64)
    strategy, notes = play(config)
    step = strategy.state.parameters.flat - before
    assert step.std() == pytest.approx(CLIP / COHORT, rel=0.05)
    assert strategy.state.round == 1
    assert notes.outcomes[0].results == []


def test_the_denominator_is_the_expected_cohort_whoever_comes(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tiny, "dp-fedavg", "privacy.clip_norm=0.01")
    (only,) = open_federation(config).population[:1]
    monkeypatch.setattr(FederatedStrategy, "cohort", lambda self, server_round: np.array([only]))
    before = fresh_strategy(config)[0].state.parameters.flat.astype(np.float64)
    step = play(config)[0].state.parameters.flat - before
    assert np.linalg.norm(step) == pytest.approx(0.01 / COHORT, rel=1e-3)


def test_users_weigh_the_same(tiny: str) -> None:
    """Two updates far above the clip norm: their sum is that of two unit vectors."""
    config = configured(tiny, "dp-fedavg", "server.sampler=fixed", "server.cohort=2")
    users = fresh_strategy(config)[0].cohort(1)
    alone = []
    for user in users:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                FederatedStrategy, "cohort", lambda self, server_round, u=user: np.array([u])
            )
            alone.append(one_step(tiny, "dp-fedavg", "server.sampler=fixed", "server.cohort=2"))
    both = one_step(tiny, "dp-fedavg", "server.sampler=fixed", "server.cohort=2")
    np.testing.assert_allclose(both, alone[0] + alone[1], atol=3e-7)


# -- adaptive clipping ----------------------------------------------------------------------------


def adaptive(initial: float, cohort: int, noise: float, **options: float) -> Adaptive:
    """Alone, without a federation."""
    setting = Setting(
        bytes(KEY_BYTES),
        10**6,
        cohort,
        100,
        "poisson",
        0,
        0,
        0,
        0,
        lambda: 3,
        lambda: 1,
        lambda rounds: 1,
    )
    chosen = AdaptiveOptions(
        initial_clip_norm=initial, noise_multiplier=noise, delta=1e-7, **options
    )
    return Adaptive(chosen, setting)


def clip_norms(mechanism: Adaptive, norms: np.ndarray) -> list[float]:
    """The clip norm before each round; a row of norms each."""
    state, out = mechanism.initial_state(3), []
    for round, row in enumerate(norms, 1):
        out.append(mechanism.clip_norm(state))
        aggregate = Aggregate(fresh_layout())
        aggregate._results = {u: UserResult(u, 1, 1, 0.0, float(n)) for u, n in enumerate(row)}
        state = mechanism.after(aggregate, round, state)
    return [*out, mechanism.clip_norm(state)]


def fresh_layout() -> Any:
    """Three parameters."""
    from fedsim.parameters import Layout

    return Layout(("w",), ((3,),))


@pytest.mark.parametrize("initial", [0.1, 1.0, 5.0])
def test_the_clip_norm_settles_at_the_quantile(initial: float) -> None:
    rng = np.random.default_rng(5)
    norms = np.exp(rng.normal(0.3, 0.5, (150, 200)))
    found = clip_norms(adaptive(initial, 200, 1.0, quantile=0.7), norms)
    assert np.mean(found[-30:]) == pytest.approx(np.quantile(norms, 0.7), rel=0.05)


def test_the_first_clip_norms_by_hand() -> None:
    """Andrew et al. 2021, without noise: C exp(-0.2 (share - 0.5)), shares of the cohort of 4."""
    norms = np.array([[0.05, 0.5, 0.6, 0.7], [0.05, 0.1, 0.11, 9.0]])
    first, second, third = clip_norms(adaptive(0.1, 4, 0.0), norms)
    assert first == 0.1
    assert second == pytest.approx(0.1 * np.exp(-0.2 * (0.25 - 0.5)))
    share = np.mean(norms[1] <= second)
    assert third == pytest.approx(second * np.exp(-0.2 * (share - 0.5)))


def test_noise_is_split_between_updates_and_count() -> None:
    """Both halves together are one mechanism of the multiplier that is accounted."""
    mechanism = adaptive(0.1, 100, 1.2)
    updates, count = mechanism.noise_on_update(), 2 * mechanism.bit_deviation
    assert updates**-2 + count**-2 == pytest.approx(1.2**-2)
    assert mechanism.bit_deviation == 5.0
    with pytest.raises(FedsimError, match="below twice the noise on the count"):
        adaptive(0.1, 20, 2.0)


def test_who_is_not_finite_counts_as_outside() -> None:
    found = clip_norms(adaptive(1.0, 2, 0.0), np.array([[float("inf"), 0.5]]))
    assert found[1] == 1.0, "one of two is within"


# -- records and engines --------------------------------------------------------------------------

NOISY = ["privacy.noise_multiplier=0.5", "privacy.delta=1e-3"]


@pytest.mark.parametrize("name", ["adaptive", "tree", "banded", "blt"])
def test_an_interrupted_private_run_ends_as_the_unbroken_one(
    name: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fresh noise too, whose key lies in a folder of its own, not in the run's."""
    monkeypatch.setenv("FEDSIM_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(noise_keys, "fresh", lambda: NoiseKey("fresh", b"k" * KEY_BYTES))
    keys = [f"privacy={name}", *USER_LEVEL[name], *NOISY]
    config = load(tiny, [*keys, "server.checkpoint_every=1"])
    whole = simulate(config, tmp_path / "whole", quiet=True)
    real, calls = clients.app.train_chunk, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:  # four chunks a round
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(clients.app, "train_chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, tmp_path / "broken", quiet=True)
    assert len(list((tmp_path / "keys").glob("*.key"))) == 1
    assert resume(tmp_path / "broken", quiet=True).digest == whole.digest
    assert len(whole.table("privacy")) == 4
    assert not list((tmp_path / "keys").iterdir()), "a key that nobody needs any more is deleted"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dp-fedavg", "blt", "local", "dp-sgd"])
def test_private_models_are_the_same_on_every_engine(name: str, tiny: str, tmp_path: Path) -> None:
    keys = [f"privacy={name}", *USER_LEVEL.get(name, []), *NOISY, "server.rounds=2",
            "privacy.noise=seeded"]  # fmt: skip
    digests = set()
    for number, engine in enumerate((["engine=local"], ["engine=pool", "engine.workers=2"])):
        config = load(tiny, [*keys, *engine])
        digests.add(simulate(config, tmp_path / str(number), quiet=True).digest)
    assert len(digests) == 1


def test_noise_of_a_larger_cohort_is_simulated_at_its_own_size(tiny: str, same_draws: None) -> None:
    free = one_step(tiny, "dp-fedavg")
    keys = ("privacy.noise_multiplier=1", "privacy.delta=1e-6", "privacy.report_cohort=700")
    noise = one_step(tiny, "dp-fedavg", *keys) - free
    assert noise.std() == pytest.approx(CLIP / 700, rel=0.05)


# -- the other mechanisms -------------------------------------------------------------------------


def test_a_secure_sum_is_the_plain_one_but_for_rounding(tiny: str, same_draws: None) -> None:
    """Nearest rounding: at most half a step for each of the users that came."""
    bits = 22
    secure = one_step(tiny, "dp-fedavg", f"privacy.secagg_bits={bits}", "server.sampler=fixed")
    plain = one_step(tiny, "dp-fedavg", "server.sampler=fixed")
    step = CLIP / 2 ** (bits - 1)
    inner = 1 - step * np.sqrt(len(plain)) / 2 / CLIP  # what is clipped to, a little less
    assert np.abs(secure - inner * plain).max() <= step / 2 + 3e-7
    assert not np.array_equal(secure, plain)
    alone = one_step(tiny, "secagg", f"privacy.clip_norm={CLIP}", f"privacy.secagg_bits={bits}")
    np.testing.assert_allclose(alone, secure, atol=3e-7)


def test_a_secure_sum_that_wraps_around_is_noticed(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FedsimError, match="needs a modulus of 25 bits"):
        configured(tiny, "secagg", "privacy.secagg_bits=22", "privacy.secagg_modulus_bits=24")
    keys = ("server.cohort=2", "server.sampler=poisson", "privacy.secagg_modulus_bits=18",
            "privacy.secagg_bits=14")  # fmt: skip
    config = configured(tiny, "dp-fedavg", *keys)
    population = open_federation(config).population
    monkeypatch.setattr(FederatedStrategy, "cohort", lambda self, server_round: population)
    real = clients.training.local_sgd

    def all_alike(*arguments: Any) -> tuple[Tensor, float]:
        delta, nats = real(*arguments)
        return delta.zero_().index_fill_(0, delta.new_zeros(1).long(), 1.0), nats

    monkeypatch.setattr(clients.training, "local_sgd", all_alike)
    with pytest.raises(FedsimError, match="wrapped around"):
        play(config)


def test_local_noise_is_each_users_own(tiny: str, same_draws: None) -> None:
    keys = ("privacy.clip_norm=0.05", "server.sampler=fixed")
    noisy = one_step(tiny, "local", *keys, "privacy.noise_multiplier=3", "privacy.delta=1e-3")
    free = one_step(tiny, "local", *keys, "privacy.noise_multiplier=0")
    noise = noisy - free
    assert noise.std() == pytest.approx(3 * 0.05 / np.sqrt(COHORT), rel=0.05)


def test_fedsgd_is_bounded_too(tiny: str) -> None:
    keys = ("strategy=fedsgd", "optimizer=adam", "optimizer.lr=0.01")
    config = configured(
        tiny, "dp-fedavg", *keys, "privacy.noise_multiplier=1", "privacy.delta=1e-3"
    )
    strategy, notes = play(config, rounds=2)
    assert np.isfinite(strategy.state.parameters.flat).all()
    assert all(outcome.privacy["clip_norm"] == CLIP for outcome in notes.outcomes)


def test_a_clients_epsilon_grows_with_its_participations(tiny: str, tmp_path: Path) -> None:
    keys = ["privacy=dp-sgd", "privacy.noise_multiplier=1.0", "privacy.delta=1e-3"]
    keys += ["privacy.sample_rate=0.5", "privacy.steps=2", "server.sampler=cyclic"]
    maxima = []
    for rounds in (4, 9):  # 29 users, 7 a round: everyone once, then up to three times
        run = simulate(load(tiny, [*keys, f"server.rounds={rounds}"]), tmp_path / str(rounds), True)
        assert run.privacy is not None
        maxima.append(run.privacy["clients"]["max"])
        assert run.privacy["clients"]["max"] == pytest.approx(run.privacy["guarantee"]["epsilon"])
    assert run.privacy["clients"]["median"] < maxima[1]
    assert maxima[0] < maxima[1]


def test_a_budget_is_calibrated_and_stated(tiny: str, tmp_path: Path) -> None:
    keys = ["privacy=dp-fedavg", *USER_LEVEL["dp-fedavg"], "privacy.epsilon=8"]
    run = simulate(load(tiny, keys), tmp_path / "run", quiet=True)
    assert run.privacy is not None
    found = run.privacy["guarantee"]
    assert 7.9 < found["epsilon"] <= 8.0
    assert found["delta"] == pytest.approx(run.privacy["users"] ** -1.1)
    assert run.config.privacy.options.noise_multiplier == found["noise_multiplier"] > 0
    text = (run.path / "privacy.txt").read_text()
    for needed in ("unit of privacy", "adjacency", "sampling", "delta", "NOT COVERED", "poisson",
                   "adversary", "PLD"):  # fmt: skip
        assert needed.lower() in text.lower(), text
    page = write_report(run).read_text()
    assert "<strong>Private.</strong> Epsilon is" in page
    assert f"delta = {rounded_up(found['delta'], 3)} for each user" in page


@pytest.mark.parametrize(("name", "seeds"), [("local", 8), ("dp-sgd", 2)])
def test_a_budget_holds_for_whoever_is_really_drawn_most(name: str, seeds: int, tiny: str) -> None:
    """Accounted from the schedule: calibrating the noise must not change who is drawn.

    One seed would do, as any other draw has other participations; dp-sgd's accountant is slow.
    """
    for seed in range(1, seeds + 1):
        config = configured(tiny, name, "privacy.epsilon=9", f"seed={seed}")
        federation = open_federation(config)
        strategy, _, _ = fresh_strategy(config)
        drawn = np.concatenate([strategy.cohort(round) for round in range(1, 5)])
        found = mechanism_of(config, federation).guarantee(
            config.privacy.options.noise_multiplier, 4
        )
        assert found is not None
        assert found.participations == np.bincount(drawn).max()
        assert found.epsilon <= 9


def test_a_mechanism_brings_the_sampler_that_it_is_accounted_with(tiny: str) -> None:
    tree = {"data": {"path": "x.csv"}, "privacy": "blt"}
    assert from_dict(tree).server.sampler == "cyclic"
    assert from_dict({**tree, "privacy": "dp-fedavg"}).server.sampler == "poisson"
    assert from_dict({"data": {"path": "x.csv"}}).server.sampler == "fixed"
    with pytest.raises(FedsimError, match="sampler=cyclic"):
        from_dict({**tree, "server": {"sampler": "fixed"}})


def test_a_run_without_a_mechanism_states_nothing(tiny: str, tmp_path: Path) -> None:
    run = simulate(load(tiny, ["server.rounds=1"]), tmp_path / "run", quiet=True)
    assert run.privacy is None
    assert "No differential privacy was applied" in write_report(run).read_text()


WRONG = {
    "tree under a Poisson cohort": (
        ["privacy=tree", "server.sampler=poisson"], "server.sampler=cyclic"),
    "tree under a fixed cohort": (["privacy=tree"], "server.sampler=cyclic"),
    "groups for dp-fedavg": (
        ["privacy=dp-fedavg", "server.sampler=groups", "server.groups=2"], "sampler=poisson"),
    "groups of unknown number": (
        ["privacy=banded", "server.sampler=groups"], "set server.groups"),
    "delta above one user": (
        ["privacy=dp-fedavg", "privacy.noise_multiplier=1", "privacy.delta=0.1",
         "server.sampler=poisson"], "delta"),
    "noise that does not keep the budget": (
        ["privacy=dp-fedavg", "privacy.noise_multiplier=0.3", "privacy.epsilon=1",
         "server.sampler=poisson"], "calibrated"),
    "a separation that the population cannot keep": (
        ["privacy=blt", "server.sampler=cyclic", "server.min_separation=100",
         "privacy.noise_multiplier=1"], "min"),
    "participations that the rounds exceed": (
        ["privacy=blt", "server.sampler=cyclic", "server.max_participations=1",
         "server.rounds=50", "privacy.noise_multiplier=1"], "participations"),
    "a separation without a cycle": (
        ["privacy=dp-fedavg", "server.sampler=poisson", "server.min_separation=2"], "no effect"),
    "DP-SGD of FedSGD": (["privacy=dp-sgd", "strategy=fedsgd"], "strategy=fedavg"),
    "a key for noise, which nobody gives": (
        ["privacy=dp-fedavg", "server.noise_key=x"], "privacy.noise=fresh"),
    "epochs under DP-SGD": (["privacy=dp-sgd", "client.epochs=3"], "no effect"),
    "a mechanism that is none": (["privacy=median"], "no privacy mechanism"),
    "a negative budget": (["privacy=dp-fedavg", "privacy.epsilon=-1"], "should be at least"),
    "a clip norm of zero": (["privacy=dp-fedavg", "privacy.clip_norm=0"], "should be at least"),
    "a reported cohort below the real one": (
        ["privacy=dp-fedavg", "privacy.report_cohort=2"], "larger cohort only"),
    "reported users without a cohort": (
        ["privacy=dp-fedavg", "privacy.report_users=1000"], "report_cohort"),
    "reported users that are fewer than there are": (
        ["privacy=dp-fedavg", "privacy.report_cohort=7", "privacy.report_users=8"], "less than"),
    "a cut that is not that of the reported cohort": (
        ["privacy=dp-fedavg", "server.sampler=truncated", "privacy.report_cohort=70"],
        "sampler=poisson"),
    "a promise that nobody keeps, without any mechanism": (
        ["server.sampler=cyclic", "server.min_separation=1000"], "min_separation"),
    "groups that are smaller than the cohort": (
        ["privacy=local", "server.sampler=groups", "server.groups=10"], "smaller than the cohort"),
    "more bands than rounds between, without noise": (
        ["privacy=banded", "server.sampler=cyclic", "privacy.bands=100"], "bands"),
    "too few bits": (
        ["privacy=secagg", "privacy.secagg_bits=4"], "too few"),
    "a modulus too small": (
        ["privacy=secagg", "privacy.secagg_modulus_bits=22"], "modulus"),
    "more noise than the count allows": (
        ["privacy=adaptive", "server.sampler=poisson", "privacy.noise_multiplier=3"], "count"),
    "a clip norm for adaptive clipping": (
        ["privacy=adaptive", "privacy.clip_norm=1"], "Unknown key"),
    "a local budget with a delta of no use": (
        ["privacy=local", "privacy.noise_multiplier=1", "privacy.delta=0.5"], "delta"),
    "a cohort larger than the population": (
        ["privacy=dp-fedavg", "server.cohort=500", "server.sampler=poisson"], "lower it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_accounted_is_refused_before_anything_is_written(
    case: str, tiny: str, tmp_path: Path
) -> None:
    keys, said = WRONG[case]
    with pytest.raises(FedsimError) as caught:
        simulate(load(tiny, keys), tmp_path / "run", quiet=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("adaptive", ["privacy.noise_multiplier=3.9999999999999996"], "privacy.noise_multiplier"),
        ("adaptive", ["privacy.noise_multiplier=0.49999999999999", "privacy.bit_noise=0.25"],
         "privacy.noise_multiplier"),
        ("adaptive", ["privacy.noise_multiplier=1", "privacy.bit_noise=1e9"], "privacy.bit_noise"),
        ("dp-fedavg", ["privacy.noise_multiplier=1e6", "privacy.secagg_bits=32",
                       "privacy.secagg_modulus_bits=62"], "privacy.noise_multiplier"),
    ],
)  # fmt: skip
def test_noise_that_cannot_be_drawn_is_refused_before_a_run(
    name: str, keys: list[str], said: str, tiny: str
) -> None:
    with pytest.raises(FedsimError, match=rf"^{said} = .*(2\^48|268,435,456)"):
        configured(tiny, name, *keys)


@pytest.mark.parametrize("noise", ["1e-30", "1000000"])
@pytest.mark.parametrize("name", ["dp-fedavg", "adaptive", "local"])
def test_noise_at_the_ends_of_what_is_allowed_is_drawn(name: str, noise: str, tiny: str) -> None:
    more = ["privacy.bit_noise=1e8"] if name == "adaptive" else []
    play(configured(tiny, name, f"privacy.noise_multiplier={noise}", "server.rounds=1", *more))
