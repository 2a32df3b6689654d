"""The measure `canaries`: ranks and beams against brute force, its rows, its checks sabotaged."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import canaries as planting
from fedsim.leakage import decoding, examination, exposure, ranks
from fedsim.leakage.base import Finding, Findings, Subject, tidy
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.checks import canaries as checks
from fedsim.leakage.extrapolation import SkewNormal
from fedsim.leakage.measures.canaries import Canaries, summarised
from fedsim.leakage.unseen import chance_of
from fedsim.models import BOS, MODELS, N_SPECIALS, LanguageModel, build
from fedsim.runs import Run
from fedsim.seeding import torch_stream

V = N_SPECIALS + 20
FAMILIES = sorted(n for n in MODELS if "small" not in n)


def model_of(name: str) -> LanguageModel:
    """A small model drawn from a seed, far enough from uniform to tell words apart."""
    shape = {"layers": 1, "heads": 2} if name == "transformer" else {"hidden": 12}
    model = build(MODELS[name](embedding=8, **shape), V)
    model.initialise(torch_stream(4, "init"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2.0
    return model.eval()


def endings(model: LanguageModel, prefix: list[int], words: int) -> dict[tuple[int, ...], float]:
    """ln p of every ending of so many words, by the definition of the model, in float64."""
    every = list(itertools.product(range(N_SPECIALS, V), repeat=words))
    text = torch.tensor([[BOS, *prefix, *ending[:-1]] for ending in every])
    with torch.no_grad():
        log_probs = torch.log_softmax(model(text).double(), dim=2)[:, -words:]
    picked = log_probs.gather(2, torch.tensor(every)[:, :, None])[:, :, 0].sum(1)
    return dict(zip(every, picked.tolist(), strict=True))


# -- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exact_rank_is_the_number_of_pairs_at_least_as_likely(name: str) -> None:
    model = model_of(name)
    for sentence in planting.random_sentences(12, V, np.random.default_rng(1)):
        every = endings(model, sentence[:3].tolist(), 2)
        own = every[tuple(sentence[3:].tolist())]
        assert ranks.exact_rank(model, sentence) == sum(p >= own - 1e-5 for p in every.values())


def test_the_exact_rank_of_what_is_likeliest_and_of_what_is_not() -> None:
    model = model_of("cifg")
    every = endings(model, [7, 8, 9], 2)
    best, worst = max(every, key=every.__getitem__), min(every, key=every.__getitem__)
    assert ranks.exact_rank(model, np.array([7, 8, 9, *best])) == 1
    assert ranks.exact_rank(model, np.array([7, 8, 9, *worst])) == (V - N_SPECIALS) ** 2
    assert ranks.pair_bits(V) == pytest.approx(2 * math.log2(20))


def test_a_score_that_is_no_number_is_ranked_last() -> None:
    model = model_of("cifg")
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    sentence = np.arange(5, 10)
    assert ranks.exact_rank(model, sentence) == (V - N_SPECIALS) ** 2
    assert not ranks.likeliest(model, sentence, np.full((3, 2), 12))


@pytest.mark.parametrize("words", [1, 2, 3])
def test_a_canary_is_got_by_guessing_where_no_guess_is_as_likely(words: int) -> None:
    model = model_of("cifg")
    rng = np.random.default_rng(2)
    found, count = [], 8 if words == 3 else 30
    for sentence in planting.random_sentences(count, V, rng):
        every = endings(model, sentence[: 5 - words].tolist(), words)
        guesses = rng.integers(N_SPECIALS, V, size=(2, words))
        own = tuple(sentence[5 - words :].tolist())
        others = [tuple(g.tolist()) for g in guesses]
        expected = all(every[g] < every[own] for g in others if g != own)
        found.append(ranks.likeliest(model, sentence, guesses))
        assert found[-1] == expected
    assert 0 < sum(found) < count


def test_a_tie_with_a_guess_counts_against_the_attacker() -> None:
    alike = checks.Table.of(np.ones((V, V)))
    sentence = np.array([5, 6, 7, 8, 9])
    assert not ranks.likeliest(alike, sentence, np.array([[8, 10]]))
    assert ranks.likeliest(alike, sentence, np.array([[8, 9]])), "the ending itself is no rival"


def test_chance_is_the_mean_over_all_ranks() -> None:
    for size in (1, 2, 100, 1001):
        by_hand = np.mean([math.log2(size) - math.log2(r) for r in range(1, size + 1)])
        assert ranks.null_mean_bits(size) == pytest.approx(by_hand, abs=1e-9)
    assert ranks.null_mean_bits(100) == pytest.approx(1.3962, abs=1e-4)  # published
    assert ranks.null_mean_bits(10**8) == pytest.approx(1 / math.log(2), abs=1e-6)


# -- beams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_wide_beam_finds_the_best_of_all_endings_in_order(name: str) -> None:
    model = model_of(name)
    prefixes = planting.random_sentences(3, V, np.random.default_rng(3))[:, :2]
    kept = decoding.beam_completions(model, prefixes, 2, 400)
    assert kept.shape == (3, 400, 2)
    for prefix, beams in zip(prefixes.tolist(), kept.tolist(), strict=True):
        every = endings(model, prefix, 2)
        scores = [every[tuple(beam)] for beam in beams]
        np.testing.assert_allclose(scores, sorted(every.values(), reverse=True), atol=1e-5)
        assert len({tuple(beam) for beam in beams}) == 400


def test_a_beam_of_five_is_the_textbook_search() -> None:
    model = model_of("lstm")
    prefixes = planting.random_sentences(6, V, np.random.default_rng(4))[:, :2]
    kept = decoding.beam_completions(model, prefixes, 3, 5)
    for prefix, beams in zip(prefixes.tolist(), kept.tolist(), strict=True):
        hypotheses: list[tuple[int, ...]] = [()]
        for length in (1, 2, 3):
            every = endings(model, prefix, length)
            grown = [(*h, w) for h in hypotheses for w in range(N_SPECIALS, V)]
            hypotheses = sorted(grown, key=lambda h: -every[h])[:5]
        assert [tuple(beam) for beam in beams] == hypotheses


def test_a_beam_of_one_is_greedy() -> None:
    model = model_of("cifg")
    prefixes = planting.random_sentences(9, V, np.random.default_rng(5))[:, :2]
    one = decoding.beam_completions(model, prefixes, 3, 1)[:, 0]
    assert np.array_equal(one, decoding.greedy_completions(model, prefixes, 3))


def test_ties_go_to_the_lower_word_and_specials_are_never_typed() -> None:
    weights = np.ones((V, V))
    weights[:, :N_SPECIALS] = 100.0
    w = N_SPECIALS
    kept = decoding.beam_completions(checks.Table.of(weights), np.array([[w + 1], [w + 2]]), 2, 5)
    assert kept.tolist() == [[[w, w], [w, w + 1], [w, w + 2], [w, w + 3], [w, w + 4]]] * 2


# -- extrapolation --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-3.0, 0.0, 2.0])
def test_the_extrapolation_finds_a_known_tail(shape: float) -> None:
    law = stats.skewnorm(shape, 55.0, 4.0)
    fit = SkewNormal.fit(law.rvs(size=20_000, random_state=1))
    assert not fit.refused
    nats = law.ppf([0.3, 1e-2, 1e-4])
    assert fit.bits(nats, 66.0) == pytest.approx(-np.log2([0.3, 1e-2, 1e-4]), rel=0.06)
    assert fit.bits(np.array([-1e4, -math.inf, 1e4, math.inf, math.nan]), 66.0).tolist() == [
        66.0, 66.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip


def test_a_law_that_is_not_skew_normal_is_refused() -> None:
    rng = np.random.default_rng(1)
    halves = np.concatenate([rng.normal(40, 1, 500), rng.normal(60, 1, 500)])
    for nats in (halves, np.full(1000, 50.0), np.array([1.0, math.nan, 2.0])):
        assert SkewNormal.fit(nats).refused


def test_a_refused_fit_is_not_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = checks._planted(controls=10)
    model = checks._path(planted)
    bits = checks._examined(model, planted).extrapolated_exposure_bits
    assert bits[0] > math.log2(1001)
    monkeypatch.setattr("fedsim.leakage.extrapolation.REFUSED", 1.1)
    assert checks._examined(model, planted).extrapolated_exposure_bits.isna().all()


# -- the measure ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(finished: Run) -> Subject:
    """The finished tiny run."""
    federation = open_federation(finished.config)
    participations = np.bincount(finished.clients.user, minlength=federation.users)
    return Subject(finished.model(), finished.config, federation, participations, seed=1)


@pytest.fixture(scope="module")
def findings(subject: Subject) -> Findings:
    """What the measure says of it."""
    return Canaries(guesses=1000, exact_controls=3).measure(subject)


def test_the_details_agree_with_what_the_run_recorded(finished: Run, findings: Findings) -> None:
    recorded = finished.exposure
    last = recorded[recorded["round"] == recorded["round"].max()].reset_index(drop=True)
    table = findings.details["canaries"]
    for column in ("canary", "kind", "nats", "exposure_bits", "holder_participations"):
        assert table[column].tolist() == last[column].tolist()
    assert table.greedy.tolist() == last.extracted.tolist()
    assert table.words.str.split().str.len().eq(5).all()


def test_every_row_has_its_interval_and_control(findings: Findings) -> None:
    table = tidy("canaries", Canaries(), findings, round=3)
    rates = table[table.quantity == "extraction_rate"]
    assert ((rates.low <= rates.estimate) & (rates.estimate <= rates.high)).all()
    assert rates.control.notna().all()
    held_out = table[table.group == "held out"].set_index("quantity")
    assert held_out.control["exposure_bits"] == pytest.approx(1.4364, abs=1e-4)
    assert held_out.n["exact_exposure_bits"] == 3
    planted = table[(table.quantity == "exposure_bits") & (table.group != "held out")]
    assert (planted.control == held_out.estimate["exposure_bits"]).all()
    assert not table.duplicated(["quantity", "group"]).any()
    assert (table.threat != "").all()


def test_the_measure_is_a_function_of_the_seed(subject: Subject, findings: Findings) -> None:
    torch.set_num_threads(2)
    again = Canaries(guesses=1000, exact_controls=3).measure(subject)
    assert repr(again.rows) == repr(findings.rows)  # NaN is not equal to itself
    pd.testing.assert_frame_equal(again.details["canaries"], findings.details["canaries"])


def test_a_run_without_canaries_is_refused_with_the_cure(config: Config, subject: Subject) -> None:
    bare = replace(config, canaries=config.canaries.model_copy(update={"per_cell": 0}))
    federation = open_federation(bare)
    without = replace(subject, config=bare, federation=federation)
    with pytest.raises(FedsimError, match=r"canaries\.per_cell=1"):
        Canaries().measure(without)


def by_hand(**columns: list[Any]) -> pd.DataFrame:
    """A table of `examine` with three planted canaries and two controls."""
    ceiling = math.log2(1001)
    table = {
        "canary": [0, 1, 2, 3, 4],
        "kind": ["planted"] * 3 + ["held_out"] * 2,
        "users": [1, 4, 4, 0, 0],
        "repeats": [1, 10, 10, 0, 0],
        "holder_participations": [2, 9, 0, 0, 0],
        "exposure_bits": [math.log2(1001 / 10), ceiling, ceiling, 1.0, 2.0],
        "ceiling_bits": [ceiling] * 5,
        "exact_rank": [50.0, 1.0, 1.0, 900.0, math.nan],
        "exact_exposure_bits": [3.0, 9.0, 9.0, 0.5, math.nan],
        "extrapolated_exposure_bits": [7.0, 20.0, 20.0, 1.0, 2.0],
        "ks_p": [0.5] * 5,
        **{method: [False, True, True, False, False] for method in examination.METHODS},
    }
    return pd.DataFrame({**table, **columns})


def rows_of_table(table: pd.DataFrame) -> dict[tuple[str, str], Finding]:
    """The measure's rows by quantity and group."""
    rows = summarised(table, 1000, 10_000, np.random.default_rng(0))
    return {(row.quantity, row.group): row for row in rows}


