"""The XML of the app SMS Backup & Restore: what a phone sent and received."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user, reason
from fedsim.data.readers.names import tidied
from fedsim.data.readers.packed import bare_suffix, opened
from fedsim.data.readers.safe_xml import xml_events
from fedsim.errors import FedsimError

ME = "me"
_BLOCK = 1 << 16
_RECEIVED, _DRAFT = "1", "3"  # of `type` and `msg_box`; all others were sent
_FROM = "137"  # of an address in an MMS
_UNKNOWN = {"(Unknown)", "null", ""}
# The app writes an emoji as two references, of which neither is a character.
_PAIR = re.compile(rb"&#(x[0-9a-fA-F]{4}|\d{5});(?:&#(x[0-9a-fA-F]{4}|\d{5});)?")
_OF_A_PAIR = b"&#;x0123456789abcdefABCDEF"


@READERS.register("sms_backup")
class SmsBackup(Reader):
    """Who is known by name is one user, whatever the number; what the phone sent is by "me", and
    who is saved as "me" is a number.

    The other side of a message that was sent is to whom, not who.
    """

    def takes(self, file: Path) -> bool:
        """XML files."""
        return super().takes(file) and bare_suffix(file) == ".xml"

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(name, text) in the order of the file."""
        for file in files:
            yield Began(file)
            try:
                with opened(file) as stream:
                    names = _names(stream, file)
                with opened(file) as stream:
                    for number, element in enumerate(_elements(stream, file), 1):
                        yield _row(element, f"{file}, message {number}", names)
            except ValueError as error:
                raise FedsimError(
                    f"{file}: cannot be read as XML ({reason(error)}): back it up again."
                ) from error


def _elements(stream: IO[bytes], file: Path) -> Iterator[Element]:
    """The messages, each forgotten when the next is asked for."""
    events = xml_events(_whole_characters(stream))
    _, root = next(events)
    if root.tag != "smses":
        raise FedsimError(
            f"{file}: begins with <{root.tag[:60]}> where <smses> is needed: give the XML of SMS "
            "Backup & Restore."
        )
    depth = 1
    for event, element in events:
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1:
            if element.tag in ("sms", "mms"):
                yield element
            root.clear()  # or the tree would grow to the size of the file


def _names(stream: IO[bytes], file: Path) -> dict[str, str]:
    """The names of the numbers that the file names: in groups it gives numbers only."""
    found: dict[str, str] = {}
    for element in _elements(stream, file):
        address, name = element.get("address", ""), element.get("contact_name", "")
        if "~" not in address and not _nameless(name):
            found.setdefault(_number(address), name)
    return found


def _row(element: Element, place: str, names: dict[str, str]) -> Row:
    mms = element.tag == "mms"
    kind = element.get("msg_box" if mms else "type", "")
    received = kind == _RECEIVED
    user = check_user(_sender(element, names), place, "address") if received else ME
    text = _mms_text(element) if mms else element.get("body", "")
    if kind == _DRAFT:
        return Dropped("that were drafts", user)
    if not text.strip() or text == "null":
        return Dropped("without text", user)
    return user, check_text(text, place)


def _sender(element: Element, names: dict[str, str]) -> str:
    """The name, or the number where there is none."""
    name, address = element.get("contact_name", ""), element.get("address", "")
    if "~" in address:  # a group, of which one wrote
        senders = [one for one in element.iter("addr") if one.get("type") == _FROM]
        address = senders[0].get("address", "") if senders else ""
        return names.get(_number(address), _number(address))
    return _number(address) if _nameless(name) else name


def _nameless(name: str) -> bool:
    """Whether it is no name, or one that would make a contact the phone's owner."""
    return name.strip() in _UNKNOWN or tidied(name)[0] == ME


def _number(address: str) -> str:
    """The number without what people put between its digits."""
    return re.sub(r"[\s()./-]", "", address)


def _mms_text(element: Element) -> str:
    kinds = ((part, part.get("ct", "").partition(";")[0]) for part in element.iter("part"))
    parts = (part for part, kind in kinds if kind.strip().lower() == "text/plain")
    return "\n".join(text for part in parts if (text := part.get("text", "")) != "null")


def _whole_characters(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes with pairs of references joined to the character that they mean."""
    rest = b""
    while part := stream.read(_BLOCK):
        rest += part
        # What may be the beginning of a pair waits for its end.
        cut = len(rest.rstrip(_OF_A_PAIR))
        yield _PAIR.sub(_character, rest[:cut])
        rest = rest[cut:]
        if len(rest) > _BLOCK:
            raise ValueError("more references to characters in a row than a message has")
    yield _PAIR.sub(_character, rest)


def _character(pair: re.Match[bytes]) -> bytes:
    codes = [int(code[1:], 16) if code[:1] == b"x" else int(code) for code in pair.groups() if code]
    if not any(0xD800 <= code <= 0xDFFF for code in codes):
        return pair[0]
    units = b"".join(code.to_bytes(2, "big") for code in codes)
    return units.decode("utf-16-be", "replace").encode()
