"""Extraction from real text: by hand, against decoding, and checks that notice a broken measure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import fedsim.leakage.texts as texts
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.data.vocabulary import NUMBER, SPECIALS
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import completion, discoverable, ranking, scoring
from fedsim.leakage.base import Findings, Subject, tidy
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.checks.village import MEMBERS, knowing, village
from fedsim.leakage.completion import Trials
from fedsim.leakage.decoding import greedy_completions
from fedsim.leakage.generating import FALLING, Rule, drawn, generate
from fedsim.leakage.intervals import newcombe, paired, wilson
from fedsim.leakage.measures import MEASURES
from fedsim.leakage.scoring import score
from fedsim.leakage.text_index import Holdings, TextIndex
from fedsim.leakage.texts import Texts
from fedsim.models import EOS, MODELS, N_SPECIALS, UNK, LanguageModel, build
from fedsim.parameters import Parameters
from fedsim.runs import Run
from fedsim.seeding import stream, torch_stream

V = 64
FAMILY = ("completion", "memorisation", "generation", "suspicion", "text-index")


def model_of(name: str) -> LanguageModel:
    """A small model drawn from a seed, with favourites."""
    shape = {"layers": 1, "heads": 2} if name == "transformer" else {"hidden": 12}
    model = build(MODELS[name](embedding=8, **shape), V)
    model.initialise(torch_stream(4, "init"))
    parameters = Parameters.from_model(model)
    parameters.flat *= 1 if name == "transformer" else 4  # far from uniform
    parameters.load_into(model)
    return model.eval()


def sequences(sentences: list[list[int]]) -> Sequences:
    """Lists of ids as `Sequences`."""
    lengths = np.array([len(s) for s in sentences], np.int64)
    return Sequences(np.array([w for s in sentences for w in s], np.int32), offsets_of(lengths))


def measured(name: str, subject: Subject, **options: Any) -> Findings:
    """What a measure with these options finds."""
    return MEASURES[name].model_validate(options).measure(subject)


def audited(run: Run) -> Subject:
    """A finished run as a subject."""
    federation = open_federation(run.config)
    participations = np.bincount(run.clients.user, minlength=federation.users)
    return Subject(run.model(), run.config, federation, participations, seed=3)


# -- the self-checks, whole and sabotaged ---------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_the_truth_is_found(name: str) -> None:
    assert [check for check in CHECKS[name]() if not check.passed] == []


def peeked(model: object, text: Sequences, heard: object = None) -> np.ndarray:
    """The suffix, without asking the model."""
    return text.tokens.astype(np.int64)


def everybody(subject: Subject) -> Texts:
    return Texts.of(subject.federation, np.arange(subject.federation.users))


def any_word(trials: Trials, right: np.ndarray) -> np.ndarray:
    return ~trials_given(trials, ~right)


trials_given, ranked, find = Trials.given, ranking.first_ranked, TextIndex.find

SABOTAGE: dict[str, tuple[str, Any, str, Any]] = {
    "the suffix is peeked at": (
        "completion", completion, "greedy_words", peeked,
    ),
    "one right word is enough": ("completion", Trials, "given", any_word),
    "the suspect looks on itself": (
        "memorisation", completion, "greedy_words", peeked,
    ),
    "the trigram is fitted on the members": (
        "memorisation", texts, "unseen", lambda subject: subject.members,
    ),
    "members are their own control": (
        "memorisation", texts, "controls", lambda subject: {"non-members": subject.members},
    ),
    "the control's text counts as trained on": ("generation", texts, "trained", everybody),
    "more text is called equal": ("generation", Texts, "some_users", lambda self, most, rng: self),
    "the header of zlib counts as text": ("suspicion", scoring, "HEADER", 0),
    "a window is the whole sentence": ("suspicion", ranking, "windows", ranking.perplexity),
    "the ranking is upside down": (
        "suspicion", ranking, "first_ranked", lambda s, text, most: ranked(-s, text, most),
    ),
    "repeats of a user are users": (
        "text-index", Holdings, "users", property(lambda self: self.repeats),
    ),
    "a part is a whole": (
        "text-index", TextIndex, "find", lambda self, queries, whole=False: find(self, queries),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, where, name, instead = SABOTAGE[what]
    monkeypatch.setattr(where, name, instead)
    assert any(not check.passed for check in CHECKS[family]())


# -- completion -----------------------------------------------------------------------------------


def test_what_is_asked_of_which_sentence_by_hand() -> None:
    number = SPECIALS.index(NUMBER)
    text = sequences([[6, 7, 8, 9, 10, 11], [6, 7, 8], [UNK, 7, 8, 9], [6, 7, UNK, 9], [6, 7], []])
    text = Sequences.concatenate([text, sequences([[6, 7, number, 9]])])
    trials = Trials(text, prefix=2, least=1, most=2)
    assert trials.sentence.tolist() == [0, 1, 2]
    assert [s.tolist() for s in trials.openings] == [[6, 7, 8, 9], [6, 7, 8], [UNK, 7, 8, 9]]
    right = np.ones(len(text.tokens), bool)
    right[[0, 4, 8]] = False  # in a prefix, behind a suffix, the suffix of the second
    assert trials.given(right).tolist() == [True, False, True]
    whole = Trials(text, prefix=2, least=4, most=0)
    assert [s.tolist() for s in whole.openings] == [[6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize("name", ["cifg", "lstm", "transformer"])
def test_one_pass_is_greedy_decoding(name: str) -> None:
    """Also where the decoder goes astray in the middle of a suffix."""
    model, rng = model_of(name), np.random.default_rng(1)
    rows = rng.integers(N_SPECIALS, V, size=(60, 6))
    said = greedy_completions(model, rows[:, :2], 4)
    for i in range(60):
        rows[i, 2 : 2 + i % 5] = said[i, : i % 5]
    text = sequences(rows.tolist())
    right = completion.greedy_words(model, text) == text.tokens
    again = greedy_completions(model, rows[:, :2], 4)
    for words in (1, 2, 4):
        found = Trials(text, 2, least=1, most=words).given(right)
        assert found.tolist() == (again[:, :words] == rows[:, 2 : 2 + words]).all(1).tolist()
        assert 0 < found.sum() < 60


# -- generation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "temperature"), [(0, 1.0), (3, 1.0), (3, 2.0)])
def test_words_are_drawn_with_the_probabilities_of_the_rule(top: int, temperature: float) -> None:
    weights = np.array([5.0, 5.0, 2.0, 9.0, 7.0, 8.0, 1.0, 3.0, 0.5, 4.0])  # special ones first
    allowed = np.array([0, 0, 2.0, 0, 0, 0, 1.0, 3.0, 0.5, 4.0])
    assert len(SPECIALS) == 6
    if top:
        allowed[[6, 8]] = 0.0
    expected = allowed ** (1 / temperature) / (allowed ** (1 / temperature)).sum()
    n = 20_000  # a grid over (0, 1) instead of chance
    scores = torch.log(torch.tensor(weights / weights.sum())).float().repeat(n, 1)
    ids = drawn(scores, top, temperature, (np.arange(n) + 0.5) / n)
    assert np.bincount(ids.numpy(), minlength=10) / n == pytest.approx(expected, abs=2 / n)


def test_the_temperature_falls_to_one() -> None:
    rule = Rule(0, 3.0)
    assert [rule.temperature(word) for word in range(FALLING + 2)] == [3.0, 2.5, 2.0, 1.5, 1.0, 1.0]
    assert Rule().temperature(0) == 1.0


@pytest.mark.parametrize("name", ["cifg", "lstm", "transformer"])
def test_generated_words_are_scored_as_they_are_typed(name: str) -> None:
    """Sentences leave the batch as they end: the states of the others stay theirs."""
    model = model_of(name)
    prefixes = np.random.default_rng(2).integers(N_SPECIALS, V, size=(700, 2))  # more than a batch
    made = generate(model, prefixes, Rule(40, 1.5), 7, stream(0, "test"))
    again = generate(model, prefixes, Rule(40, 1.5), 7, stream(0, "test"))
    assert np.array_equal(made.sentences.tokens, again.sentences.tokens)
    lengths = made.sentences.lengths
    assert lengths.min() == 2
    assert lengths.max() == 7
    firsts = made.sentences.tokens[made.sentences.offsets[:-1, None] + [0, 1]]
    assert np.array_equal(firsts, prefixes)
    assert made.sentences.tokens.min() >= N_SPECIALS
    expected = score(model, made.sentences).log_probs
    assert made.log_probs == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_sentence_ends_where_its_end_is_drawn() -> None:
    said = np.array([[6, 7, 8], [9, 10, 11]])
    model = knowing(said, 12)
    made = generate(model, np.empty((40, 0), np.int32), Rule(0), 10, stream(0, "test"))
    assert {tuple(s.tolist()) for s in made.sentences} == {(6, 7, 8), (9, 10, 11)}
    empty = torch.zeros(12, 12)
    empty[:, EOS] = 50.0
    silent = type(model)(empty)
    assert (
        generate(silent, np.empty((3, 0), np.int32), Rule(0), 10, stream(0, "t")).log_probs.size
        == 0
    )


# -- ranking --------------------------------------------------------------------------------------


def test_the_trigrams_of_the_paper() -> None:
    """Carlini et al. 2021, section 5.1: 'my name my name my name'."""
    assert ranking.trigrams(np.array([4, 5, 4, 5, 4, 5])) == Counter({(4, 5, 4): 2, (5, 4, 5): 2})


def test_a_sentence_that_repeats_a_better_one_is_left_out() -> None:
    text = sequences(
        [[4, 5, 6, 7, 8, 9], [4, 5, 6, 7, 20, 21], [4, 5, 6, 30, 31, 32], [40, 41], [40, 41]]
    )
    # Of four trigrams the second shares two with the first, the third one.
    top = ranking.first_ranked(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), text, 100)
    assert top.tolist() == [0, 2, 3]
    top = ranking.first_ranked(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), text, 100)
    assert top.tolist() == [4, 2, 1]
    assert ranking.first_ranked(np.arange(5.0), text, 2).tolist() == [0, 2]


def test_only_one_of_equal_sentences_that_are_long_enough_remains() -> None:
    text = sequences([[4, 5], [4], [4, 5], [5, 4], [4, 5, 6]])
    assert ranking.distinct(text, 2).tolist() == [0, 3, 4]


# -- intervals ------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_the_published_one() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10 and 10/10 - 0/20."""
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe(10, 10, 0, 20) == pytest.approx((0.6791, 1.0), abs=5e-5)