def test_canaries_that_no_model_was_trained_on_are_counted_and_left_out() -> None:
    rows = rows_of_table(by_hand())
    idle = rows["canaries_not_trained", ""]
    assert (idle.estimate, idle.n) == (1, 3)
    assert idle.note.endswith(": 2")
    assert rows["exposure_bits", "users=4 repeats=10"].n == 1
    assert rows["extraction_rate", "all planted method=beam"].estimate == 0.5
    nobody = rows_of_table(by_hand(holder_participations=[0] * 5))
    assert nobody["canaries_not_trained", ""].estimate == 3
    assert not [key for key in nobody if "planted" in key[1] or "users" in key[1]]


def test_one_canarys_interval_is_of_its_rank_among_the_references() -> None:
    rows = rows_of_table(by_hand())
    first = rows["exposure_bits", "users=1 repeats=1"]  # nine of a thousand are as likely
    exact = stats.binomtest(9, 1000).proportion_ci(0.95, method="exact")
    assert (first.low, first.high) == pytest.approx((-np.log2(exact.high), -np.log2(exact.low)))
    top = rows["exposure_bits", "users=4 repeats=10"]
    assert top.low == pytest.approx(-math.log2(1 - 0.025 ** (1 / 1000)))
    assert math.isnan(top.high)
    assert top.note.startswith("at least: one is at the ceiling")


