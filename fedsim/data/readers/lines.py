"""Lines of text with their numbers, and a clear sentence where a file has none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any

from fedsim.data.readers.encodings import (
    UTF8,
    by_mark,
    control_at,
    is_wide,
    not_iso,
    not_utf8,
)
from fedsim.data.readers.packed import opened
from fedsim.errors import FedsimError

_BOM = b"\xef\xbb\xbf"
# Far more than a message has; without a bound a file without line ends would fill the memory.
LONGEST_BYTES = 16 << 20
_HEAD_BYTES = 1 << 16


def numbered_lines(file: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line with its line end), of a packed file what it unpacks to.

    Without `encoding` the text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Carriage
    returns are line ends where the beginning of the file has no others.

    Raises FedsimError for NUL bytes, text of another encoding and lines of more than 16 MiB.
    """
    with opened(file) as stream:
        head = stream.peek(_HEAD_BYTES) if hasattr(stream, "peek") else b""
        encoding = encoding or by_mark(head) or UTF8
        if is_wide(encoding):
            yield from _wide_lines(stream, encoding, file)
            return
        if b"\r" in head and b"\n" not in head:
            stream = io.BufferedReader(_OldMac(stream))
        for number in count(1):
            raw = stream.readline(LONGEST_BYTES + 1)
            if not raw:
                return
            if number == 1:
                raw = raw.removeprefix(_BOM)
            yield number, _decoded(raw, encoding, f"{file}, line {number}")


class _OldMac(io.RawIOBase):
    """Lines that end in a carriage return alone, as Macs and spreadsheets of old write them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, each carriage return a line feed."""
        part = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(part)] = part
        return len(part)


def _wide_lines(stream: IO[bytes], encoding: str, file: Path) -> Iterator[tuple[int, str]]:
    """Lines of an encoding whose characters are several bytes wide."""
    text = io.TextIOWrapper(stream, encoding, newline="\n")
    for number in count(1):
        place = f"{file}, line {number}"
        try:
            line = text.readline(LONGEST_BYTES + 1)
        except UnicodeError as error:
            raise _not_of(encoding, place) from error
        if not line:
            return
        line = line.removeprefix("\ufeff") if number == 1 else line
        yield number, _checked(line, len(line), place)


def _decoded(raw: bytes, encoding: str, place: str) -> str:
    try:
        text = raw.decode(encoding) if len(raw) <= LONGEST_BYTES else ""
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            text = "\0"
        elif encoding == UTF8:
            raise not_utf8(raw, error.start, place) from error
        else:
            raise _not_of(encoding, place) from error
    if (at := control_at(text, encoding)) is not None:
        raise not_iso(raw, at, encoding, place)
    return _checked(text, len(raw), place)


def _checked(text: str, length: int, place: str) -> str:
    if length > LONGEST_BYTES:
        raise FedsimError(
            f"{place}: has more than {LONGEST_BYTES >> 20} MiB, which no message has: "
            "write one message a line."
        )
    if "\0" in text:
        # Every second byte of English in UTF-16 is one.
        wide = 3 * text.count("\0") > len(text)
        cure = "write data.encoding=utf-16-le or utf-16-be" if wide else "mend that line"
        raise FedsimError(
            f"{place}: holds a NUL byte, so the file is damaged or not UTF-8 text: "
            f"{cure}, or save the file as UTF-8."
        )
    return text


def _not_of(encoding: str, place: str) -> FedsimError:
    return FedsimError(
        f"{place}: is not text in {encoding}, the encoding that is given or that the file begins "
        "with: name the right one with data.encoding=NAME."
    )
