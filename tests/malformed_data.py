"""Malformed data and recipes: what writes each into a folder, and what is said about it."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from foreign_files import (
    WINDOW,
    example,
    leaf_comments,
    leaf_flat,
    leaf_tweets,
    saved_arrow,
    sms_xml,
    tff_hdf5,
    tff_sqlite,
)
from pyarrow import parquet

Make = Callable[[Path], Path]  # writes into a folder, returns what is given as path

PEOPLE = {"ann": ["see you at eight"], "bob": ["no, nine"]}
TALK = {"HAMLET": ["To be, or not to be, that is the question: " * 3]}
ROW = b'{"user": "ann", "text": "hi"}\n'


def put(name: str, content: bytes | str) -> Make:
    """A file of this content."""

    def make(folder: Path) -> Path:
        file = folder / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return make


def changed(
    name: str, write: Callable[[Path, dict], None], change: Callable[[bytes], bytes]
) -> Make:
    """A sound file whose bytes were changed."""

    def make(folder: Path) -> Path:
        file = folder / name
        write(file, PEOPLE)
        file.write_bytes(change(file.read_bytes()))
        return file

    return make


def leaf(
    change: Callable[[dict], object], write: Callable = leaf_tweets, people: dict = PEOPLE
) -> Make:
    """LEAF's JSON with something wrong; `change` alters it or returns what stands instead."""

    def make(folder: Path) -> Path:
        file = folder / "leaf.json"
        write(file, people)
        content = json.loads(file.read_text())
        replaced = change(content)
        file.write_text(json.dumps(content if replaced is None else replaced))
        return file

    return make


def columns(**values: object) -> Make:
    """A Parquet file of these columns."""

    def make(folder: Path) -> Path:
        parquet.write_table(pa.table(values), folder / "a.parquet")
        return folder / "a.parquet"

    return make


def zipped(members: dict[str, bytes | str], change: Callable[[bytes], bytes] = bytes) -> Make:
    """A zip with these members, and its bytes changed."""

    def make(folder: Path) -> Path:
        file = folder / "sms.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        file.write_bytes(change(file.read_bytes()))
        return file

    return make


def everywhere(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """The bytes with `value` at `offset` after each occurrence of `signature`."""
    out, at = bytearray(content), content.find(signature)
    while at >= 0:
        out[at + offset : at + offset + len(value)] = value
        at = content.find(signature, at + 1)
    return bytes(out)


def encrypted(content: bytes) -> bytes:
    """The flag that says that a member needs a password."""
    return everywhere(everywhere(content, b"PK\3\4", 6, b"\1\0"), b"PK\1\2", 8, b"\1\0")


def of_method(content: bytes) -> bytes:
    """A way of packing that does not exist."""
    return everywhere(everywhere(content, b"PK\3\4", 8, b"\x63\0"), b"PK\1\2", 10, b"\x63\0")


def sql(*statements: str | tuple[str, tuple]) -> Make:
    """An SQLite file made by these statements."""

    def make(folder: Path) -> Path:
        file = folder / "a.sqlite"
        with closing(sqlite3.connect(file)) as store:
            for statement in statements:
                store.execute(*([statement] if isinstance(statement, str) else statement))
            store.commit()
        return file

    return make


EXAMPLES = "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)"


def one_example(record: object, client: object = "ann") -> Make:
    """An SQLite file of one example."""
    return sql(EXAMPLES, ("INSERT INTO examples VALUES ('train', ?, ?)", (client, record)))


def hdf5(fill: Callable) -> Make:
    """An HDF5 file that `fill` writes; it gets the file and the module h5py."""

    def make(folder: Path) -> Path:
        import h5py

        (folder / "secret.bin").write_bytes(b"a secret of this machine")
        with h5py.File(folder / "other.h5", "w") as other:
            other.create_dataset("examples/ann/tokens", data=["a secret"])
        with h5py.File(folder / "a.h5", "w") as store:
            fill(store, h5py)
        return folder / "a.h5"

    return make


def saved(change: Callable[[Path], object]) -> Make:
    """A saved Hugging Face data set with something wrong."""

    def make(folder: Path) -> Path:
        saved_arrow(folder / "saved", PEOPLE)
        change(folder / "saved")
        return folder / "saved"

    return make


def state(**changes: object) -> Callable[[Path], object]:
    """Changes of the state file."""

    def change(folder: Path) -> None:
        file = folder / "state.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def cut(name: str, share: float) -> Callable[[Path], object]:
    """Only the first part of a file is left."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return change


def half(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


def pipe(folder: Path) -> Path:
    """Something that has no end."""
    os.mkfifo(folder / "a.jsonl")
    return folder / "a.jsonl"


def link_out(folder: Path) -> Path:
    """A folder with a link to a file beside it, as an unpacked archive may hold."""
    (folder / "secret.jsonl").write_bytes(ROW)
    (folder / "given").mkdir()
    (folder / "given" / "a.jsonl").symlink_to("../secret.jsonl")
    return folder / "given"


def loop(folder: Path) -> Path:
    """A link to itself."""
    (folder / "a.jsonl").symlink_to("a.jsonl")
    return folder / "a.jsonl"


def forbidden(folder: Path) -> Path:
    """A file that may not be read."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    file = put("a.jsonl", ROW)(folder)
    file.chmod(0)
    return file


def folder_called(name: str) -> Make:
    """A folder where a file is meant."""

    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return make


def all_stages(folder: Path) -> Path:
    """LEAF's whole data folder, where every text lies twice."""
    for stage in ("all_data", "train"):
        (folder / stage).mkdir()
        leaf_tweets(folder / stage / "a.json", PEOPLE)
    return folder


def two_formats(folder: Path) -> Path:
    """A table and a chat."""
    put("a.jsonl", ROW)(folder)
    put("result.json", TELEGRAM)(folder)
    return folder


TELEGRAM = b'{"name": "g", "messages": [{"type": "message", "from_id": "user1", "text": "hi"}]}'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
LAUGHS = f'<!DOCTYPE s [<!ENTITY l0 "lol">{LAUGHS}]><s><message><text>&l11;</text></message></s>'
BAD_TEXT = pa.StringArray.from_buffers(
    1, pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"\xff\xfe")
)

