"""The Chit Chat Challenge corpus: conversations of turns of messages, one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.readers.base import READERS, Reader
from fedsim.errors import FedsimError


@READERS.register("chitchat")
class ChitChat(Reader):
    """`{conversation: {messages: [[{text, sender, ...}, ...] per turn], ...}}`.

    The keys `prompt` and `ratings` are missing in a sixth of the conversations and not needed.
    """

    def read(self, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
        """Yield (sender, text) in the order of the file."""
        for file in files:
            try:
                conversations = json.loads(file.read_bytes())
                for conversation in conversations.values():
                    for turn in conversation["messages"]:
                        for message in turn:
                            yield message["sender"], message["text"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FedsimError(
                    f"{file}: is not the chitchat data set ({type(error).__name__}: {error}): "
                    "reinstall the package chitchat-dataset."
                ) from error
