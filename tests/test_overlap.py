"""The same people in a first corpus and in a run: found by name and by text, refused or said."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from data_helpers import DATA, write_jsonl

from fedsim.config import Config, load
from fedsim.data.options import DataOptions
from fedsim.data.sequences import Sequences
from fedsim.data.store import Corpus, open_corpus
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage.first_corpus import encoded
from fedsim.leakage.overlap import SEVERAL, SHARE, WORDS, Overlap, overlap
from fedsim.simulation import check, simulate
from server.pretraining import first_corpus

Rows = list[tuple[str, str]]
PRIVATE = ("privacy=dp-fedavg", "privacy.noise_multiplier=1", "server.sampler=poisson",
           "privacy.delta=1e-3")  # fmt: skip


def rows_of(file: Path) -> Rows:
    """(user, text) of a chat in CSV."""
    with file.open(newline="") as lines:
        return [(row["user"], row["text"]) for row in csv.DictReader(lines)]


def with_first(tiny: str, file: Path, *keys: str) -> Config:
    """The tiny run, pretrained on a file."""
    return load(
        tiny, [f"pretrain.path={file}", "pretrain.min_words=10", "pretrain.epochs=1", *keys]
    )


def shuffled(texts: list[str], rng: np.random.Generator) -> list[str]:
    """The words of each text in another order."""
    return [" ".join(rng.permutation(text.split())) for text in texts]


def renamed(rows: Rows) -> Rows:
    """The same text of people with other names."""
    return [(f"somebody-{user}", text) for user, text in rows]


def less_a_message(rows: Rows) -> Rows:
    """A copy without its last message."""
    return rows[:-1]


def less_half_the_people(rows: Rows) -> Rows:
    """A copy of the text of every other person."""
    people = sorted({user for user, _ in rows})[::2]
    return [row for row in rows if row[0] in people]


def in_another_order(rows: Rows) -> Rows:
    """The messages, and the words in each, in another order."""
    rng = np.random.default_rng(2)
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    texts = shuffled([text for _, text in mixed], rng)
    return [(user, text) for (user, _), text in zip(mixed, texts, strict=True)]


def of_one_person(rows: Rows) -> Rows:
    """Other people's text, and that of one of the run's."""
    people = sorted({user for user, _ in rows})
    others = [(f"x{i}", f"w{i} w{i % 7} w{i % 11} w{i % 13} w{i % 17}") for i in range(60)]
    others = [(f"x{i % 12}", text) for i, (_, text) in enumerate(others * 4)]
    return [*others, *[(f"x-{user}", text) for user, text in rows if user in people[:8]]]


COPIES = {
    "less a message": less_a_message,
    "less half the people": less_half_the_people,
    "in another order": in_another_order,
    "a few people among others": of_one_person,
}


@pytest.mark.parametrize("case", COPIES)
@pytest.mark.parametrize("names", [list, renamed])
def test_a_copy_of_the_runs_text_is_refused_under_a_mechanism(
    case: str, names: type, tiny: str, chat: Path, tmp_path: Path
) -> None:
    copy = write_jsonl(tmp_path / "copy.jsonl", names(COPIES[case](rows_of(chat))))
    config = with_first(tiny, copy, *PRIVATE)
    with pytest.raises(
        FedsimError, match=r"has text of \d+ of the 23 people that the run"
    ) as caught:
        simulate(config, tmp_path / "run", quiet=True)
    assert "take them out of one of the two" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_mechanism_it_is_said_and_kept(
    tiny: str, chat: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = write_jsonl(tmp_path / "copy.jsonl", less_a_message(rows_of(chat)))
    run = simulate(with_first(tiny, copy, "server.rounds=1"), tmp_path / "run")
    assert "is not about other people" in capfd.readouterr().err
    found = run.provenance["first_corpus_overlap"]
    assert found["overlapping"] > 10
    assert "person" not in found


def test_names_alone_are_refused_unless_they_are_said_to_be_other_peoples(
    tiny: str, chat: Path, tmp_path: Path
) -> None:
    """The same people's later text, which has no sentence in common."""
    rows = [(user, " ".join(f"w{(int(w[1:]) * 7 + 3) % 120}" for w in reversed(text.split())))
            for user, text in rows_of(chat)]  # fmt: skip
    later = write_jsonl(tmp_path / "later.jsonl", rows)
    with pytest.raises(FedsimError, match=r"have the name of somebody .*other_people=true where"):
        check(with_first(tiny, later, *PRIVATE))
    check(with_first(tiny, later, *PRIVATE, "pretrain.other_people=true"))
    check(with_first(tiny, write_jsonl(tmp_path / "b.jsonl", renamed(rows)), *PRIVATE))
    check(with_first(tiny, later, *PRIVATE, "pretrain.epochs=0"))  # nothing is trained