TABLES: dict[str, tuple[Make, str]] = {
    "json line cut off": (
        put("a.jsonl", ROW + b'{"user": "bob", "te'),
        "line 2: is not valid JSON",
    ),
    "deep json": (
        put("a.jsonl", ROW + b"[" * 200_000),
        "line 2: is not valid JSON (nested too deep",
    ),
    "deep objects": (put("a.jsonl", b'{"user":' * 99_999), "line 1: is not valid JSON (nested too"),
    "huge number": (
        put("a.jsonl", b'{"user": %s}' % (b"9" * 9_999)),
        "a number of thousands of dig",
    ),
    "key twice": (
        put("a.jsonl", ROW + b'{"user":"a","user":"b","text":"c"}'),
        "'user' occurs twice",
    ),
    "json list": (put("a.jsonl", b'[{"user": "a", "text": "b"}]'), "line 1: is not a JSON object"),
    "json number": (put("a.jsonl", ROW * 3 + b"5"), "line 4: is not a JSON object"),
    "no column": (put("a.jsonl", b'{"User": "a", "text": "b"}'), "--user-column"),
    "user null": (put("a.jsonl", ROW + b'{"user": null, "text": "b"}'), "line 2: no user"),
    "user blank": (put("a.jsonl", b'{"user": "\\t ", "text": "b"}'), "line 1: an unusable user"),
    "user list": (put("a.jsonl", b'{"user": ["a"], "text": "b"}'), "line 1: an unusable user"),
    "user NaN": (put("a.jsonl", b'{"user": NaN, "text": "b"}'), "line 1: no user"),
    "text NaN": (put("a.jsonl", b'{"user": "a", "text": NaN}'), "holds no message (1 rows left"),
    "text object": (
        put("a.jsonl", b'{"user": "a", "text": {"de": "x"}}'),
        "'text' is not a text but an object: name a column inside of it as 'outer.inner' with "
        "--text-column",
    ),
    "columns of pandas": (
        put("a.json", b'{"user": {"0": "a"}, "text": {"0": "b"}}'),
        "row 1: 'user' is not a name but an object",
    ),
    "rounded by a spreadsheet": (
        put("a.csv", b"user,text\n9.06E+17,b\n"),
        "line 2: the user '9.06E+17' is a number that was rounded",
    ),
    "rounded by pandas": (
        columns(user=[9.06e17], text=["b"]),
        "row 1: the user '9.06E+17' is a number that was rounded",
    ),
    "user of marks": (
        put("a.csv", "user,text\n\u200e\u00a0,b\n"),
        "line 2: an unusable user",
    ),
    "latin-1": (put("a.jsonl", ROW + '{"user": "é"}'.encode("latin-1")), "line 2: byte 11 (0xe9)"),
    "utf-16 cut off": (
        put("a.jsonl", (ROW * 2).decode().encode("utf-16")[:-1]),
        "line 2: is not text in utf-16",
    ),
    "utf-16 without mark": (
        put("a.jsonl", ROW.decode().encode("utf-16-le")),
        "write --encoding=utf-16-le or utf-16-be",
    ),
    "windows-1252": (
        put("a.csv", b"user,text\na,don\x92t\n"),
        "line 2: byte 6 (0x92) is not UTF-8; in cp1252 it reads 'a,don\u2019t': write "
        "--encoding=cp1252",
    ),
    "cyrillic": (
        put("a.csv", "user,text\na,привет\n".encode("cp1251")),
        "it reads 'a,привет' in cp1251, ",
    ),
    "chinese": (
        put("a.csv", "user,text\na,今天准时\n".encode("gb18030")),
        "it reads 'a,今天准时' in gb18030, ",
    ),
    "no encoding fits": (
        put("a.csv", b"user,text\na," + bytes(range(0x80, 0x100)) + b"\n"),
        "is not UTF-8, nor does another encoding fit",
    ),
    "nul": (put("a.jsonl", ROW + b'{"user": "a\0"}'), "line 2: holds a NUL byte"),
    "escaped nul": (
        put("a.jsonl", b'{"user": "a", "text": "\\u0000"}'),
        "line 1: holds a NUL byte",
    ),
    "half a pair": (
        put("a.jsonl", b'{"user": "\\udc00", "text": "b"}'),
        "half of a surrogate pair",
    ),
    "50 MB in a line": (put("a.jsonl", ROW + b"x" * 50_000_000), "line 2: has more than 16 MiB"),
    "nothing": (put("a.jsonl", b""), "holds no message"),
    "blank lines": (put("a.jsonl", b"\n \n\n"), "holds no message"),
    "word": (put("a.docx", b"PK\3\4\0\0"), "a.docx: is a zip archive or an Office file"),
    "pdf": (put("messages", b"%PDF-1.4"), "is a PDF: give the text that it was made from"),
    "notes": (put("notes.txt", "Hello,\nthese are notes\n"), "is none of the formats"),
    "two formats": (
        two_formats,
        "is read as 'telegram' (JSON with messages, each with ",
    ),
    "empty csv": (put("a.csv", b""), "is empty"),
    "header alone": (put("a.csv", b"user,text\n"), "holds no message"),
    "other header": (put("a.csv", b"who;said\na;b\n"), "line 1: has no column 'user'"),
    "html": (
        put("a.csv", b"<!DOCTYPE html>\n<p>404</p>\n"),
        "is a web page: download the data itself",
    ),
    "column twice": (put("a.csv", b"user,text,text\n"), "'text' occurs twice"),
    "9,999 columns": (put("a.csv", ",".join(f"c{n}" * 99 for n in range(9_999))), "and 9,959 more"),
    "short row": (
        put("a.csv", b"user,text\na,b\nc\n"),
        "line 3: has 1 fields where the header has 2",
    ),
    "semicolon row": (put("a.csv", b"user;text\na;b;c\n"), "holds a semicolon or a line end"),
    "long row": (put("a.csv", b'user,text\n"a","b\nb"\nc,d,e\n'), "line 4: has 3 fields"),
    "open quote": (put("a.csv", b'user,text\na,b\nc,"d\ne,f\n'), "line 3: is not valid CSV"),
    "quote inside": (put("a.csv", b'user,text\na,"b"c\n'), "line 2: is not valid CSV"),
    "quote that stays open": (
        put("a.csv", b'user,text\na,"' + b"x,y\n" * 20_000),
        "line 2: is not valid CSV (the double quote that opens there is not closed)",
    ),
    "lone quote, alone": (
        put("a.csv", b'user,text\na,b\nc,"d\n'),
        "or write --quoting=none, which takes quotes as part of the text",
    ),
    "lone quotes, tabs": (
        put("a.tsv", b'user\ttext\na\t"b\nb\tc\nc\td"\n'),
        "lines 2 to 4: a double quote opens in the first and closes in the last",
    ),
    "lone quotes, commas, users seen": (
        put("a.csv", b'user,text\na,b\nc,d\na,"b\nc,d"\n'),
        "lines 4 to 5: a double quote opens",
    ),
    "lone quotes, commas, users later": (
        put("a.csv", b'user,text\na,"b\nc,d"\na,b\nc,d\n'),
        "lines 2 to 3: a double quote opens",
    ),
    "lone quote closed inside": (
        put("a.csv", b'user,text\na,"b\nc,d "e" f\n'),
        "lines 2 to 3: is not valid CSV (text after the double quote that closes a field)",
    ),
    "backslash": (
        put("a.csv", b'user,text\na,"he said \\"later\\", and went"\n'),
        "line 2: escapes a double quote with a backslash, as Spark writes CSV: write "
        "--quoting=backslash",
    ),
    "backslash over lines": (
        put("a.tsv", b'user\ttext\na\t"he said \\"no\\"\nb\t"c"\n'),
        "with a backslash, as Spark writes CSV",
    ),
    "mixed line ends": (put("a.csv", b"user,text\na,b\rc,d\n"), "a carriage return outside of"),
    "no header": (
        put("a.csv", b"ann,see you at eight\nbob,no\n"),
        "line 1: looks like a row, not like a header line with the names of the columns: write a "
        "line such as 'user,text' above it",
    ),
    "tabs in csv": (put("a.csv", b"who\tsaid\na\tb\n"), "(choose one of: said, who)"),
    "gzip cut off": (
        put("a.csv.gz", half(gzip.compress(b"user,text\n" + b"a,b c d\n" * 99))),
        "cannot be unpacked (Compressed file ended before",
    ),
    "zstandard cut off": (
        put("a.jsonl.zst", half(bytes(pa.compress(ROW * 99, "zstd")))),
        "cannot be unpacked (Truncated compressed stream)",
    ),
    "gzip of nothing": (put("a.csv.gz", gzip.compress(b"")), "is empty"),
    "csv no user": (put("a.csv", b"user,text\n,b\n"), "line 2: no user"),
    "csv latin-1": (
        put("a.csv", b"user,text\na,b\na,\xff\n"),
        "line 3: byte 3 (0xff) is not UTF-8",
    ),
    "csv escape codes": (put("a.csv", b"\x1b[2Juser,text\n"), "has no column 'user'"),
    "zip called csv": (
        put("a.csv", b"PK\3\4\0\0\0\0"),
        "is a zip archive or an Office file: unpack it",
    ),
    "binary called csv": (put("a.csv", b"\1\2\0\0\0\0"), "line 1: holds a NUL byte"),
    "no parquet": (put("a.parquet", b"PAR1 nonsense"), "cannot be read as Parquet"),
    "empty parquet": (put("a.parquet", b""), "cannot be read as Parquet"),
    "parquet cut off": (
        lambda folder: (
            cut("a.parquet", 0.6)(columns(user=["a"], text=["b"])(folder).parent),
            folder / "a.parquet",
        )[1],
        "cannot be read as Parquet",
    ),
    "parquet no user": (columns(user=["a", None], text=["b", "c"]), "row 2: no user"),
    "parquet columns": (columns(user=["a"], txt=["b"]), "did you mean 'txt'?"),
    "parquet numbers": (columns(user=["a"], text=[3]), "row 1: 'text' is not a text but int"),
    "parquet users": (columns(user=[1.5], text=["b"]), "row 1: the user 1.5 is a number with"),
    "parquet not utf-8": (columns(user=["a"], text=BAD_TEXT), "text that is not UTF-8"),
    "pipe": (pipe, "is a pipe or a device"),
    "device": (lambda folder: Path("/dev/null"), "is a pipe or a device"),
    "link out": (link_out, "is a link that leads out of its folder"),
    "loop": (loop, "no file or folder"),
    "forbidden": (forbidden, "cannot be read"),
    "folder": (folder_called("a.csv"), "holds no file that the reader 'table' takes"),
    "missing": (lambda folder: folder / "a.csv", "no file or folder"),
    "below a file": (lambda folder: put("a.csv", b"")(folder) / "b.csv", "no file or folder"),
    "long name": (lambda folder: folder / ("a" * 300), "no file or folder"),
    "no home": (lambda folder: Path("~nobody-of-this-name/a.csv"), "no such home folder"),
}

