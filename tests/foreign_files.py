"""Files of every format that a reader takes, written as the format's own makers describe it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

import pyarrow as pa
from pyarrow import parquet

People = dict[str, list[str]]
WINDOW = 80
PEOPLE_TEXT: People = {
    f"person{user}": [f"message {turn} of person {user} it says" for turn in range(4)]
    for user in range(8)
}


def installed(distribution: str) -> bool:
    """Whether a package is there; importing `datasets` would find our folder of recipes."""
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def rows(people: People) -> list[tuple[str, str]]:
    """(user, text), user by user."""
    return [(user, text) for user, texts in people.items() for text in texts]


def jsonl(file: Path, people: People) -> None:
    """One object a line."""
    lines = [json.dumps({"user": u, "text": t}, ensure_ascii=False) for u, t in rows(people)]
    file.write_bytes("\n".join(lines).encode())


def table(file: Path, people: People, delimiter: str = ",") -> None:
    """CSV as spreadsheets write it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
    writer.writerows([("user", "text"), *rows(people)])
    file.write_bytes(out.getvalue().encode())


def semicolons(file: Path, people: People) -> None:
    """What a spreadsheet makes of CSV where the comma is the decimal sign."""
    table(file, people, ";")


def arrow_table(people: People) -> pa.Table:
    """Columns user and text, and one more."""
    all_rows = rows(people)
    columns = {
        "text": pa.array([text for _, text in all_rows], pa.string()),
        "n": list(range(len(all_rows))),
        "user": pa.array([user for user, _ in all_rows], pa.string()),
    }
    return pa.table(columns)


def parquet_file(file: Path, people: People) -> None:
    """Several row groups."""
    parquet.write_table(arrow_table(people), file, row_group_size=3)


def chitchat(file: Path, people: People) -> None:
    """A conversation a user, a turn a message."""
    content = {
        f"c{number}": {"messages": [[{"sender": user, "text": text}] for text in texts]}
        for number, (user, texts) in enumerate(people.items())
    }
    file.write_text(json.dumps(content))


def irc(file: Path, people: People) -> None:
    """Lines of different minutes, for a line that is repeated is taken once."""
    lines = [
        f"[{number // 60 % 24:02}:{number % 60:02}] <{user}> {text}\n"
        for number, (user, text) in enumerate(rows(people))
    ]
    file.write_bytes("".join(lines).encode())


def sms_xml(people: People) -> str:
    """The XML of the NUS SMS corpus."""
    messages = [
        f'<message id="{number}"><text>{escape(text)}</text><source><userProfile><userID>'
        f"{escape(user)}</userID></userProfile></source></message>"
        for number, (user, text) in enumerate(rows(people))
    ]
    return f'<?xml version="1.0" encoding="UTF-8"?><smsCorpus>{"".join(messages)}</smsCorpus>'


def sms(file: Path, people: People) -> None:
    """The XML alone."""
    file.write_text(sms_xml(people), "utf-8")


def sms_zip(file: Path, people: People) -> None:
    """The XML in a zip, as it is handed out."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sms.xml", sms_xml(people))


def leaf(file: Path, data: dict[str, tuple[list[Any], list[Any]]]) -> None:
    """LEAF's JSON of {user: (x, y)}."""
    content = {
        "users": list(data),
        "num_samples": [len(y) for _, y in data.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in data.items()},
    }
    file.write_text(json.dumps(content))


def slid(text: str, window: int = WINDOW) -> list[tuple[str, str]]:
    """(window, next character) at every place of the text, as LEAF's shake_utils.py does."""
    return [(text[i : i + window], text[i + window]) for i in range(max(0, len(text) - window))]


def leaf_flat(file: Path, people: People) -> None:
    """Shakespeare, with all that a role says in one run; a user has one text."""
    data = {user: slid(texts[0]) for user, texts in people.items()}
    leaf(file, {user: ([x for x, _ in d], [y for _, y in d]) for user, d in data.items()})


def leaf_lines(file: Path, people: People) -> None:
    """Shakespeare, each line after 80 spaces, the line end being the last that is predicted."""
    data = {
        user: [pair for text in texts for pair in slid(f"{' ' * WINDOW}{text}\n")]
        for user, texts in people.items()
    }
    leaf(file, {user: ([x for x, _ in d], [y for _, y in d]) for user, d in data.items()})


def leaf_tweets(file: Path, people: People) -> None:
    """sent140."""
    leaf(
        file,
        {
            user: (
                [["7", "Mon Apr 06", "NO_QUERY", user, text, "training"] for text in texts],
                [0 for _ in texts],
            )
            for user, texts in people.items()
        },
    )


