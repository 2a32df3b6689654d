"""WhatsApp's exported chats, as phones of both kinds write them: `_chat.txt` and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Row, TextReader, check_text, check_user
from fedsim.data.readers.lines import LONGEST_BYTES, numbered_lines
from fedsim.data.readers.packed import bare_suffix
from fedsim.errors import FedsimError

_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
# `[31/12/2022, 11:00:26] Ann: text` on iPhones, `12/31/22, 9:05 PM - Ann: text` on others; the
# order of the date and the clock are those of the phone's language.
_BEGINS = re.compile(
    rf"[{_MARKS}]*\[?\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}},?\s+"
    r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[ap]\.?\s?m\.?)?(?:\]|\s[-\u2013])\s(.*)",
    re.IGNORECASE | re.DOTALL,
)
_SAID = re.compile(r"([^:]+): ?(.*)", re.DOTALL)
# Iphones put a mark before what WhatsApp wrote itself; others write `<Media omitted>` in their
# language, or the name of a file and what became of it.
_STANDS_FOR = re.compile(rf"[{_MARKS}].*|<[^<>]{{2,60}}>|\S+\.\w{{2,4}} \([^()]+\)", re.DOTALL)
_EDITED = re.compile(rf"\s*[{_MARKS}]<[^<>]+>$|\s*<This message was edited>$")
_DELETED = {"This message was deleted", "You deleted this message", "null"}
_MOST_LINES = 10_000  # of a message
_SYSTEM = "that WhatsApp wrote itself (who joined, encryption)"
_MEDIA = "that stand for media, calls or deleted messages"


@READERS.register("whatsapp")
class WhatsApp(TextReader):
    """One message may have several lines: what does not begin with a date goes on.

    The name is that of the contact, or the number; a person is one user over all files.
    """

    def takes(self, file: Path) -> bool:
        """Text files."""
        return super().takes(file) and bare_suffix(file) == ".txt"

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(name, text) in the order of the chat."""
        for file in files:
            yield Began(file)
            yield from (self._row(rest, place) for rest, place in self._chat(file))

    def _chat(self, file: Path) -> Iterator[tuple[str, str]]:
        """What follows the date of each message, with its place."""
        lines, size, place = list[str](), 0, ""
        for number, line in numbered_lines(file, self.encoding):
            line = line.replace("\r\n", "\n")
            if begins := begins_message(line):
                if place:
                    yield "".join(lines), place
                lines, size, place = [begins], 0, f"{file}, line {number}"
            elif place:
                lines.append(line)
                size += len(line)
                if size > LONGEST_BYTES or len(lines) > _MOST_LINES:
                    raise FedsimError(
                        f"{place}: of the {len(lines):,} lines after it none begins with a date, "
                        "so that they would be one message: is this a whole export?"
                    )
            elif line.strip():
                raise FedsimError(
                    f"{file}, line {number}: does not begin as a chat does, with "
                    "'[31/12/22, 11:00:26] Name: text' or '31/12/22, 11:00 - Name: text': give the "
                    "file as WhatsApp exported it."
                )
        if place:
            yield "".join(lines), place

    def _row(self, rest: str, place: str) -> Row:
        said = _SAID.fullmatch(rest.removesuffix("\n"))
        if not said:
            return Dropped(_SYSTEM)
        user = check_user(said[1], place, "name")
        text = _EDITED.sub("", said[2])
        if _STANDS_FOR.fullmatch(text) or text.strip() in _DELETED:
            return Dropped(_MEDIA, user)
        return (user, check_text(text, place)) if text.strip() else Dropped("without text", user)


def begins_message(line: str) -> str | None:
    """What follows the date and the time if the line begins a message."""
    found = _BEGINS.fullmatch(line)
    return found[1] if found else None