CHITCHAT = {
    "list": (put("d.json", b"[1]"), "is not the chitchat data set"),
    "cut off": (put("d.json", b'{"1":\n{"messages": [[{"text'), "line 2: is not valid JSON"),
    "deep": (put("d.json", b'{"1":' * 99_999), "nested too deeply"),
    "latin-1": (put("d.json", b'{"caf\xe9": 1}'), "byte 6 is not utf-8"),
    "no sender": (put("d.json", b'{"1": {"messages": [[{"text": "x"}]]}}'), "KeyError: 'sender'"),
    "sender null": (
        put("d.json", b'{"1": {"messages": [[{"text": "x", "sender": null}]]}}'),
        "conversation '1': no sender",
    ),
    "text null": (
        put("d.json", b'{"1": {"messages": [[{"text": null, "sender": "a"}]]}}'),
        "is not the chitchat data set",
    ),
    "half a pair": (
        put("d.json", b'{"1": {"messages": [[{"text": "\\ud800", "sender": "a"}]]}}'),
        "conversation '1': holds half of a surrogate pair",
    ),
    "conversation twice": (put("d.json", b'{"1": {}, "1": {}}'), "the key '1' occurs twice"),
}

SMS = sms_xml(PEOPLE)
PHONES = {
    "no zip": (put("sms.zip", b"PK nonsense"), "is damaged"),
    "zip cut off": (zipped({"a.xml": SMS}, half), "is damaged"),
    "zip of nothing": (zipped({}), "holds 0 XML files"),
    "zip of two": (zipped({"a.xml": SMS, "b.xml": SMS}), "holds 2 XML files"),
    "password": (zipped({"a.xml": SMS}, encrypted), "is damaged"),
    "other packing": (zipped({"a.xml": SMS}, of_method), "is damaged"),
    "other content": (
        zipped({"a.xml": SMS}, lambda c: everywhere(c, b"PK\3\4", 35, b"\xff\xff\xff")),
        "is damaged",
    ),
    "bomb": (zipped({"a.xml": b" " * (65 << 20)}), "as no text does"),
    "xml cut off": (put("sms.xml", SMS[:200]), "is damaged"),
    "no xml": (put("sms.xml", b"user,text\na,b\n"), "is damaged"),
    "empty xml": (put("sms.xml", b""), "is damaged"),
    "other xml": (put("sms.xml", b"<html><p>404</p></html>"), "holds no message"),
    "unknown encoding": (put("sms.xml", '<?xml version="1.0" encoding="x"?><a/>'), "is damaged"),
    "laughs": (put("sms.xml", LAUGHS), "it declares an entity of its own, 'l0'"),
    "no user": (put("sms.xml", SMS.replace("bob", "")), "message 2: no userID"),
    "nul": (put("sms.xml", SMS.replace("nine", "\0")), "is damaged"),
}

