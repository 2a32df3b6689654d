"""Raw IRC logs: `[12:34] <nick> text`, one file a window of a channel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fedsim.data.drops import Changed, Dropped
from fedsim.data.readers.base import READERS, Began, Row, TextReader, check_user
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError

# `[12:34] <nick> text`; other programs write the seconds or the day, or leave the brackets out.
_LINE = re.compile(r"\[?\d[\d:./T -]{3,24}\]? ?<([^>]+)> ?(.*)")
_MODES = "~&@%+!"  # before the nick of who may more than others; no nick begins with one
_ADDRESS = re.compile(r"(\S+?)([:,]) +")


@READERS.register("irc")
class Irc(TextReader):
    """What people said; system lines (`===`), actions (`* nick ...`) and bots are left out.

    Nicks are lower-cased and lose the sign of a mode before them (`@nick`), which comes and goes,
    and trailing underscores, which clients add when a nick is taken.
    The address at the start ("nick: ", or "nick, " where that nick speaks in the same file) is
    cut off. A line with the same time, nick and text is taken once, over all files, because
    windows may overlap and clients repeat themselves.
    """

    bots: tuple[str, ...] = ()  # patterns with * and ?, lower case

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(nick, text) line by line."""
        seen: set[bytes] = set()
        is_bot = cache(lambda nick: any(fnmatchcase(nick, bot) for bot in self.bots))
        signed: set[str] = set()
        for file in files:
            yield Began(file)
            before = len(signed)
            lines, others = self._said(file, signed)
            if len(signed) > before:
                yield Changed("nicks with the sign of a mode before them", len(signed) - before)
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

    def _said(self, file: Path, signed: set[str]) -> tuple[list[tuple[str, str, str]], int]:
        """(nick, text, whole line) of what was said in one file; the number of its other lines.

        Nicks with the sign of a mode are added to `signed`.
        """
        found, others = [], 0
        for number, line in numbered_lines(file, self.encoding):
            if match := said_line(line):
                nick = check_user(_person(match[1]), f"{file}, line {number}", "nick")
                if match[1].strip()[:1] in _MODES:
                    signed.add(nick)
                found.append((nick, match[2], line))
            else:
                others += 1
        if not found:
            raise FedsimError(
                f"{file}: has no line of the form '[12:34] <nick> text': give raw IRC logs."
            )
        return found, others


def said_line(line: str) -> re.Match[str] | None:
    """The nick and the text if somebody says something in the line."""
    return _LINE.match(line.rstrip("\r\n"))


def _person(nick: str) -> str:
    nick = nick.strip().lower()
    nick = nick.lstrip(_MODES) or nick
    return nick.rstrip("_") or nick


def _without_address(text: str, nicks: set[str]) -> str:
    match = _ADDRESS.match(text)
    # A comma follows many first words ("well, ..."), a colon hardly ever anything but a nick.
    if match and (match[2] == ":" or _person(match[1]) in nicks):
        return text[match.end() :]
    return text
