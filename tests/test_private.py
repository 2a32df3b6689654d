"""Example-level DP-SGD: the native kernel against Opacus, and both against autograd."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from clients.private import Noise, OpacusModel, PrivateModel, PrivateOptions, private_sgd
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.models import MODELS, Batch, LanguageModel, build, training_loss
from fedsim.models.flat import NativeModel, resolve_kernel
from fedsim.noise import PrivateStep, normal_deviates
from fedsim.privacy.accounting import ZERO_OUT_SEQUENCE
from fedsim.privacy.key_stream import KeyStream
from fedsim.seeding import stream

# Opacus' own hooks set this off: our models take token ids, which have no gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

CPU = torch.device("cpu")
V = 301
TINY = {"cifg": {"hidden": 21, "embedding": 12}, "lstm": {"hidden": 21, "embedding": 12}}
KEY = (3, 2**64 - 5)


@pytest.fixture(params=["opacus", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    found, reason = resolve_kernel("auto", MODELS["cifg"](), CPU)
    if request.param == "native" and found != "native":
        pytest.skip(reason)
    return request.param


def make(name: str, **more: object) -> LanguageModel:
    model = build(MODELS[name](**TINY[name], **more), V)
    model.initialise(torch.Generator().manual_seed(3))
    return model


def private(model: LanguageModel, kind: str) -> OpacusModel | NativeModel:
    flat = OpacusModel(deepcopy(model), CPU) if kind == "opacus" else NativeModel(deepcopy(model))
    for part, parameter in zip(flat.layout.slices, model.parameters(), strict=True):
        flat.values[part] = parameter.detach().flatten()
    return flat


def drawn(fresh: bool = False) -> Noise:
    return Noise(bytes(32), "text", 1, 2, fresh)


def text(lengths: list[int], words: int = V) -> Sequences:
    tokens = np.random.default_rng(1).integers(3, words, sum(lengths)).astype(np.int32)
    return Sequences(tokens, offsets_of(np.array(lengths)))


def batch_of(sequences: Sequences, chosen: list[int] | None = None) -> Batch:
    return Batch.of(sequences.tokens, sequences.offsets, chosen)


def alone(model: LanguageModel, sequences: Sequences) -> torch.Tensor:
    """(sequences, parameters) gradients by autograd, one sequence at a time."""
    rows = []
    for i in range(len(sequences)):
        loss, _ = training_loss(model, batch_of(sequences, [i]))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]).double())
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([4, 0, 2, 1, 4, 17], V),
        ([9, 9, 3, 12], 6),  # three words only, so that they are repeated in every sentence
        ([1], V),
        ([0], V),
        ([40] * 13 + [3], V),  # more rows than the output layer otherwise takes at once
    ],
    ids=["mixed", "repeated words", "one word", "no word", "many rows"],
)
@pytest.mark.parametrize("name", list(TINY))
def test_norms_and_the_clipped_sum_are_those_of_each_sequence_alone(
    name: str, lengths: list[int], words: int, kind: str
) -> None:
    model, sequences = make(name), text(lengths, words)
    each = alone(model, sequences)
    expected = each.norm(dim=1)
    clip_norm = float(expected.median()) * 1.01
    flat = private(model, kind)
    before = flat.values.clone()
    nats, norms = flat.private_step(batch_of(sequences), PrivateStep(clip_norm, 1.0, 0.0, KEY, 0))
    torch.testing.assert_close(norms.double(), expected, rtol=1e-5, atol=0.0)
    clipped = (each * (clip_norm / expected).clamp(max=1.0)[:, None]).sum(0)
    change = (before - flat.values).double()
    assert float((change - clipped).norm() / clipped.norm()) < 1e-5
    with torch.no_grad():
        assert nats == pytest.approx(float(training_loss(model, batch_of(sequences))[1].sum()))


SMALL = {"embedding": 12, "layers": 2, "heads": 2, "feedforward": 20}


@pytest.mark.parametrize("name", ["cifg", "lstm", "transformer"])
def test_a_long_sentence_does_not_change_what_a_short_one_gives(name: str) -> None:
    """Whoever joins the batch adds a vector of at most the clip norm, and changes nothing else."""
    options = MODELS[name](**(TINY.get(name) or SMALL))
    model = build(options, V)
    model.initialise(torch.Generator().manual_seed(3))
    sequences, changes = text([3, 5, 40]), []
    for chosen in ([0, 1], [0, 1, 2]):
        flat = private(model, "opacus")
        before = flat.values.clone()
        _, norms = flat.private_step(
            batch_of(sequences, chosen), PrivateStep(0.2, 1.0, 0.0, KEY, 0)
        )
        changes.append((before - flat.values).double())
    each = alone(model, sequences)
    joined = each[2] * (0.2 / each[2].norm()).clamp(max=1.0)
    torch.testing.assert_close(norms.double(), each.norm(dim=1), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(changes[1] - changes[0], joined, rtol=0.0, atol=1e-6)
    assert float((changes[1] - changes[0]).norm()) <= 0.2 * (1 + 1e-5)


@pytest.mark.parametrize("name", list(TINY))
def test_norms_under_dropout_are_those_of_the_masked_model(name: str) -> None:
    """One sentence a batch, so that the ghost norm and the gradient draw the same masks."""
    found, reason = resolve_kernel("auto", MODELS["cifg"](), CPU)
    if found != "native":
        pytest.skip(reason)
    flat, sequences = private(make(name, dropout=0.4), "native"), text([7, 1, 12])
    flat.model.train()
    for i in range(len(sequences)):
        batch = batch_of(sequences, [i])
        flat.model.dropout_generator = torch.Generator().manual_seed(i)
        flat.gradients.zero_()
        flat.add_gradient(batch)
        flat.model.dropout_generator = torch.Generator().manual_seed(i)
        _, norms = flat.private_step(batch, PrivateStep(1e-9, 0.0, 0.0, KEY, 0))
        assert float(norms) == pytest.approx(float(flat.gradients.double().norm()), rel=1e-5)


def test_a_user_without_text_makes_no_step(kind: str) -> None:
    flat, options = private(make("cifg"), kind), PrivateOptions(1.0, 1.0, 1.0, 0.5, 3)
    start = flat.values.clone()
    change, nats, tokens = private_sgd(flat, start, text([]), options, stream(1, "x"), drawn())
    assert (change.any().item(), nats, tokens) == (False, 0.0, 0)


@pytest.mark.parametrize("name", list(TINY))
def test_a_gradient_too_large_to_measure_is_noticed(name: str, kind: str) -> None:
    flat = private(make(name), kind)
    flat.values.mul_(1e21)
    _, norms = flat.private_step(batch_of(text([3, 4])), PrivateStep(1.0, 1.0, 0.0, KEY, 0))
    assert not torch.isfinite(norms).any()


def test_a_sequence_whose_gradient_is_not_finite_contributes_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is that of the others, at the same denominator, and not one of NaN."""
    sequences, draws = text([3, 9, 5]), 4
    flat, alone = private(make("lstm"), kind), private(make("lstm"), kind)
    start, real = flat.values.clone(), flat.private_step

    def overflowing(batch: Batch, how: PrivateStep) -> tuple[float, torch.Tensor]:
        nats, norms = real(batch, how)
        bad = torch.bincount(batch.sequence, minlength=len(norms)) == 10  # nine words and the end
        if bad.any():
            flat.values.fill_(float("nan"))
        return nats, torch.where(bad, float("nan"), norms)

    monkeypatch.setattr(flat, "private_step", overflowing)
    options = PrivateOptions(0.6, 0.3, 0.1, 1.0, draws)
    change, _, tokens = private_sgd(flat, start, sequences, options, stream(1, "x"), drawn())
    others = PrivateOptions(0.4, 0.3, 0.1, 1.0, draws)  # two of three expected sequences
    expected, _, same = private_sgd(
        alone, start.clone(), sequences.take([0, 2]), others, stream(1, "x"), drawn()
    )
    assert tokens == same == draws * (4 + 6)
    torch.testing.assert_close(change, expected)