def leaf_comments(file: Path, people: People) -> None:
    """reddit, as LEAF's preprocess.py cuts comments into sequences of ten."""
    data: dict[str, tuple[list[Any], list[Any]]] = {}
    for user, texts in people.items():
        x = []
        for text in texts:
            tokens = ["<BOS>", *text.split(), "<EOS>"]
            tokens += ["<PAD>"] * (-len(tokens) % 10)
            x.append([tokens[i : i + 10] for i in range(0, len(tokens), 10)])
        data[user] = (x, [{"subreddit": "s", "score": 1} for _ in x])
    leaf(file, data)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field on protobuf's wire."""
    size, out = len(content), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size]) + content


def example(features: dict[str, bytes | int]) -> bytes:
    """A tf.train.Example, byte by byte after feature.proto: bytes_list is 1, int64_list is 3."""
    out = b""
    for name, value in features.items():
        if isinstance(value, int):
            feature = _field(3, _field(1, bytes([value])))
        else:
            feature = _field(1, _field(1, value))
        out += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, out)


def tff_sqlite(file: Path, people: People, split: str = "train") -> None:
    """The tables of TFF's sql_client_data_utils.py."""
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA synchronous = OFF")
        store.execute(
            "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
            "serialized_example_proto BLOB NOT NULL);"
        )
        store.execute(
            "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, "
            "num_examples INTEGER NOT NULL);"
        )
        for user, texts in people.items():
            store.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (user, split, len(texts)))
            for text in texts:
                record = example({"title": b"a title", "score": 3, "tokens": text.encode()})
                store.execute("INSERT INTO examples VALUES (?, ?, ?)", (split, user, record))
        store.commit()


def tff_hdf5(file: Path, people: People) -> None:
    """The groups that TFF's hdf5_client_data.py reads."""
    import h5py

    with h5py.File(file, "w") as store:
        for user, texts in people.items():
            group = store.create_group(f"examples/{user}")
            for name, values in (("tokens", texts), ("title", ["a title"] * len(texts))):
                group.create_dataset(name, data=values, dtype=h5py.string_dtype())


def saved_arrow(folder: Path, people: People) -> None:
    """What save_to_disk leaves: Arrow streams, and a state that lists them in order."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = arrow_table(people)
    half = len(whole) // 2
    names = []
    for number, part in enumerate((whole.slice(0, half), whole.slice(half))):
        names.append(f"data-{number:05}-of-00002.arrow")
        with pa.ipc.new_stream(str(folder / names[-1]), whole.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def json_array(file: Path, people: People) -> None:
    """One array, as most programs save JSON."""
    content = [{"user": user, "text": text} for user, text in rows(people)]
    file.write_text(json.dumps(content, indent=1))


def json_objects(file: Path, people: People) -> None:
    """Objects one after the other, over several lines each, as jq prints them."""
    objects = [
        json.dumps({"user": u, "n": [{}, 1.5], "text": t}, indent=2) for u, t in rows(people)
    ]
    file.write_text("\n".join(objects))


def nested(file: Path, people: People) -> None:
    """The user inside of another object."""
    lines = [
        json.dumps({"id": 1, "author": {"id": user, "bot": False}, "text": text})
        for user, text in rows(people)
    ]
    file.write_text("\n".join(lines))


def nested_parquet(file: Path, people: People) -> None:
    """The user in a struct."""
    authors = pa.array([{"id": user, "bot": False} for user, _ in rows(people)])
    texts = pa.array([text for _, text in rows(people)], pa.string())
    parquet.write_table(pa.table({"author": authors, "text": texts}), file)


def hive(folder: Path, people: People) -> None:
    """A folder a user, as Spark's partitionBy("user") writes them; the column is in the name."""
    for user, texts in people.items():
        part = folder / f"user={quote(user, safe='')}"
        part.mkdir(parents=True)
        half = len(texts) // 2
        for number, some in enumerate((texts[:half], texts[half:])):
            columns = {"text": pa.array(some, pa.string())}
            parquet.write_table(pa.table(columns), part / f"part-{number:05}.parquet")


def excel(file: Path, people: People) -> None:
    """A first line for Excel, and Windows' line ends."""
    table(file, people, ";")
    file.write_bytes(b"sep=;\r\n" + file.read_bytes())


