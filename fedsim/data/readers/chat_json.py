"""Exported chats in JSON: Telegram's `result.json`, and Discord's as DiscordChatExporter writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user
from fedsim.data.readers.json_stream import JsonStream
from fedsim.data.readers.packed import bare_suffix, opened
from fedsim.errors import FedsimError


class ChatJson(Reader):
    """A file with a list `messages`, read message by message, in whatever objects it lies."""

    def takes(self, file: Path) -> bool:
        """JSON files."""
        return super().takes(file) and bare_suffix(file) == ".json"

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) in the order of the file."""
        for file in files:
            yield Began(file)
            with opened(file) as stream:
                number = 0
                for message in _messages(JsonStream(stream, file)):
                    number += 1
                    if not isinstance(message, dict):
                        raise FedsimError(
                            f"{file}, message {number}: is no JSON object: give the file as it was "
                            "exported."
                        )
                    yield self._row(message, f"{file}, message {number}")
                if not number:
                    raise FedsimError(
                        f"{file}: has no message in a list 'messages': give the file as it was "
                        "exported, as JSON."
                    )

    @abstractmethod
    def _row(self, message: dict[str, Any], place: str) -> Row:
        """The message, or why it is left out."""


def _messages(document: JsonStream) -> Iterator[Any]:
    """The elements of every list `messages` in the object that begins here, or in its lists."""
    if document.begins() == "{":
        for key in document.entries():
            if key == "messages" and document.begins() == "[":
                for _ in document.elements():
                    yield document.value()
            elif key in ("chats", "left_chats", "list"):
                yield from _messages(document)
            else:
                document.skip()
    elif document.begins() == "[":
        for _ in document.elements():
            yield from _messages(document)
    else:
        document.skip()


def _said(text: str, user: object, place: str) -> Row:
    name = check_user(user, place, "author")
    return (name, check_text(text, place)) if text.strip() else Dropped("without text", name)


@READERS.register("telegram")
class Telegram(ChatJson):
    """The user is `from_id`, which stays when the name changes.

    Left out: what Telegram wrote itself, what was forwarded or came from a bot, and the posts of
    channels, which are no persons.
    """

    def _row(self, message: dict[str, Any], place: str) -> Row:
        if message.get("type") != "message":
            return Dropped("that Telegram wrote itself (who joined, calls)")
        user = message.get("from_id") or message.get("from")
        name = str(user) if user else None
        if message.get("forwarded_from"):
            return Dropped("that were forwarded", name)
        if message.get("via_bot"):
            return Dropped("that came from a bot", name)
        if str(user).startswith("channel"):
            return Dropped("that a channel posted", name)
        if user is None:
            return Dropped("of accounts that were deleted")
        return _said(_joined(message.get("text"), place), user, place)


def _joined(text: Any, place: str) -> str:
    """Plain text, or pieces of which some are objects with a format and a text."""
    pieces = text if isinstance(text, list) else [text or ""]
    found = [piece.get("text", "") if isinstance(piece, dict) else piece for piece in pieces]
    if not all(isinstance(piece, str) for piece in found):
        raise FedsimError(f"{place}: its text is no text: give the file as Telegram exported it.")
    return "".join(found)


@READERS.register("discord")
class Discord(ChatJson):
    """The user is `author.id`; bots and what Discord wrote itself are left out."""

    def _row(self, message: dict[str, Any], place: str) -> Row:
        author, text = message.get("author"), message.get("content")
        if not isinstance(author, dict) or not isinstance(text, str):
            raise FedsimError(
                f"{place}: has no author or no content: give the JSON of DiscordChatExporter."
            )
        user = author.get("id") or author.get("name")
        name = str(user) if user else None
        if message.get("type", "Default") not in ("Default", "Reply", "0", "19", 0, 19):
            return Dropped("that Discord wrote itself (who joined, calls)", name)
        return Dropped("by bots", name) if author.get("isBot") else _said(text, user, place)