def test_the_mechanism_is_the_one_on_paper(kind: str) -> None:
    """Poisson draws, clipped sums, q n below, by hand; and the noise's deviation."""
    model, sequences = make("cifg"), text([5, 3, 8, 2, 1, 7, 4])
    clip_norm, rate, lr = 0.3, 0.4, 0.9
    draw = stream(1, "poisson", 5)
    values = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    start, sizes = values.clone(), set()
    for _ in range(4):
        chosen = np.flatnonzero(draw.random(7) < rate)
        sizes.add(len(chosen))
        if len(chosen):
            each = alone(model, sequences.take(chosen))
            clipped = each * (clip_norm / each.norm(dim=1)).clamp(max=1.0)[:, None]
            values -= lr * clipped.sum(0) / (rate * 7)
        at = 0
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(values[at : at + parameter.numel()].view(parameter.shape))
                at += parameter.numel()
    assert len(sizes) > 1, "all batches of one size would not show the denominator"
    options = PrivateOptions(lr, clip_norm, 0.0, rate, 4)
    flat = private(make("cifg"), kind)
    draw = stream(1, "poisson", 5)
    change, _, _ = private_sgd(flat, flat.values.clone(), sequences, options, draw, drawn())
    torch.testing.assert_close(change.double(), values - start, rtol=1e-3, atol=1e-6)

    noisy = PrivateOptions(1.0, 0.3, 50.0, rate, 4)
    flat = private(make("cifg"), kind)
    draw = stream(1, "poisson", 5)
    change, _, _ = private_sgd(flat, flat.values.clone(), sequences, noisy, draw, drawn())
    assert float(change.std()) == pytest.approx(50 * 0.3 * 2 / (rate * 7), rel=0.05)