def quoted_all(file: Path, people: People) -> None:
    """Every field in quotes, the header too."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter="|", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("n", "user", "text"), *((1, *row) for row in rows(people))])
    file.write_bytes(b"\xef\xbb\xbf" + out.getvalue().encode())


def unquoted(file: Path, people: People) -> None:
    """Tabs between the fields, and no other rule."""
    lines = [f"{user}\t{text}\n" for user, text in [("user", "text"), *rows(people)]]
    file.write_bytes("".join(lines).encode())


def spark(file: Path, people: People) -> None:
    """Spark's CSV: fields with a quote, a comma or a line end in quotes, escaped by backslashes."""

    def field(text: str) -> str:
        if not set(text) & set('",\n\r') and text:
            return text
        before_quotes = re.sub(r'(\\*)"', r'\1\1\\"', text)  # backslashes there are doubled
        ends = re.search(r"\\*$", before_quotes)
        return f'"{before_quotes}{ends[0] if ends else ""}"'

    lines = [",".join(map(field, row)) + "\n" for row in [("user", "text"), *rows(people)]]
    file.write_bytes("".join(lines).encode())


def in_encoding(write: Callable[[Path, People], None], encoding: str) -> Callable:
    """The same file in another encoding."""

    def wrapped(file: Path, people: People) -> None:
        write(file, people)
        file.write_bytes(file.read_bytes().decode().encode(encoding))

    return wrapped


def packed(
    write: Callable[[Path, People], None], pack: Callable[[bytes], bytes | pa.Buffer]
) -> Callable:
    """The same file packed."""

    def wrapped(file: Path, people: People) -> None:
        write(file, people)
        file.write_bytes(bytes(pack(file.read_bytes())))

    return wrapped


def iphone(file: Path, people: People) -> None:
    """WhatsApp's export of an iPhone: brackets, seconds, and marks before what it wrote itself."""
    lines = ["[31/12/22, 10:59:00] Group: \u200eMessages and calls are end-to-end encrypted.\r\n"]
    for number, (user, text) in enumerate(rows(people)):
        when = f"[31/12/22, 11:{number % 60:02}:26]"
        lines.append(f"{when} {user}: {text}\r\n")
        lines.append(f"\u200e{when} {user}: \u200eimage omitted\r\n")
    file.write_bytes("".join(lines).encode())


def android(file: Path, people: People) -> None:
    """WhatsApp's export of another phone, of twelve hours with a narrow space before PM."""
    lines = ["12/31/22, 9:00\u202fPM - Ann created group\n"]
    for number, (user, text) in enumerate(rows(people)):
        when = f"12/31/22, 9:{number % 60:02}\u202fPM -"
        lines += [f"{when} {user}: {text}\n", f"{when} {user}: <Media omitted>\n"]
    file.write_bytes("".join(lines).encode())


def telegram(file: Path, people: People) -> None:
    """One chat of Telegram Desktop: text in pieces, and what the program wrote itself."""
    messages: list[dict] = [{"id": 0, "type": "service", "actor": "x", "text": ""}]
    for number, (user, text) in enumerate(rows(people)):
        half = len(text) // 2
        pieces = [text[:half], {"type": "bold", "text": text[half:]}]
        content = text if number % 2 else pieces
        messages.append(
            {"id": number, "type": "message", "from": "N", "from_id": user, "text": content}
        )
    content = {"name": "group", "type": "private_group", "id": 1, "messages": messages}
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1))


def telegram_all(file: Path, people: People) -> None:
    """All chats at once."""
    content = {
        "about": "Here is the data you requested.",
        "contacts": {"list": [{"first_name": "N"}]},
        "chats": {
            "about": "This page lists all chats",
            "list": [
                {
                    "name": user,
                    "type": "personal_chat",
                    "messages": [
                        {"type": "message", "from_id": user, "text": text} for text in texts
                    ],
                }
                for user, texts in people.items()
            ],
        },
    }
    file.write_text(json.dumps(content))


def discord(file: Path, people: People) -> None:
    """What DiscordChatExporter writes."""
    messages = [
        {
            "id": str(number),
            "type": "Default",
            "content": text,
            "author": {"id": user, "name": "n", "isBot": False},
        }
        for number, (user, text) in enumerate(rows(people))
    ]
    author = {"id": "1", "name": "helper", "isBot": True}
    messages.append({"type": "Default", "content": "a bot's", "author": author})
    content = {"guild": {"id": "1"}, "channel": {"id": "2"}, "messages": messages}
    file.write_text(json.dumps(content, indent=2))


