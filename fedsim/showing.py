"""Text that others wrote, made fit for a terminal or a page: names on disk may hold anything."""

from __future__ import annotations

import re

INSTEAD = "\ufffd"
# Controls (but for a line's end and a tab), other line ends, halves of surrogate pairs, and marks
# that make text be shown in another order than it is written in.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shown(text: str) -> str:
    """The text with U+FFFD for what a terminal would obey instead of showing it.

    These are control characters other than a line's end and a tab, marks of another direction of
    writing, and bytes of a file's name that are no text.
    """
    return _HIDDEN.sub(INSTEAD, text)


def one_line(name: object) -> str:
    """The same of a name or a path, whose line ends and tabs are not shown either."""
    return shown(str(name)).replace("\n", INSTEAD).replace("\t", INSTEAD)


def first_hidden(name: str) -> str:
    """The first character of a name that is not shown, but for bytes that are no text; or ""."""
    hidden = (
        char for char in name if one_line(char) == INSTEAD and not "\udc80" <= char <= "\udcff"
    )
    return next(hidden, "")
