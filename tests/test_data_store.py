"""The corpus: against a plain-Python oracle, split by person, and safe against damage."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_helpers import naive_sentences, people, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim.data import sources, storage, store
from fedsim.data.options import DataOptions
from fedsim.data.splitting import PARTS
from fedsim.data.store import Corpus, open_corpus
from fedsim.data.vocabulary import SPECIALS, UNK
from fedsim.errors import FedsimError

HELDOUT = 0.1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEDSIM_CACHE", str(folder))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> DataOptions:
    """A user's own file of 20 people."""
    file = write_jsonl(tmp_path / "own.jsonl", people())
    return DataOptions(path=str(file), min_words=1)


def _text(corpus: Corpus, user: int, part: str) -> list[str]:
    return [corpus.vocabulary.decode(tokens) for tokens in corpus.sequences(user, part)]


message = st.lists(st.sampled_from(["a", "b", "c", "d", "don't", "e", "f"]), max_size=9).map(
    " ".join
)
rows_of_many = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "çelik", "dan", "eve", "fay"]), message),
    min_size=40,
    max_size=120,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows_of_many, max_words=st.integers(2, 6), cap=st.integers(5, 60))
def test_the_store_holds_what_plain_python_says(
    rows: list[tuple[str, str]], max_words: int, cap: int, tmp_path: Path
) -> None:
    expected = naive_sentences(rows, max_words, cap, minimum=4)
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    options = DataOptions(path=str(file), max_words=max_words, cap_words=cap, min_words=4)
    if len(expected) < 4:
        with pytest.raises(
            FedsimError, match=r"lower data\.min_words|at least 4 people|holds no message"
        ):
            open_corpus(options)
        return
    corpus = open_corpus(options)
    assert {corpus.user_name(user) for user in range(corpus.users)} == set(expected)
    seen: Counter[str] = Counter()
    for user in range(corpus.users):
        sentences = expected[corpus.user_name(user)]
        tail = 0
        if user in corpus.split("train"):
            tail = max(int(HELDOUT * len(sentences)), int(len(sentences) >= 5))
            seen.update(
                word for sentence in sentences[: len(sentences) - tail] for word in sentence
            )
        cut = len(sentences) - tail
        for part, wanted in (
            ("all", sentences),
            ("train", sentences[:cut]),
            ("heldout", sentences[cut:]),
        ):
            ids = [corpus.vocabulary.encode(sentence).tolist() for sentence in wanted]
            assert [tokens.tolist() for tokens in corpus.sequences(user, part)] == ids
            assert corpus.sentence_count(user, part) == len(wanted)
            assert corpus.token_count(user, part) == sum(map(len, wanted))
    ranked = sorted(seen, key=lambda word: (-seen[word], word))
    assert corpus.vocabulary.words[len(SPECIALS) :] == ranked
    assert corpus.counts["words"] == sum(len(s) for text in expected.values() for s in text)


def test_sequences_are_views_of_the_file(own: DataOptions) -> None:
    corpus = open_corpus(own)
    mine = corpus.sequences(3)
    assert mine.offsets[0] == 0
    assert mine.tokens.dtype == np.int32
    assert np.shares_memory(mine.tokens, corpus.split_tokens("train"))
    assert not mine.tokens.flags.writeable
    with pytest.raises(IndexError):
        corpus.sequences(-1)
    with pytest.raises(IndexError):
        corpus.token_count(corpus.users)
    with pytest.raises(FedsimError, match="part 'test'"):
        corpus.sequences(0, "test")
    with pytest.raises(FedsimError, match="did you mean 'train'"):
        corpus.split("trian")


