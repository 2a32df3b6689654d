"""What people bring: files as other programs write them, read as they were meant."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from data_helpers import DATA
from foreign_files import FORMATS, files_of, zstandard
from pyarrow import parquet
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.data.catalogue import origin
from fedsim.data.drops import Drops
from fedsim.data.options import DataOptions
from fedsim.data.readers import READERS
from fedsim.data.recognize import chosen
from fedsim.data.store import Corpus, open_corpus
from fedsim.errors import FedsimError
from fedsim.options import validated

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
            f'ann{delimiter}"Dear bob,\nit is ""late""{delimiter}\nRegards,\nann"\n'
        )
        assert read(file, quoting="csv") == read(file)
        assert read(file)[0] == ("ann", text)

    # Files without quoting in which two quotes stand that look like those around one message.
    MERGED = {  # noqa: RUF012
        "a space": 'ann,"so\nbob, i will be late\ncat,ok"\nbob,x\n',
        "the user's other rows": 'ann,"so\nann,ok\nbob,my code is blue\nbob,see you"\ncat,x\n',
        "only rows": 'ann,"so\nbob,my code\ncat,that was it"\nann,one\n',
        "among other lines": 'ann,"so\nann,well, ok\nbob,see you\ncat,fine"\nbob,z\n',
        "users of no other row": 'ann,"so\nbob,well, ok\ncat,see you\ndan,fine"\nann,z\n',
        "rows with spaces": 'eve, hi\nann, hi\nann,"so\nbob, my code\ncat, it"\n',
    }

    @pytest.mark.parametrize("case", MERGED)
    def test_a_lone_quote_is_refused_with_a_cure_that_works(
        self, case: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "a.csv"
        file.write_text("user,text\n" + self.MERGED[case])
        with pytest.raises(FedsimError, match=r"lines \d to \d: .* opens in the first") as caught:
            read(file)
        said = str(caught.value)
        if "data.quoting=none" in said:
            assert len(read(file, quoting="none")) == self.MERGED[case].count("\n")
        else:  # a text with a comma in it: no row without quotes
            assert "remove the two quotes, or put each text that holds a quote or" in said
            mended = self.MERGED[case].replace('"', "").replace("well, ok", '"well, ok"')
            file.write_text("user,text\n" + mended)
            assert len(read(file)) == mended.count("\n")

    def test_a_lone_quote_before_the_user(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        start = "id,text,user\n1,hi,ann\n2,hi,bob\n"
        file.write_text(start + '3,"so,ann\n4,well,bob\n5,ok",cat\n')
        with pytest.raises(FedsimError, match=r"lines 4 to 6: .*data\.quoting=none"):
            read(file)
        file.write_text(start + '3,"Dear bob,\nwell, bob\nok",cat\n')
        assert read(file)[-1] == ("cat", "Dear bob,\nwell, bob\nok")

    def test_a_list_of_several_lines_is_one_message(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        for text in ("buy:\nmilk, eggs\nbread, butter", "1,000 each\n2,000 in all\nDear Bob,\nok"):
            file.write_text(f'user,text\nann,hi\nbob,"{text}"\n')
            assert read(file)[-1] == ("bob", text)

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

    def test_escapes_of_databases(self, tmp_path: Path) -> None:
        file = tmp_path / "a.tsv"
        file.write_text(
            "user\ttext\n"
            + r"ann{t}a\nb \\n it\'s {q}q{n}".format(t="\t", q='"', n="\n")
            + "ann\ttwo\\\nlines\\\tand\\\n\nbob\t\\N\nbob\tend\\\\\n"
        )
        expected = [
            ("ann", "a\nb \\n it's \"q"),
            ("ann", "two\nlines\tand\n"),
            ("bob", "end\\"),
        ]
        assert read(file, quoting="escapes") == expected
        file.write_text("user\ttext\nann\tit\\'s\nbob\t\\N\n")
        with pytest.raises(FedsimError, match=r"line 2 \(\\'\): 1 of 2 texts .*quoting=escapes"):
            read(file)
        assert read(file, quoting="escapes") == [("ann", "it's")]
        assert read(file, quoting="csv") == [("ann", "it\\'s")]
        file.write_text("user\ttext\n" + "ann\tit\\'s\n" * 3)
        drops = Drops()
        assert len(list(READERS["table"]().read([file], drops))) == 3
        assert "3 of 3 texts have escapes" in drops.hints[0]

    def test_options_without_effect_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"user": "ann", "text": "hi"}\n')
        with pytest.raises(FedsimError, match=r"quoting=none has no effect with .*'\.jsonl'"):
            read(file, quoting="none")
        with pytest.raises(FedsimError, match=r"data\.quoting='csv' has no effect without"):
            DataOptions(quoting="csv")
        with pytest.raises(FedsimError, match=r"not accepted: there is no such encoding"):
            validated(DataOptions, {"path": str(file), "encoding": "x"}, "data")
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
        assert read(file, encoding="Windows-1252") == read(file, encoding="cp1252")
        for name in ("latin1", "iso-8859-15"):  # which has no apostrophe there
            with pytest.raises(FedsimError, match=r"line 2: byte 8 \(0x92\) .*encoding=cp1252"):
                read(file, encoding=name)
        with pytest.raises(FedsimError, match="line 2: is not text in ascii"):
            read(file, encoding="ascii")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1251", "gb18030"])
    def test_encodings_by_name(self, encoding: str, tmp_path: Path) -> None:
        file = tmp_path / "a.tsv"
        said = "привет, 今天" if encoding != "cp1251" else "привет"
        file.write_bytes(f"user\ttext\r\nann\t{said}\r\n".encode(encoding))
        assert read(file, encoding=encoding) == [("ann", said)]

    def test_json_in_another_encoding(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        file.write_bytes('[{"user": "ann",\n "text": "don\u2019t"}]'.encode("cp1252"))
        with pytest.raises(FedsimError, match=r"line 2: byte 14 \(0x92\) .*data\.encoding=cp1252"):
            read(file)
        assert read(file, encoding="cp1252") == [("ann", "don\u2019t")]
        with pytest.raises(FedsimError, match="line 2: is not text in ascii"):
            read(file, encoding="ascii")
        with pytest.raises(FedsimError, match=r"line 2: byte 14 \(0x92\) .*encoding=cp1252"):
            read(file, encoding="latin1")
        file.write_bytes('[{"user": "ann",\n "text": "caf\u00e9"}]'.encode("latin1"))
        assert read(file, encoding="latin1") == [("ann", "caf\u00e9")]

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

    def test_what_stands_before_a_header(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        for before in ("\n\n", "# exported, today\n", "# a\n\n# b\n", "\nsep=,\n"):
            file.write_text(f"{before}user,text\nann,hi\n")
            assert read(file) == [("ann", "hi")], before

    def test_spaces_behind_the_delimiter(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        rows = 'ann, "so, well"\nbob, "two\nlines"\n'
        file.write_text("user, text\n" + rows)
        assert read(file) == [("ann", "so, well"), ("bob", "two\nlines")]
        for row, line in ((rows, 2), (rows.splitlines(keepends=True)[1] + 'lines"\n', 3)):
            file.write_text("user,text\n" + row)
            with pytest.raises(FedsimError, match=f"line {line}: .*because of the space between"):
                read(file)

    def test_columns_of_other_names_may_be_a_row(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text("ann,hello\nbob,hi\n")
        with pytest.raises(FedsimError) as caught:
            read(file)
        said = str(caught.value)
        assert "no column 'user' (choose one of: ann, hello): name the right ones with" in said
        assert "if that line is a row, write 'user,text' above it" in said
        assert read(file, user="ann", text="hello") == [("bob", "hi")]

    def test_rows_that_lie_inside_of_an_object(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        file.write_text(json.dumps({"n": 1, "data": [{"user": "ann", "text": "x"}]}))
        with pytest.raises(FedsimError, match=r"1: the rows lie in the list 'data' .*jq '\.data'"):
            read(file)
        file.write_text(json.dumps({"ann": ["hi"], "bob": ["x"]}))
        with pytest.raises(
            FedsimError, match=r'each name has a list of its texts: .*"user": "ann"'
        ):
            read(file)

    def test_a_number_with_decimals_is_nobody(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"user": 1.5, "text": "hi"}\n')
        with pytest.raises(FedsimError, match=r"user 1\.5 is a number with decimals, which is"):
            read(file)

    def test_text_that_is_stored_as_bytes(self, tmp_path: Path) -> None:
        file = tmp_path / "a.parquet"
        table = pa.table({"user": [b"ann", "\u00e9".encode()], "text": [b"hi", None]})
        parquet.write_table(table, file)
        assert read(file) == [("ann", "hi")]
        parquet.write_table(pa.table({"user": [b"ann"], "text": [b"\xff"]}), file)
        with pytest.raises(FedsimError, match="holds text that is not UTF-8"):
            read(file)

    def test_a_folder_of_nobodys(self, tmp_path: Path) -> None:
        people = {f"p{n}": ["see you at eight"] for n in range(8)}
        for kind in ("csv", "jsonl", "parquet"):
            for name in (*people, "__HIVE_DEFAULT_PARTITION__"):
                folder = tmp_path / kind / f"user={name}"
                folder.mkdir(parents=True)
                if kind == "parquet":
                    parquet.write_table(pa.table({"text": ["hi"]}), folder / "a.parquet")
                else:
                    content = "text\nhi\n" if kind == "csv" else '{"text": "hi"}\n'
                    (folder / f"a.{kind}").write_text(content)
            corpus = open_corpus(DataOptions(path=str(tmp_path / kind), min_words=1))
            assert set(words_of(corpus)) == set(people)
            assert corpus.account is not None
            (why,) = corpus.account["rows"]["dropped"]
            assert why == "in a folder of nobody's (__HIVE_DEFAULT_PARTITION__)"

    def test_nothing_is_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text('{"user": "ann", "text": NaN}\n{"user": "ann", "text": "NaN"}\n')
        assert read(file) == [("ann", "NaN")]
        table = tmp_path / "a.tsv"
        table.write_text("user\ttext\nann\t\\N\nann\thi\n")
        assert read(table) == [("ann", "hi")]
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

    def test_folders_that_name_the_user_are_part_of_what_is_cached(self, tmp_path: Path) -> None:
        people = {f"p{n}": [f"see you at {n}"] for n in range(8)}
        FORMATS["hive"].write(tmp_path / "data", people)
        options = DataOptions(path=str(tmp_path / "data"), min_words=1)
        assert set(words_of(open_corpus(options))) == set(people)
        (tmp_path / "data" / "user=p7").rename(tmp_path / "data" / "user=q%207")
        assert set(words_of(open_corpus(options))) == {*people, "q 7"} - {"p7"}


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


class TestRecognized:
    """`data.path` alone: the file says what it is."""

    RECIPES = {  # noqa: RUF012
        "chitchat": None,  # the package's own
        "leaf flat": "leaf",
        "leaf lines": "leaf",
        "leaf tweets": "leaf",
        "leaf comments": "leaf",
        "tff sqlite": "tff",
        "tff hdf5": "tff",
        "huggingface": "huggingface",
        "irc": "irc",
        "sms": "nus-sms",
        "sms zip": None,  # a zip may hold anything
        "iphone": "whatsapp",
        "android": "whatsapp",
        "telegram": "telegram",
        "telegram all": "telegram",
        "discord": "discord",
        "sms backup": "sms-backup",
        "reddit": "reddit",
    }

    @pytest.mark.parametrize("kind", FORMATS)
    def test_every_format(self, kind: str, tmp_path: Path) -> None:
        written = FORMATS[kind]
        people = {name: ["see you at eight, and bring the others too " * 3] for name in "abcd"}
        written.write(tmp_path / written.name, people)
        options = written.options or {}
        columns = [options.get("user", "user"), "text"] if kind != "reddit" else ["user", "text"]
        files = files_of(tmp_path / written.name)
        recipe = self.RECIPES.get(kind, "own")
        if recipe is None:
            return
        choice = chosen(files, *columns, options.get("encoding"))
        assert (choice.found.recipe, choice.files, choice.left_out) == (recipe, files, [])
        assert choice.found.why

    def test_a_folder_says_what_it_left_out(self, tmp_path: Path) -> None:
        folder = tmp_path / "export"
        folder.mkdir()
        FORMATS["telegram"].write(folder / "result.json", {f"u{n}": ["hi"] for n in range(8)})
        (folder / "photo.jpg").write_bytes(b"\xff\xd8")
        (folder / "readme.txt").write_text("These are my chats.\n")
        (folder / "other.json").write_text('{"version": 1}')
        (folder / ".hidden.csv").write_text("x")
        options = DataOptions(path=str(folder), min_words=1)
        assert open_corpus(options).name == "telegram"
        assert origin(options) == {
            "read_as": "telegram",
            "why": "JSON with messages, each with from_id",
            "files": 1,
            "left_out": ["other.json", "photo.jpg", "readme.txt"],
        }
        with pytest.raises(FedsimError, match=r"text_column='body' has no effect .* 'telegram'"):
            open_corpus(DataOptions(path=str(folder), text_column="body"))

    def test_tables_under_another_name(self, tmp_path: Path) -> None:
        rows = [(f"p{n}", "some words of mine") for n in range(8)]
        (tmp_path / "messages").write_text(
            "\n".join(json.dumps({"user": user, "text": text}) for user, text in rows)
        )
        (tmp_path / "table.txt").write_text(
            "text|user\n" + "".join(f"{text}|{user}\n" for user, text in rows)
        )
        for name in ("messages", "table.txt"):
            corpus = open_corpus(DataOptions(path=str(tmp_path / name), min_words=1))
            assert words_of(corpus) == {user: 4 for user, _ in rows}

    def test_a_snapshot_of_the_hub(self, tmp_path: Path) -> None:
        """Links from snapshots/COMMIT/ to blobs/ stay inside of one data set's cache."""
        cache = tmp_path / "datasets--owner--chat"
        data = cache / "snapshots" / ("0" * 40) / "data"
        data.mkdir(parents=True)
        (cache / "blobs").mkdir()
        for shard in range(2):
            people = {f"p{shard}{n}": ["see you at eight"] for n in range(4)}
            FORMATS["parquet"].write(cache / "blobs" / f"{shard}abc", people)
            (data / f"train-{shard:05}-of-00002.parquet").symlink_to(f"../../../blobs/{shard}abc")
        (data.parent / "README.md").write_text("# chat")
        assert open_corpus(DataOptions(path=str(data.parent), min_words=1)).users == 8
        (data / "evil.parquet").symlink_to(tmp_path / "secret.parquet")
        (tmp_path / "secret.parquet").write_bytes(b"PAR1")
        with pytest.raises(FedsimError, match="is a link that leads out of its folder"):
            open_corpus(DataOptions(path=str(data.parent), min_words=1))

    def test_a_window_longer_than_arrow_knows(self, tmp_path: Path) -> None:
        library = pytest.importorskip("zstandard")
        parameters = library.ZstdCompressionParameters(window_log=28)
        file = tmp_path / "RC_2018.jsonl.zst"
        row = b'{"user": "ann", "text": "see you at eight"}\n'
        packer = library.ZstdCompressor(compression_params=parameters).compressobj()
        content = packer.compress(row * 9_000) + packer.flush()
        file.write_bytes(content * 2)  # two frames, as `cat` of two dumps leaves them
        assert len(read(file)) == 18_000
        for cut in (20, len(content) - 3, len(content) + 9):
            file.write_bytes((content * 2)[:cut])
            with pytest.raises(FedsimError, match="cannot be unpacked"):
                read(file)

    def test_without_zstandard_a_sentence_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A frame that asks for a window of 2 GiB: descriptor 0, window byte (31 - 10) << 3.
        file = tmp_path / "a.jsonl.zst"
        file.write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\0\0")
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(FedsimError, match=r"zstandard is needed: run .* or unpack it with"):
            read(file)


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

    READ = {  # noqa: RUF012
        "nan.jsonl": ("own", 12),
        "sep.csv": ("own", 12),
        "base.json": ("own", 12),
        "floatid.parquet": ("own", 12),
        "irc_modes.txt": ("irc", 12),
        "RC_2018.jsonl": ("reddit", 8),
        "result.json": ("telegram", 12),
        "sms_ok.xml": ("sms-backup", 7),  # six who wrote, and the phone itself
    }

    @pytest.mark.parametrize("name", READ)
    def test_what_is_plain_is_read(self, name: str) -> None:
        code, said = self.show("own", "--path", str(FILES / name))
        assert code == 0, said
        numbers = json.loads(said)
        assert (numbers["origin"]["read_as"], numbers["users"]) == self.READ[name]
        assert numbers["account"]["rows"]["kept"] == numbers["sentences"]
        # Somebody else's words in Reddit's file.
        quoted = {"lines that quote somebody else and were left out": 84}
        assert quoted.items() <= numbers["account"]["changed"].items() or "RC" not in name

    PACKED: dict[str, Callable[[bytes], bytes]] = {  # noqa: RUF012
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda content: bytes(zstandard(content)),
    }
    WRITTEN: dict[str, Callable[[bytes], bytes]] = {  # noqa: RUF012
        "windows": lambda content: content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        "mark": lambda content: b"\xef\xbb\xbf" + content,
        "utf-16": lambda content: content.decode().encode("utf-16"),
        "no last line end": lambda content: content.rstrip(b"\r\n"),
        "empty lines": lambda content: content + b"\r\n\r\n",
    }

    @pytest.mark.parametrize("name", [*READ, "thai.csv"])
    def test_variants_have_the_same_people_and_words(self, name: str, tmp_path: Path) -> None:
        """Packed, or written by another program: what is in the file stays."""
        content = (FILES / name).read_bytes()
        expected = words_of(open_corpus(DataOptions(path=str(FILES / name))))
        variants = {tmp_path / f"a{name}": content}
        if not name.endswith(".parquet"):
            for ending, pack in self.PACKED.items():
                variants[tmp_path / f"b{name}{ending}"] = pack(content)
            for how, write in self.WRITTEN.items():
                if not (name.endswith(".xml") and how == "utf-16"):  # which says UTF-8 inside
                    variants[tmp_path / f"{how}{name}"] = write(content)
        for file, changed in variants.items():
            file.write_bytes(changed)
            corpus = open_corpus(DataOptions(path=str(file)))
            assert words_of(corpus) == expected, file.name
            assert corpus.account is not None
            rows = corpus.account["rows"]
            assert rows["read"] == rows["kept"] + sum(rows["dropped"].values())

    def test_two_people_are_too_few_and_it_is_said(self) -> None:
        code, said = self.show("--path", str(FILES / "_chat.txt"))
        assert (code, "'whatsapp' leaves 2 user(s)" in said, "at least 4 people" in said) == (
            2,
            True,
            True,
        )

    def test_min_gives_each_person_their_own_words(self) -> None:
        corpus = open_corpus(DataOptions(path=str(FILES / "min.tsv"), quoting="none"))
        assert sorted(words_of(corpus).values()) == [126, 126, 135, 135]