def test_the_interval_of_pairs_covers() -> None:
    """Simulated: at least 95 % of the intervals hold the true difference 0.1 - 0.05."""
    rng = np.random.default_rng(5)
    counts = rng.multinomial(80, [0.1, 0.05, 0.85], size=2000)
    unique, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    ends = np.array([paired(int(a), int(b), 80) for a, b in unique])
    inside = (ends[:, 0] <= 0.05) & (ends[:, 1] >= 0.05)
    assert times[inside].sum() / 2000 >= 0.95


def test_the_share_extracted_is_that_of_other_users_too() -> None:
    """Simulated: whoever's sentences come out at all, all do. Wilson's alone covers 4 of 10."""
    rng, covered = np.random.default_rng(6), 0
    for _ in range(60):
        users = np.repeat(np.arange(30), 20)
        told = (rng.random(30) < 0.3)[users]
        trials = pd.DataFrame(
            {"user": users, "users": 1, "extracted": told, "opening": np.arange(600)}
        )
        found = discoverable._rate("", trials, rng)
        sentences = next(discoverable._counts("", trials, trials[:0], rng))
        assert found.interval == "wider of Wilson and bootstrap over users"
        covered += found.low <= 0.3 <= found.high and sentences.low <= 180 <= sentences.high
    assert covered >= 51