def test_splits_are_ranges_that_cover_everybody_once(own: DataOptions) -> None:
    corpus = open_corpus(own)
    ranges = [corpus.split(part) for part in PARTS]
    assert [user for users in ranges for user in users] == list(range(20))
    assert [len(users) for users in ranges] == [15, 1, 1, 3]
    assert len({corpus.user_name(user) for user in range(20)}) == 20
    counts = [corpus.split_counts(part) for part in PARTS]
    assert sum(c["words"] for c in counts) == corpus.counts["words"]
    assert sum(c["sentences"] for c in counts) == corpus.counts["sentences"] == 240
    assert corpus.words_per_user().tolist() == [corpus.token_count(u, "all") for u in range(20)]
    everything = np.concatenate([corpus.split_tokens(part) for part in PARTS])
    assert len(everything) == corpus.counts["words"]


def test_the_vocabulary_is_of_training_text_only(tmp_path: Path) -> None:
    rows = [
        (f"person{user}", f"shared words again only{user} " + (f"last{user}" if turn == 9 else ""))
        for user in range(20)
        for turn in range(10)
    ]
    file = write_jsonl(tmp_path / "own.jsonl", rows)
    corpus = open_corpus(DataOptions(path=str(file), min_words=1))
    known = {word for word in corpus.vocabulary.words if word.startswith("only")}
    of_training = {corpus.user_name(user).removeprefix("person") for user in corpus.split("train")}
    assert known == {f"only{number}" for number in of_training}
    # The last sentence of ten is held out, so what is said only there is unknown.
    assert not any(word.startswith("last") for word in corpus.vocabulary.words)
    assert corpus.sequences(0, "heldout").tokens[-1] == UNK


def test_a_pasted_key_is_no_word_of_the_vocabulary(tmp_path: Path) -> None:
    key = "QUJD" * 2000
    rows = [*((f"person{user}", f"my key is {key} ok") for user in range(20)), *people()]
    file = write_jsonl(tmp_path / "own.jsonl", rows)
    corpus = open_corpus(DataOptions(path=str(file), min_words=1))
    assert {"key", "ok"} <= set(corpus.vocabulary.words)
    assert max(map(len, corpus.vocabulary.words)) < 20
    assert _text(corpus, 0, "all")[0] == "my key is ok"


def test_the_split_depends_on_the_people_and_the_recipe_alone(tmp_path: Path) -> None:
    def parts(rows: list[tuple[str, str]], **options: int) -> dict[str, set[str]]:
        file = write_jsonl(tmp_path / "own.jsonl", rows)
        corpus = open_corpus(DataOptions(path=str(file), min_words=1, **options))
        return {p: {corpus.user_name(user) for user in corpus.split(p)} for p in PARTS}

    first = parts(people())
    assert parts(people()[::-1]) == first
    assert parts(people(), vocabulary=50, max_words=5, cap_words=20) == first


def test_options_of_the_vocabulary_and_the_cap(own: DataOptions) -> None:
    small = open_corpus(own.model_copy(update={"vocabulary": 12, "cap_words": 17}))
    assert len(small.vocabulary) == 12
    assert all(small.token_count(user, "all") == 17 for user in range(20))
    assert UNK in small.split_tokens("train")


