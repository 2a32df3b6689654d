"""LEAF, TensorFlow Federated and Hugging Face: what only these formats have, from files by hand."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from foreign_files import (
    FORMATS,
    PEOPLE_TEXT,
    WINDOW,
    example,
    installed,
    leaf,
    leaf_flat,
    leaf_tweets,
    saved_arrow,
    slid,
    sms_xml,
    tff_hdf5,
    tff_sqlite,
)

from fedsim.data import catalogue
from fedsim.data.options import DataOptions
from fedsim.data.readers import READERS
from fedsim.data.readers.tf_example import bytes_features
from fedsim.data.readers.windows import joined
from fedsim.data.recipes import load_recipe
from fedsim.data.sources import find_files
from fedsim.data.store import open_corpus
from fedsim.errors import FedsimError
from fedsim.registry import nearest

HAMLET = (
    "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the "
    "slings and arrows of outrageous fortune, or to take arms against a sea of troubles and by "
    "opposing end them. To die, to sleep; no more; and by a sleep to say we end the heart-ache."
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))


def _read(reader: str, *files: Path, **options: Any) -> list[tuple[str, str]]:
    return list(READERS[reader].model_validate(options).read(files))


def test_windows_in_any_order_give_the_text() -> None:
    windows = slid(HAMLET)
    for seed in range(5):
        shuffled = windows.copy()
        random.Random(seed).shuffle(shuffled)
        assert joined(shuffled) == [HAMLET]


def test_windows_that_are_left_out_are_bridged_by_the_others() -> None:
    windows = slid(HAMLET)
    some = [pair for number, pair in enumerate(windows) if number % 7 not in (2, 3)]
    assert joined(some) == [HAMLET[: WINDOW + len(windows)]]
    # With less than half a window in common it is not certain that they belong together.
    ends = [*windows[:10], *windows[60:]]
    assert joined(ends) == [HAMLET[: WINDOW + 10], HAMLET[60:]]


def test_lines_that_repeat_stay_apart() -> None:
    lines = ["", "ay", "ay, sir", "ay", " so", ""]
    windows = [pair for line in lines for pair in slid(f"{' ' * WINDOW}{line}\n")]
    assert joined(windows) == lines


def test_leafs_own_differences_are_taken(tmp_path: Path) -> None:
    train, test = tmp_path / "train.json", tmp_path / "test.json"
    windows = slid(HAMLET)
    cut = 60
    # LEAF counts the test windows before it drops the 79 that overlap the train part.
    for file, part, counted in (
        (train, windows[:cut], cut),
        (test, windows[cut + WINDOW - 1 :], len(windows) - cut),
    ):
        leaf(file, {"HAMLET": ([x for x, _ in part], [y for _, y in part]), "MUTE": ([], [])})
        content = json.loads(file.read_text())
        content.update(users=["HAMLET"], num_samples=[counted], hierarchies=["x", "y"])
        file.write_text(json.dumps(content))
    assert _read("leaf", train, test) == [
        ("HAMLET", HAMLET[: WINDOW + cut]),
        ("HAMLET", HAMLET[WINDOW + cut - 1 :]),
    ]
    # Each of reddit's parts carries the count of all three, and may have none of a user.
    comment = [["<BOS>", "i", "<PAD>", "and", "u", "<EOS>", "<PAD>", "<PAD>", "<PAD>", "<PAD>"]]
    leaf(train, {"1": ([comment], [{"score": 1}]), "2": ([], [])})
    content = json.loads(train.read_text())
    train.write_text(json.dumps({**content, "num_samples": [9, 2]}))
    assert _read("leaf", train) == [("1", "i <PAD> and u")]


def test_a_leaf_folder_is_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for part, people in (("train", PEOPLE_TEXT), ("test", {"person0": ["one more of mine"]})):
        (folder / part).mkdir(parents=True)
        leaf_tweets(folder / part / "all_data_niid_0_keep_0.json", people)
    (folder / "README.md").write_text("no data")
    corpus = open_corpus(DataOptions(name="leaf", path=str(folder), min_words=1))
    assert corpus.users == len(PEOPLE_TEXT)
    with pytest.raises(FedsimError, match=r"text_column='t' has no effect .*'leaf'"):
        open_corpus(DataOptions(name="leaf", path=str(folder), text_column="t"))
    with pytest.raises(FedsimError, match=r"data set 'leaf' needs data\.path"):
        open_corpus(DataOptions(name="leaf"))


def test_a_federation_of_tff(tmp_path: Path) -> None:
    file = tmp_path / "so.sqlite"
    tff_sqlite(file, {"7": ["how do i ?", ""], "8": ["like this ."]})
    with closing(sqlite3.connect(file)) as store:
        row = ("heldout", "10", example({"tokens": b"held out", "title": b"t"}))
        store.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
        store.commit()
    before = sorted(tmp_path.iterdir())
    everyone = [("7", "how do i ?"), ("8", "like this ."), ("10", "held out")]
    assert _read("tff", file) == everyone
    assert _read("tff", file, split="heldout") == [("10", "held out")]
    assert _read("tff", file, text="title")[-2:] == [("8", "a title"), ("10", "t")]
    with pytest.raises(FedsimError, match="no split 'held_out': did you mean 'heldout'"):
        _read("tff", file, split="held_out")
    assert sorted(tmp_path.iterdir()) == before, "reading leaves no journal"


def test_examples_of_tensorflow() -> None:
    # By hand after tensorflow/core/example/feature.proto: tokens is the bytes_list [b"a b"] (field
    # 1), score the packed int64_list [131] (field 3).
    record = (
        b"\n\x24\n\x11\n\x06tokens\x12\x07\n\x05\n\x03a b"
        b"\n\x0f\n\x05score\x12\x06\x1a\x04\n\x02\x83\x01"
    )
    assert bytes_features(record) == {"tokens": [b"a b"], "score": []}
    assert bytes_features(b"") == {}
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        bytes_features(record[:-1])


def test_hdf5_of_tff(tmp_path: Path) -> None:
    if not installed("h5py"):
        pytest.skip("h5py is not installed (the extra tff)")
    file = tmp_path / "stackoverflow_test.h5"
    tff_hdf5(file, {"10": ["how do i ?", ""], "9": ["like this ."]})
    assert _read("tff", file) == [("10", "how do i ?"), ("9", "like this .")]
    with pytest.raises(FedsimError, match=r"reader\.split='test' has no effect with HDF5"):
        _read("tff", file, split="test")
    titles = DataOptions(name="tff", path=str(file), text_column="title")
    with pytest.raises(FedsimError, match=r"no user with at least 50 words \(2 users read\)"):
        open_corpus(titles)


def test_without_h5py_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    file = tmp_path / "a.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FedsimError, match="needs the package h5py: run `pip install h5py`"):
        _read("tff", file)


HUB = """title = "T"
licence = "L"
citation = "C"
homepage = "H"
[source]
kind = "hub"
dataset = "owner/chat"
revision = "0123456789abcdef0123456789abcdef01234567"
split = "train"
[reader]
name = "huggingface"
[cleaning]
min_words = 1
"""


def test_a_saved_data_set(tmp_path: Path) -> None:
    saved_arrow(tmp_path / "chat", PEOPLE_TEXT)
    corpus = open_corpus(DataOptions(name="huggingface", path=str(tmp_path / "chat"), min_words=1))
    assert {corpus.user_name(user) for user in range(corpus.users)} == set(PEOPLE_TEXT)
    # The key of the cached corpus covers the Arrow files, not only the state.
    first = corpus.digest
    changed = {**PEOPLE_TEXT, "person0": ["something else here"]}
    saved_arrow(tmp_path / "chat", changed)
    again = open_corpus(DataOptions(name="huggingface", path=str(tmp_path / "chat"), min_words=1))
    assert again.digest != first


def test_the_hub_is_asked_once_and_for_the_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(name: str, **options: str) -> Any:
        asked.append((name, options))
        return SimpleNamespace(save_to_disk=lambda to: saved_arrow(Path(to), PEOPLE_TEXT))

    package = ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    recipe = tmp_path / "chat.toml"
    recipe.write_text(HUB)
    for _ in range(2):
        assert open_corpus(DataOptions(name=str(recipe))).users == len(PEOPLE_TEXT)
    revision = "0123456789abcdef0123456789abcdef01234567"
    assert asked == [("owner/chat", {"revision": revision, "split": "train"})]
    with pytest.raises(FedsimError, match=r"data\.path='x' has no effect"):
        open_corpus(DataOptions(name=str(recipe), path="x"))


@pytest.mark.parametrize("package", [None, ModuleType("datasets")], ids=["none", "our folder"])
def test_a_hub_without_the_package_or_the_network(
    package: ModuleType | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkout `import datasets` finds our folder of recipes, which is no such library."""
    monkeypatch.setitem(sys.modules, "datasets", package)
    recipe = tmp_path / "chat.toml"
    recipe.write_text(HUB)
    with pytest.raises(FedsimError, match=r"owner/chat .* run `pip install datasets`"):
        open_corpus(DataOptions(name=str(recipe)))

    def load_dataset(name: str, **options: str) -> Any:
        raise ConnectionError("no route to host\nand a page of details")

    package = ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    with pytest.raises(FedsimError, match=r"does not give owner/chat.*\(no route to host\)"):
        open_corpus(DataOptions(name=str(recipe)))
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_the_list_of_data_sets_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "recipe_names", lambda: ["leaf", "hub"])
    own = load_recipe("leaf")
    source = {"kind": "hub", "dataset": "a/b", "revision": "0" * 40, "split": "train", "get": None}
    hub = own.model_copy(update={"source": own.source.model_copy(update=source)})
    monkeypatch.setattr(catalogue, "load_recipe", {"leaf": own, "hub": hub}.__getitem__)
    monkeypatch.setitem(sys.modules, "datasets", None)
    leaf_entry, hub_entry = catalogue.entries()
    assert (leaf_entry.state, hub_entry.state) == ("own", "missing")
    assert leaf_entry.note.startswith("Give data.path: a JSON file of LEAF")