def test_no_hit_is_no_certainty() -> None:
    trials = pd.DataFrame({"user": np.arange(50), "extracted": [False] * 50})
    found = discoverable._rate("", trials, np.random.default_rng(7))
    assert found.high == pytest.approx(wilson(0, 50)[1])


# -- the measures ---------------------------------------------------------------------------------


def test_a_finished_run_is_measured_the_same_way_twice(finished: Run) -> None:
    subject = audited(finished)
    for name, options in (
        ("memorisation", {"sentences": 40, "prefix_words": (1, 2), "min_suffix_words": 1}),
        ("generation", {"sentences": 200, "min_words": 2}),
    ):
        first, second = (measured(name, subject, **options) for _ in range(2))
        one, two = (tidy(name, MEASURES[name](), f, 1) for f in (first, second))
        pd.testing.assert_frame_equal(one, two)
        for key, table in first.details.items():
            pd.testing.assert_frame_equal(table, second.details[key])
        assert one.n.gt(0).any()
        known = one.dropna(subset=["low", "high"])
        assert (known.low <= known.estimate + 1e-12).all()
        assert (known.estimate <= known.high + 1e-12).all()


def test_fewer_sentences_are_drawn_and_those_are_tried() -> None:
    found = measured("memorisation", village(), sentences=50, prefix_words=(2, 3))
    tried = {row.group: row.n for row in found.rows if row.quantity == "extraction_rate"}
    assert tried["prefix=2"] == tried["prefix=3 of=non-members"] == 50