def test_the_second_opening_reads_the_cache(
    own: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_corpus(own)

    def build_again(*_: object) -> None:
        raise AssertionError("built a second time")

    monkeypatch.setattr(store, "build", build_again)
    assert open_corpus(own).digest == first.digest
    with pytest.raises(AssertionError, match="built a second time"):
        open_corpus(own.model_copy(update={"max_words": 4}))
    # Other content under the same name and size is another corpus.
    file = Path(own.path or "")
    file.write_bytes(file.read_bytes().replace(b"hello", b"howdy"))
    with pytest.raises(AssertionError, match="built a second time"):
        open_corpus(own)


def test_the_digest_is_of_the_content(own: DataOptions, tmp_path: Path) -> None:
    first = open_corpus(own)
    shutil.move(own.path or "", tmp_path / "moved.jsonl")
    moved = open_corpus(own.model_copy(update={"path": str(tmp_path / "moved.jsonl")}))
    assert moved.digest == first.digest
    other = write_jsonl(tmp_path / "other.jsonl", [*people(), ("person1", "one more")])
    assert open_corpus(own.model_copy(update={"path": str(other)})).digest != first.digest


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


DAMAGE = {
    **{
        f"flipped {name}": (name, lambda f: _flip(f, f.stat().st_size // 2))
        for name in storage.FILES
    },
    "truncated": ("tokens.npy", lambda f: f.write_bytes(f.read_bytes()[:-4])),
    "longer": ("names.bin", lambda f: f.write_bytes(f.read_bytes() + b"x")),
    "file lost": ("user_offsets.npy", lambda f: f.unlink()),
    "meta lost": ("meta.json", lambda f: f.unlink()),
    "meta cut": ("meta.json", lambda f: f.write_bytes(f.read_bytes()[:100])),
    "meta is no object": ("meta.json", lambda f: f.write_text("[]")),
    "meta edited": (
        "meta.json",
        lambda f: f.write_text(f.read_text().replace('"train": 15', '"train": 16')),
    ),
    "other version": (
        "meta.json",
        lambda f: f.write_text(f.read_text().replace(f'"format": {storage.FORMAT}', '"format": 0')),
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_cache_is_noticed_and_built_again(
    case: str, own: DataOptions, caplog: pytest.LogCaptureFixture
) -> None:
    name, damage = DAMAGE[case]
    corpus = open_corpus(own)
    before = (corpus.folder / name).read_bytes()
    damage(corpus.folder / name)
    assert not (corpus.folder / name).exists() or (corpus.folder / name).read_bytes() != before
    with pytest.raises(storage.Damaged):
        Corpus(corpus.folder)
    again = open_corpus(own)
    assert (again.folder / name).read_bytes() == before
    assert "is built again" in caplog.text
    assert again.digest == corpus.digest
    leftovers = {path.name for path in again.folder.parent.iterdir()} - {again.folder.name}
    assert not leftovers
    # As a corpus of the user's own it cannot be rebuilt, so it is a sentence.
    damage(again.folder / name)
    with pytest.raises(FedsimError, match="this corpus cannot be used because"):
        open_corpus(DataOptions(path=str(again.folder)))


def test_large_files_are_checked_by_size_and_blocks(
    own: DataOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(own)
    monkeypatch.setattr(storage, "_FULL_CHECK_BYTES", 0)
    assert Corpus(corpus.folder).digest == corpus.digest
    for place in (0, 500, -1):
        _flip(corpus.folder / "tokens.npy", place)
        with pytest.raises(storage.Damaged, match=r"tokens\.npy was altered"):
            Corpus(corpus.folder)
        _flip(corpus.folder / "tokens.npy", place)
    assert Corpus(corpus.folder).users == 20


def _open_in_process(options: DataOptions, digests: multiprocessing.Queue[str]) -> None:
    digests.put(open_corpus(options).digest)


def test_two_processes_at_once(own: DataOptions, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    for damaged in (False, True):
        digests = context.Queue()
        if damaged:
            _flip(open_corpus(own).folder / "tokens.npy", -1)
        workers = [context.Process(target=_open_in_process, args=(own, digests)) for _ in range(4)]
        for worker in workers:
            worker.start()
        found = {digests.get(timeout=30) for _ in workers}
        for worker in workers:
            worker.join()
        assert found == {open_corpus(own).digest}
    assert len(list((cache / "corpora").iterdir())) == 1


def test_what_another_process_installed_stays(own: DataOptions, tmp_path: Path) -> None:
    folder = open_corpus(own).folder
    draft = folder.parent / ".draft"
    shutil.copytree(folder, draft)
    before = folder.stat().st_ino
    store._install(draft, folder)
    assert folder.stat().st_ino == before
    _flip(folder / "tokens.npy", -1)
    store._install(draft, folder)
    assert folder.stat().st_ino != before
    assert Corpus(folder).users == 20


def test_the_hash_of_a_young_file_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("one")
    first = sources.content_digest([file])
    assert not (cache / "hashes").exists()
    now = time.time()
    monkeypatch.setattr(sources.time, "time", lambda: now + 10)
    assert sources.content_digest([file]) == first
    monkeypatch.delattr(sources, "_sha256")  # from here on it is looked up
    assert sources.content_digest([file]) == first
    file.write_text("two")
    with pytest.raises(NameError):
        sources.content_digest([file])


def test_a_build_that_fails_leaves_nothing(
    own: DataOptions, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(own.path or "")
    file.write_text(file.read_text() + "{broken\n")
    with pytest.raises(FedsimError, match=r"own\.jsonl, line 241: is not valid JSON"):
        open_corpus(own)
    assert list((cache / "corpora").iterdir()) == []
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "a file"))
    write_jsonl(file, people())
    with pytest.raises(FedsimError, match="set FEDSIM_CACHE to a folder"):
        open_corpus(own)


def test_a_corpus_travels_to_workers_by_its_path(own: DataOptions) -> None:
    corpus = open_corpus(own)
    packed = pickle.dumps(corpus)
    assert len(packed) < 1000
    there = pickle.loads(packed)
    assert there.digest == corpus.digest
    assert _text(there, 5, "all") == _text(corpus, 5, "all")


def test_nothing_to_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(FedsimError, match=r"empty\.jsonl: holds no message"):
        open_corpus(DataOptions(path=str(empty)))
    # More text of the same two people would not help, and of four people a lower bound would.
    few = write_jsonl(tmp_path / "few.jsonl", people(2))
    with pytest.raises(FedsimError, match=r"leaves 2 user.*\(of 2 read\).* at least 4 people\."):
        open_corpus(DataOptions(path=str(few)))
    short = write_jsonl(tmp_path / "short.jsonl", [*people(3), ("brief", "hello there")])
    with pytest.raises(FedsimError, match=r"leaves 3 user.*\(of 4 read\).*lower data\.min_words"):
        open_corpus(DataOptions(path=str(short)))
    assert open_corpus(DataOptions(path=str(short), min_words=2)).users == 4
    with pytest.raises(FedsimError, match="no user with at least 500 words"):
        open_corpus(DataOptions(path=str(short), min_words=500))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.md").write_text("no data")
    with pytest.raises(FedsimError, match=r"notes\.md: is none of the formats"):
        open_corpus(DataOptions(path=str(folder)))
    with pytest.raises(FedsimError, match="no file or folder"):
        open_corpus(DataOptions(path=str(tmp_path / "nowhere.csv")))


def test_a_folder_is_all_its_files(tmp_path: Path, own: DataOptions) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = people()
    write_jsonl(folder / "1.jsonl", rows[:100])
    write_jsonl(folder / "2.jsonl", rows[100:])
    (folder / "README.md").write_text("about")
    corpus = open_corpus(own.model_copy(update={"path": str(folder)}))
    assert corpus.digest == open_corpus(own).digest


def test_meta_carries_whose_the_text_is(own: DataOptions) -> None:
    corpus = open_corpus(own)
    assert (corpus.name, corpus.licence) == ("own", "yours")
    meta = json.loads((corpus.folder / "meta.json").read_text())
    assert meta["counts"] == corpus.counts


@given(rows_of_many, st.integers(1, 4))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_words_of_few_users_can_be_kept_out_of_the_vocabulary(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], least: int
) -> None:
    folder = tmp_path_factory.mktemp("few")
    rows = [*rows, *((f"p{i}", f"w{i} only") for i in range(30))]
    file = write_jsonl(folder / "own.jsonl", rows)
    corpus = open_corpus(DataOptions(path=str(file), min_words=1, word_users=least))
    whole = open_corpus(DataOptions(path=str(file), min_words=1))
    typed: Counter[str] = Counter()
    for user in whole.split("train"):
        typed.update({whole.vocabulary.words[t] for t in whole.sequences(user, "train").tokens})
    expected = {word for word in whole.vocabulary.words[len(SPECIALS) :] if typed[word] >= least}
    assert set(corpus.vocabulary.words[len(SPECIALS) :]) == expected