IRC = {
    "no log": (put("a.txt", "hello\n"), "has no line of the form"),
    "nothing": (put("a.txt", ""), "has no line of the form"),
    "latin-1": (put("a.txt", b"[12:00] <a> b\n[12:01] <a> \xe9\n"), "line 2: byte 13 (0xe9)"),
    "nul": (put("a.txt", b"[12:00] <a> b\n\0"), "line 2: holds a NUL byte"),
    "utf-16 cut off": (
        put("a.txt", "[12:00] <a> b\n".encode("utf-16")[:-1]),
        "is not text in utf-16",
    ),
    "blank nick": (put("a.txt", b"[12:00] < > b\n"), "line 1: no nick"),
}

LEAF = {
    "list": (put("a.json", b"[]"), "has no list 'users'"),
    "cut off": (changed("a.json", leaf_tweets, half), "is not valid JSON"),
    "deep": (put("a.json", b'{"users": ' + b"[" * 99_999), "nested too deeply"),
    "no users": (leaf(lambda c: c.pop("users") and None), "has no list 'users'"),
    "no counts": (leaf(lambda c: c.pop("num_samples") and None), "has no list 'num_samples'"),
    "no data": (leaf(lambda c: c.update(user_data=[])), "has no dict 'user_data'"),
    "counts": (leaf(lambda c: c["num_samples"].pop() and None), "lists 2 users and 1 num_samples"),
    "twice": (
        leaf(lambda c: c.update(users=["ann", "ann"])),
        "user 'ann': is listed twice",
    ),
    "data twice": (
        put("a.json", b'{"users": [], "num_samples": [], "user_data": {"a": 1, "a": 2}}'),
        "the key 'a' occurs twice",
    ),
    "without data": (
        leaf(lambda c: c["user_data"].pop("bob") and None),
        "user 'bob': is listed and",
    ),
    "not listed": (
        leaf(lambda c: c.update(users=["ann"], num_samples=[1])),
        "user 'bob': has user_data and is not listed",
    ),
    "no name": (leaf(lambda c: c.update(users=["ann", ""])), "users, entry 2: no user"),
    "count is text": (
        leaf(lambda c: c.update(num_samples=[1, "1"])),
        "user 'bob': its num_samples",
    ),
    "no y": (
        leaf(lambda c: c["user_data"]["bob"].pop("y") and None),
        "'bob': has no lists x and y",
    ),
    "x and y": (leaf(lambda c: c["user_data"]["bob"]["y"].append(0)), "'bob': has 1 x and 2 y"),
    "tweet missing": (
        leaf(lambda c: c.update(num_samples=[1, 2])),
        "'bob': has 1 samples where num_",
    ),
    "windows missing": (
        leaf(lambda c: c.update(num_samples=[c["num_samples"][0] + WINDOW]), leaf_flat, TALK),
        "'HAMLET': has 49 samples where num_samples says 129",
    ),
    "comments too many": (
        leaf(lambda c: c.update(num_samples=[0, 1]), leaf_comments),
        "'ann': has 1 samples where num_samples says 0",
    ),
    "images": (
        leaf(lambda c: c["user_data"]["bob"].update(x=[[0.5] * 784])),
        "none of LEAF's texts",
    ),
    "image names": (
        leaf(lambda c: c["user_data"]["bob"].update(x=["1.jpg"])),
        "none of LEAF's texts",
    ),
    "nul": (
        leaf(lambda c: c["user_data"]["bob"]["x"][0].__setitem__(4, "a\0")),
        "user 'bob': holds a NUL",
    ),
    "half a pair": (
        leaf(lambda c: c["user_data"]["bob"]["x"][0].__setitem__(4, "\ud800")),
        "user 'bob': holds half of a surrogate pair",
    ),
    "all stages": (all_stages, "holds the same text in the folders all_data, train"),
    "nobody": (
        put("a.json", b'{"users": [], "num_samples": [], "user_data": {}}'),
        "holds no mess",
    ),
}

