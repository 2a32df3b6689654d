"""Names of users: what is the same name is made the same, and what no longer is one is refused."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Marks without width that copying and chat programs leave in names. Joiners are letters' business
# inside a word (Persian, emoji) and mean nothing at its ends.
_INVISIBLE = str.maketrans(
    "",
    "",
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff",
)
_JOINERS = "\u200c\u200d"
_DECIMAL = re.compile(r"(-?\d+)\.0+")
_ROUNDED = re.compile(r"-?\d([.,]\d+)?E\+\d{2,3}", re.IGNORECASE)

SPACES = "user ids with spaces around them or several in a row"
MARKS = "user ids with invisible marks"
COMPOSED = "user ids whose accents were written apart"
DECIMALS = "user ids that were stored as decimals, such as 1000.0"


@lru_cache(maxsize=1 << 16)
def tidied(name: str) -> tuple[str, tuple[str, ...]]:
    """The name in one form of the several that look the same, and what was changed.

    Unicode's composed form (NFC), no invisible marks, no spaces around it, single ones inside, and
    whole numbers without the decimals that a spreadsheet or pandas gave them.
    """
    changed = []
    seen = name.translate(_INVISIBLE).strip(_JOINERS)
    if seen != name:
        changed.append(MARKS)
    spaced = " ".join(seen.split())
    if spaced != seen:
        changed.append(SPACES)
    composed = unicodedata.normalize("NFC", spaced)
    if composed != spaced:
        changed.append(COMPOSED)
    if whole := _DECIMAL.fullmatch(composed):
        composed = whole[1]
        changed.append(DECIMALS)
    return composed, tuple(changed)


def is_rounded(name: str) -> bool:
    """Whether it is a number that a spreadsheet has rounded, so that several people share it."""
    return _ROUNDED.fullmatch(name.strip()) is not None
