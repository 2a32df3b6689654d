"""Local training of clients, against plain torch with autograd on the model's definition."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from federations import fresh_strategy
from torch import Tensor, nn

import clients.training
from clients.training import (
    averaging,
    exact_gradient,
    full_gradient,
    local_sgd,
    train_chunk,
)
from fedsim.config import Config, Named, load
from fedsim.data.sequences import Sequences
from fedsim.federation import Federation, open_federation
from fedsim.models import BOS, EOS, MODELS, LanguageModel, build
from fedsim.models.flat import FlatModel, flat_model, resolve_kernel
from fedsim.parameters import Parameters
from fedsim.sections import ClientOptions
from fedsim.seeding import stream, torch_stream
from fedsim.updates import RESOLUTION, ChunkUpdate, Contribution

CPU = torch.device("cpu")


@pytest.fixture(params=["torch", "native"])
def kernel(request: pytest.FixtureRequest) -> str:
    """Every test here holds for both."""
    if request.param == "native":
        found, reason = resolve_kernel("auto", MODELS["cifg"](), CPU)
        if found != "native":
            pytest.skip(reason)
    return request.param


def start_model(config: Config) -> tuple[LanguageModel, Federation]:
    """A model drawn from the seed, and the federation."""
    federation = open_federation(config)
    model = build(config.model.options, len(federation.corpus.vocabulary))
    model.initialise(torch_stream(3, "init"))
    return model, federation


def sentence_loss(model: nn.Module, words: np.ndarray) -> Tensor:
    """Nats of the words and of the end, over 10, by the model's definition."""
    ids = torch.tensor([BOS, *words.tolist(), EOS])
    log_probs = torch.log_softmax(model(ids[None, :-1])[0], dim=1)
    return -log_probs.gather(1, ids[1:, None]).sum() / 10


