"""Canaries: the grid as asked, real users untouched, and a generator that is truly uniform."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.federation import Federation, open_federation
from fedsim.leakage.canaries import WORDS, Planted, cells_of, plant, random_sentences
from fedsim.models import N_SPECIALS
from fedsim.report.page import render
from fedsim.runs import Run
from fedsim.sections import CanaryOptions
from fedsim.simulation import simulate

GRID = CanaryOptions(
    users=(1, 3), repeats=(1, 6, 8), per_cell=2, max_share=1, sentences=8, held_out=9
)


@pytest.fixture(scope="module")
def federation(config: Config) -> Federation:
    """The tiny federation with a grid of two canaries a cell."""
    return open_federation(replace(config, canaries=GRID))


@pytest.fixture(scope="module")
def planted(federation: Federation) -> Planted:
    """What was planted in it."""
    return federation.planted


def copies(planted: Planted, user: int, words: tuple[int, ...]) -> int:
    """How often a canary user's text has the sentence."""
    return sum(tuple(s.tolist()) == words for s in planted.sequences(user))


def test_the_grid_is_planted_as_asked(planted: Planted) -> None:
    cells = Counter((c.users, c.repeats) for c in planted.canaries if c.users)
    assert cells == dict.fromkeys(itertools.product((1, 3), (1, 6, 8)), 2)
    assert sum(c.users == 0 for c in planted.canaries) == 9
    assert [c.index for c in planted.canaries] == list(range(21))
    assert planted.users == 2 * 3 * (1 + 3)
    assert planted.references.shape == (1000, WORDS)


def test_each_holder_has_its_copies_and_the_rest_is_synthetic(
    planted: Planted, federation: Federation
) -> None:
    corpus = federation.corpus
    said = [tuple(s.tolist()) for u in corpus.split("donors") for s in corpus.sequences(u, "all")]
    held = [holder for canary in planted.canaries for holder in canary.holders]
    assert sorted(held) == list(range(planted.users)), "every canary user holds one canary"
    ordinary: list[tuple[int, ...]] = []
    for canary in planted.canaries:
        assert len(canary.holders) == canary.users
        for user in range(planted.users):
            expected = canary.repeats if user in canary.holders else 0
            assert copies(planted, user, canary.words) == expected
        for user in canary.holders:
            text = planted.sequences(user)
            assert len(text) == GRID.sentences
            ordinary += [tuple(s.tolist()) for s in list(text)[canary.repeats :]]
    assert {word for s in ordinary for word in s} <= {word for s in said for word in s}
    assert {s[0] for s in ordinary} <= {s[0] for s in said}
    long = [s for s in ordinary if len(s) >= 4]
    assert np.mean([s in said for s in long]) < 0.25, "the donors' sentences themselves"
    fillers = [planted.sequences(c.holders[0]) for c in planted.canaries if c.repeats == 1]
    texts = {f.tokens.tobytes() for f in fillers}
    assert len(texts) == len(fillers), "holders do not share their ordinary text"


def test_canary_users_do_not_say_what_donors_said(tmp_path: Path) -> None:
    """On people who all say the same words in their own order."""
    rng, chat = np.random.default_rng(4), tmp_path / "chat.csv"
    rows = [f"p{p},{' '.join(f'w{w}' for w in rng.integers(90, size=7))}"
            for p in range(40) for _ in range(25)]  # fmt: skip
    chat.write_text("\n".join(["user,text", *rows]))
    federation = open_federation(
        load("default", [f"data.path={chat}", "data.min_words=10", "canaries.max_share=1"])
    )
    corpus = federation.corpus
    said = {tuple(s) for user in range(corpus.users) for s in corpus.sequences(user, "all")}
    texts = [tuple(s) for text in federation.planted.texts for s in text]
    assert len(texts) == 75 * 100
    assert np.mean([s in said for s in texts if len(s) > 4]) < 0.01  # of one donor's 175 words