TFF = {
    "text": (put("a.sqlite", b"user,text"), "is neither an SQLite nor an HDF5 file"),
    "packed": (put("a.sqlite.lzma", b"]\0\0\x80\0"), "`unxz -F lzma`"),
    "nothing": (put("a.h5", b""), "is neither an SQLite nor an HDF5 file"),
    "sqlite cut off": (changed("a.sqlite", tff_sqlite, half), "is damaged"),
    "sqlite head alone": (put("a.sqlite", b"SQLite format 3\0" + b"\xff" * 200), "is damaged"),
    "no table": (sql("CREATE TABLE t (a)"), "has no table 'examples'"),
    "no column": (sql("CREATE TABLE examples (client_id, data)"), "has no table 'examples' with"),
    "a view": (
        sql(
            "CREATE VIEW examples AS SELECT '' split_name, '' client_id, '' "
            "serialized_example_proto"
        ),
        "has no table 'examples'",
    ),
    "no rows": (sql(EXAMPLES), "holds no message"),
    "no record": (one_example(b"\xff\xff"), "example 1: is not a tf.train.Example"),
    "record is text": (one_example("words"), "example 1: is not a tf.train.Example"),
    "record null": (one_example(None), "example 1: is not a tf.train.Example"),
    "no tokens": (one_example(example({"token": b"x"})), "did you mean 'token'?"),
    "numbers": (one_example(example({"tokens": 3})), "the feature 'tokens' holds no text"),
    "record latin-1": (one_example(example({"tokens": b"\xe9"})), "example 1: byte 1 (0xe9)"),
    "record nul": (one_example(example({"tokens": b"\0"})), "example 1: holds a NUL byte"),
    "client blank": (
        one_example(example({"tokens": b"x"}), " "),
        "example 1: an unusable client_id",
    ),
    "client null": (one_example(example({"tokens": b"x"}), None), "example 1: no client_id"),
    "client latin-1": (
        sql(EXAMPLES, "INSERT INTO examples VALUES ('', CAST(x'ff' AS TEXT), x'00')"),
        "example 1: byte 1 (0xff)",
    ),
}

