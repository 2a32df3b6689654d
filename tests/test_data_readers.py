"""Readers: what they yield from hand-made files, and the sentence they say about broken ones."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from fedsim.data.drops import Drops
from fedsim.data.readers import READERS
from fedsim.data.readers.names import tidied
from fedsim.data.readers.table import Table
from fedsim.data.recipes import load_recipe
from fedsim.errors import FedsimError

# Anything but NUL and lone surrogates, which are errors; users are not blank.
chars = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
names = st.text(chars, min_size=1, max_size=8).filter(lambda name: tidied(name) == (name, ()))
tables = st.lists(st.tuples(names, st.text(chars, max_size=20)), min_size=1, max_size=12)


def _csv(rows: list[tuple[str, str]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    table = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    table.writerows([("extra", "user", "text"), *(("x", *row) for row in rows)])
    return out.getvalue().encode()


def _write(rows: list[tuple[str, str]], file: Path) -> None:
    if file.suffix == ".parquet":
        users, texts = zip(*rows, strict=True)
        table = pa.table({"text": list(texts), "n": list(range(len(rows))), "user": list(users)})
        parquet.write_table(table, file, row_group_size=5)
    elif file.suffix == ".jsonl":
        lines = [json.dumps({"user": u, "text": t, "n": 1}, ensure_ascii=False) for u, t in rows]
        file.write_bytes("\n".join(lines).encode())
    else:
        file.write_bytes(_csv(rows, "\t" if file.suffix == ".tsv" else ","))


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=tables)
def test_tables_round_trip(rows: list[tuple[str, str]], ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows{ending}"
    _write(rows, file)
    expected = [(user, text) for user, text in rows if text]
    if not expected:
        with pytest.raises(FedsimError, match="holds no message"):
            list(Table().read([file]))
        return
    assert list(Table().read([file])) == expected


def test_table_takes_numbers_as_users_and_other_columns(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('\ufeff{"id": 7, "said": "hi"}\n\n{"id": "x", "said": null}\n', "utf-8")
    columns = tmp_path / "b.parquet"
    parquet.write_table(pa.table({"id": [7, 8], "said": ["a", "b"]}), columns)
    reader = READERS["table"].model_validate({"user": "id", "text": "said"})
    assert list(reader.read([lines, columns])) == [("7", "hi"), ("7", "a"), ("8", "b")]


GOOD = b'{"user": "ann", "text": "hi"}\n'

# name of the file, its bytes, and what the sentence has to contain
BROKEN = {
    "broken json line": ("a.jsonl", GOOD + b'{"user": "bob", "te\n', ["line 2", "not valid JSON"]),
    "deep json": ("a.jsonl", b"[" * 100_000, ["line 1", "not valid JSON"]),
    "json list": ("a.jsonl", GOOD + b"[1, 2]\n", ["line 2", "not a JSON object"]),
    "missing column": (
        "a.jsonl",
        b'{"User": "ann", "text": "hi"}\n',
        ["line 1", "no column 'user'", "did you mean 'User'?", "data.user_column"],
    ),
    "missing text": ("a.jsonl", GOOD + b'{"user": "ann"}', ["line 2", "'text'", "text_column"]),
    "null user": ("a.jsonl", GOOD * 2 + b'{"user": null, "text": "x"}', ["line 3", "no user"]),
    "empty user": ("a.jsonl", b'{"user": "", "text": "x"}', ["line 1", "no user"]),
    "blank user": ("a.jsonl", b'{"user": " ", "text": "x"}', ["line 1", "unusable user"]),
    "user is a list": ("a.jsonl", b'{"user": [1], "text": "x"}', ["line 1", "unusable user"]),
    "text is a number": ("a.jsonl", b'{"user": "a", "text": 4}', ["line 1", "'text'", "int"]),
    "latin-1": (
        "a.jsonl",
        GOOD + b'{"user": "\xe9", "text": "x"}',
        ["line 2", "0xe9", "data.encoding=cp1252"],
    ),
    "nul byte": ("a.jsonl", GOOD + b'{"user": "a\0", "text": "x"}', ["line 2", "NUL"]),
    "escaped nul": ("a.jsonl", b'{"user": "a", "text": "\\u0000"}', ["line 1", "NUL"]),
    "surrogate": ("a.jsonl", b'{"user": "\\ud800", "text": "x"}', ["line 1", "surrogate"]),
    "unknown ending": ("a.xlsx", b"", ["'.xlsx'", ".parquet"]),
    "empty csv": ("a.csv", b"", ["is empty", "header"]),
    "csv without column": ("a.csv", b"user;txt\n", ["line 1", "'text'", "did you mean 'txt'?"]),
    "csv column twice": ("a.csv", b"user,user,text\n", ["line 1", "occurs twice"]),
    "csv short row": ("a.csv", b"user,text\na,b\nc\n", ["line 3", "1 fields", "double quotes"]),
    "csv long row": ("a.csv", b'user,text\n"a","b\nb"\nc,d,e\n', ["line 4", "3 fields"]),
    "csv open quote": ("a.csv", b'user,text\na,b\nc,"d\ne,f\n', ["line 3", "not valid CSV"]),
    "csv without user": ("a.csv", b"user,text\n,b\n", ["line 2", "no user"]),
    "csv not utf-8": ("a.csv", b"user,text\na,b\na,\xff\n", ["line 3", "not UTF-8"]),
    "no parquet": ("a.parquet", b"PAR1 nonsense", ["cannot be read as Parquet"]),
    "empty parquet": ("a.parquet", b"", ["cannot be read as Parquet"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_table_is_one_clear_sentence(case: str, tmp_path: Path) -> None:
    name, content, parts = BROKEN[case]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(FedsimError) as caught:
        list(Table().read([file]))
    said = str(caught.value)
    assert said.startswith(str(file))
    assert "\n" not in said
    for part in parts:
        assert part in said


def test_broken_parquet_rows_and_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"user": ["a", None], "text": ["x", "y"]}), file)
    with pytest.raises(FedsimError, match="row 2: no user"):
        list(Table().read([file]))
    parquet.write_table(pa.table({"user": ["a"], "txt": ["x"]}), file)
    with pytest.raises(FedsimError, match=r"'text'.*did you mean 'txt'"):
        list(Table().read([file]))
    raw = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    )
    parquet.write_table(pa.table({"user": ["a"], "text": raw}), file)
    with pytest.raises(FedsimError, match="not UTF-8"):
        list(Table().read([file]))
    parquet.write_table(pa.table({"user": ["a"] * 5000, "text": ["word"] * 5000}), file)
    content = bytearray(file.read_bytes())
    content[10:40] = b"\xff" * 30
    file.write_bytes(content)
    with pytest.raises(FedsimError, match="cannot be read as Parquet"):
        list(Table().read([file]))


def test_chitchat_does_without_the_missing_keys(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    turn = [{"text": "hi", "sender": "a"}, {"text": "there", "sender": "a"}]
    conversations = {
        "1": {"messages": [turn, [{"text": "yo", "sender": "b"}]], "start": "s", "prompt": "p"},
        "2": {"messages": [[{"text": "again", "sender": "a"}]]},
        "3": {"messages": []},
    }
    file.write_text(json.dumps(conversations))
    expected = [("a", "hi"), ("a", "there"), ("b", "yo"), ("a", "again")]
    assert list(READERS["chitchat"]().read([file])) == expected
    for damaged in ("[1]", '{"1": {}}', '{"1": {"messages": [[{"text": "x"}]]}}'):
        file.write_text(damaged)
        with pytest.raises(FedsimError, match=r"dataset\.json: is not the chitchat"):
            list(READERS["chitchat"]().read([file]))
    file.write_text('{"1":\n"x')
    with pytest.raises(FedsimError, match=r"dataset\.json, line 2: is not valid JSON \(Untermin"):
        list(READERS["chitchat"]().read([file]))


SMS = """<?xml version="1.0" encoding="UTF-8"?><smsCorpus>
<message id="1"><text>Bugis oso &amp; near</text><source><userProfile><userID>51</userID>
</userProfile></source></message>
<message id="2"><text/><source><userProfile><userID>0</userID></userProfile></source></message>
<message id="3"><text>今天</text><source><userProfile><userID>7a</userID></userProfile></source>
</message></smsCorpus>"""


def _zipped(file: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_nus_sms_from_zip_and_from_xml(tmp_path: Path) -> None:
    plain = tmp_path / "c.xml"
    plain.write_text(SMS, "utf-8")
    expected = [("51", "Bugis oso & near"), ("7a", "今天")]
    for file in (plain, _zipped(tmp_path / "c.zip", {"c.xml": SMS})):
        assert list(READERS["nus_sms"]().read([file])) == expected


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: _zipped(f, {"c.xml": SMS[:300]}), "is damaged"),
        (lambda f: _zipped(f, {"readme.txt": ""}), "holds 0 XML files"),
        (lambda f: f.write_bytes(b"PK nonsense"), "is damaged"),
        (lambda f: _zipped(f, {"c.xml": SMS.replace("51", "")}), "message 1: no userID"),
    ],
)
def test_damaged_nus_sms(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.zip"
    make(file)
    with pytest.raises(FedsimError, match=said):
        list(READERS["nus_sms"]().read([file]))


def test_plays_give_each_role_its_speeches(tmp_path: Path) -> None:
    play = tmp_path / "hamlet.md"
    play.write_text(
        "# Hamlet\n\n## ACT I\n\n_Enter both_\n\n**HAMLET**  \nTo be,  \nor not\n\n"
        "_Exit\nFirst Clown_\n\nto be.\n\n**First Clown**\n__\\[Sings]_  \nIn youth\n\n"
        "### SCENE II. A room\n\nNobody says this.\n\n**HAMLET**  \n[Aside]_ Words *Exit*\n"
        "**Ghost**\n_Vanishes_\n"
    )
    other = tmp_path / "henry-v.md"
    other.write_text("**HAMLET**\r\nHere too\r\n")
    assert list(READERS["plays"]().read([play, other])) == [
        ("hamlet: HAMLET", "To be, or not to be."),
        ("hamlet: First Clown", "In youth"),
        ("hamlet: HAMLET", "Words"),
        ("henry-v: HAMLET", "Here too"),
    ]
    other.write_text("# Notes\n\nNo play.\n")
    with pytest.raises(FedsimError, match=r"henry-v\.md: has no line of the form '\*\*ROLE\*\*'"):
        list(READERS["plays"]().read([play, other]))


def test_irc_keeps_what_people_say(tmp_path: Path) -> None:
    first, second = tmp_path / "a.raw.txt", tmp_path / "b.raw.txt"
    first.write_text(
        "[12:00] <Ann__> hello all\n"
        "=== bob [~b@host] has joined #ubuntu\n"
        "[12:00]  * Ann waves\n"
        "[12:01] <bob> Ann: try it\n"
        "[12:01] <bob> ANN_, try again\n"
        "[12:02] <bob> well, it works\n"
        "[12:02] <ubottu> bob: I am a bot\n"
        "[12:02] <FloodBot3> stop\n"
        "[12:03] <[ANF] Max > spaced nick\n"
        "[12:03] <_> only underscores\n"
        "[12:04] <bob> see http://x.org: fine\n"
    )
    second.write_text("[12:01] <bob> Ann: try it\n[12:09] <bob> Ann: try it\n")
    reader = READERS["irc"].model_validate_json('{"bots": ["ubottu", "floodbot*"]}')
    assert list(reader.read([first, second])) == [
        ("ann", "hello all"),
        ("bob", "try it"),
        ("bob", "try again"),
        ("bob", "well, it works"),
        ("[anf] max", "spaced nick"),
        ("_", "only underscores"),
        ("bob", "see http://x.org: fine"),
        ("bob", "try it"),
    ]
    second.write_text("no log at all\n")
    with pytest.raises(FedsimError, match=r"b\.raw\.txt: has no line of the form"):
        list(reader.read([first, second]))


def test_irc_cuts_off_nicks_and_counts_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(
        "[12:00] <@ann> re: the thing\n"
        "[12:01] <ann_> bob: note: this is kept\n"
        "[12:02] <bob> http: //x\n"
        "[12:03] <bob> ann, ok\n"
        "[12:04] <bob> bob_, bob: said\n"
    )
    drops = Drops()
    assert list(READERS["irc"]().read([file], drops)) == [
        ("ann", "re: the thing"),
        ("ann", "note: this is kept"),
        ("bob", "http: //x"),
        ("bob", "ok"),
        ("bob", "bob: said"),
    ]
    assert drops.changed == {
        "nicks with the sign of a mode before them": 1,
        "nicks with underscores behind them, taken for the nick without": 1,
        "messages whose beginning 'nick: ' or 'nick, ' was cut off": 3,
    }
    texts = [text for _, text in READERS["irc"].model_validate({"colon": "any"}).read([file])]
    assert texts == ["the thing", "note: this is kept", "//x", "ok", "bob: said"]


WHATSAPP = """\
[31/12/22, 11:00:26] Ann: \u200eMessages are end-to-end encrypted. No one outside of this chat, \
not even WhatsApp, can read or listen to them.
[31/12/22, 11:00:27] Ann: hello
second line: with colon
[31/12/22, 11:01:00] Bob: <3 you all>
[31/12/22, 11:01:01] Bob: <lol>
[31/12/22, 11:01:02] Bob: index.html (the page)
[31/12/22, 11:01:03] Bob: ok.so (my bad)
[31/12/22, 11:01:04] Bob: null
[31/12/22, 11:01:05] \u05e9\u05e8\u05d4: \u200f\u05e9\u05dc\u05d5\u05dd
[31/12/22, 11:01:06] Bob: \u200eBild weggelassen
[31/12/22, 11:01:07] Bob: hi \u200e<This message was edited>
[31/12/22, 11:01:08] Ann changed the subject to \u201cTrip: Paris\u201d
[31/12/22, 11:01:09] Ann added Bob: the builder
[31/12/22, 11:01:10] Анна сменила тему на «Поездка: Париж»
[31/12/22, 11:01:11] Bob: IMG-20221231-WA0001.jpg (fichier dedans)
my caption
of two lines
[31/12/22, 11:01:12] Bob: My list.pdf (file attached)
[31/12/22, 11:01:13] Bob: \u200e<attached: 0001-PHOTO.jpg>
[31/12/22, 11:01:14] Bob: <Medien ausgeschlossen>
[31/12/22, 11:01:15] Bob: Diese Nachricht wurde gel\u00f6scht.
[31/12/22, 11:01:16] Bob "Bobby" Smith: yes
[31/12/22, 11:01:17] Ann: \u200e{long}
"""


def test_whatsapp_keeps_what_people_say(tmp_path: Path) -> None:
    file, drops = tmp_path / "_chat.txt", Drops()
    long = "this begins with the mark but is far longer than anything that the program says"
    file.write_text(WHATSAPP.replace("{long}", long))
    assert list(READERS["whatsapp"]().read([file], drops)) == [
        ("Ann", "hello\nsecond line: with colon"),
        ("Bob", "<3 you all>"),
        ("Bob", "<lol>"),
        ("Bob", "index.html (the page)"),
        ("Bob", "ok.so (my bad)"),
        ("\u05e9\u05e8\u05d4", "\u200f\u05e9\u05dc\u05d5\u05dd"),
        ("Bob", "hi"),
        ("Bob", "my caption\nof two lines"),
        ('Bob "Bobby" Smith', "yes"),
        ("Ann", f"\u200e{long}"),
    ]
    assert drops.rows.dropped == {
        "that stand for media, calls or deleted messages": 4,
        "that begin with the mark of WhatsApp's own words (U+200E)": 2,
        "that are 'null', as WhatsApp writes what it cannot show": 1,
        "whose name is a sentence of WhatsApp's ('Ann added Bob: ...') and occurs once": 3,
    }
    assert drops.changed == {"names of attached files that were cut off before a caption": 1}
    assert drops.hints == []


def test_whatsapp_says_where_a_date_is_of_an_unknown_form(tmp_path: Path) -> None:
    file, drops = tmp_path / "_chat.txt", Drops()
    file.write_text(
        "31.12.22, 21:05 - Ann: hallo\n"
        "31/12/22 \u00e0 21:06 - Dan: bonjour\n"
        "\u200f[31/12/2022\u060c 9:05:12 \u0645] Eve: hi\n"
        "31/12/22 ora 21:07 - Fay: ciao\n"
    )
    assert list(READERS["whatsapp"]().read([file], drops)) == [
        ("Ann", "hallo"),
        ("Dan", "bonjour"),
        ("Eve", "hi\n31/12/22 ora 21:07 - Fay: ciao"),
    ]
    (hint,) = drops.hints
    assert hint.startswith(f"{file}, line 4: '31/12/22 ora 21:07 -' is no form of a date")
    assert "1 lines that begin like it are part of the message before" in hint


def test_reddits_placeholders_and_quotes_are_nobodys_words(tmp_path: Path) -> None:
    file, drops = tmp_path / "RC.jsonl", Drops()
    rows = [
        ("ann", "[ Removed by Reddit ]"),
        (None, "who was I"),
        ("ann", "> somebody's words\n\nmy own > yours"),
        ("bob", "&gt; somebody's\n&gt; words\n"),
        ("bob", "[deleted by user]"),
        ("bob", "hi"),
    ]
    file.write_text("\n".join(json.dumps({"author": user, "body": text}) for user, text in rows))
    reader = load_recipe("reddit").make_reader()
    assert list(reader.read([file], drops)) == [("ann", "\nmy own > yours"), ("bob", "hi")]
    assert drops.rows.dropped.total() == 4
    assert drops.rows.dropped["without author"] == 1
    assert drops.rows.dropped["that only quote somebody else"] == 1
    assert drops.changed == {"lines that quote somebody else and were left out": 1}


def test_sms_backups_name_who_wrote(tmp_path: Path) -> None:
    file = tmp_path / "sms.xml"
    sms = '<sms address="{}" type="1" body="{}" contact_name="{}" />'
    group = (
        '<mms msg_box="1" address="+1555~+1666" contact_name="Ann, Bob"><parts>'
        '<part ct="application/smil" text="x"/><part ct="Text/Plain; charset=utf-8" text="{}"/>'
        '</parts><addrs><addr address="{}" type="137"/></addrs></mms>'
    )
    file.write_text(
        "<smses>"
        + group.format("of ann", "+1 555")
        + sms.format("(+1) 555", "hello", "Ann")
        + sms.format("777", "not the owner", "me ")
        + group.format("of nobody we know", "+1-888")
        + '<sms address="+1555" type="2" body="mine" contact_name="Ann" />'
        + "</smses>"
    )
    assert list(READERS["sms_backup"]().read([file])) == [
        ("Ann", "of ann"),
        ("Ann", "hello"),
        ("777", "not the owner"),
        ("+1888", "of nobody we know"),
        ("me", "mine"),
    ]


def test_short_floats_are_no_ids_where_they_skip_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    for kind, most in ((pa.float32(), 2**24), (pa.float16(), 2**11)):
        for users in ([1.0, None, most - 1.0], [1.0, most], [-most, 2.0]):
            ids = pa.array(users).cast(kind, safe=False)
            table = pa.table({"user": ids, "text": ["a"] * len(ids)})
            parquet.write_table(table, file)
            said = "no user" if None in users else f"user {most} is a number of the type"
            with pytest.raises(FedsimError, match=said):
                list(READERS["table"]().read([file]))
    parquet.write_table(pa.table({"user": pa.array([7.0], pa.float32()), "text": ["a"]}), file)
    assert list(READERS["table"]().read([file])) == [("7", "a")]
