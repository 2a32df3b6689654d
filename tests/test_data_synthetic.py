"""The synthetic federation: seeded, shaped as promised, small in memory; and the `data` command."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data_helpers import people, write_jsonl
from typer.testing import CliRunner, Result

from fedsim.cli.data import app
from fedsim.data import synthetic
from fedsim.data.options import DataOptions
from fedsim.data.recipes import Federation, load_recipe
from fedsim.data.store import Corpus, open_corpus
from fedsim.data.synthetic import synthesise
from fedsim.errors import FedsimError
from fedsim.models.batch import N_SPECIALS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDSIM_DATA", raising=False)


def _made(folder: Path, **federation: float) -> Corpus:
    synthesise(folder, Federation.model_validate(federation), vocabulary=1000)
    return open_corpus(DataOptions(path=str(folder)))


def test_the_same_seed_gives_the_same_text(tmp_path: Path) -> None:
    digests = [
        _made(tmp_path / str(i), users=60, seed=seed).digest for i, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_the_synthetic_recipe_is_a_corpus_like_others() -> None:
    corpus = open_corpus(DataOptions(name="synthetic"))
    expected = load_recipe("synthetic").expected
    assert expected is not None
    assert (corpus.users, corpus.counts["words"]) == (expected.users, expected.words)
    assert len(corpus.vocabulary) == 10_000
    assert [len(corpus.split(p)) for p in ("train", "validation", "donors", "test")] == [
        780,
        50,
        20,
        150,
    ]
    assert all(corpus.sentence_count(user, "heldout") == 0 for user in corpus.split("test"))
    small = open_corpus(DataOptions(name="synthetic", vocabulary=100, max_words=5))
    assert small.split_tokens("train").max() == 99
    assert small.sequences(0, "all").lengths.max() <= 5


def test_shapes_are_as_promised(tmp_path: Path) -> None:
    corpus = _made(tmp_path / "out", users=4000, median_sentences=8)
    sentences = np.array([corpus.sentence_count(user, "all") for user in range(4000)])
    assert np.median(sentences) == pytest.approx(8, abs=1)
    assert np.log(sentences[sentences > 1]).std() > 0.6
    tokens = corpus.split_tokens("train")
    assert tokens.min() == N_SPECIALS
    assert tokens.max() == 999
    counts = np.bincount(tokens, minlength=1000)[N_SPECIALS:]
    # Zipf: the log-log slope over the middle ranks is near -1.
    ranked = np.sort(counts)[::-1]
    slope = np.polyfit(np.log(np.arange(10, 300)), np.log(ranked[9:299]), 1)[0]
    assert -1.3 < slope < -0.7
    for user in (0, 100, 3999):
        kept, tail = corpus.sentence_count(user), corpus.sentence_count(user, "heldout")
        assert kept + tail == sentences[user]


def test_there_is_something_to_learn(tmp_path: Path) -> None:
    corpus = _made(tmp_path / "out", users=1500)
    pairs: dict[int, np.ndarray] = {}
    for user in corpus.split("train"):
        for tokens in corpus.sequences(user):
            for a, b in pairwise(tokens):
                pairs.setdefault(int(a), np.zeros(1000, np.int64))[b] += 1
    most = {word: int(counts.argmax()) for word, counts in pairs.items()}
    common = int(np.bincount(corpus.split_tokens("train")).argmax())
    hits, plain, total = 0, 0, 0
    for user in corpus.split("test"):
        for tokens in corpus.sequences(user):
            hits += sum(most.get(int(a)) == b for a, b in pairwise(tokens))
            plain += int(np.count_nonzero(tokens[1:] == common))
            total += len(tokens) - 1
    assert hits / total > 1.5 * plain / total


def test_users_differ_from_each_other(tmp_path: Path) -> None:
    corpus = _made(tmp_path / "out", users=400, median_sentences=60)

    def profile(user: int, part: str) -> np.ndarray:
        counts = np.bincount(corpus.sequences(user, part).tokens, minlength=1000)
        return counts / counts.sum()

    # A user's held-out text is closer to the user's own text than to another's. (With favourites
    # shared by all it still is in 62 %, because the longer text of a pair is the better estimate.)
    big = [user for user in corpus.split("train") if corpus.token_count(user) > 400]
    closer = [
        np.abs(profile(user, "heldout") - profile(user, "train")).sum()
        < np.abs(profile(user, "heldout") - profile(other, "train")).sum()
        for user, other in zip(big, big[1:] + big[:1], strict=True)
    ]
    assert len(closer) > 100
    assert np.mean(closer) > 0.75


def test_blocks_of_users_are_not_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_BLOCK_USERS", 50)
    corpus = _made(tmp_path / "out", users=100)
    first = [corpus.token_count(user, "all") for user in range(50)]
    assert first != [corpus.token_count(user, "all") for user in range(50, 100)]


def test_memory_does_not_grow_with_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "_BLOCK_USERS", 500)
    peaks = []
    for users in (1000, 8000):
        tracemalloc.start()
        synthesise(tmp_path / str(users), Federation(users=users), vocabulary=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_corpus_of_many_users_opens_in_constant_memory(tmp_path: Path) -> None:
    peaks = []
    for users in (1000, 50_000):
        corpus = _made(tmp_path / str(users), users=users, median_sentences=2)
        tracemalloc.start()
        again = Corpus(corpus.folder)
        assert again.user_name(users - 1) == f"user{users - 1:07d}"
        assert len(again.sequences(users - 1, "all")) > 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_where_it_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(FedsimError, match="full: exists already"):
        synthesise(tmp_path / "full", Federation(users=10))
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(FedsimError, match="cannot be made"):
        synthesise(tmp_path / "file" / "out", Federation(users=10))


def test_a_finished_corpus_takes_no_further_options(tmp_path: Path) -> None:
    path = str(_made(tmp_path / "out", users=10).folder)
    assert len(open_corpus(DataOptions(path=path, vocabulary=1000)).vocabulary) == 1000
    for values in ({"vocabulary": 500}, {"min_words": 3}, {"max_words": 7}, {"text_column": "t"}):
        key = next(iter(values))
        with pytest.raises(FedsimError, match=rf"data\.{key}.* has no effect with the finished"):
            open_corpus(DataOptions(path=path, **values))  # type: ignore[arg-type]
    with pytest.raises(FedsimError, match="is a corpus already"):
        open_corpus(DataOptions(path=path, name="chitchat"))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_list_says_what_is_there_and_what_is_missing() -> None:
    found = {entry["name"]: entry for entry in json.loads(_run("--json").stdout)}
    assert found["chitchat"]["state"] == "ready"
    assert (found["chitchat"]["users"], found["chitchat"]["licence"]) == (960, "MIT")
    assert found["nus-sms"]["state"] == "missing"
    assert "FEDSIM_DATA" in found["nus-sms"]["note"]
    assert found["own"]["state"] == "own"
    assert found["synthetic"]["state"] == "ready"
    open_corpus(DataOptions(name="synthetic"))
    plain = _run()
    assert plain.exit_code == 0
    rows = {line.split()[0]: line for line in plain.stdout.splitlines() if line.strip()}
    assert "cached" in rows["synthetic"]
    assert "659,627" in rows["chitchat"]
    assert "\x1b" not in plain.stdout


def test_show_prints_numbers_and_sentences(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "own.jsonl", [(u, f"{t} [bold] {t}") for u, t in people(20, 30)])
    result = _run("show", "--path", str(file), "--json", "--samples", "3")
    numbers = json.loads(result.stdout)
    corpus = open_corpus(DataOptions(path=str(file)))
    assert numbers["digest"] == corpus.digest
    assert (numbers["users"], numbers["words"]) == (20, corpus.counts["words"])
    assert numbers["split"]["train"]["users"] == 15
    assert len(numbers["words_per_user_deciles"]) == 11
    # Of 17 words two are "own7", which nobody else says; the turns' numbers are all one class.
    assert numbers["out_of_vocabulary"]["test"] == pytest.approx(2 / 17)
    assert numbers["out_of_vocabulary"]["train"] < 0.05
    trained = {
        corpus.vocabulary.decode(tokens)
        for user in corpus.split("train")
        for tokens in corpus.sequences(user)
    }
    assert len(numbers["samples"]) == 3
    assert set(numbers["samples"]) <= trained
    plain = _run("show", "--path", str(file), "--samples", "1")
    assert plain.exit_code == 0
    assert "words per user, deciles" in plain.stdout
    assert numbers["licence"] in plain.stdout


def test_synth_writes_a_corpus_to_train_on(tmp_path: Path) -> None:
    out = tmp_path / "made"
    arguments = ("synth", "--users", "50", "--vocabulary", "200", "--seed", "3", "--out", str(out))
    facts = json.loads(_run(*arguments, "--json").stdout)
    corpus = open_corpus(DataOptions(path=str(out)))
    assert facts["digest"] == corpus.digest
    assert corpus.users == facts["users"] == 50
    assert len(corpus.vocabulary) == 200
    shown = json.loads(_run("show", "--path", str(out), "--json").stdout)
    assert shown["name"] == "synthetic"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "chitcaht"), "did you mean 'chitchat'?"),
        (("show", "nus-sms"), "is not shipped and needs"),
        (("show", "own"), "NAME='own' needs --path"),
        (("show", "--path", "no.csv"), "'no.csv' to be read: check --path"),
        (("show", "--user-column", "x"), "--user-column='x' has no effect without --path"),
        (("show", "--min-words", "3000"), "--cap-words=2000 is below --min-words=3000"),
        (("show", "--vocabulary", "3"), "--vocabulary = 3 is not accepted"),
        (("synth", "--users", "0", "--out", "x"), "users = 0 is not accepted"),
        (("--json", "show", "chitchat"), "--json after 'show'"),
    ],
)
def test_mistakes_on_the_command_line_are_sentences(arguments: tuple[str, ...], said: str) -> None:
    result = _run(*arguments)
    assert isinstance(result.exception, FedsimError)
    assert said in str(result.exception)
