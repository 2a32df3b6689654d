"""The same text twice, and users who are no persons: refused, or said by `data show`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from foreign_files import FORMATS, leaf_tweets
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.data.options import DataOptions
from fedsim.data.store import Corpus, open_corpus
from fedsim.data.watch import Watch
from fedsim.errors import FedsimError

PEOPLE = {
    f"person{user}": [f"message {turn} of person {user} and what it says" for turn in range(4)]
    for user in range(8)
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(path: Path, **options: object) -> Corpus:
    """The corpus, whoever has how few words."""
    return open_corpus(DataOptions.model_validate({"path": str(path), "min_words": 1, **options}))


def hints_of(corpus: Corpus) -> list[str]:
    """What is said about the text beside its sums."""
    assert corpus.account is not None
    return list(corpus.account["hints"])


def sentences_of(corpus: Corpus) -> int:
    """How many there are."""
    return corpus.counts["sentences"]


def test_one_table_in_two_formats_is_not_read_twice(tmp_path: Path) -> None:
    FORMATS["csv"].write(tmp_path / "base.csv", PEOPLE)
    FORMATS["jsonl"].write(tmp_path / "base.jsonl", PEOPLE)
    with pytest.raises(FedsimError) as caught:
        opened(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'base.jsonl'}: 100% of its 32 messages are in ")
    assert f"{tmp_path / 'base.csv'} already" in said
    assert "write data.deduplicate=true" in said
    once = opened(tmp_path / "base.csv")
    both = opened(tmp_path, deduplicate=True)
    assert sentences_of(both) == sentences_of(once)
    assert both.account is not None
    assert both.account["rows"]["dropped"] == {"repeated by the same user": 32}


def test_leaf_with_equal_train_and_test(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        leaf_tweets(tmp_path / part / "all.json", PEOPLE)
    with pytest.raises(FedsimError, match=r"train.all\.json: 100% of .*test.all\.json already"):
        opened(tmp_path)


def test_dumps_that_grow(tmp_path: Path) -> None:
    """The second dump holds the first and as much again; by itself it is all there is."""
    half = {user: texts[:2] for user, texts in PEOPLE.items()}
    FORMATS["jsonl"].write(tmp_path / "2021.jsonl", half)
    FORMATS["jsonl"].write(tmp_path / "2022.jsonl", PEOPLE)
    (hint, again) = hints_of(opened(tmp_path))
    assert "2022.jsonl: 50% of its 32 messages are in " in hint
    assert again.startswith("16 of 48 messages of at least 20 characters (33%) repeat an earlier")
    assert hints_of(opened(tmp_path, deduplicate=True)) == []


def test_short_messages_are_said_again_and_again(tmp_path: Path) -> None:
    people = {user: ["ok", "good night"] * 20 for user in PEOPLE}
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", people)
    assert hints_of(opened(tmp_path / "a.jsonl")) == []
    # The same words of other people are no repetition.
    FORMATS["csv"].write(tmp_path / "b.csv", {f"{user}b": said for user, said in people.items()})
    assert hints_of(opened(tmp_path)) == []


def test_a_link_and_its_file_are_one(tmp_path: Path) -> None:
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", PEOPLE)
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    assert sentences_of(opened(tmp_path)) == 32
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "c.jsonl")
    with pytest.raises(FedsimError, match=r"c\.jsonl: 100%"):
        opened(tmp_path)


def test_placeholders_and_programs_are_named(tmp_path: Path) -> None:
    more = {"[deleted]": ["x y z"] * 9, "weather_bot": ["hot"] * 2, "Talbott": ["hi"]}
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", {**PEOPLE, **more})
    (hint,) = hints_of(opened(tmp_path / "a.jsonl"))
    assert hint.startswith("'[deleted]' (9 rows), 'weather_bot' (2 rows) may be placeholders")
    corpus = opened(tmp_path / "a.jsonl", drop_users=("[deleted]", " weather_bot "))
    assert corpus.users == len(PEOPLE) + 1
    assert hints_of(corpus) == []
    assert corpus.account is not None
    assert corpus.account["users"]["dropped"] == {"left out by name (drop_users)": 2}
    with pytest.raises(FedsimError, match=r"names 'persn3', who wrote nothing: .* 'person3'"):
        opened(tmp_path / "a.jsonl", drop_users=("persn3",))


def test_names_that_look_alike_are_named(tmp_path: Path) -> None:
    more = {"Person1": ["hi"], "person 2": ["ho"], "\uff50erson3": ["ha"]}
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", {**PEOPLE, **more})
    corpus = opened(tmp_path / "a.jsonl")
    assert corpus.users == len(PEOPLE) + 3
    (hint,) = hints_of(corpus)
    assert hint.startswith("3 names are written in several ways")
    assert "such as 'person1' and 'Person1', and are several users" in hint


def test_the_command_says_it_in_its_options(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    FORMATS["jsonl"].write(file, {**PEOPLE, "[deleted]": ["x y z"] * 9, "None": ["x"]})
    show = ["data", "show", "--path", str(file), "--min-words", "1"]
    said = CliRunner().invoke(app, show).stdout
    assert "note: '[deleted]' (9 rows), 'None' (1 rows) may be placeholders" in said
    assert "--drop-users leaves users out by name" in said
    options = ["--drop-users", "[deleted]", "--drop-users", "None", "--deduplicate", "--json"]
    numbers = json.loads(CliRunner().invoke(app, [*show, *options]).stdout)
    assert numbers["account"]["hints"] == []
    assert numbers["users"] == len(PEOPLE)


def test_nothing_passes_without_its_file() -> None:
    hints: list[str] = []
    watch = Watch((), (), False, hints)
    assert list(watch.over(iter([]))) == []
    assert hints == []


def test_text_that_was_decoded_wrongly_before_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    right = {user: [f"{text} don\u2019t, \u00c3 la, \u00c2ge" for text in said]
             for user, said in PEOPLE.items()}  # fmt: skip
    FORMATS["jsonl"].write(file, right)
    assert hints_of(opened(file)) == []
    said = "we don\u2019t go to the caf\u00e9"
    for garbled, named in (
        (said.encode().decode("cp1252"), "don\u00e2\u20ac\u2122t"),
        (said.encode().decode("latin-1"), "don\u00e2\\x80\\x99t"),
        ("a caf\u00e9".encode().decode("cp1252"), "caf\u00c3\u00a9"),
        ("so na\ufffdve", "na\ufffdve"),
    ):
        FORMATS["jsonl"].write(file, {**PEOPLE, "zoe": [garbled]})
        (hint,) = hints_of(opened(file))
        assert hint.startswith("1 of 33 messages hold what is left of another encoding")
        assert f"such as '{named}'" in hint


def test_names_that_may_be_no_persons_or_one(tmp_path: Path) -> None:
    more = {"Bob": ["hi"], "~\u202fBob": ["hi"], "Анна добавила вас в группу": ["Семья"]}
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", {**PEOPLE, **more})
    sentence, alike = hints_of(opened(tmp_path / "a.jsonl"))
    assert sentence.startswith("1 users have names of 5 words or more and wrote one message")
    assert "'Анна добавила вас в группу'" in sentence
    assert "such as 'Bob' and '~ Bob'" in alike


def test_numbers_of_which_one_has_the_countrys_code(tmp_path: Path) -> None:
    more = {"+15551234567": ["hi"], "(555) 123-4567": ["ho"], "+1 555 999 9999": ["he"]}
    FORMATS["jsonl"].write(tmp_path / "a.jsonl", {**PEOPLE, **more})
    (hint,) = hints_of(opened(tmp_path / "a.jsonl"))
    assert hint.startswith("1 telephone numbers are written in several ways, such as '+15551234567")


def test_ids_of_a_spreadsheet_are_refused(tmp_path: Path) -> None:
    ids = [906123456789012000 + 1000 * n for n in range(8)]
    FORMATS["csv"].write(tmp_path / "a.csv", {str(one): ["hi there"] for one in ids})
    with pytest.raises(FedsimError, match=r"All 8 user ids of more than 15 digits, such as '9061"):
        opened(tmp_path / "a.csv")
    FORMATS["csv"].write(tmp_path / "a.csv", {str(one): ["hi there"] for one in [*ids, ids[0] + 1]})
    assert opened(tmp_path / "a.csv").users == 9
