"""WhatsApp's exported chats, as phones of both kinds write them: `_chat.txt` and the like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.drops import Changed, Dropped, Hint
from fedsim.data.readers.base import READERS, Began, Row, TextReader, check_text, check_user
from fedsim.data.readers.lines import LONGEST_BYTES, numbered_lines
from fedsim.data.readers.packed import bare_suffix
from fedsim.data.readers.whatsapp_phrases import FILE, MARKS, MEDIA, SENTENCE, stands_for
from fedsim.errors import FedsimError

_DATE = rf"[{MARKS}]*\[?\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}"
_BEFORE = "à|às|a las|um|at|om|alle|kl\\.?|上午|下午"  # the time
# `[31/12/2022, 11:00:26] Ann: text` on iPhones, `12/31/22, 9:05 PM - Ann: text` on others; the
# order of the date and the clock are those of the phone's language.
_BEGINS = re.compile(
    rf"{_DATE}[,\u060c]?\s+(?:(?:{_BEFORE})\s*)?"
    r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?(?:[ap]\.?\s?m\.?|[صم]))?(?:\]|\s[-\u2013])\s(.*)",
    re.IGNORECASE | re.DOTALL,
)
_ALMOST = re.compile(
    rf"({_DATE}[^:\n]{{1,12}}?\d{{1,2}}[:.]\d{{2}}[^\n]{{0,14}}?(?:\]|\s[-\u2013]))"
    r"\s[^:\n]{1,40}: "
)
_SAID = re.compile(r"([^:]+): ?(.*)", re.DOTALL)
_EDITED = re.compile(rf"\s*[{MARKS}]<[^<>]+>$|\s*<This message was edited>$")
_MOST_LINES = 10_000  # of a message
_SYSTEM = "that WhatsApp wrote itself (who joined, encryption)"
_SENTENCE = "whose name is a sentence of WhatsApp's ('Ann added Bob: ...') and occurs once"


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
            told = self._told(file)
            for rest, place in self._chat(file):
                yield from self._rows(rest, place, told)
            if hint := self._another_form(file):
                yield hint

    def _told(self, file: Path) -> set[str]:
        """What stands where a name does, once in the file, and is a sentence of WhatsApp's."""
        found = (_SAID.fullmatch(rest.removesuffix("\n")) for rest, _ in self._chat(file))
        names = Counter(said[1] for said in found if said and SENTENCE.match(said[1]))
        return {name for name, times in names.items() if times == 1}

    def _another_form(self, file: Path) -> Hint | None:
        """What is said about lines that seem to begin messages, in a form that is not known."""
        found = [
            (number, almost[1].strip(MARKS))
            for number, line in numbered_lines(file, self.encoding)
            if not begins_message(line) and (almost := _ALMOST.match(line))
        ]
        if not found:
            return None
        return Hint(
            f"{file}, line {found[0][0]}: '{found[0][1]}' is no form of a date that is known here, "
            f"so that {len(found):,} lines that begin like it are part of the message before them: "
            "if they begin messages of their own, write their dates as the other lines do."
        )

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

    def _rows(self, rest: str, place: str, told: set[str]) -> Iterator[Row]:
        """One row, and what was altered in it."""
        said = _SAID.fullmatch(rest.removesuffix("\n"))
        if not said or said[1] in told:
            yield Dropped(_SENTENCE if said else _SYSTEM)
            return
        user, text = check_user(said[1], place, "name"), said[2]
        if attached := FILE.match(text):
            text = text[attached.end() :]
            if not text.strip():
                yield Dropped(MEDIA, user)
                return
            yield Changed("names of attached files that were cut off before a caption")
        elif why := stands_for(text) or stands_for(text := _EDITED.sub("", text)):
            yield Dropped(why, user)
            return
        yield (user, check_text(text, place)) if text.strip() else Dropped("without text", user)


def begins_message(line: str) -> str | None:
    """What follows the date and the time if the line begins a message."""
    found = _BEGINS.fullmatch(line)
    return found[1] if found else None