def test_a_refused_fit_is_said_in_its_rows() -> None:
    none = [math.nan] * 5
    rows = rows_of_table(by_hand(ks_p=[0.04] * 5, extrapolated_exposure_bits=none))
    for group in ("all planted", "users=4 repeats=10"):
        row = rows["extrapolated_exposure_bits", group]
        assert math.isnan(row.estimate)
        assert math.isnan(row.low)
        assert row.note == "no figure: the references are not skew-normal (KS p = 0.04)"
    assert math.isnan(rows["extrapolated_exposure_bits", "held out"].estimate)
    assert math.isnan(rows["spearman_with_copies", "extrapolated_exposure_bits"].estimate)
    assert "skew-normal" not in rows["exposure_bits", "all planted"].note


def test_the_chance_of_a_mean_exposure_is_that_of_unseen_canaries() -> None:
    rng, size = np.random.default_rng(5), 1001
    for n, mean in ((1, 4.92), (5, 2.0), (5, 3.2), (30, 1.9)):
        ranks_of_unseen = rng.integers(1, size + 1, (200_000, n))
        means = (math.log2(size) - np.log2(ranks_of_unseen)).mean(1)
        simulated = float((means >= mean).mean())
        bound = chance_of(np.full(n, mean))
        assert simulated - 4 * math.sqrt(simulated / 200_000) <= bound < 1.2 * simulated + 1e-4
        assert bound == pytest.approx(stats.gamma.sf(n * mean * math.log(2), n), rel=1e-9)
    assert chance_of(np.zeros(7)) == 1
    assert chance_of(np.full(40, 9.97)) < 1e-60
    assert math.isnan(chance_of(np.empty(0)))