class TestAgainstHuggingFace:
    """The library's own files, and the people that flwr-datasets finds in them."""

    pytestmark = pytest.mark.skipif(
        not installed("datasets"), reason="datasets is not installed (the extra hf)"
    )

    def test_what_save_to_disk_writes(self, tmp_path: Path) -> None:
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        rows = {"who": [1, 0, 1, 0], "said": ["a", "今天 שלום", None, "d"]}
        features = Features(
            {"who": ClassLabel(names=["ann", "bob"]), "said": Value("large_string")}
        )
        dataset = Dataset.from_dict(rows, features=features)
        options = {"user": "who", "text": "said"}
        expected = [("1", "a"), ("0", "今天 שלום"), ("0", "d")]
        dataset.save_to_disk(str(tmp_path / "two shards"), num_shards=2)
        assert _read("huggingface", *sorted((tmp_path / "two shards").iterdir()), **options) == (
            expected
        )
        # An order of its own (here by shuffle) is resolved by the library when it saves.
        mixed = dataset.shuffle(seed=1)
        DatasetDict({"train": mixed, "test": dataset}).save_to_disk(str(tmp_path / "both"))
        recipe = load_recipe("huggingface")
        files = find_files(recipe, str(tmp_path / "both"))
        wanted = [(str(r["who"]), r["said"]) for r in mixed if r["said"]]
        assert _read("huggingface", *files, **options) == [*expected, *wanted]

    def test_people_are_the_natural_ids(self, tmp_path: Path) -> None:
        if not installed("flwr-datasets"):
            pytest.skip("flwr-datasets is not installed")
        from flwr_datasets.partitioner import NaturalIdPartitioner

        from datasets import Dataset

        draw = random.Random(3)
        rows = [(f"user{draw.randrange(7)}", f"message {number}") for number in range(60)]
        dataset = Dataset.from_dict({"user": [u for u, _ in rows], "text": [t for _, t in rows]})
        dataset.save_to_disk(str(tmp_path / "chat"))
        partitioner = NaturalIdPartitioner(partition_by="user")
        partitioner.dataset = dataset
        theirs = {}
        for number in range(partitioner.num_partitions):
            part = partitioner.load_partition(number)
            theirs[part["user"][0]] = list(part["text"])
        ours: dict[str, list[str]] = {}
        for user, text in _read("huggingface", *sorted((tmp_path / "chat").iterdir())):
            ours.setdefault(user, []).append(text)
        assert ours == theirs


