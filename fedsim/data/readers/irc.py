"""Raw IRC logs: `[12:34] <nick> text`, one file a window of a channel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from fedsim.data.drops import Changed, Dropped
from fedsim.data.readers.base import READERS, Began, Row, TextReader, check_user
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError

# `[12:34] <nick> text`; other programs write the seconds or the day, or leave the brackets out.
_LINE = re.compile(r"\[?\d[\d:./T -]{3,24}\]? ?<([^>]+)> ?(.*)")
_MODES = "~&@%+!"  # before the nick of who may more than others; no nick begins with one
_SIGNED = "nicks with the sign of a mode before them"
_SCORED = "nicks with underscores behind them, taken for the nick without"
_CUT = "messages whose beginning 'nick: ' or 'nick, ' was cut off"
_ADDRESS = re.compile(r"(\S+?)([:,]) +")


@READERS.register("irc")
class Irc(TextReader):
    """What people said; system lines (`===`), actions (`* nick ...`) and bots are left out.

    Nicks are lower-cased and lose the sign of a mode before them (`@nick`), which comes and goes,
    and trailing underscores, which clients add when a nick is taken.
    The address at the start ("nick: " or "nick, ") is cut off where that nick speaks in the same
    file, or before a colon in an earlier one; of short windows, in which people often answer
    somebody who is silent there, whatever stands before a colon (`colon = "any"`). What was
    altered is counted.
    A line with the same time, nick and text is taken once, over all files, because windows may
    overlap and clients repeat themselves.
    """

    bots: tuple[str, ...] = ()  # patterns with * and ?, lower case
    colon: Literal["seen", "any"] = "seen"  # before it: a nick of the files so far, or a word

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(nick, text) line by line."""
        seen: set[bytes] = set()
        is_bot = cache(lambda nick: any(fnmatchcase(nick, bot) for bot in self.bots))
        ever: set[str] = set()
        altered: dict[str, set[str]] = {_SIGNED: set(), _SCORED: set()}
        for file in files:
            yield Began(file)
            before = {what: len(nicks) for what, nicks in altered.items()}
            lines, others = self._said(file, altered)
            for what, names in altered.items():
                if len(names) > before[what]:
                    yield Changed(what, len(names) - before[what])
            for _ in range(others):
                yield Dropped("that nobody said (joins, topics, actions)")
            nicks = {nick for nick, _, _ in lines}
            ever |= nicks
            for nick, text, whole in lines:
                if is_bot(nick):
                    yield Dropped("by bots")
                    continue
                mark = hashlib.blake2b(f"{nick} {whole}".encode(), digest_size=12).digest()
                if mark in seen:
                    yield Dropped("repeated with time, nick and text", nick)
                    continue
                seen.add(mark)
                addressed = self._address(text, nicks, ever)
                if addressed:
                    yield Changed(_CUT)
                yield nick, text[addressed:]

    def _address(self, text: str, nicks: set[str], ever: set[str]) -> int:
        """The length of the address that the text begins with; who may be meant before a comma
        (`nicks`) and before a colon (`ever`)."""
        match = _ADDRESS.match(text)
        if not match:
            return 0
        if match[2] == ":" and self.colon == "any":
            return match.end()
        known = _person(match[1]) in (ever if match[2] == ":" else nicks)
        return match.end() if known else 0

    def _said(
        self, file: Path, altered: dict[str, set[str]]
    ) -> tuple[list[tuple[str, str, str]], int]:
        """(nick, text, whole line) of what was said in one file; the number of its other lines.

        Nicks that lose something are added to `altered`, as they were written.
        """
        found, others = [], 0
        for number, line in numbered_lines(file, self.encoding):
            if match := said_line(line):
                nick = check_user(_person(match[1]), f"{file}, line {number}", "nick")
                written = match[1].strip().lower()
                if written[:1] in _MODES:
                    altered[_SIGNED].add(nick)
                if written.lstrip(_MODES) not in (nick, ""):
                    altered[_SCORED].add(written.lstrip(_MODES))
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