@pytest.mark.parametrize("name", list(TINY))
def test_a_step_does_not_depend_on_the_step_before(name: str, kind: str) -> None:
    """Buffers are kept between steps: nothing of an earlier batch may show in a later one."""
    model, sequences = make(name), text([5, 3, 8, 2])
    fresh, used = private(model, kind), private(model, kind)
    used.private_step(batch_of(sequences, [2, 3]), PrivateStep(0.1, 0.5, 0.3, KEY, 1))
    used.private_step(batch_of(sequences, []), PrivateStep(0.1, 0.5, 0.3, KEY, 2))
    used.values.copy_(fresh.values)
    for flat in (fresh, used):
        flat.private_step(batch_of(sequences, [0, 1]), PrivateStep(0.1, 0.5, 0.0, KEY, 3))
    assert torch.equal(fresh.values, used.values)


def test_noise_has_its_deviation_and_falls_on_every_parameter(kind: str) -> None:
    flat = private(make("lstm"), kind)
    before = flat.values.clone()
    nats, norms = flat.private_step(batch_of(text([3]), []), PrivateStep(1.0, 0.5, 0.8, KEY, 7))
    assert (nats, len(norms)) == (0.0, 0)
    change = (flat.values - before).double().numpy()
    assert (change != 0).mean() > 0.999
    assert change.std() == pytest.approx(0.4, abs=5 * 0.4 / np.sqrt(2 * len(change)))
    assert change.mean() == pytest.approx(0.0, abs=5 * 0.4 / np.sqrt(len(change)))
    noise = normal_deviates(len(change), KEY, 7)
    np.testing.assert_allclose(change, -0.4 * noise, rtol=1e-3, atol=1e-5)


def test_other_keys_and_steps_have_other_noise() -> None:
    draws = [normal_deviates(50_000, key, step) for key, step in ((KEY, 0), (KEY, 1), ((3, 4), 0))]
    bound = 5 / np.sqrt(50_000)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[a], draws[b])[0, 1]) < bound
    words = [KeyStream(bytes(32), *at).words(4).tolist() for at in (("n", 2, 3), ("n", 3, 2))]
    assert words[0] != words[1]


def test_fresh_noise_has_its_deviation_too_and_none_from_the_kernel(kind: str) -> None:
    flat = private(make("cifg"), kind)
    options = PrivateOptions(1.0, 1.0, 2.0, 0.01, 6)
    changes = []
    for how in (drawn(), drawn(fresh=True)):
        start = flat.values.clone()
        change, _, _ = private_sgd(flat, start, text([2]), options, stream(1, "poisson"), how)
        changes.append(change.clone())
        flat.values.copy_(start)
    bound = 5 / np.sqrt(len(changes[0]))
    assert float(changes[1].std() / changes[0].std()) == pytest.approx(1.0, abs=2 * bound)
    assert abs(np.corrcoef(*changes)[0, 1]) < bound


def test_deviates_are_normal() -> None:
    from scipy.stats import kstest

    assert kstest(normal_deviates(200_000, (1, 2), 3), "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", list(TINY))
def test_private_training_is_the_same_on_both_ways(name: str) -> None:
    found, reason = resolve_kernel("auto", MODELS["cifg"](), CPU)
    if found != "native":
        pytest.skip(reason)
    model, sequences = make(name), text([5, 3, 8, 2, 0, 7, 7, 1])
    options = PrivateOptions(0.7, 0.3, 0.5, 0.3, 6)
    changes = []
    for kind in ("opacus", "native"):
        flat: PrivateModel = private(model, kind)
        start = flat.values.clone()
        draw = stream(1, "poisson", 2, 3)
        change, nats, tokens = private_sgd(flat, start, sequences, options, draw, drawn())
        changes.append(change.clone())
        chosen = stream(1, "poisson", 2, 3).random((6, len(sequences))) < 0.3
        lengths = np.diff(sequences.offsets) + 1
        assert tokens == (chosen * lengths).sum()
        assert nats > 0
    torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-5)


def test_empty_batches_are_steps_too(kind: str) -> None:
    """At this rate most batches are empty: the noise of six steps must still be there."""
    flat = private(make("cifg"), kind)
    options = PrivateOptions(1.0, 1.0, 2.0, 0.01, 6)
    change, _, _ = private_sgd(
        flat, flat.values.clone(), text([2]), options, stream(1, "poisson"), drawn()
    )
    per_step = 2.0 / 0.01  # one sequence at a rate of 0.01 is a hundredth of one in expectation
    assert float(change.std()) == pytest.approx(per_step * np.sqrt(6), rel=0.05)


def test_an_update_tells_how_many_sequences_there_are(kind: str) -> None:
    """Noise is scaled by their number, so that nothing is claimed of one more or one less. Clipped
    to next to nothing, two clients' updates are the same noise, but for that."""
    flat, how = private(make("cifg"), kind), PrivateOptions(1.0, 1e-3, 1e6, 0.5, 1)
    changes = []
    for lengths in ([4] * 6, [4] * 7):
        start = flat.values.clone()
        change, _, _ = private_sgd(flat, start, text(lengths), how, stream(1, "poisson"), drawn())
        changes.append(change.double().numpy().copy())
        flat.values.copy_(start)
    assert changes[0].std() / changes[1].std() == pytest.approx(7 / 6, rel=1e-3)
    assert ZERO_OUT_SEQUENCE.endswith("the numbers of sequences are public")