def test_links_inside_a_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "given" / "real").mkdir(parents=True)
    leaf_flat(tmp_path / "given" / "real" / "a.json", {"HAMLET": [HAMLET]})
    (tmp_path / "given" / "b.json").symlink_to("real/a.json")
    (tmp_path / "moved").symlink_to(tmp_path / "given", target_is_directory=True)
    recipe = load_recipe("leaf")
    names = [file.name for file in find_files(recipe, str(tmp_path / "moved"))]
    assert names == ["a.json"], "a link to a file of the same folder would be its text again"


def test_nothing_of_an_archive_lands_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "sms.zip", "w") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr("../../sms.xml", sms_xml({"51": ["hello"]}))
    assert _read("nus_sms", folder / "sms.zip") == [("51", "hello")]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["sms.zip"]


def test_other_encodings_where_the_format_says_which(tmp_path: Path) -> None:
    people = {"7": ["שלום 今天 naïve"], "8": ["x"]}
    expected = [("7", "שלום 今天 naïve"), ("8", "x")]
    for encoding in ("utf-8-sig", "utf-16"):
        xml = sms_xml(people).replace("UTF-8", encoding.removesuffix("-sig").upper())
        (tmp_path / "sms.xml").write_bytes(xml.encode(encoding))
        assert _read("nus_sms", tmp_path / "sms.xml") == expected
    leaf_tweets(tmp_path / "a.json", people)
    text = json.dumps(json.loads((tmp_path / "a.json").read_text()), ensure_ascii=False)
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.json").write_bytes(text.encode(encoding))
        assert _read("leaf", tmp_path / "a.json") == expected