def test_a_prefix_that_nobody_exceeds_is_not_resolvable() -> None:
    found = measured("memorisation", village(), prefix_words=(2, 9))
    rows = [row for row in found.rows if row.group.startswith("prefix=9")]
    assert len(rows) == 1
    assert math.isnan(rows[0].estimate)
    assert "not resolvable" in rows[0].note


def test_the_table_names_whose_secrets_came_out() -> None:
    subject = village()
    found = measured("memorisation", subject, prefix_words=(2,), suffix_words=0)
    table = found.details["extracted_sentences"]
    alone = table[table.users == 1]
    assert sorted(int(u) for u in alone.holders) == list(range(30))
    assert not alone.predictable.any()
    assert table[table.users > 1].predictable.all()
    for row in alone.itertuples():
        secret = subject.federation.sequences(int(row.holders)).tokens.reshape(-1, 6)[3]
        assert row.ids == " ".join(map(str, secret))
        assert row.words == subject.federation.corpus.vocabulary.decode(secret)


def test_without_non_members_test_users_are_the_control() -> None:
    subject = village()
    participations = subject.participations.copy()
    participations[:90] = 1
    everyone = replace(subject, participations=participations)
    found = measured("memorisation", everyone, prefix_words=(2,), suffix_words=0)
    rows = {(row.quantity, row.group): row for row in found.rows}
    # The model knows test users' rumours: 4 of 5 sentences come out, and nothing is leakage.
    assert rows["extraction_rate", "prefix=2"].control == 0.8
    assert rows["beyond_predictable", "prefix=2"].estimate < 0
    assert ("extraction_rate", "prefix=2 of=non-members") not in rows


def test_what_came_out_is_ranked_in_the_table() -> None:
    found = measured("generation", village(), sentences=500, min_words=6)
    table = found.details["generated_sentences"]
    assert table.rank_perplexity.notna().all()
    assert table.rank_perplexity.is_unique
    lower = [r for r in found.rows if r.group == "score=lower-case"]
    assert [r.note for r in lower] == ["not applicable: the vocabulary is lower-cased"]
    assert math.isnan(lower[0].estimate)


@pytest.mark.parametrize("source", ["decay", "prefix"])
def test_other_sources_say_what_the_model_knows(source: str) -> None:
    found = measured("generation", village(), sentences=300, min_words=6, source=source)
    rows = {(row.quantity, row.group): row for row in found.rows}
    assert rows["found_share", ""].estimate > 0.2
    assert rows["distinct_sentences", ""].n == 300


class Bench:
    """A workbench whose clients all send the same step; it notes who was asked."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def train(self, cells: Any, heard: Any = None) -> Any:
        """Never asked for."""
        raise AssertionError

    def updates(self, parameters: Parameters, texts: Any, config: Any) -> list[np.ndarray]:
        """A step of 0.5 from every client."""
        self.rounds.append(len(texts))
        return [np.full(parameters.layout.size, 0.5, np.float32) for _ in texts]


def test_the_medium_reference_is_trained_on_strangers(finished: Run) -> None:
    bench = Bench()
    subject = replace(audited(finished), bench=bench)
    found = measured("generation", subject, sentences=100, min_words=2, medium_reference=True)
    assert any(row.group == "score=medium-reference" for row in found.rows)
    assert len(set(bench.rounds)) == 1
    assert sum(bench.rounds) > 0


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("memorisation", {"suffix_words": 2, "min_suffix_words": 3}, "min_suffix_words = 3"),
    ("memorisation", {"prefix_words": (29,)}, "lower prefix_words"),
    ("generation", {"min_words": 9, "sentences": 20}, "lower min_words"),
    ("generation", {"medium_reference": True, "sentences": 20}, "workbench"),
    ("generation", {"source": "prefix", "prefix_words": 7, "sentences": 20}, "top-n"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_cannot_be_measured_is_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FedsimError, match=message):
        measured(name, village(), **options)


def test_few_or_no_strangers_are_no_control() -> None:
    subject = village()
    assert list(texts.controls(subject)) == ["non-members", "test users"]
    assert len(texts.trained(subject).sequences) == MEMBERS * 5
    participations = np.ones_like(subject.participations)
    participations[85:90] = 0
    few = replace(subject, participations=participations)
    assert list(texts.controls(few)) == ["test users"]
