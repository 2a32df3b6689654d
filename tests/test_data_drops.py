"""The account of a corpus: every row, sentence and word that was read is kept or has a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from data_helpers import DATA, needs_data, people, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.data.drops import Changed, Dropped, Drops, Tally
from fedsim.data.options import DataOptions
from fedsim.data.readers.base import Reader, Row
from fedsim.data.readers.irc import Irc
from fedsim.data.store import Corpus, open_corpus
from fedsim.errors import FedsimError

RECIPE = """
title = "T"
licence = "L"
citation = "C"
homepage = "H"
[source]
kind = "own"
[reader]
name = "table"
[cleaning]
drop_users = ["robot"]
drop_repeated_token = true
deduplicate = true
min_words = 20
cap_words = 100
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))


def account_of(corpus: Corpus) -> dict[str, dict]:
    """The account, after its sums were checked against themselves and the corpus."""
    assert corpus.account is not None
    for unit in ("users", "rows", "sentences", "words"):
        part = corpus.account[unit]
        assert part["read"] == part["kept"] + sum(part["dropped"].values()), unit
        if unit != "rows":
            assert part["kept"] == corpus.counts[unit]
    return corpus.account


def test_every_reason_is_counted(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    rows = [
        *people(4),  # 12 messages of 8 words each: 96 words
        *[("robot", "beep")] * 3,
        ("person0", "ha ha ha ha"),
        ("person0", ""),
        ("person0", "?!"),
        ("person0", "hello number 0 from own0 it's word0 here"),  # said before
        ("person1", "one two three four five six seven eight nine ten " * 4),  # 4 of 40 fit
        ("person1", "never read"),
        ("person2", f"at 10:30, &lt;3 {'k' * 60} \U0001f600 me@x.org! Ok"),
        ("shy", "too few words"),
        ("mute", ""),
    ]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    corpus = open_corpus(
        DataOptions(name=str(tmp_path / "recipe.toml"), path=str(file), emoji="drop")
    )
    account = account_of(corpus)
    few = "of users with fewer than 20 words (min_words)"
    beyond = "after a user's first 100 words (cap_words)"
    assert account["users"] == {
        "read": 7,
        "kept": 4,
        "dropped": {
            "left out by name (drop_users)": 1,
            "with fewer than 20 words (min_words)": 1,
            "without any text": 1,
        },
    }
    assert account["rows"] == {
        "read": len(rows),
        "kept": 50,
        "dropped": {
            "of users who are left out by name (drop_users)": 3,
            "without text": 2,
            beyond: 1,
            "of one word over and over": 1,
            few: 1,
            "repeated by the same user": 1,
            "without a word": 1,
        },
    }
    assert account["sentences"] == {"read": 52, "kept": 51, "dropped": {few: 1}}
    assert account["words"]["dropped"] == {
        beyond: 36,
        "of one word over and over": 4,
        few: 3,
        "of more than 50 characters": 1,
        "emoji (data.emoji=drop)": 2,
    }
    # The turns' numbers in four people's twelve messages, and what person2 said last.
    assert account["replaced"] == {"by <number>": 4 * 12 + 1, "by <address>": 1}
    assert account["signs"] == {
        "that end a sentence (. ! ? ...)": 3,
        "other than letters, digits, emoji": 1,
    }
    assert account["changed"] == {"HTML entities (decoded)": 1}


def test_data_show_prints_the_account(tmp_path: Path) -> None:
    rows = [*people(8), ("person1", ""), ("shy", "too few")]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    shown = CliRunner().invoke(app, ["data", "show", "--path", str(file)])
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.output.splitlines()]
    assert ["rows", "98", "96", "2"] in lines
    assert ["1", "without", "text"] in lines
    assert ["1", "of", "users", "with", "fewer", "than", "50", "words", "(min_words)"] in lines
    told = CliRunner().invoke(app, ["data", "show", "--path", str(file), "--json"])
    assert json.loads(told.output)["account"] == open_corpus(DataOptions(path=str(file))).account


def test_the_same_text_has_the_same_account_from_the_cache(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", people(8))
    options = DataOptions(path=str(file))
    assert open_corpus(options).account == open_corpus(options).account
    assert open_corpus(DataOptions(name="synthetic")).account is None  # nothing was read


class _Telling(Reader):
    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        yield Dropped("by bots")
        yield Changed("user ids with spaces around them", 2)
        yield Dropped("without text", "ann")
        for file in files:
            yield from (("bob", line) for line in file.read_text().splitlines())


def test_a_reader_says_what_it_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("hi\n")
    drops = Drops()
    assert list(_Telling().read([file], drops)) == [("bob", "hi")]
    assert drops.rows == Tally(2, 0, drops.rows.dropped)  # messages are counted by who takes them
    assert drops.rows.dropped == {"by bots": 1, "without text": 1}
    assert drops.changed == {"user ids with spaces around them": 2}
    assert drops.silent == {"ann"}
    file.write_text("")
    with pytest.raises(FedsimError, match=r"no message \(2 rows left out: 1 by bots, 1 without"):
        list(_Telling().read([file]))


def test_every_line_of_a_log_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "a.raw.txt"
    said = ["[10:00] <ann> hi", "[10:00] <ann> hi", "[10:01] <ubottu> help", "=== bob joins"]
    file.write_text("\n".join([*said, "[10:02] * ann waves", "[10:03] <bob> hello"]))
    drops = Drops()
    found = list(Irc(bots=("ubottu",)).read([file], drops))
    assert len(found) + drops.rows.read == 6
    assert drops.rows.dropped == {
        "that nobody said (joins, topics, actions)": 2,
        "by bots": 1,
        "repeated with time, nick and text": 1,
    }


words = st.sampled_from(["a", "b", "it's", "see", "you", "!", "", "x" * 60])
messages = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.lists(words, max_size=12).map(" ".join)),
    min_size=30,
    max_size=80,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=messages, least=st.integers(1, 12), cap=st.integers(12, 60), most=st.integers(2, 6))
def test_the_sums_come_out(
    rows: list[tuple[str, str]], least: int, cap: int, most: int, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace('"robot"', '"g"'))
    rows = rows + people(4, 2)  # so that there is somebody for each part of the split
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    options = DataOptions(
        name=str(tmp_path / "recipe.toml"),
        path=str(file),
        min_words=least,
        cap_words=cap,
        max_words=most,
    )
    account = account_of(open_corpus(options))
    assert account["rows"]["read"] == len(rows)
    assert account["users"]["read"] == len({user for user, _ in rows})


class TestRealCorpora:
    """The sums of real text, where it is there."""

    pytestmark = needs_data

    @pytest.mark.parametrize("name", ["nus-sms", "nus-sms-zh", "irc-ubuntu"])
    def test_the_sums_come_out(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEDSIM_DATA", str(DATA))
        account_of(open_corpus(DataOptions(name=name)))


@pytest.mark.slow
def test_the_sums_of_the_default_corpus() -> None:
    account = account_of(open_corpus(DataOptions()))
    assert account["rows"]["read"] == 258_145
