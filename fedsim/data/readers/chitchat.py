"""The Chit Chat Challenge corpus: conversations of turns of messages, one JSON object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user
from fedsim.data.readers.json_text import load_json
from fedsim.errors import FedsimError


@READERS.register("chitchat")
class ChitChat(Reader):
    """`{conversation: {messages: [[{text, sender, ...}, ...] per turn], ...}}`.

    The keys `prompt` and `ratings` are missing in a sixth of the conversations and not needed.
    """

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(sender, text) in the order of the file."""
        for file in files:
            yield Began(file)
            try:
                for key, conversation in load_json(file).items():
                    place = f"{file}, conversation '{key[:60]}'"
                    for turn in conversation["messages"]:
                        for message in turn:
                            user = check_user(message["sender"], place, "sender")
                            yield user, check_text(message["text"], place)
            except (KeyError, TypeError, AttributeError) as error:
                raise FedsimError(
                    f"{file}: is not the chitchat data set ({type(error).__name__}: {error}): "
                    "reinstall the package chitchat-dataset."
                ) from error
