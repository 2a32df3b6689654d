"""Training on pooled text: one step cut over cores, and the average that becomes the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fedsim.config import load
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.federation import open_federation
from fedsim.models import MODELS, Batch, build
from fedsim.models.flat import FlatModel, flat_model, resolve_kernel
from fedsim.models.pooled import Plan, train
from fedsim.progress import Reporter
from fedsim.simulation import simulate
from server import baselines
from server.central import plan_of, pooled, train_centrally

CPU, WORDS = torch.device("cpu"), 40
KERNELS = ("native", "torch")


def text_of(lengths: list[int]) -> Sequences:
    tokens = np.random.default_rng(1).integers(4, WORDS, sum(lengths)).astype(np.int32)
    return Sequences(tokens, offsets_of(np.array(lengths)))


def flat_of(kernel: str, dropout: float = 0.0) -> FlatModel:
    options = MODELS["cifg"](hidden=9, embedding=7, dropout=dropout)
    if kernel == "native" and resolve_kernel("auto", options, CPU)[0] != "native":
        pytest.skip(resolve_kernel("auto", options, CPU)[1])
    model = build(options, WORDS)
    flat = flat_model(model, CPU, kernel)
    model.initialise(torch.Generator().manual_seed(3))
    model.dropout_generator = torch.Generator().manual_seed(4)
    return flat


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sizes", [[5], [3, 2], [1, 1, 3]])
def test_a_batch_cut_into_parts_has_the_gradient_of_the_whole(
    kernel: str, sizes: list[int]
) -> None:
    text = text_of([4, 0, 7, 2, 3])
    whole, cut = flat_of(kernel), flat_of(kernel)
    nats = whole.add_gradient(Batch.of(text.tokens, text.offsets))
    parts = np.split(np.arange(5), np.cumsum(sizes)[:-1])
    for _ in range(2):  # what is left of a step before is not added again
        cut.gradients.zero_()
        found = cut.add_gradients([Batch.of(text.tokens, text.offsets, part) for part in parts])
    assert found == pytest.approx(nats, rel=1e-6)
    torch.testing.assert_close(cut.gradients, whole.gradients, rtol=1e-5, atol=1e-8)
    assert whole.gradients.abs().sum() > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_training_twice_gives_the_same_bits_with_dropout_too(kernel: str) -> None:
    text, ends = text_of([5, 3, 0, 8, 1, 9, 2] * 6), []
    for _ in range(2):
        flat = flat_of(kernel, dropout=0.3)
        plan = Plan(3, 0.01, 16, average=0.8, warmup=2)
        train(flat, text, plan, lambda epoch: np.random.default_rng(epoch))
        ends.append(flat.values.clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize("kernel", KERNELS)
def test_training_is_adamw_of_torch_on_the_whole_batches(kernel: str) -> None:
    text, flat = text_of([5, 3, 0, 8, 1, 9, 2] * 3), flat_of(kernel)
    model = build(MODELS["cifg"](hidden=9, embedding=7), WORDS)
    plain = FlatModel(model, CPU)
    model.initialise(torch.Generator().manual_seed(3))
    plan = Plan(2, 0.01, 8, warmup=2)
    train(flat, text, plan, lambda epoch: np.random.default_rng(epoch))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    steps = 2 * -(-len(text) // 8)
    for step in range(steps):
        epoch, place = divmod(step, steps // 2)
        order = np.random.default_rng(epoch).permutation(len(text))[8 * place : 8 * place + 8]
        rate = min(1.0, (step + 1) / 2) * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        plain.gradients.zero_()
        plain.add_gradient(Batch.of(text.tokens, text.offsets, order))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    torch.testing.assert_close(flat.values, plain.values, rtol=2e-3, atol=2e-4)


def test_the_model_is_the_running_average_of_its_steps() -> None:
    text, seen = text_of([5, 3, 2]), []
    flat = flat_of("torch")
    # One batch holds all, so that an epoch is a step.
    plan = Plan(6, 0.05, 3, average=0.6, warmup=1)
    train(flat, text, plan, np.random.default_rng, lambda *_: seen.append(flat.values.clone()))
    expected = seen[0]
    for step, values in enumerate(seen[1:], 1):
        keep = min(0.6, step / (step + 1))
        expected = keep * expected + (1 - keep) * values
    torch.testing.assert_close(flat.values, expected)
    assert not torch.allclose(flat.values, seen[-1], atol=1e-3)


def test_the_average_forgets_as_much_in_a_pass_as_that_of_the_rounds(tiny: str) -> None:
    config = load(tiny, ["server.average=0.9", "client.epochs=2", "evaluation.central=true"])
    federation = open_federation(config)
    sentences = len(pooled(federation))
    plan = plan_of(config, federation, sentences)
    steps = -(-sentences // plan.batch_size)
    rounds = len(federation.population) / (config.client.epochs * config.server.cohort)
    assert plan.average**steps == pytest.approx(0.9**rounds)
    plain = load(tiny, ["evaluation.central=true"])
    assert plan_of(plain, federation, sentences).average == 0.0


def test_the_central_baseline_is_averaged_where_the_federated_model_is(
    tiny: str, tmp_path: Path
) -> None:
    keys = ["evaluation.central=true", "evaluation.central_epochs=4"]
    config = load(tiny, [*keys, "server.average=0.9"])
    federation = open_federation(config)
    (found,) = baselines.baselines(config, federation, Reporter(0, 0, quiet=True))
    (plain,) = baselines.baselines(load(tiny, keys), federation, Reporter(0, 0, quiet=True))
    text = pooled(federation)
    plan = plan_of(config, federation, len(text))
    words = len(federation.corpus.vocabulary)
    model = train_centrally(config, text, words, plan, "central", lambda *_: None)
    expected = baselines.score_users(model, federation.corpus, found[1].user.tolist())
    pd.testing.assert_frame_equal(found[1], expected)
    assert plain[1].nats.sum() != pytest.approx(found[1].nats.sum(), rel=1e-6)


def test_floors_stand_beside_the_trigram(tiny: str, tmp_path: Path) -> None:
    run = simulate(load(tiny, ["evaluation.trigram=true"]), tmp_path / "run", quiet=True)
    results = run.results.set_index("model")
    assert list(results.index) == ["fedavg", "trigram", "unigram", "word list"]
    saved = results[["keystroke_savings_top1", "keystroke_savings", "keystroke_savings_top5"]]
    assert saved.apply(lambda row: row.is_monotonic_increasing, axis=1).all()
    assert (saved.loc["trigram"] > saved.loc["word list"]).all()
    words = len(run.vocabulary()) - 2
    assert results.perplexity["word list"] == pytest.approx(words)