def test_all_sentences_are_different_and_have_only_words(
    planted: Planted, federation: Federation
) -> None:
    sentences = [c.words for c in planted.canaries]
    sentences += [tuple(int(w) for w in row) for row in planted.references]
    assert len(set(sentences)) == len(sentences) == 1021
    flat = np.array(sentences)
    assert flat.shape[1] == WORDS == 5
    assert flat.min() >= N_SPECIALS
    assert flat.max() < len(federation.corpus.vocabulary)
    assert len(np.unique(flat)) == len(federation.corpus.vocabulary) - N_SPECIALS


def test_real_users_are_as_they_were(federation: Federation, config: Config) -> None:
    bare = open_federation(replace(config, canaries=GRID.model_copy(update={"per_cell": 0})))
    assert bare.planted.users == 0
    corpus = bare.corpus
    assert bare.population.tolist() == list(corpus.split("train"))
    ids = federation.population
    assert ids.tolist() == [*corpus.split("train"), *range(corpus.users, corpus.users + 24)]
    for user in range(corpus.users):
        assert not federation.is_canary_user(user)
        ours, theirs = federation.sequences(user), corpus.sequences(user)
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert np.array_equal(ours.offsets, theirs.offsets)
    sizes = federation.sizes(ids)
    for user, (sequences, tokens) in zip(ids, sizes, strict=True):
        text = federation.sequences(int(user))
        assert (sequences, tokens) == (len(text), sum(len(s) + 1 for s in text))
        assert federation.is_canary_user(int(user)) == (user >= corpus.users)


def test_canaries_are_a_function_of_the_seed(federation: Federation, planted: Planted) -> None:
    again = plant(federation.corpus, GRID, 1)
    assert again.canaries == planted.canaries
    assert np.array_equal(again.references, planted.references)
    for a, b in zip(again.texts, planted.texts, strict=True):
        assert np.array_equal(a.tokens, b.tokens)
    other = plant(federation.corpus, GRID, 2)
    assert not {c.words for c in other.canaries} & {c.words for c in planted.canaries}


def test_words_are_uniform_at_every_place_and_places_are_independent() -> None:
    vocabulary = 54
    sentences = random_sentences(20_000, vocabulary, np.random.default_rng(3))
    for place in range(WORDS):
        counts = np.bincount(sentences[:, place], minlength=vocabulary)
        assert not counts[:N_SPECIALS].any()
        assert stats.chisquare(counts[N_SPECIALS:]).pvalue > 0.001
    for a, b in itertools.combinations(range(WORDS), 2):
        table = np.histogram2d(sentences[:, a], sentences[:, b], bins=(10, 10))[0]
        assert stats.chi2_contingency(table).pvalue > 0.001


def test_canaries_controls_and_references_follow_one_law(federation: Federation) -> None:
    """Sorting or de-duplicating before the cut would give canaries low or rare words."""
    groups: dict[str, list[int]] = {"planted": [], "held_out": [], "reference": []}
    for seed in range(40):
        planted = plant(federation.corpus, GRID.model_copy(update={"held_out": 12}), seed)
        for canary in planted.canaries:
            groups["planted" if canary.users else "held_out"] += canary.words
        groups["reference"] += planted.references[:12].ravel().tolist()
    middle = (N_SPECIALS + len(federation.corpus.vocabulary) - 1) / 2
    for words in groups.values():
        assert len(words) == 40 * 12 * WORDS
        spread = np.std(words) / len(words) ** 0.5
        assert abs(np.mean(words) - middle) < 4 * spread


@pytest.mark.parametrize(
    ("people", "share", "cells"),
    [
        (748, 0.1, 2 * list(itertools.product((1, 3), (1, 6, 8)))),  # all that is asked for
        (24, 1.0, 2 * list(itertools.product((1, 3), (1, 6, 8)))),
        (216, 0.1, 2 * list(itertools.product((1, 3), (1, 6, 8)))),  # 24 of 240
        (215, 0.1, list(itertools.product((1, 3), (1, 6, 8)))),  # one a cell: 12 users
        (107, 0.1, 2 * [(1, 1), (1, 6), (1, 8)]),  # no room for three users
        (27, 0.1, [(1, 1), (1, 6), (1, 8)]),
        (26, 0.1, [(1, 6), (1, 8)]),
        (9, 0.1, [(1, 8)]),  # one of ten
        (8, 0.1, []),
        (8, 0.5, 2 * [(1, 1), (1, 6), (1, 8)]),
    ],
)
def test_canary_users_are_no_more_than_their_share(
    people: int, share: float, cells: list[tuple[int, int]]
) -> None:
    found = cells_of(GRID.model_copy(update={"max_share": share}), people)
    assert found == cells
    users = sum(users for users, _ in found)
    assert users / (people + users) <= share + 1e-12