def test_saying_so_does_not_let_the_same_text_in(tiny: str, chat: Path, tmp_path: Path) -> None:
    copy = write_jsonl(tmp_path / "copy.jsonl", less_a_message(rows_of(chat)))
    with pytest.raises(FedsimError, match="has text of"):
        check(with_first(tiny, copy, *PRIVATE, "pretrain.other_people=true"))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_found_is_what_a_plain_search_finds(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of words of every sentence, person by person; in blocks of any size."""
    rng = np.random.default_rng(seed)
    rows = [(f"p{p}", " ".join(f"w{w}" for w in rng.integers(60, size=rng.integers(1, 12))))
            for p in range(30) for _ in range(rng.integers(12, 40))]  # fmt: skip
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    options = DataOptions(path=str(file), name="own", min_words=1, max_words=6, vocabulary=50)
    corpus = open_corpus(options)
    train = corpus.split("train")
    users = np.arange(train.start, train.stop)[1:]
    share = rng.random(len(train)) ** 3
    theirs = [s for user in train for s in corpus.sequences(user, "all")
              if rng.random() < share[user]]  # fmt: skip
    theirs += [rng.integers(3, 50, size=rng.integers(1, 9)).astype(np.int32) for _ in range(50)]
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in theirs])])
    text = Sequences(np.concatenate(theirs), offsets)

    def compared(sentences: list[np.ndarray]) -> set[tuple[int, ...]]:
        return {tuple(sorted(s.tolist())) for s in sentences if len(s) >= WORDS and 3 not in s}

    longest = max(map(len, theirs))
    assert longest > 6, "no sentence of the corpus is cut"
    known = compared(theirs)
    mine = {user: compared(list(corpus.sequences(int(user), "all"))) for user in users}
    counts = {user: (len(said & known), len(said)) for user, said in mine.items()}
    within = [c for c in counts.values() if c[0] >= SEVERAL and c[0] / c[1] >= SHARE]
    assert 0 < len(within) < len(users)
    for block in (10**6, 7):
        monkeypatch.setattr("fedsim.leakage.overlap._AT_ONCE", block)
        found = overlap(text, frozenset({"p3", "p4", "nobody"}), corpus, users)
        names = {corpus.user_name(int(user)) for user in users} & {"p3", "p4"}
        assert found.names == len(names)
        assert found.people == len(users)
        assert found.overlapping == len(within)
        assert found.comparable == sum(c[1] >= SEVERAL for c in counts.values())
        assert found.sentences == sum(c[1] for c in counts.values())
        assert found.closest / found.of_closest == max(c[0] / c[1] for c in within)


def test_texts_that_were_cut_at_other_lengths_are_compared_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [(f"p{p}", " ".join(f"w{w}" for w in rng.integers(90, size=20)))
            for p in range(30) for _ in range(9)]  # fmt: skip
    file = str(write_jsonl(tmp_path / "a.jsonl", rows))
    config = load("default", [f"data.path={file}", "data.min_words=1", "data.max_words=50"])
    short = DataOptions(path=file, name="own", min_words=1, max_words=7)
    corpus, pieces = open_corpus(config.data), open_corpus(short)
    text = encoded(pieces.split_sequences("train"), pieces.vocabulary, corpus.vocabulary)
    users = np.array(corpus.split("train"))
    assert overlap(text, frozenset(), corpus, users).overlapping == len(users)


def test_a_server_without_text_finds_nothing_to_compare(config: Config, tmp_path: Path) -> None:
    from fedsim.data.shards import write_shards

    whole = open_corpus(config.data)
    write_shards(whole, tmp_path / "shards", 2)
    blind = Corpus(tmp_path / "shards" / "server")
    users = np.array(blind.split("train"))
    text = whole.split_sequences("train")
    names = frozenset(whole.user_name(user) for user in range(whole.users))
    found = overlap(text, names, blind, users)
    assert found == Overlap(0, "", len(users), 0, 0, 0, 0, 0, "")


NEEDS_DATA = pytest.mark.skipif(not DATA.is_dir(), reason="the corpora that are not shipped")
PAIRS = list(itertools.permutations(("chitchat", "nus-sms", "irc-ubuntu"), 2))


@pytest.mark.slow
@NEEDS_DATA
@pytest.mark.parametrize("pair", PAIRS, ids=" on ".join)
def test_real_corpora_of_other_people_pass(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(DATA))
    config = load("default", [f"data={pair[0]}", f"pretrain={pair[1]}", "privacy=dp-fedavg",
                              "privacy.noise_multiplier=4"])  # fmt: skip
    first = first_corpus(config, open_federation(config))
    assert first is not None
    found = first.overlap
    assert found is not None
    assert (found.names, found.overlapping) == (0, 0)
    assert found.comparable > 150
    assert found.closest <= SEVERAL


@pytest.mark.slow
@NEEDS_DATA
@pytest.mark.parametrize("name", ["chitchat", "nus-sms", "irc-ubuntu"])
def test_people_are_recognised_by_half_of_their_own_sentences(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of real people with enough to compare, most: whoever has three sentences needs all three."""
    monkeypatch.setenv("FEDSIM_DATA", str(DATA))
    corpus = open_corpus(load("default", [f"data={name}"]).data)
    text = corpus.split_sequences("train")
    half = text.take(np.flatnonzero(np.random.default_rng(0).random(len(text)) < 0.5))
    found = overlap(half, frozenset(), corpus, np.array(corpus.split("train")))
    assert found.overlapping > 0.6 * found.comparable