def plain_sgd(
    model: LanguageModel, sequences: Sequences, options: ClientOptions, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """FedAvg's ClientUpdate with torch's own optimizer: the change, and the summed nats."""
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    sentences, nats = list(sequences), 0.0
    for _ in range(options.epochs):
        order = rng.permutation(len(sentences))
        for first in range(0, len(order), options.batch_size):
            chosen = order[first : first + options.batch_size]
            optimizer.zero_grad()
            loss = torch.stack([sentence_loss(model, sentences[i]) for i in chosen]).mean()
            loss.backward()
            if options.max_grad_norm:
                nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            if options.proximal_mu:
                pairs = zip(model.parameters(), before, strict=True)
                pull = torch.stack([((p - b) ** 2).sum() for p, b in pairs]).sum()
                (options.proximal_mu / 2 * pull).backward()
            optimizer.step()
            nats += loss.item() * 10 * len(chosen)
    change = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
    return torch.cat([c.flatten() for c in change]).numpy(), nats


def flat_start(model: LanguageModel, kernel: str) -> tuple[FlatModel, Tensor]:
    """The trainer's form of a copy of the model, and its starting point."""
    parameters = Parameters.from_model(model)
    flat = flat_model(deepcopy(model), CPU, kernel)
    start = torch.from_numpy(parameters.flat)
    flat.values.copy_(start)
    flat.model.train()
    return flat, start


@pytest.mark.parametrize("name", ["cifg", "lstm"])
@pytest.mark.parametrize(
    "options",
    [
        ClientOptions(batch_size=4, lr=0.7, max_grad_norm=0),
        ClientOptions(epochs=3, batch_size=5, lr=0.5, max_grad_norm=0),
        ClientOptions(epochs=2, batch_size=4, lr=2.0, max_grad_norm=0.02),
        ClientOptions(epochs=2, batch_size=4, lr=0.5, max_grad_norm=0, proximal_mu=0.8),
        ClientOptions(epochs=2, batch_size=4, lr=0.5, max_grad_norm=0.02, proximal_mu=0.8),
    ],
    ids=["one epoch", "epochs", "clipped", "FedProx", "clipped FedProx"],
)
def test_local_training_is_that_of_torchs_sgd_on_the_definition(
    name: str, options: ClientOptions, config: Config, kernel: str
) -> None:
    federation = open_federation(config)
    shape = MODELS[name](hidden=12, embedding=8)
    model = build(shape, len(federation.corpus.vocabulary))
    model.initialise(torch_stream(3, "init"))
    flat, start = flat_start(model, kernel)
    sequences = federation.sequences(2)
    assert len(sequences) % options.batch_size, "the last batch of an epoch is a smaller one"
    delta, nats = local_sgd(flat, start, sequences, options, stream(1, "batches"))
    expected, expected_nats = plain_sgd(model, sequences, options, stream(1, "batches"))
    assert np.linalg.norm(expected) > 0.01
    np.testing.assert_allclose(delta.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert nats == pytest.approx(expected_nats, rel=1e-5)


def test_the_clipped_runs_above_really_clip_and_the_pull_really_pulls(
    config: Config, kernel: str
) -> None:
    model, federation = start_model(config)
    sequences = federation.sequences(2)

    def change(**options: float) -> np.ndarray:
        flat, start = flat_start(model, kernel)
        chosen = ClientOptions(batch_size=4, lr=0.5, epochs=2, **options)
        return local_sgd(flat, start, sequences, chosen, stream(1, "batches"))[0].numpy().copy()

    free = change(max_grad_norm=0)
    steps = 2 * -(-len(sequences) // 4)
    clipped = change(max_grad_norm=0.02)
    assert np.linalg.norm(clipped) <= steps * 0.5 * 0.02 * (1 + 1e-5) < np.linalg.norm(free)
    np.testing.assert_allclose(change(max_grad_norm=1e9), free, rtol=1e-4, atol=1e-7)
    assert np.linalg.norm(change(max_grad_norm=0, proximal_mu=0.8)) < np.linalg.norm(free)


def test_the_proximal_term_of_one_step_by_hand(config: Config, kernel: str) -> None:
    """w1 = w - lr g(w); then w2 = w1 - lr (g(w1) + mu (w1 - w)), Li et al. 2020."""
    model, federation = start_model(config)
    sequences = federation.sequences(2)
    sequences = sequences.take([0])  # one sentence: two epochs are two steps, of any order
    lr, mu = 0.5, 3.0

    def gradient(values: np.ndarray) -> np.ndarray:
        Parameters(Parameters.from_model(model).layout, values).load_into(model)
        model.zero_grad()
        sentence_loss(model, sequences.tokens).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()]).numpy().copy()

    flat, start = flat_start(model, kernel)
    w = start.numpy().copy()
    w1 = w - lr * gradient(w)
    w2 = w1 - lr * (gradient(w1) + mu * (w1 - w))
    options = ClientOptions(epochs=2, lr=lr, proximal_mu=mu, max_grad_norm=0)
    delta, _ = local_sgd(flat, start, sequences, options, stream(1, "x"))
    np.testing.assert_allclose(delta.numpy(), w2 - w, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rows", [3, 64])
def test_the_exact_gradient_does_not_depend_on_how_it_is_cut(
    rows: int, config: Config, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    model, federation = start_model(config)
    flat, _ = flat_start(model, kernel)
    sequences = federation.sequences(2)
    monkeypatch.setattr(clients.training, "GRADIENT_BATCH", rows)
    update, nats = full_gradient(flat, sequences)
    losses = torch.stack([sentence_loss(model, s) for s in sequences])
    losses.mean().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    np.testing.assert_allclose(update.numpy(), -expected.numpy(), rtol=1e-3, atol=1e-7)
    assert nats == pytest.approx(10 * losses.sum().item(), rel=1e-6)


def test_one_full_batch_epoch_is_one_exact_gradient(config: Config, kernel: str) -> None:
    strategy, _, federation = fresh_strategy(config)
    parameters = strategy.state.parameters
    options = ClientOptions(batch_size=1000, lr=1.0, max_grad_norm=0)
    model = build(config.model.options, len(federation.corpus.vocabulary))
    flat, users = flat_model(model, CPU, kernel), [0, 5, 24, 31]
    rest = (Contribution(), 1, 1)
    sgd = train_chunk(flat, parameters, users, federation, exact_gradient, *rest)
    avg = train_chunk(flat, parameters, users, federation, averaging(options, 1, 1), *rest)
    np.testing.assert_allclose(sgd.total * RESOLUTION, avg.total * RESOLUTION, 1e-3, 1e-5)
    for a, b in zip(sgd.results, avg.results, strict=True):
        assert (a.user, a.sequences, a.tokens) == (b.user, b.sequences, b.tokens)
        assert a.loss_nats == pytest.approx(b.loss_nats, rel=1e-6)


# -- chunks ---------------------------------------------------------------------------------------


@pytest.fixture
def trainer(config: Config, kernel: str) -> Callable[..., ChunkUpdate]:
    """`train_chunk` on the tiny federation with a model that has dropout."""
    options = MODELS["cifg-small"](hidden=12, embedding=8, dropout=0.3)
    config = replace(config, model=Named("cifg-small", options))
    strategy, _, federation = fresh_strategy(config)
    model = build(options, len(federation.corpus.vocabulary))
    flat = flat_model(model, CPU, kernel)

    def train(users: list[int], round: int = 1, seed: int = 1, **client: float) -> ChunkUpdate:
        chosen = ClientOptions(batch_size=4, **client)
        training, parameters = averaging(chosen, seed, round), strategy.state.parameters
        return train_chunk(
            flat, parameters, users, federation, training, Contribution(), seed, round
        )

    return train


def test_a_users_update_does_not_depend_on_its_company(trainer: Callable[..., ChunkUpdate]) -> None:
    alone = [trainer([user]) for user in (4, 9, 30)]
    together = trainer([4, 9, 30])
    assert together.results == [update.results[0] for update in alone]
    assert trainer([30, 4, 9]).results == [alone[2].results[0], *together.results[:2]]
    assert np.array_equal(together.total, sum(update.total for update in alone))
    assert np.array_equal(trainer([30, 9, 4]).total, together.total)
    # Other rounds and seeds draw other batches and other dropout masks.
    assert not np.array_equal(trainer([4], round=2).total, alone[0].total)
    assert not np.array_equal(trainer([4], seed=2).total, alone[0].total)


@pytest.mark.parametrize(("dropout", "sentences"), [(0.0, 9), (0.3, 1)])
def test_two_users_with_the_same_text_draw_differently(
    dropout: float, sentences: int, config: Config, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    """Without dropout only the batches can differ, with a single sentence only the masks."""
    options = MODELS["cifg-small"](hidden=12, embedding=8, dropout=dropout)
    strategy, _, federation = fresh_strategy(replace(config, model=Named("cifg-small", options)))
    text = federation.sequences(2).take(range(sentences))
    monkeypatch.setattr(Federation, "sequences", lambda self, user, part="train": text)
    flat = flat_model(build(options, len(federation.corpus.vocabulary)), CPU, kernel)
    totals = []
    for user, round, seed in ((4, 1, 1), (9, 1, 1), (4, 2, 1), (4, 1, 2)):
        parameters, client = strategy.state.parameters, ClientOptions(batch_size=3)
        training = averaging(client, seed, round)
        update = train_chunk(
            flat, parameters, [user], federation, training, Contribution(), seed, round
        )
        totals.append(update.total * RESOLUTION)
    for a, b in combinations(totals, 2):
        assert np.linalg.norm(a - b) > 0.01 * np.linalg.norm(a)


def test_what_a_user_reports(trainer: Callable[..., ChunkUpdate], config: Config) -> None:
    federation = open_federation(config)
    update = trainer([4])
    (result,) = update.results
    sequences = federation.sequences(4)
    assert result.sequences == len(sequences)
    assert result.tokens == sum(len(s) + 1 for s in sequences)
    assert (result.sequences, result.tokens) == tuple(federation.sizes([4])[0])
    delta = update.total * RESOLUTION / result.sequences
    assert result.update_norm == pytest.approx(float(np.linalg.norm(delta)), rel=1e-6)
    # An untrained model over V words loses about ln V a token.
    loss = result.loss_nats / result.tokens
    assert loss == pytest.approx(np.log(len(federation.corpus.vocabulary)), rel=0.05)


def test_a_user_that_raises_is_a_failure_and_the_others_go_on(
    trainer: Callable[..., ChunkUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = trainer([4, 30])
    real = Federation.sequences

    def broken(self: Federation, user: int, part: str = "train") -> Sequences:
        if user == 9:
            raise OSError("the phone is in the river")
        return real(self, user, part)

    monkeypatch.setattr(Federation, "sequences", broken)
    update = trainer([4, 9, 30])
    assert list(update.failures) == [9]
    assert "Traceback" in update.failures[9]
    assert update.failures[9].rstrip().endswith("OSError: the phone is in the river")
    assert update.results == without.results
    assert np.array_equal(update.total, without.total)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38, 1e7])
def test_an_update_that_is_not_finite_or_would_make_the_sum_so_is_dropped(
    bad: float, trainer: Callable[..., ChunkUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = trainer([4, 30])
    calls = 0
    real = clients.training.local_sgd

    def poisoned(*arguments: object) -> tuple[Tensor, float]:
        nonlocal calls
        calls += 1
        delta, nats = real(*arguments)  # type: ignore[arg-type]
        if calls == 2:
            delta[5] = bad
            arguments[0].values.fill_(bad)  # type: ignore[attr-defined]
            arguments[0].gradients.fill_(bad)  # type: ignore[attr-defined]
        return delta, nats

    monkeypatch.setattr(clients.training, "local_sgd", poisoned)
    update = trainer([4, 9, 30])
    assert list(update.failures) == [9]
    assert "not finite" in update.failures[9]
    assert update.results == without.results
    assert np.array_equal(update.total, without.total)


def test_a_learning_rate_that_explodes_never_reaches_the_sum(
    trainer: Callable[..., ChunkUpdate],
) -> None:
    update = trainer([4, 9], lr=1e38, max_grad_norm=0, epochs=3)
    assert sorted(update.failures) == [4, 9]
    assert update.results == []
    assert not update.total.any()


def test_training_needs_no_global_generator(trainer: Callable[..., ChunkUpdate]) -> None:
    first = trainer([4, 9]).total
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert np.array_equal(trainer([4, 9]).total, first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_flat_buffers_are_the_models_own_memory(config: Config, kernel: str) -> None:
    model, _ = start_model(config)
    flat, start = flat_start(model, kernel)
    assert Parameters.from_model(flat.model).digest() == Parameters.from_model(model).digest()
    flat.values.zero_()
    assert all(not p.any() for p in flat.model.parameters())
    flat.gradients.fill_(2.0)
    assert all((p.grad == 2.0).all() for p in flat.model.parameters())
    assert start.any(), "the starting point is not the buffer"


def test_local_training_learns(tiny: str, kernel: str) -> None:
    """On one user's own text the loss falls far below the uniform one in twenty epochs."""
    config = load(tiny)
    model, federation = start_model(config)
    flat, start = flat_start(model, kernel)
    sequences = federation.sequences(2)
    options = ClientOptions(epochs=20, batch_size=2, lr=2.0)
    _, before = local_sgd(flat, start, sequences, options, stream(1, "x"))
    _, after = full_gradient(flat, sequences)
    assert after < 0.6 * before