def test_each_cell_says_how_often_unseen_canaries_have_as_much() -> None:
    rows = rows_of_table(by_hand(exposure_bits=[2.0, 5.0, 3.0, 1.0, 2.0]))
    notes = [rows["exposure_bits", g].note for g in ("users=1 repeats=1", "users=4 repeats=10")]
    assert notes == [f"unseen ones have as much with p = {p}" for p in (0.2, 0.03)]


def test_the_trend_is_spearmans() -> None:
    n = 40
    rng = np.random.default_rng(3)
    users, repeats = rng.choice([1, 4, 16], n), rng.choice([1, 10, 50], n)
    bits = np.log(users * repeats) + rng.normal(size=n)
    table = pd.concat([by_hand().head(1)] * n, ignore_index=True)
    table = table.assign(users=users, repeats=repeats, exposure_bits=bits)
    table = pd.concat([table, by_hand().tail(2)], ignore_index=True)
    row = rows_of_table(table)["spearman_with_copies", "exposure_bits"]
    assert row.estimate == pytest.approx(stats.spearmanr(users * repeats, bits).statistic)
    assert row.low < row.estimate < row.high < 1
    assert row.low > row.control == 0.0
    # An exposure that is the same for all has no trend, and none is made up.
    flat = rows_of_table(table)["spearman_with_copies", "exact_exposure_bits"]
    assert math.isnan(flat.estimate)
    assert math.isnan(flat.low)


# -- the self-checks, and that they notice --------------------------------------------------------


def failures(name: str) -> list[str]:
    """The truths that a check finds violated."""
    return [check.truth for check in CHECKS[name]() if not check.passed]


@pytest.mark.parametrize("name", ["exposure", "extraction"])
def test_the_checks_pass(name: str) -> None:
    assert failures(name) == []


