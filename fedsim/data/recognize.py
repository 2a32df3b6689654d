"""Which data set a file of the user's is: found by looking at its beginning."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsim.data.readers.delimited import header_of
from fedsim.data.readers.encodings import UTF8, by_mark
from fedsim.data.readers.irc import said_line
from fedsim.data.readers.json_stream import JsonStream
from fedsim.data.readers.packed import ENDINGS, bare_suffix, opened
from fedsim.data.readers.table import FORMATS
from fedsim.data.readers.whatsapp import begins_message
from fedsim.errors import FedsimError

OWN = "own"
_HEAD_BYTES = 1 << 16
_LOOKED_AT = 20  # lines
_SAVED = {"state.json", "dataset_info.json", "dataset_dict.json"}  # beside Arrow files
_ENDINGS = (".txt", ".log", ".xml", ".arrow", ".sqlite", ".sqlite3", ".db", ".h5", ".hdf5")
# Files that people have and that nothing here reads, by their first bytes.
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Office file: unpack it, or save the table as CSV",
    b"%PDF": "a PDF: give the text that it was made from",
    b"\xd0\xcf\x11\xe0": "an old Office file: save the table as CSV",
    b"<!DOCTYPE html": "a web page: download the data itself",
    b"<html": "a web page: download the data itself",
}


@dataclass(frozen=True)
class Found:
    """What a file was found to be: the recipe, why, and options of its reader.

    sure: False for a table that may be none, such as a .json without the columns.
    """

    recipe: str
    why: str
    options: dict[str, Any] = field(default_factory=dict)
    sure: bool = True


@dataclass(frozen=True)
class Choice:
    """What the user's files are read as; `left_out` are files that are something else."""

    found: Found
    files: list[Path]
    left_out: list[Path]


def chosen(files: Sequence[Path], user: str, text: str, encoding: str | None) -> Choice:
    """The one data set that the files are; user, text: the columns, where it is a table.

    Raises FedsimError where they are of several, or of none.
    """
    looked_at = {
        file: recognized(file, user, text, encoding) if len(files) == 1 or _may_be(file) else None
        for file in files
    }
    sure = {file: found for file, found in looked_at.items() if found and found.sure}
    taken = sure or {file: found for file, found in looked_at.items() if found}
    if not taken:
        raise FedsimError(_nothing(files))
    kinds = {found.recipe: (file, found) for file, found in reversed(taken.items())}
    if len(kinds) > 1:
        (one, a), (other, b) = list(kinds.values())[:2]
        raise FedsimError(
            f"{one} is read as '{a.recipe}' ({a.why}) and {other} as '{b.recipe}' ({b.why}): give "
            "one of the two, or name the data set with data.name."
        )
    ((_, found),) = kinds.values()
    same = [file for file, one in taken.items() if one.options == found.options]
    if len(same) < len(taken):
        odd = next(file for file in taken if file not in same)
        raise FedsimError(
            f"{odd}: is of another form than {same[0]}, although both are read as "
            f"'{found.recipe}': give one of the two."
        )
    return Choice(found, list(taken), [file for file in files if file not in taken])


def _may_be(file: Path) -> bool:
    """Whether a file in a folder is looked at; pictures and the like lie beside chats."""
    return bare_suffix(file) in (*FORMATS, *_ENDINGS)