def test_where_there_is_room_for_fewer_the_others_are_what_they_were(
    planted: Planted, federation: Federation
) -> None:
    few = plant(federation.corpus, GRID.model_copy(update={"max_share": 0.1}), 1)
    assert (few.users, few.left_out) == (2, 10)  # among 23 people
    assert planted.left_out == 0
    ours, theirs = [c for c in few.canaries if c.users], planted.canaries
    assert [(c.users, c.repeats) for c in ours] == [(1, 6), (1, 8)]
    assert [c.words for c in few.canaries if not c.users] == [
        c.words for c in theirs if not c.users
    ]
    assert [c.index for c in few.canaries] == list(range(2 + GRID.held_out))
    assert np.array_equal(few.references, planted.references)
    apart = plant(federation.corpus, GRID.model_copy(update={"max_share": 0.1}), 1, apart=14)
    assert (apart.users, apart.left_out) == (1, 11)


def test_canaries_that_are_left_out_are_said(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulate(load(tiny, ["canaries.max_share=0.1", "server.rounds=1"]), tmp_path / "run")
    assert (
        "2 of 4 canaries are planted, so that their holders are at most 10% of the users that "
        "train; canaries.max_share=1 plants all." in capsys.readouterr().err
    )
    assert len(run.exposure[run.exposure.kind == "planted"]) == 2


def test_the_shipped_canaries_fill_their_cells_on_the_shipped_corpus() -> None:
    options = load("default").canaries
    cells = cells_of(options, 748)
    assert len(cells) == options.per_cell * len(options.users) * len(options.repeats)
    assert min(Counter(cells).values()) >= 5


def test_what_cannot_be_planted_is_said(federation: Federation) -> None:
    with pytest.raises(FedsimError, match=r"canaries\.sentences is 8; raise the latter"):
        plant(federation.corpus, GRID.model_copy(update={"repeats": (9,)}), 1)
    many = GRID.model_copy(update={"references": 10**9})
    with pytest.raises(FedsimError, match="too small"):
        plant(federation.corpus, many, 1)


def test_holder_participations_count_the_rounds_in_which_holders_took_part(
    finished: Run, config: Config
) -> None:
    federation = open_federation(config)
    clients, first = finished.clients, federation.corpus.users
    exposure = finished.exposure.set_index(["round", "canary"])
    for canary in federation.planted.canaries:
        holders = [first + holder for holder in canary.holders]
        for measured in (2, 4):
            mine = clients[clients.user.isin(holders) & (clients["round"] <= measured)]
            assert exposure.holder_participations[measured, canary.index] == len(mine)
    assert (clients.canary_user == (clients.user >= first)).all()
    assert exposure.holder_participations.max() > 0


def test_a_text_of_eight_words_trains_without_canaries_and_the_advice_says_so(
    tiny: str, tmp_path: Path
) -> None:
    rows = [f"p{p},{text}" for p in range(20) for text in ("one two three four",
            "five six seven eight") * 5]  # fmt: skip
    (tmp_path / "eight.csv").write_text("user,text\n" + "\n".join(rows) + "\n")
    keys = [f"data.path={tmp_path / 'eight.csv'}", "server.cohort=5"]
    with pytest.raises(FedsimError, match=r"is too small for .*; set canaries=none"):
        simulate(load(tiny, keys), tmp_path / "with", quiet=True)
    run = simulate(load(tiny, [*keys, "canaries=none"]), tmp_path / "without", quiet=True)
    assert run.status["state"] == "finished"
    assert not len(run.exposure)
    assert not run.clients.canary_user.any()
    assert "No canaries were planted" in render(run)


def test_without_canaries_what_they_are_made_of_has_no_effect(tiny: str) -> None:
    with pytest.raises(FedsimError, match=r"canaries\.held_out has no effect with canaries = none"):
        load(tiny, ["canaries=none", "canaries.held_out=5"])
