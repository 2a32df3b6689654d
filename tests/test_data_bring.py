"""What people bring: files as other programs write them, read as they were meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_helpers import DATA
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.data.options import DataOptions
from fedsim.data.readers import READERS
from fedsim.data.store import Corpus, open_corpus
from fedsim.errors import FedsimError

FILES = DATA / "user-files"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))


def words_of(corpus: Corpus) -> dict[str, int]:
    """How many words each person has."""
    counts = corpus.words_per_user()
    return {corpus.user_name(user): int(counts[user]) for user in range(corpus.users)}


def read(path: Path, **options: object) -> list[tuple[str, str]]:
    """What the reader of tables makes of a file."""
    return list(READERS["table"].model_validate(options).read([path]))


class TestQuotes:
    """Lone double quotes in files without quoting, and the several ways to write them."""

    def test_a_lone_quote_makes_nobody_elses_text_mine(self, tmp_path: Path) -> None:
        names = ["ann", "bob", "cat", "dan"]
        rows = [f"{user}\tsee you at the door {n}" for n in range(8) for user in names]
        rows[5] = 'bob\t"see you'
        rows[8] = 'ann\tat the door"'
        file = tmp_path / "min.tsv"
        file.write_text("user\ttext\n" + "\n".join(rows) + "\n")
        with pytest.raises(FedsimError, match=r"lines 7 to 10: .*write data\.quoting=none"):
            open_corpus(DataOptions(path=str(file), min_words=1))
        corpus = open_corpus(DataOptions(path=str(file), min_words=1, quoting="none", max_words=9))
        assert words_of(corpus) == {"ann": 7 * 6 + 3, "bob": 7 * 6 + 2, "cat": 48, "dan": 48}

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_messages_of_several_lines_are_read(self, delimiter: str, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        said = [f"dear bob{delimiter} hi", "a, b", "", f"well{delimiter} ann{delimiter} no"]
        text = "\n".join(said)
        file.write_text(
            f'user{delimiter}text\nann{delimiter}"{text}"\nbob{delimiter}"so\nwe go, ann"\n'
            f'ann{delimiter}"hello all\nbob{delimiter} are you there?"\n'
        )
        assert read(file, quoting="csv") == read(file)
        assert read(file)[0] == ("ann", text)

    def test_what_only_looks_like_rows_is_read_when_said(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text('user,text\nann,hi\nbob,"the list:\nann,yes"\n')
        with pytest.raises(FedsimError, match=r"or data\.quoting=csv"):
            read(file)
        assert read(file, quoting="csv")[-1] == ("bob", "the list:\nann,yes")

    def test_quotes_inside_of_unquoted_text_are_text(self, tmp_path: Path) -> None:
        file = tmp_path / "a.tsv"
        file.write_text('user\ttext\nann\tsay "hi" to him\nbob\t5" wide\n')
        expected = [("ann", 'say "hi" to him'), ("bob", '5" wide')]
        assert read(file) == read(file, quoting="none") == expected

    def test_options_without_effect_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"user": "ann", "text": "hi"}\n')
        with pytest.raises(FedsimError, match=r"quoting=none has no effect with .*'\.jsonl'"):
            read(file, quoting="none")
        with pytest.raises(FedsimError, match=r"data\.quoting='csv' has no effect without"):
            DataOptions(quoting="csv")
        with pytest.raises(FedsimError, match=r"data\.encoding='x' is not accepted: there is no"):
            open_corpus(DataOptions(path=str(file), encoding="x"))
        with pytest.raises(FedsimError, match=r"encoding='cp1252' has no effect .*'leaf'"):
            open_corpus(DataOptions(name="leaf", path=str(file), encoding="cp1252"))


class TestBytes:
    """Encodings, line ends and long fields."""

    def test_apostrophes_of_windows_survive(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_bytes(b"user,text\r\nann,don\x92t we\x92re\r\n")
        with pytest.raises(FedsimError, match=r"data\.encoding=cp1252"):
            read(file)
        assert read(file, encoding="cp1252") == [("ann", "don\u2019t we\u2019re")]
        for name in ("Windows-1252", "latin1"):  # which of the two it is shows in the apostrophe
            assert read(file, encoding=name)[0][1].startswith("don")
        with pytest.raises(FedsimError, match="line 2: is not text in ascii"):
            read(file, encoding="ascii")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1251", "gb18030"])
    def test_encodings_by_name(self, encoding: str, tmp_path: Path) -> None:
        file = tmp_path / "a.tsv"
        said = "привет, 今天" if encoding != "cp1251" else "привет"
        file.write_bytes(f"user\ttext\r\nann\t{said}\r\n".encode(encoding))
        assert read(file, encoding=encoding) == [("ann", said)]

    def test_line_ends_of_old_macs(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_bytes(b'user,text\rann,hi\rbob,"a\rb"\r')
        assert read(file) == [("ann", "hi"), ("bob", "a\nb")]

    def test_a_field_of_any_length_a_message_may_have(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        text = "word " * 40_000
        file.write_text(f'user,text\nann,{text}\nbob,"{text}"\n')
        assert read(file) == [("ann", text), ("bob", text)]


class TestTables:
    """Headers, columns and missing values."""

    def test_headers(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        for content in (
            "sep=;\r\nuser;text\r\nann;hi\r\n",
            '"sep=\t"\nuser\ttext\nann\thi\n',
            "user, text\nann,hi\n",
            "\ufeffuser,text\nann,hi\n\ufeffuser,text\n",  # cat a.csv b.csv
        ):
            file.write_text(content)
            assert read(file) == [("ann", "hi")], content

    def test_nothing_is_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"user": "ann", "text": NaN}\n{"user": "ann", "text": "NaN"}\n')
        assert read(file) == [("ann", "NaN")]
        corpus = open_corpus(DataOptions(path=str(_people(tmp_path / "b.jsonl", "NaN"))))
        assert corpus.account is not None
        assert corpus.account["rows"]["dropped"] == {"without text": 20}

    def test_json_of_any_form(self, tmp_path: Path) -> None:
        row = {"user": "ann", "text": "hi"}
        file = tmp_path / "base.json"
        for content in (
            json.dumps(row),
            json.dumps(row) + "\n" + json.dumps(row),
            json.dumps([row, row]),
            json.dumps([row], indent=4),
        ):
            file.write_text(content)
            assert set(read(file)) == {("ann", "hi")}
        file.write_text("[]")
        with pytest.raises(FedsimError, match="holds no message"):
            read(file)
        for content, said in (
            ('[{"user": "a", "text": "b"}', "line 1: is not valid JSON (',' or ']' is missing"),
            ('{"user": "a",\n "text": "b}', "line 2: is not valid JSON (Unterminated"),
            ('[{"user": "a", "text": "b"}] 5', "the end of the file is missing before '5'"),
            ('[{"user": "a", "text": "b"}\n 5]', "line 2: is not valid JSON (',' or ']'"),
        ):
            file.write_text(content)
            with pytest.raises(FedsimError) as caught:
                read(file)
            assert said in str(caught.value)

    def test_long_json_is_read_in_pieces(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        rows = [{"user": f"ann{n}", "text": "é" * (n * 997 % 90_000)} for n in range(40)]
        file.write_text(json.dumps(rows, ensure_ascii=False))
        assert read(file) == [(row["user"], row["text"]) for row in rows if row["text"]]

    def test_columns_inside_of_others(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"author": {"id": 7, "b.c": {"d": "x"}}, "text": "hi"}\n')
        assert read(file, user="author.id") == [("7", "hi")]
        assert read(file, user="author.b.c.d") == [("x", "hi")]
        with pytest.raises(FedsimError, match=r"did you mean 'author\.id'"):
            read(file, user="author.idd")
        file.write_text('{"author": null, "text": "hi"}\n')
        with pytest.raises(FedsimError, match=r"no column 'author\.id'"):
            read(file, user="author.id")


class TestNames:
    """One person is one user, however the id was written."""

    def test_what_is_the_same_name_is_one_user(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        written = ["Zoe\u0308", "Zo\u00eb", " Zo\u00eb", "Zo\u00eb\u200e", "\ufeffZo\u00eb\u00a0"]
        numbers = ["1000", "1000.0"]
        rows = [f"{name},one two three four {n}" for n, name in enumerate(written + numbers)]
        file.write_text("user,text\n" + "\n".join(rows * 9) + "\n")
        corpus = open_corpus(DataOptions(path=str(_people(tmp_path / "b.jsonl"))))
        assert corpus.account is not None
        assert corpus.account["changed"] == {}
        (tmp_path / "both").mkdir()
        for name in ("a.csv", "b.jsonl"):
            (tmp_path / name).rename(tmp_path / "both" / name)
        corpus = open_corpus(DataOptions(path=str(tmp_path / "both")))
        assert {"Zo\u00eb", "1000"} <= words_of(corpus).keys()
        assert corpus.users == 22
        assert corpus.account is not None
        assert corpus.account["changed"] == {
            "user ids whose accents were written apart": 1,
            "user ids with spaces around them or several in a row": 2,
            "user ids with invisible marks": 2,
            "user ids that were stored as decimals, such as 1000.0": 1,
        }

    def test_joiners_inside_of_a_name_stay(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        names = ["\u0645\u06cc\u200c\u0631\u0648\u0645", "\U0001f469\u200d\U0001f680"]
        file.write_text("\n".join(json.dumps({"user": n, "text": "hi"}) for n in names))
        assert [user for user, _ in read(file)] == names


def _people(file: Path, extra: str = '"more of it"') -> Path:
    """Twenty people with fifty words each, and one more row each with this JSON value as text."""
    rows = [f'{{"user": "p{user}", "text": "{"word " * 50}"}}\n' for user in range(20)]
    rows += [f'{{"user": "p{user}", "text": {extra}}}\n' for user in range(20)]
    file.write_text("".join(rows))
    return file


@pytest.mark.skipif(not FILES.is_dir(), reason="shared/data/user-files is not there")
class TestSharedFiles:
    """The files of `shared/data/user-files`, through the command line."""

    @staticmethod
    def show(*arguments: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        result = CliRunner().invoke(app, ["data", "show", *arguments, "--json", "--samples", "0"])
        if isinstance(result.exception, FedsimError):
            return 2, str(result.exception)
        return result.exit_code, result.stdout

    REFUSED: dict[str, tuple[str, list[str]]] = {  # noqa: RUF012
        "min.tsv": ("lines 30 to 59: a double quote opens", ["--no-quoting"]),
        "tsv_open_close.tsv": ("lines 2 to 42: a double quote opens", ["--quoting", "none"]),
        "cp1252_apostrophe.csv": ("write --encoding=cp1252", ["--encoding", "cp1252"]),
        "spark.csv": ("write --quoting=backslash", ["--quoting", "backslash"]),
        "enron.csv.gz": (
            "has no column 'user' (choose one of: From, message)",
            ["--user-column", "From", "--text-column", "message"],
        ),
        "enron.jsonl": (
            "has no column 'user' (choose one of: From, message)",
            ["--user-column", "From", "--text-column", "message"],
        ),
    }

    @pytest.mark.parametrize("name", REFUSED)
    def test_a_refusal_names_what_then_works(self, name: str) -> None:
        said, cure = self.REFUSED[name]
        code, refusal = self.show("--path", str(FILES / name))
        assert (code, said in refusal) == (2, True), refusal
        code, numbers = self.show("--path", str(FILES / name), *cure)
        assert code == 0, numbers
        assert json.loads(numbers)["users"] == (4 if name == "min.tsv" else 12)

    @pytest.mark.parametrize("name", ["nan.jsonl", "sep.csv", "base.json", "floatid.parquet"])
    def test_what_is_plain_is_read(self, name: str) -> None:
        code, numbers = self.show("--path", str(FILES / name))
        assert code == 0, numbers
        assert json.loads(numbers)["users"] == 12

    def test_min_gives_each_person_their_own_words(self) -> None:
        corpus = open_corpus(DataOptions(path=str(FILES / "min.tsv"), quoting="none"))
        assert sorted(words_of(corpus).values()) == [126, 126, 135, 135]