def recognized(file: Path, user: str, text: str, encoding: str | None) -> Found | None:
    """What the file is; None for what no reader takes."""
    ending = bare_suffix(file)
    if file.name in _SAVED or ending == ".arrow":
        return Found("huggingface", "files that save_to_disk wrote")
    if ending == ".parquet":
        return Found(OWN, "its name ends in .parquet")
    with opened(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith((b"SQLite format 3\0", b"\x89HDF\r\n\x1a\n")):
        return Found("tff", "an SQLite or HDF5 file")
    if any(head.lstrip()[:20].startswith(start) for start in _OTHERS):
        return None
    written = head.decode(encoding or by_mark(head) or UTF8, "replace").lstrip("\ufeff \t\r\n")
    if written.startswith("<"):
        return _xml(written)
    if ending in (".csv", ".tsv"):
        return Found(OWN, f"its name ends in {ending}")
    lines = [line for line in written.splitlines() if line.strip()][:_LOOKED_AT]
    if ending not in FORMATS and (chat := _chat(lines)):
        return chat
    if written.startswith(("{", "[")):
        return _json(head, file, user, text)
    if ending in FORMATS:  # what is wrong with it is said when it is read
        return Found(OWN, f"its name ends in {ending}")
    return _columns(lines, file, user, text)


def _xml(written: str) -> Found | None:
    for tag, recipe in (("<smses", "sms-backup"), ("<smsCorpus", "nus-sms")):
        if tag in written:
            return Found(recipe, f"XML with {tag}>")
    return None


def _chat(lines: list[str]) -> Found | None:
    kinds: dict[str, tuple[Callable[[str], object], str]] = {
        "whatsapp": (begins_message, "lines that begin with a date, a time and a name"),
        "irc": (said_line, "lines of the form [12:34] <nick> text"),
    }
    for recipe, (fits, why) in kinds.items():
        # A message may have several lines, and a log many that nobody said.
        if sum(1 for line in lines if fits(line)) * 4 >= len(lines) > 0:
            return Found(recipe, why)
    return None


def _columns(lines: list[str], file: Path, user: str, text: str) -> Found | None:
    """A table whose name does not say so."""
    try:
        header = header_of(iter(enumerate(lines, 1)), file, (user, text))
    except FedsimError:
        return None
    if user in header.names and text in header.names:
        return Found(OWN, "a first line with the names of the columns", {"form": "csv"})
    return None


def _json(head: bytes, file: Path, user: str, text: str) -> Found:
    top, row = _keys(head, file)
    if {"users", "num_samples"} <= top or top == {"users"}:
        return Found("leaf", "JSON with users, num_samples and user_data")
    if {"guild", "channel"} <= top:
        return Found("discord", "JSON with guild, channel and messages")
    if "messages" in top and row & {"from_id", "actor_id", "actor"}:
        return Found("telegram", "JSON with messages, each with from_id")
    if "chats" in top and top & {"about", "personal_information"}:
        return Found("telegram", "JSON with chats, each with messages")
    rows = row or top
    form = {} if bare_suffix(file) in FORMATS else {"form": "json"}
    columns = {user.split(".")[0], text.split(".")[0]}
    if not columns <= rows and "author" in rows:
        for column in ("body", "selftext"):
            if column in rows:
                changed = {} if column == "body" else {"text": column}
                return Found("reddit", f"JSON with author and {column}", {**form, **changed})
    why = f"its name ends in {bare_suffix(file)}" if not form else "lines of JSON"
    return Found(OWN, why, form, sure=columns <= rows or bare_suffix(file) != ".json")


def _keys(head: bytes, file: Path) -> tuple[set[str], set[str]]:
    """The keys of the first object, and those of its messages or of an array's rows."""
    top, row = set[str](), set[str]()
    try:
        document = JsonStream(io.BytesIO(head), file)
        if document.begins() == "[":
            for _ in document.elements():
                row.update(document.value())
            return top, row
        for key in document.entries():
            top.add(key)
            if key == "messages" and document.begins() == "[":
                for _ in document.elements():
                    row.update(document.value())
            else:
                document.skip()
    except (FedsimError, TypeError, ValueError):  # the latter two: rows that are no objects
        pass  # the head is cut off somewhere, and what is wrong is said when the file is read
    return top, row


def _nothing(files: Sequence[Path]) -> str:
    """What to say about files that are read as nothing."""
    file = files[0]
    try:
        with opened(file) as stream:
            start = stream.read(20)
    except OSError:
        start = b""
    for first, said in _OTHERS.items():
        if start.lstrip().startswith(first):
            return f"{file}: is {said}."
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return (
        f"{file}{more}: is none of the formats that are recognized: give {', '.join(FORMATS)} "
        f"(packed with {', '.join(ENDINGS)} or not), a chat of WhatsApp, Telegram, Discord or IRC, "
        "a backup of SMS, or name the data set with data.name."
    )
