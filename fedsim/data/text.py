"""Words as a phone keyboard predicts them: case-folded, apostrophes inside, no punctuation."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

# Characters that people type for an apostrophe; U+00B4 must go before NFKC turns it into a space.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\u00b4\u2032", "'"))
# Longer tokens are keys, hashes or a finger left on a key: nobody is offered one, and a keyboard
# holds an array as wide as its longest word.
LONGEST = 50
_SOFT_HYPHEN = "\u00ad"
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
# Scripts written without spaces whose characters can stand alone: Han (with its iteration mark
# and supplements), Hiragana, Katakana.
_ALONE = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Zero-width joiners stand inside words of Persian and of the Indic scripts.
_INNER = "'\u200c\u200d"


@cache
def _unicode_word() -> re.Pattern[str]:
    """The word pattern for any script; `\\w` alone would cut words at vowel signs (हिन्दी)."""
    marks = "".join(
        chr(point)
        for point in range(0x300, min(sys.maxunicode, 0x1FFFF))
        if unicodedata.category(chr(point)) in ("Mn", "Mc")
        and not 0xFE00 <= point <= 0xFE0F  # variation selectors belong to emoji
    )
    letter = f"[^\\W_{_ALONE}]"
    return re.compile(
        f"[{_ALONE}][{marks}]*|{letter}(?:{letter}|[{marks}])*"
        f"(?:[{_INNER}]{letter}(?:{letter}|[{marks}])*)*"
    )


def words(message: str) -> list[str]:
    """The words of a message, NFKC-normalised and case-folded; punctuation and emoji are dropped.

    An apostrophe inside a word stays ("don't"), an underscore separates, and each Han or Kana
    character is its own word. A token of more than 50 characters is no word: it is dropped, too.
    Applying it to its own words changes nothing.
    """
    if message.isascii():
        return _short(_ASCII_WORD.findall(message.lower()))
    text = message.replace(_SOFT_HYPHEN, "").translate(_APOSTROPHES)
    # Folding can undo the normal form and the other way round (Unicode, NFKC_Casefold).
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = unicodedata.normalize("NFKC", text.casefold()).translate(_APOSTROPHES)
    return _short(_unicode_word().findall(text))


def _short(tokens: list[str]) -> list[str]:
    return [token for token in tokens if len(token) <= LONGEST]


def pieces(length: int, max_words: int) -> Iterator[int]:
    """The lengths of the consecutive pieces of at most `max_words` into which a message is cut."""
    while length > max_words:
        yield max_words
        length -= max_words
    if length:
        yield length
