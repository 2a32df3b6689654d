"""Exposure and extraction: by hand, the null distribution, and a model that has memorized."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsim.config import Config
from fedsim.federation import open_federation
from fedsim.leakage.canaries import WORDS, Canary, Planted, random_sentences
from fedsim.leakage.decoding import greedy_completions
from fedsim.leakage.exposure import measure_exposure, sentence_nats
from fedsim.leakage.ranks import exposure_bits
from fedsim.models import BOS, MODELS, N_SPECIALS, Batch, LanguageModel, build, training_loss
from fedsim.sections import CanaryOptions
from fedsim.seeding import torch_stream

CPU = torch.device("cpu")
V = N_SPECIALS + 60


def model_of(name: str = "cifg", vocabulary: int = V) -> LanguageModel:
    """A small model drawn from a seed."""
    shape = {"layers": 1, "heads": 2} if name == "transformer" else {"hidden": 12}
    model = build(MODELS[name](embedding=8, **shape), vocabulary)
    model.initialise(torch_stream(4, "init"))
    return model.eval()


# -- the formula ----------------------------------------------------------------------------------


def test_exposure_by_hand() -> None:
    references = np.array([5.0, 3.0, 7.0, 3.0, 9.0, 1.0, 8.0])  # with the canary |R| = 8
    nats = np.array([0.5, 2.0, 4.0, 10.0])
    ranks = [1, 2, 4, 8]
    assert exposure_bits(nats, references).tolist() == [3 - math.log2(r) for r in ranks]


def test_ties_count_against_the_attacker() -> None:
    references = np.array([1.0, 3.0, 3.0, 5.0, 6.0, 7.0, 8.0])
    # As likely as the two threes: rank 4, behind 1, 3 and 3.
    assert exposure_bits(np.array([3.0]), references).tolist() == [1.0]
    # A model that gives everything the same score has memorized nothing.
    assert exposure_bits(np.array([2.0]), np.full(7, 2.0)).tolist() == [0.0]


def test_a_score_that_is_no_number_is_no_exposure() -> None:
    assert exposure_bits(np.array([np.nan, np.inf]), np.arange(3.0)).tolist() == [0.0, 0.0]


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
def test_exposure_is_what_counting_gives(canaries: list[int], references: list[int]) -> None:
    for canary, bits in zip(
        canaries, exposure_bits(np.array(canaries), np.array(references)), strict=True
    ):
        rank = 1 + sum(r <= canary for r in references)
        assert bits == pytest.approx(math.log2(len(references) + 1) - math.log2(rank))


# -- likelihoods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n in MODELS if "small" not in n))
def test_sentence_nats_are_those_of_the_definition(name: str) -> None:
    model = model_of(name)
    sentences = random_sentences(150, V, np.random.default_rng(1))  # more than two blocks
    nats = sentence_nats(model, sentences, CPU)
    assert nats.dtype == np.float64
    for sentence, value in zip(sentences, nats, strict=True):
        inputs = torch.tensor([[BOS, *sentence[:-1].tolist()]])
        with torch.no_grad():
            log_probs = torch.log_softmax(model(inputs)[0].double(), dim=1)
        by_hand = -sum(float(log_probs[t, word]) for t, word in enumerate(sentence))
        assert value == pytest.approx(by_hand, rel=1e-5)


def test_the_probabilities_of_all_one_word_sentences_leave_room_for_specials_only() -> None:
    model = model_of()
    nats = sentence_nats(model, np.arange(V, dtype=np.int32)[:, None], CPU)
    assert np.exp(-nats).sum() == pytest.approx(1.0, abs=1e-6)


def test_dropout_and_training_mode_do_not_reach_the_score() -> None:
    model = build(MODELS["cifg"](embedding=8, hidden=12, dropout=0.5), V)
    model.initialise(torch_stream(4, "init"))
    sentences = random_sentences(5, V, np.random.default_rng(1))
    expected = sentence_nats(model.eval(), sentences, CPU)
    assert np.array_equal(sentence_nats(model.train(), sentences, CPU), expected)
    assert model.training


# -- the null -------------------------------------------------------------------------------------


def test_a_model_that_never_saw_the_canaries_gives_uniform_ranks(config: Config) -> None:
    """Theory: E = log2 M - log2(M!)/M bits for |R| = M, near 1/ln 2; P(exposure >= t) = 2^-t."""
    count, references = 400, 1000
    options = CanaryOptions(per_cell=0, held_out=count, references=references, sentences=8)
    federation = open_federation(replace(config, canaries=options, seed=5))
    vocabulary = len(federation.corpus.vocabulary)
    table = measure_exposure(
        model_of(vocabulary=vocabulary), federation.planted, 2, np.zeros(count, np.int32), CPU
    )
    assert set(table.kind) == {"held_out"}
    bits = table.exposure_bits.to_numpy()
    size = references + 1
    mean = math.log2(size) - math.lgamma(size + 1) / math.log(2) / size
    assert mean == pytest.approx(1.4364, abs=2e-4)  # published for |R| = 1000
    # One set of references ranks all canaries, which adds their share to the variance.
    sigma = 1.4427 * math.sqrt(1 / count + 1 / references)
    assert abs(bits.mean() - mean) < 3 * sigma
    ranks = size / 2**bits
    np.testing.assert_allclose(ranks, np.round(ranks), atol=1e-6)
    assert ranks.min() >= 1
    assert ranks.max() <= size
    assert stats.kstest((ranks - 0.5) / size, "uniform").pvalue > 0.001
    share = (bits >= 3).mean()
    assert abs(share - 1 / 8) < 3 * math.sqrt(1 / 8 * 7 / 8 * (1 / count + 1 / references))
    assert not table.extracted.any()


# -- memorization ---------------------------------------------------------------------------------


def memorise(model: LanguageModel, sentence: tuple[int, ...]) -> None:
    """Train on the one sentence until it is by far the likeliest."""
    batch = Batch.of(np.array(sentence, np.int32), np.array([0, len(sentence)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        training_loss(model, batch)[0].backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("name", sorted(n for n in MODELS if "small" not in n))
def test_a_memorised_canary_is_extracted_and_its_exposure_is_at_the_ceiling(name: str) -> None:
    model = model_of(name)
    sentences = random_sentences(1012, V, np.random.default_rng(2))
    words = [tuple(int(w) for w in row) for row in sentences[:12]]
    memorise(model, words[0])
    canaries = [Canary(0, words[0], 2, 5, (0, 2))]
    canaries += [Canary(i, words[i], 0, 0, ()) for i in range(1, 12)]
    planted = Planted(tuple(canaries), sentences[12:], ())
    participations = np.array([7, *[0] * 11])
    for prefix_words in (1, 2, 4):
        table = measure_exposure(model, planted, prefix_words, participations, CPU)
        assert table.extracted.tolist() == [True, *[False] * 11]
    assert table.exposure_bits[0] == table.ceiling_bits[0] == pytest.approx(math.log2(1001))
    assert (table.exposure_bits[1:] < math.log2(1001)).all()
    assert table.holder_participations.tolist() == [7, *[0] * 11]
    assert table.kind.tolist() == ["planted", *["held_out"] * 11]
    assert (table["users"][0], table.repeats[0]) == (2, 5)
    assert len(table) == 12


def test_greedy_completions_follow_the_likeliest_words(config: Config) -> None:
    model = model_of()
    prefixes = random_sentences(7, V, np.random.default_rng(3))[:, :2]
    found = greedy_completions(model, prefixes, 3)
    assert found.shape == (7, 3)
    for prefix, completion in zip(prefixes, found, strict=True):
        text = [BOS, *prefix.tolist()]
        for word in completion:
            with torch.no_grad():
                logits = model(torch.tensor([text]))[0, -1]
            assert word == int(logits[N_SPECIALS:].argmax()) + N_SPECIALS
            text.append(int(word))


def test_specials_are_never_offered_even_when_they_are_likeliest() -> None:
    model = build(MODELS["lstm"](hidden=12, embedding=8), V)
    model.initialise(torch_stream(4, "init"))
    with torch.no_grad():
        assert model.output_bias is not None
        model.output_bias[:N_SPECIALS] = 50.0
    prefixes = random_sentences(5, V, np.random.default_rng(3))[:, :2]
    assert greedy_completions(model, prefixes, 3).min() >= N_SPECIALS


def test_measuring_changes_neither_threads_nor_the_model(config: Config) -> None:
    federation = open_federation(config)
    model = model_of(vocabulary=len(federation.corpus.vocabulary))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.set_num_threads(2)
    planted = federation.planted
    measure_exposure(model, planted, 2, np.zeros(len(planted.canaries), np.int32), CPU)
    assert torch.get_num_threads() == 2
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert WORDS == 5
