"""Spaces in text of scripts that are written without them: Thai, Lao, Burmese, Khmer and kin."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Literal

from fedsim.data.drops import Changed, Drops
from fedsim.errors import FedsimError

Segment = Literal["characters", "words", "spaces"]
# Letters and signs of the scripts that Unicode calls "complex context" (UAX 14, class SA), without
# their digits: Thai, Lao, Burmese with its extensions, Khmer, Tai Le, New Tai Lue, Tai Tham, Tai
# Viet.
_THAI = "\u0e01-\u0e3a\u0e40-\u0e4e"
_OTHERS = (
    "\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109f"
    "\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f\u1780-\u17d3\u17d7\u17dc\u17dd"
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7f\uaa80-\uaadf"
)
# Vowels that are written before the consonant that they follow, and after it without being marks.
_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4\uaab5\uaab6\uaab9\uaabb\uaabc\u19b5-\u19b7\u19ba"
_AFTER = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3\u19b0-\u19c0"
_STACKED = "\u17d2\u1039\u1a60"  # the letter after one of these stands below the one before


def segmented(
    messages: Iterable[tuple[str, str]], how: Segment, drops: Drops
) -> Iterator[tuple[str, str]]:
    """The messages with spaces where `spaced` puts them; those that had none are counted."""
    for user, text in messages:
        cut = spaced(text, how)
        if cut != text:
            drops.note(Changed(f"messages of a script without spaces, cut into {how}"))
        yield user, cut


def spaced(text: str, how: Segment = "characters") -> str:
    """The text with spaces between its units, in runs of letters of such a script only.

    how: "characters" sets each letter apart with all signs that belong to it, as Chinese and
    Japanese characters are words here; "words" cuts Thai by the dictionary of PyThaiNLP, and the
    others into characters; "spaces" adds none, for text that has them between its words already.

    Raises FedsimError where PyThaiNLP is needed and not installed.
    """
    if text.isascii() or how == "spaces":
        return text
    if how == "words":
        text = _thai().sub(lambda run: _apart(_thai_words()(run[0])), text)
        return _others().sub(lambda run: _apart(_cluster().findall(run[0])), text)
    return _any().sub(lambda run: _apart(_cluster().findall(run[0])), text)


def _apart(units: Iterable[str]) -> str:
    return f" {' '.join(unit for unit in units if unit.strip())} "


@cache
def _thai() -> re.Pattern[str]:
    return re.compile(f"[{_THAI}]+")


@cache
def _others() -> re.Pattern[str]:
    return re.compile(f"[{_OTHERS}]+")


@cache
def _any() -> re.Pattern[str]:
    return re.compile(f"[{_THAI}{_OTHERS}]+")


@cache
def _cluster() -> re.Pattern[str]:
    """A letter with the vowel before it and all that is written above, below and after it."""
    block = re.compile(f"[{_THAI}{_OTHERS}]")
    marks = "".join(
        chr(point)
        for point in range(0x0E00, 0xAAE0)
        if block.match(chr(point)) and unicodedata.category(chr(point)) in ("Mn", "Mc")
    )
    follows = f"(?:[{_STACKED}].|[{marks}{_AFTER}])"
    return re.compile(f"[{_BEFORE}]?[^{marks}{_AFTER}]{follows}*|{follows}+", re.DOTALL)


@cache
def _thai_words() -> Callable[[str], list[str]]:
    try:
        from pythainlp.tokenize import word_tokenize
    except ImportError:
        raise FedsimError(
            "data.segment=words cuts Thai by a dictionary, for which the package pythainlp is "
            "needed: run `pip install pythainlp`, or leave it out to have characters."
        ) from None
    tokenize: Any = word_tokenize
    return lambda run: list(tokenize(run, engine="newmm"))