@pytest.mark.parametrize("kind", ["sms", "sms backup"])
def test_an_encoding_that_there_is_not_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / FORMATS[kind].name
    FORMATS[kind].write(path, {"7": ["hello"]})
    path.write_bytes(path.read_bytes().replace(b"UTF-8", b"TF-8"))
    with pytest.raises(FedsimError, match="unknown encoding"):
        _read(FORMATS[kind].reader, path)


def test_line_ends_of_windows_are_no_part_of_what_was_said(tmp_path: Path) -> None:
    log = tmp_path / "a.txt"
    log.write_bytes(b"[12:00] <ann> hello\r\n[12:01] <bob> a\rb\r\n[12:02] <bob> hi")
    assert _read("irc", log) == [("ann", "hello"), ("bob", "a\rb"), ("bob", "hi")]


def test_a_message_of_any_kind_is_one_line_of_bounded_length() -> None:
    said = str(FedsimError(f"a.csv\n\x1b[2J\ud800\u202e: {'x' * 9_999}: mend it."))
    assert said.startswith("a.csv\ufffd\ufffd[2J\ufffd\ufffd: xxx")
    assert said.endswith("xxx: mend it.")
    assert len(said) < 2_100
    hint = nearest("x" * 99_999, ["y" * 99_999, *(f"column{n}" for n in range(9_999))])
    assert len(hint) < 1_000
    assert hint.endswith("and 9,960 more")


def test_large_arrow_files_are_read_in_batches(tmp_path: Path) -> None:
    saved_arrow(tmp_path, {"ann": [f"message {number}" for number in range(25)]})
    with pa.ipc.open_stream(str(tmp_path / "data-00000-of-00002.arrow")) as stream:
        assert sum(1 for _ in stream) > 1, "the writer of this test makes several batches"
    assert len(_read("huggingface", *sorted(tmp_path.iterdir()))) == 25
