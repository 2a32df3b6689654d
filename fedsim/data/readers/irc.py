"""Raw IRC logs: `[12:34] <nick> text`, one file a window of a channel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Reader, Row, check_user
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError

_LINE = re.compile(r"\[\d\d:\d\d\] <([^>]+)> ?(.*)")
_ADDRESS = re.compile(r"(\S+?)([:,]) +")


@READERS.register("irc")
class Irc(Reader):
    """What people said; system lines (`===`), actions (`* nick ...`) and bots are left out.

    Nicks are lower-cased and lose trailing underscores, which clients add when a nick is taken.
    The address at the start ("nick: ", or "nick, " where that nick speaks in the same file) is
    cut off. A line with the same time, nick and text is taken once, over all files, because
    windows may overlap and clients repeat themselves.
    """

    bots: tuple[str, ...] = ()  # patterns with * and ?, lower case

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(nick, text) line by line."""
        seen: set[bytes] = set()
        is_bot = cache(lambda nick: any(fnmatchcase(nick, bot) for bot in self.bots))
        for file in files:
            lines, others = _said(file)
            for _ in range(others):
                yield Dropped("that nobody said (joins, topics, actions)")
            nicks = {nick for nick, _, _ in lines}
            for nick, text, whole in lines:
                if is_bot(nick):
                    yield Dropped("by bots")
                    continue
                mark = hashlib.blake2b(f"{nick} {whole}".encode(), digest_size=12).digest()
                if mark in seen:
                    yield Dropped("repeated with time, nick and text", nick)
                    continue
                seen.add(mark)
                yield nick, _without_address(text, nicks)


def _said(file: Path) -> tuple[list[tuple[str, str, str]], int]:
    """(nick, text, whole line) of what was said in one file; the number of its other lines."""
    found, others = [], 0
    for number, line in numbered_lines(file):
        match = _LINE.match(line.rstrip("\r\n"))
        if match:
            nick = check_user(_person(match[1]), f"{file}, line {number}", "nick")
            found.append((nick, match[2], line))
        else:
            others += 1
    if not found:
        raise FedsimError(
            f"{file}: has no line of the form '[12:34] <nick> text': give raw IRC logs."
        )
    return found, others


def _person(nick: str) -> str:
    nick = nick.strip().lower()
    return nick.rstrip("_") or nick


def _without_address(text: str, nicks: set[str]) -> str:
    match = _ADDRESS.match(text)
    # A comma follows many first words ("well, ..."), a colon hardly ever anything but a nick.
    if match and (match[2] == ":" or _person(match[1]) in nicks):
        return text[match.end() :]
    return text