def sms_backup(file: Path, people: People) -> None:
    """SMS Backup & Restore, an emoji as two references that are no characters."""

    def attribute(text: str) -> str:
        units = [
            f"&#{0xD800 + (ord(c) - 0x10000 >> 10)};&#{0xDC00 + (ord(c) - 0x10000 & 0x3FF)};"
            if ord(c) > 0xFFFF
            else f"&#{ord(c)};"
            if c in '"&<>\t\r\n'
            else c
            for c in text
        ]
        return '"' + "".join(units) + '"'

    messages = [
        f'<sms address="+1 555" type="1" body={attribute(text)} contact_name={attribute(user)} />'
        for user, text in rows(people)
    ]
    file.write_text(
        "<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>\n"
        f'<smses count="{len(messages)}">{"".join(messages)}</smses>'
    )


def reddit(file: Path, people: People) -> None:
    """Comments, of which some were removed."""
    lines = [
        json.dumps({"author": user, "body": body, "subreddit": "s", "gildings": {"g": 0}})
        for user, text in rows(people)
        for body in (text, "[removed]")
    ]
    file.write_text("\n".join(lines))


class Format(NamedTuple):
    """How a file of a format comes to be, and what reads it."""

    reader: str
    name: str
    write: Callable[[Path, People], None]
    options: dict[str, Any] | None = None


def zstandard(content: bytes) -> pa.Buffer:
    """Packed with Zstandard."""
    return pa.compress(content, "zstd")


FORMATS: dict[str, Format] = {
    "jsonl": Format("table", "a.jsonl", jsonl),
    "json array": Format("table", "a.json", json_array),
    "json objects": Format("table", "b.json", json_objects),
    "nested": Format("table", "c.jsonl", nested, {"user": "author.id"}),
    "csv": Format("table", "a.csv", table),
    "semicolons": Format("table", "b.csv", semicolons),
    "excel": Format("table", "c.csv", excel),
    "all quoted": Format("table", "d.csv", quoted_all),
    "unquoted": Format("table", "a.tsv", unquoted, {"quoting": "none"}),
    "spark": Format("table", "e.csv", spark, {"quoting": "backslash"}),
    "utf-16": Format("table", "f.csv", in_encoding(table, "utf-16")),
    "windows-1252": Format("table", "g.csv", in_encoding(table, "cp1252"), {"encoding": "cp1252"}),
    "gb18030": Format("table", "g.jsonl", in_encoding(jsonl, "gb18030"), {"encoding": "gb18030"}),
    "gzip": Format("table", "h.csv.gz", packed(table, gzip.compress)),
    "bzip2": Format("table", "h.jsonl.bz2", packed(jsonl, bz2.compress)),
    "xz": Format("table", "h.json.xz", packed(json_array, lzma.compress)),
    "zstandard": Format("table", "h.ndjson.zst", packed(jsonl, zstandard)),
    "parquet": Format("table", "a.parquet", parquet_file),
    "nested parquet": Format("table", "b.parquet", nested_parquet, {"user": "author.id"}),
    "hive": Format("table", "parts", hive),
    "iphone": Format("whatsapp", "_chat.txt", iphone),
    "android": Format("whatsapp", "WhatsApp Chat with Ann.txt", android),
    "telegram": Format("telegram", "result.json", telegram),
    "telegram all": Format("telegram", "all.json", telegram_all),
    "discord": Format("discord", "channel.json", discord),
    "sms backup": Format("sms_backup", "sms-2022.xml", sms_backup),
    "reddit": Format(
        "table",
        "RC_2018.jsonl.zst",
        packed(reddit, zstandard),
        {"user": "author", "text": "body", "no_text": ("[removed]",)},
    ),
    "chitchat": Format("chitchat", "dataset.json", chitchat),
    "irc": Format("irc", "a.raw.txt", irc),
    "sms": Format("nus_sms", "sms.xml", sms),
    "sms zip": Format("nus_sms", "sms.zip", sms_zip),
    "leaf flat": Format("leaf", "flat.json", leaf_flat),
    "leaf lines": Format("leaf", "lines.json", leaf_lines),
    "leaf tweets": Format("leaf", "tweets.json", leaf_tweets),
    "leaf comments": Format("leaf", "comments.json", leaf_comments),
    "tff sqlite": Format("tff", "a.sqlite", tff_sqlite),
    "huggingface": Format("huggingface", "saved", saved_arrow),
}
if installed("h5py"):
    FORMATS["tff hdf5"] = Format("tff", "a.h5", tff_hdf5)


def files_of(path: Path) -> list[Path]:
    """The file, or the files in the folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