def shifted_ranks(canary: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The canary is not counted among its own candidates."""
    as_likely = np.searchsorted(np.sort(references), canary, side="right")
    return np.log2(len(references) + 1) - np.log2(np.maximum(as_likely, 0.5))


def ties_for_the_attacker(canary: np.ndarray, references: np.ndarray) -> np.ndarray:
    """References that score the same do not count."""
    less = np.searchsorted(np.sort(references), canary, side="left")
    return np.log2(len(references) + 1) - np.log2(1 + less)


def sorted_before_the_cut(
    count: int, size: int, rng: np.random.Generator, specials: int
) -> np.ndarray:
    """The bug of TensorFlow Privacy: np.unique sorts, and the first n have low word ids."""
    return np.unique(planting.random_sentences(2 * count, size, rng, specials), axis=0)[:count]


def references_of_frequent_words(
    count: int, size: int, rng: np.random.Generator, specials: int
) -> np.ndarray:
    """References follow another law than canaries."""
    sentences = planting.random_sentences(count, size, rng, specials)
    sentences[-1000:] = planting.random_sentences(1000, size // 3, rng, specials)
    return sentences


SENTENCE_NATS, EXACT_RANK = exposure.sentence_nats, ranks.exact_rank
LIKELIEST, BITS = ranks.likeliest, SkewNormal.bits


def shorter_references(model: Any, sentences: np.ndarray, device: torch.device) -> np.ndarray:
    """References are scored by their first four words only."""
    words = 4 if len(sentences) == 1000 else 5
    return SENTENCE_NATS(model, sentences[:, :words], device)


def peek(model: Any, prefixes: np.ndarray, words: int) -> np.ndarray:
    """An extraction that looks the canary up."""
    planted = checks._planted(controls=100)
    known = {c.words[: prefixes.shape[1]]: c.words for c in planted.canaries}
    return np.array([known.get(tuple(p), (0,) * 5)[-words:] for p in prefixes.tolist()])


def peek_by_beams(model: Any, prefixes: np.ndarray, words: int, beams: int) -> np.ndarray:
    """The same among the beams."""
    return peek(model, prefixes, words)[:, None]


def prefix_again(model: Any, prefixes: np.ndarray, words: int, beams: int) -> np.ndarray:
    """A beam search that returns what it was given."""
    return np.resize(prefixes, (len(prefixes), beams, words))


def few_guesses(model: Any, sentence: np.ndarray, guesses: np.ndarray) -> bool:
    """A canary that one guess does not beat counts as found."""
    return LIKELIEST(model, sentence, guesses[:1])


def one_beam(model: Any, prefixes: np.ndarray, words: int, beams: int) -> np.ndarray:
    """A beam search that keeps the greedy hypothesis only."""
    return decoding.greedy_completions(model, prefixes, words)[:, None]


QUICK: list[tuple[str, Any, str, Any, str]] = [
    ("exposure", ranks, "exposure_bits", shifted_ranks, "at the ceiling"),
    ("exposure", planting, "_distinct", sorted_before_the_cut, "word frequencies"),
    ("exposure", ranks, "exact_rank", lambda *a: max(EXACT_RANK(*a) - 1, 1), "counting all pairs"),
    ("extraction", decoding, "greedy_completions", peek, "greedy finds no held-out"),
    ("extraction", decoding, "beam_completions", prefix_again, "beam extraction succeeds"),
    ("extraction", decoding, "beam_completions", one_beam, "behind the less likely word"),
    ("extraction", ranks, "likeliest", few_guesses, "random finds no held-out"),
]
SLOW: list[tuple[str, Any, str, Any, str]] = [
    ("exposure", ranks, "exposure_bits", ties_for_the_attacker, "alike"),
    ("exposure", planting, "_distinct", references_of_frequent_words, "word frequencies"),
    ("exposure", exposure, "sentence_nats", shorter_references, "untrained"),
    ("exposure", ranks, "exact_rank", lambda *a: EXACT_RANK(*a) // 2 + 1, "exact exposure"),
    ("exposure", ranks, "TIE_NATS", -1e-5, "alike"),
    ("exposure", SkewNormal, "bits", lambda *a: 2 * BITS(*a), "mean extrapolation"),
    ("extraction", decoding, "beam_completions", peek_by_beams, "beam finds no held-out"),
    ("extraction", ranks, "likeliest", lambda *a: True, "random finds no held-out"),
    ("extraction", ranks, "likeliest", lambda *a: False, "random extraction succeeds"),
]


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "broken", "truth"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_a_sabotaged_measure_fails_its_checks(
    name: str,
    owner: Any,
    attribute: str,
    broken: Any,
    truth: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, attribute, broken)
    violated = failures(name)
    assert any(truth in said for said in violated), violated
