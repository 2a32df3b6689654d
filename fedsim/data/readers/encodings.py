"""Which encoding a text is in: what may be named, and what fits bytes that are not UTF-8."""

from __future__ import annotations

import codecs
import re
from itertools import pairwise

from fedsim.errors import FedsimError

UTF8 = "utf-8"
# Python calls these encodings of text, but no file is written in them.
_NO_FILES = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# latin-1 is cp1252 without the quotes and dashes of 0x80 to 0x9f, which its files often hold.
_WESTERN = ("cp1252", "mac_roman")
_OTHERS = ("cp1251", "gb18030", "shift_jis", "euc_kr", "koi8_r", "mac_roman")
_OFFERED, _SHOWN = 3, 30


def need_encoding(name: str) -> str:
    """The name as Python spells it; ValueError, for an options class, where there is none."""
    try:
        found = codecs.lookup(name)
        known = found._is_text_encoding and found.name not in _NO_FILES
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        known = False
    if not known:
        raise ValueError(
            "there is no such encoding; give a name such as utf-8, cp1252, latin-1, utf-16, "
            "cp1251, gb18030 or shift_jis"
        )
    return UTF8 if found.name == "utf-8-sig" else found.name


def by_mark(start: bytes) -> str | None:
    """The encoding that a byte order mark names: utf-16 or utf-32."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def is_wide(encoding: str) -> bool:
    """Whether a line end is other than the byte 0x0a, so that bytes cannot be cut into lines."""
    return "\n".encode(encoding) != b"\n"


# What Windows has for the languages of ISO 8859, with letters and signs at 0x80 to 0x9f.
_OF_WINDOWS = {
    "iso8859-1": "cp1252",
    "iso8859-2": "cp1250",
    "iso8859-4": "cp1257",
    "iso8859-5": "cp1251",
    "iso8859-6": "cp1256",
    "iso8859-7": "cp1253",
    "iso8859-8": "cp1255",
    "iso8859-9": "cp1254",
    "iso8859-13": "cp1257",
    "iso8859-15": "cp1252",
}
_CONTROLS = re.compile("[\x80-\x9f]")


def control_at(text: str, encoding: str) -> int | None:
    """Where text in an ISO 8859 has a control character, which no text has there.

    They are what Windows writes for quotes, dashes and apostrophes, so that "don't" would be read
    as two words. In these encodings a character is one byte.
    """
    found = _CONTROLS.search(text) if encoding in _OF_WINDOWS else None
    return found.start() if found else None


def not_iso(line: bytes, at: int, encoding: str, place: str) -> FedsimError:
    """What to say where the byte `at` of a line is a control character in that ISO 8859."""
    name = _OF_WINDOWS[encoding]
    reading = _reading(line, at, name)
    reads = f", and in {name} it reads '{reading}'" if reading is not None else ""
    return FedsimError(
        f"{place}: byte {at + 1} (0x{line[at]:02x}) is a control character in {encoding}{reads}: "
        f"write data.encoding={name}, or another name if that reads wrong."
    )


def not_utf8(line: bytes, at: int, place: str) -> FedsimError:
    """What to say where the byte `at` of a line is not UTF-8.

    The encodings that fit are named with what the line then says, so that a person can choose.
    """
    said = f"{place}: byte {at + 1} (0x{line[at]:02x}) is not UTF-8"
    fitting = _fitting(line, at)
    if not fitting:
        return FedsimError(
            f"{said}, nor does another encoding fit that is known here: write the file again as "
            "UTF-8, or name its encoding with data.encoding=NAME."
        )
    if len(fitting) == 1:
        ((name, text),) = fitting.items()
        return FedsimError(
            f"{said}; in {name} it reads '{text}': write data.encoding={name}, or another name if "
            "that reads wrong."
        )
    readings = ", ".join(f"'{text}' in {name}" for name, text in fitting.items())
    return FedsimError(
        f"{said}; it reads {readings}: write data.encoding=NAME with the one that reads right, or "
        "another."
    )


def _fitting(line: bytes, at: int) -> dict[str, str]:
    """Encodings with what they make of the place, the likeliest first.

    In western text, letters beyond ASCII stand alone among others; in Cyrillic, Chinese, Japanese
    and Korean they stand in runs.
    """
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", line)]
    western = 2 * sum(length <= 2 for length in runs) > len(runs)
    found: dict[str, str] = {}
    for name in _WESTERN if western else _OTHERS:
        text = _reading(line, at, name)
        if text is not None and text not in found.values():
            found[name] = text
            if western:
                break
    ranked = sorted(found, key=lambda name: _oddity(found[name]))
    return {name: found[name] for name in ranked[:_OFFERED]}


def _reading(line: bytes, at: int, encoding: str) -> str | None:
    """A piece of the line around the byte in that encoding; None where it does not fit."""
    try:
        text = line.decode(encoding)
        before = line[:at].decode(encoding)
    except UnicodeDecodeError:
        return None
    if not all(char.isprintable() or char in "\t\r\n" for char in text):
        return None
    start = max(0, len(before) - _SHOWN // 2)
    return " ".join(text[start : start + _SHOWN].split())


def _oddity(text: str) -> float:
    """The share of characters beyond ASCII that no text has there: signs, capitals in a word."""
    capitals = sum(1 for a, b in pairwise(text) if a.islower() and b.isupper())
    high = [char for char in text if char > "\x7f"]
    signs = sum(1 for char in high if not char.isalnum())
    return (capitals + signs) / max(1, len(high))