HDF5 = {
    "cut off": (changed("a.h5", tff_hdf5, half), "is damaged"),
    "head alone": (put("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 99), "is damaged"),
    "no group": (hdf5(lambda f, h: f.create_group("data")), "has no group 'examples'"),
    "no clients": (hdf5(lambda f, h: f.create_dataset("examples", data=[1])), "holds no message"),
    "no tokens": (
        hdf5(lambda f, h: f.create_group("examples/ann")),
        "client 'ann': has no data set",
    ),
    "numbers": (
        hdf5(lambda f, h: f.create_dataset("examples/ann/tokens", data=[1, 2])),
        "client 'ann': 'tokens' is no list of texts",
    ),
    "matrix": (
        hdf5(lambda f, h: f.create_dataset("examples/ann/tokens", data=[["a", "b"]])),
        "client 'ann': 'tokens' is no list of texts",
    ),
    "latin-1": (
        hdf5(lambda f, h: f.create_dataset("examples/ann/tokens", data=[b"a", b"\xe9"])),
        "client 'ann', row 2: byte 1 (0xe9)",
    ),
    "a width of a gigabyte": (
        hdf5(
            lambda f, h: f.create_dataset(
                "examples/ann/tokens", (9,), "S1000000000", chunks=(1,), compression="gzip"
            )
        ),
        "client 'ann': 'tokens' has texts of 1,000,000,000 bytes",
    ),
    "link to another file": (
        hdf5(lambda f, h: f.update({"examples": h.ExternalLink("other.h5", "/examples")})),
        "'examples' leads to another place",
    ),
    "text in another file": (
        hdf5(
            lambda f, h: f.create_dataset(
                "examples/ann/tokens", (3,), "S8", external=[("secret.bin", 0, 24)]
            )
        ),
        "'tokens' leads to another place",
    ),
}

SAVED = {
    "no state": (saved(lambda f: (f / "state.json").unlink()), "holds no state.json"),
    "state cut off": (saved(cut("state.json", 0.5)), "is not valid JSON"),
    "state list": (
        saved(lambda f: (f / "state.json").write_text("[]")),
        "has no list '_data_files'",
    ),
    "state of numbers": (saved(state(_data_files=[{"filename": 3}])), "has no list '_data_files'"),
    "no files": (saved(state(_data_files=[])), "holds no message"),
    "out of the folder": (
        saved(state(_data_files=[{"filename": "../../secret.arrow"}])),
        "which is not in the folder",
    ),
    "file missing": (
        saved(lambda f: (f / "data-00001-of-00002.arrow").unlink()),
        "data-00001-of-00002.arrow, which is not in the folder",
    ),
    "old order": (saved(state(_indices_data_files=[{"filename": "i.arrow"}])), "flatten_indices"),
    "arrow cut off": (saved(cut("data-00000-of-00002.arrow", 0.5)), "cannot be read as Arrow"),
    "arrow nonsense": (
        saved(lambda f: (f / "data-00000-of-00002.arrow").write_bytes(b"ARROW1" * 9)),
        "cannot be read as Arrow",
    ),
    "state given": (
        lambda folder: saved(lambda f: None)(folder) / "state.json",
        "give the whole folder",
    ),
}

RECIPE = """title = "T"
licence = "L"
citation = "C"
homepage = "H"
[source]
kind = "own"
[reader]
name = "table"
"""
HUB = 'kind = "hub"\ndataset = "a/b"\nsplit = "train"\nrevision = "{}"'.format
FILES = 'kind = "files"\nget = "g"\npath = "{}"'.format


def recipe(old: str = "", new: str = "") -> Make:
    """A recipe with something else in it."""
    return put("mine.toml", RECIPE.replace(old, new) if old else new)


RECIPES = {
    "no toml": (recipe(new="title"), "cannot be read as TOML"),
    "deep": (recipe(new="a = " + "[" * 50_000), "cannot be read as TOML"),
    "huge number": (recipe(new="a = " + "9" * 9_999), "cannot be read as TOML"),
    "latin-1": (put("mine.toml", b'title = "\xe9"'), "cannot be read as TOML"),
    "utf-16": (put("mine.toml", RECIPE.encode("utf-16")), "cannot be read as TOML"),
    "nothing": (recipe(new="\n"), "is missing"),
    "unknown key": (recipe("title", "titel"), "did you mean 'title'?"),
    "unknown reader": (recipe('"table"', '"leav"'), "did you mean 'leaf'?"),
    "reader is text": (recipe('[reader]\nname = "table"', ""), "needs the key 'name'"),
    "reader option": (recipe('"table"', '"tff"\nsplit = 3'), "reader.split"),
    "unknown kind": (recipe('"own"', '"web"'), "source.kind"),
    "out of the folder": (recipe('kind = "own"', FILES("../*.txt")), "source.path: give a pattern"),
    "absolute": (recipe('kind = "own"', FILES("/etc/*")), "source.path: give a pattern"),
    "no pattern": (recipe('kind = "own"', FILES("")), "source.path: give a pattern"),
    "two stars": (recipe('kind = "own"', FILES("**x")), "source.path: '**' has to stand alone"),
    "no pin": (recipe('kind = "own"', HUB("main")), "source.revision"),
    "half a hub": (
        recipe('kind = "own"', 'kind = "hub"\ndataset = "a/b"'),
        "needs the key 'revision'",
    ),
    "date": (recipe('title = "T"', "title = 2020-01-01T00:00:00\n[x]"), "unknown key 'x'"),
    "folder": (folder_called("mine.toml"), "no recipe file"),
    "missing": (lambda folder: folder / "mine.toml", "no recipe file"),
}

CHAT = b"[31/12/2022, 11:00:26] Ann: hi\r\n[31/12/2022, 11:01:26] Bob: ho\r\n"
CHATS = {
    "begins inside": (put("_chat.txt", b"and so on\n" + CHAT), "line 1: does not begin as a chat"),
    "nobody spoke": (
        put("_chat.txt", b"1/2/22, 11:00 - Messages are end-to-end encrypted\n"),
        "holds no message (1 rows left out: 1 that WhatsApp wrote itself",
    ),
    "latin-1": (put("_chat.txt", CHAT + b"caf\xe9\n"), "line 3: byte 4 (0xe9) is not UTF-8"),
    "nul": (put("_chat.txt", CHAT + b"\0\n"), "line 3: holds a NUL byte"),
    "endless": (
        put("_chat.txt", CHAT + b"x\n" * 9_000_000),
        "line 2: of the 10,001 lines after it none",
    ),
}
TELEGRAMS = {
    "cut off": (put("result.json", half(TELEGRAM * 2)[:-9]), "line 1: is not valid JSON"),
    "html": (put("result.json", b"<html>"), "is not valid JSON"),
    "no messages": (put("result.json", b'{"name": "g"}'), "has no message in a list 'messages'"),
    "message is text": (put("result.json", b'{"messages": ["a"]}'), "message 1: is no JSON object"),
    "text is a number": (
        put("result.json", TELEGRAM.replace(b'"hi"', b"[5]")),
        "message 1: its text is no text",
    ),
    "half a pair": (
        put("result.json", TELEGRAM.replace(b"hi", b"\\ud800")),
        "message 1: holds half of a surrogate pair",
    ),
    "channel": (
        put("result.json", TELEGRAM.replace(b"user1", b"channel1")),
        "1 rows left out: 1 that a channel posted",
    ),
    "key twice": (
        put("result.json", TELEGRAM.replace(b'"text"', b'"type": "message", "text"')),
        "line 1: is not valid JSON (the key 'type' occurs twice",
    ),
    "deep": (put("result.json", b'{"a": ' + b"[" * 99_999), "nested too deeply"),
}
DISCORDS = {
    "no author": (
        put("a.json", b'{"messages": [{"content": "x"}]}'),
        "message 1: has no author or no content",
    ),
    "no name": (
        put("a.json", b'{"messages": [{"content": "x", "author": {"id": ""}}]}'),
        "message 1: no author",
    ),
}
BACKUP = '<smses count="1"><sms address="+1 555" type="1" body="hi" contact_name="Ann"/></smses>'
BACKUPS = {
    "laughs": (
        put("sms.xml", LAUGHS.replace("<s>", "<smses>")),
        "it declares an entity of its own, 'l0'",
    ),
    "another file": (
        put(
            "sms.xml",
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><smses>&x;</smses>',
        ),
        "it declares an entity of its own, 'x'",
    ),
    "calls": (put("calls.xml", "<calls><call/></calls>"), "begins with <calls> where <smses>"),
    "cut off": (put("sms.xml", BACKUP[:-20]), "cannot be read as XML"),
    "nobody": (
        put("sms.xml", BACKUP.replace("Ann", "(Unknown)").replace("+1 555", "")),
        "message 1: no address",
    ),
    "references": (
        put("sms.xml", BACKUP.replace("hi", "&#55357;" * 30_000)),
        "more references to characters in a row",
    ),
    "nothing": (put("sms.xml", "<smses/>"), "holds no message"),
}

DATA = {
    "whatsapp": CHATS,
    "telegram": TELEGRAMS,
    "discord": DISCORDS,
    "sms-backup": BACKUPS,
    "own": TABLES,
    "chitchat": CHITCHAT,
    "nus-sms": PHONES,
    "irc-ubuntu": IRC,
    "leaf": LEAF,
    "tff": TFF,
    "huggingface": SAVED,
    "hdf5": HDF5,
}
