"""Every registered model: one definition, its fast path, its gradients, its typing step."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedsim.errors import FedsimError
from fedsim.models import (
    BOS,
    EOS,
    MODELS,
    NOMINAL_TOKENS,
    Batch,
    LanguageModel,
    build,
    sequence_nats,
    training_loss,
)
from fedsim.models.loss import padded_sequence_losses
from fedsim.parameters import Layout

V = 23
NAMES = sorted(MODELS)
TINY = {
    "cifg": {"hidden": 7, "embedding": 5},
    "lstm": {"hidden": 7, "embedding": 5},
    "transformer": {"embedding": 8, "heads": 2, "layers": 2, "feedforward": 12},
}
# Lengths with ties, empty sentences, one-word sentences; words repeat within a sentence.
LENGTHS = [3, 1, 0, 6, 3, 1, 2]


def tiny(name: str, dtype: torch.dtype = torch.float64, **more: object) -> LanguageModel:
    model = build(MODELS[name](**{**TINY[name.split("-")[0]], **more}), V)
    model.initialise(torch.Generator().manual_seed(3))
    return model.to(dtype)


def sentences(lengths: list[int] = LENGTHS, words: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    tokens = rng.integers(4, 4 + words, sum(lengths)).astype(np.int32)
    return tokens, np.concatenate([[0], np.cumsum(lengths)])


def naive_rows(tokens: np.ndarray, offsets: np.ndarray, chosen: list[int]) -> Iterator[tuple]:
    """(sequence, position, input, target) by plain loops, in the order that Batch promises."""
    words = [tokens[offsets[i] : offsets[i + 1]].tolist() for i in chosen]
    order = sorted(range(len(words)), key=lambda i: -len(words[i]))
    for t in range(max(map(len, words)) + 1):
        for i in order:
            if t <= len(words[i]):
                yield i, t, [BOS, *words[i]][t], [*words[i], EOS][t]


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4, 5, 6], [3], [2], [6, 0, 0, 2], [1, 5]])
def test_batch_packs_rows_as_plain_loops_do(chosen: list[int]) -> None:
    tokens, offsets = sentences()
    batch = Batch.of(tokens, offsets, chosen)
    rows = [batch.sequence, batch.position, batch.inputs, batch.targets]
    assert list(zip(*(r.tolist() for r in rows), strict=True)) == list(
        naive_rows(tokens, offsets, chosen)
    )
    starts = [0, *itertools.accumulate(batch.batch_sizes)]
    assert starts[-1] == len(batch)
    for t, (a, b) in enumerate(itertools.pairwise(starts)):
        assert set(batch.position[a:b].tolist()) == {t}
    assert torch.equal(batch.unpad(batch.pad(batch.targets)), batch.targets)
    for padded, i in zip(batch.pad(batch.inputs).tolist(), chosen, strict=True):
        expected = [BOS, *tokens[offsets[i] : offsets[i + 1]].tolist()]
        assert padded == expected + [0] * (len(padded) - len(expected))


def test_batch_of_nothing() -> None:
    tokens, offsets = sentences()
    empty = Batch.of(tokens, offsets, [])
    assert (len(empty), empty.batch_sizes, empty.n_sequences) == (0, [], 0)
    with pytest.raises(ValueError, match="empty batch"):
        training_loss(tiny("cifg"), empty)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [LENGTHS, [4], [0], [0, 0, 0], [9, 1]])
def test_fast_path_and_its_gradients_are_those_of_forward(name: str, lengths: list[int]) -> None:
    model = tiny(name)
    batch = Batch.of(*sentences(lengths))
    logits = model(batch.pad(batch.inputs))
    fast = torch.nn.functional.linear(model.hidden(batch), model.output_weight, model.output_bias)
    torch.testing.assert_close(fast, batch.unpad(logits), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        model.log_probs(batch), batch.unpad(logits.log_softmax(2)), rtol=1e-10, atol=1e-12
    )

    loss, nats = training_loss(model, batch)
    plain = padded_sequence_losses(logits, batch.pad(batch.targets))
    torch.testing.assert_close(loss, plain.mean(), rtol=1e-11, atol=0)
    sums = torch.zeros(len(lengths), dtype=torch.float64).index_add_(0, batch.sequence, nats)
    torch.testing.assert_close(sums / NOMINAL_TOKENS, plain, rtol=1e-11, atol=0)
    torch.testing.assert_close(sums, sequence_nats(model, batch), rtol=1e-11, atol=0)

    parameters = dict(model.named_parameters())
    # 3 * loss: the incoming gradient of the loss must count.
    fast_grads = torch.autograd.grad(3 * loss, list(parameters.values()), allow_unused=True)
    plain_grads = torch.autograd.grad(3 * plain.mean(), list(parameters.values()))
    for key, got, want in zip(parameters, fast_grads, plain_grads, strict=True):
        got = torch.zeros_like(want) if got is None else got
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-12, msg=lambda m, k=key: k + m)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_fast_path_at_a_real_size(name: str) -> None:
    model = build(MODELS[name](), 600)
    model.initialise(torch.Generator().manual_seed(0))
    batch = Batch.of(*sentences([12, 3, 7, 7, 1, 25], words=500))
    parameters = list(model.parameters())
    fast = torch.autograd.grad(training_loss(model, batch)[0], parameters, allow_unused=True)
    plain_loss = padded_sequence_losses(model(batch.pad(batch.inputs)), batch.pad(batch.targets))
    plain = torch.autograd.grad(plain_loss.mean(), parameters)
    for got, want in zip(fast, plain, strict=True):
        assert got is not None
        assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize("name", NAMES)
def test_typing_step_by_step_gives_the_probabilities_of_the_whole(name: str) -> None:
    model = tiny(name, dropout=0.5)
    tokens, offsets = sentences([6, 6, 6])
    batch = Batch.of(tokens, offsets)
    padded, state = batch.pad(batch.inputs), None
    whole = batch.pad(model.log_probs(batch))
    for t in range(padded.shape[1]):
        logits, state = model.step(padded[:, t], state)
        torch.testing.assert_close(logits.log_softmax(1), whole[:, t], rtol=1e-9, atol=1e-11)
        # A state can be reordered along its first dimension, as a beam search does.
        state = tuple(s[[2, 0, 1]] for s in state)
        padded, whole = padded[[2, 0, 1]], whole[[2, 0, 1]]


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_a_function_of_its_generator_alone(name: str) -> None:
    model = tiny(name, dropout=0.4)
    batch = Batch.of(*sentences())
    with pytest.raises(RuntimeError, match="dropout_generator"):
        training_loss(model, batch)

    def loss(seed: int) -> float:
        model.dropout_generator = torch.Generator().manual_seed(seed)
        return training_loss(model, batch)[0].item()

    state = torch.get_rng_state()
    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(torch.get_rng_state(), state)
    without = tiny(name, dropout=0.0)
    torch.testing.assert_close(model.log_probs(batch), without.log_probs(batch))
    assert model.training


def test_dropout_keeps_the_mean_and_the_share() -> None:
    model = tiny("cifg", dropout=0.3)
    model.dropout_generator = torch.Generator().manual_seed(0)
    dropped = model.dropout(torch.ones(1000, 100))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.005)  # sd 0.0014
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])


@pytest.mark.parametrize("name", NAMES)
def test_building_and_initialising_touch_no_global_generator(name: str) -> None:
    state = torch.get_rng_state()
    first, second = tiny(name), tiny(name)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(first.buffers())


def test_closed_form_parameter_counts() -> None:
    def count(name: str, vocabulary: int, **options: int) -> int:
        model = build(MODELS[name](**options), vocabulary)
        assert Layout.of(model).size == model.n_parameters
        return model.n_parameters

    assert count("cifg", 10_000) == 1_412_250
    e, h = 5, 7
    assert count("cifg", V, embedding=e, hidden=h) == V * e + 3 * h * (2 * e + 1) + h * e
    assert count("lstm", 10_004) == 4_050_748
    core = 4 * h * (e + h + 1) + h * e + e
    assert count("lstm", V, embedding=e, hidden=h) == V * e + core + V * (e + 1)
    e, layers, f, length = 12, 3, 20, 9
    options = {"embedding": e, "layers": layers, "feedforward": f, "max_length": length}
    blocks = layers * (4 * e * e + 2 * e * f + f + 8 * e)
    assert count("transformer", V, **options, heads=4) == e * (V + length + 2) + blocks


def test_bad_options_and_names_are_refused() -> None:
    with pytest.raises(ValidationError, match="hiden"):
        MODELS["cifg"](hiden=3)
    for bad in ({"hidden": 0}, {"dropout": 1.0}, {"dropout": -0.1}):
        with pytest.raises(ValidationError):
            MODELS["cifg"](**bad)
    with pytest.raises(ValidationError, match="heads"):
        MODELS["transformer"](embedding=10, heads=4)
    with pytest.raises(FedsimError, match="cifg"):
        MODELS["cifgg"]
    with pytest.raises(ValueError, match="specials"):
        build(MODELS["cifg"](), 4)


def test_positions_beyond_the_last_share_its_embedding() -> None:
    model = tiny("transformer", max_length=3)
    batch = Batch.of(*sentences([6, 2]))
    whole = batch.pad(model.log_probs(batch))
    torch.testing.assert_close(whole[0], model(batch.pad(batch.inputs))[0].log_softmax(1).detach())
    state = None
    for t, token in enumerate(batch.pad(batch.inputs)[0]):
        logits, state = model.step(token[None], state)
        torch.testing.assert_close(logits.log_softmax(1)[0], whole[0, t])


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith("-small")])
def test_training_learns_a_sentence_by_heart(name: str) -> None:
    model = build(MODELS[name](), 60)
    model.initialise(torch.Generator().manual_seed(1))
    words = np.array([10, 50, 11, 50, 12, 13], np.int32)
    batch = Batch.of(words, np.array([0, 6]))
    parameters = list(model.parameters())
    for _ in range(60):
        grads = torch.autograd.grad(training_loss(model, batch)[0], parameters)
        norm = torch.stack([g.norm() for g in grads]).norm()
        with torch.no_grad():
            torch._foreach_add_(parameters, grads, alpha=-float(min(0.5, 0.5 / norm)))
    token, state, typed = torch.tensor([BOS]), None, []
    for _ in range(7):
        logits, state = model.step(token, state)
        token = logits.argmax(1)
        typed.append(int(token))
    assert typed == [*words.tolist(), EOS]
