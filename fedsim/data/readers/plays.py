"""Plays in Markdown, one file a play: each role is a user, each of its speeches a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Row, TextReader, check_user
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError

# A line of its own: the name of who speaks, or the heading of an act or a scene.
_TURN = re.compile(r"^\*\*(.+?)\*\*[ \t]*$|^#.*$", re.MULTILINE)
_DIRECTION = re.compile(r"_*\\?\[[^\]]*\]_*|_+[^_]*_+|\*[^*]*\*")


@READERS.register("plays")
class Plays(TextReader):
    """`**HAMLET**` on a line, then what he says until the next name or heading.

    Stage directions (`_Exit_`, `*Exit*`, `[Aside]`) are left out and do not end a speech. A role
    of two plays is two users, as in LEAF: "henry-v: PISTOL".
    """

    def takes(self, file: Path) -> bool:
        """Markdown."""
        return super().takes(file) and file.suffix == ".md"

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(play: role, speech) in the order of each play."""
        for file in files:
            yield Began(file)
            text = "".join(line for _, line in numbered_lines(file, self.encoding)).replace(
                "\r\n", "\n"
            )
            _, *turns = _TURN.split(text)
            spoken = [
                (role, said) for role, said in zip(turns[::2], turns[1::2], strict=True) if role
            ]
            if not spoken:
                raise FedsimError(
                    f"{file}: has no line of the form '**ROLE**' with a speech below it: give "
                    "plays in Markdown."
                )
            for role, said in spoken:
                user = check_user(f"{file.stem}: {role.strip()}", str(file), "role")
                speech = " ".join(_DIRECTION.sub(" ", said).split())
                yield (user, speech) if speech else Dropped("without text", user)
