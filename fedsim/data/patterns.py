"""What a message is made of, as one regular expression: words, numbers, addresses, faces, ends."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

from fedsim.data.emoji import EMOJI

# Scripts written without spaces whose characters can stand alone: Han (with its iteration mark
# and supplements), Hiragana, Katakana of either width.
_ALONE = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa"
    "\uff66-\uff9d\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Zero-width joiners stand inside words of Persian and of the Indic scripts.
_INNER = "'\u200c\u200d"
# What may follow a number without a space and belongs to it; "3d" and "4g" are words.
_UNITS = (
    "st|nd|rd|th|am|pm|h|hr|hrs|min|mins|sec|secs|yr|yrs|s|'s|x|k|m|km|cm|mm|kg|lb|lbs|ft"
    "|kb|mb|gb|tb|mhz|ghz|bit"
)
_TAGS = "a|b|i|u|s|em|strong|del|ins|sub|sup|span|font|img|code|td"
_BREAKS = "p|br|div|h[1-6]|hr|li|ol|ul|table|tr|blockquote|pre"
_ATTRIBUTES = r"""(?:\s+[\w:-]+=(?:"[^"<>]*"|'[^'<>]*'|[^\s<>]+))*+\s*/?"""
# Classes as people's corpora write them where they took something out, and as we do.
_PLACES = {
    "number": "number|num|decimal|time|date|phone|\\#",
    "address": "address|url|link|e-?mail|ip",
    "unknown": "unk",
}
# What ends a sentence whatever follows; a dot depends on it.
STRONG_ENDS = "!?\u2026\u203d\u061f\u06d4\u0589\u0964\u0965\u3002\uff01\uff1f\uff61\uff0e"
_DOMAINS = "com|org|net|edu|gov|info|biz|io|(?:co|com|ac|org|edu|gov)\\.[a-z]{2}"

ASCII_PHONE = r"""
    \+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,6}(?!\w)
    | \(?\d{3,5}\)?[ .-]\d{3,4}(?:[ .-]\d{2,4})?(?![\w:/])
    | 0\d(?:[ .-]\d\d){4}(?!\w)
"""


@cache
def pattern(ascii_only: bool, phones: bool) -> re.Pattern[str]:
    """The expression whose matches, by the names of their groups, make up a message.

    What it does not match is spaces and signs. ascii_only: for messages that are ASCII, where it
    finds the same, faster. phones: whether groups of digits that a space separates, as in
    telephone numbers, are one number.
    """
    marks = "" if ascii_only else _marks() + _INNER[1:]
    letter = "[a-z0-9]" if ascii_only else f"[^\\W_{_ALONE}]"
    more = "[a-z0-9]" if ascii_only else f"(?:{letter}|[{_marks()}])"
    run = f"{letter}{more}*+(?:[{_INNER}]{letter}{more}*+)*+"
    alone = "" if ascii_only else f"[{_ALONE}][{_marks()}\uff9e\uff9f]*+|"
    # Bounded, or a long line of dots and hyphens would be looked through from each of them.
    host = r"(?:\w[\w-]{0,62}+\.){1,8}"
    with_marks = "" if ascii_only else f"[{_marks()}]*+"
    one = f"{letter}(?<!\\d){with_marks}(?!{more})"
    parts = {
        # Most words: nothing follows that could make them part of something else. A run of them is
        # one match, since looking for all the rest at every space would take most of the time.
        "words": rf"(?:(?![a-z]\.)[a-z]++(?:'[a-z]++)*+(?![\w'@:/+{marks}-]|\.\w)[ ,]*+)++",
        "tag": f"</?(?:{_TAGS}){_ATTRIBUTES}>",
        "line": rf"[\n\r\v\f\x85\u2028\u2029]++|</?(?:{_BREAKS}){_ATTRIBUTES}>",
        **{name: f"<(?:{said})>" for name, said in _PLACES.items()},
        "net": rf"""
            (?:https?|ftps?|file|irc)://[^\s<>"]*[\w/] | www\.[^\s<>"]*[\w/]
            | \w[\w.+-]{{0,63}}+@{host}(?:[a-z]\w*+) | @(?=[^\W\d_])\w++(?:[.-]\w++)*
            | (?<![\w/])/?u/[\w-]{{3,}}+(?!/)
            | {host}(?:{_DOMAINS})(?![\w-])(?:[:/?\#][^\s<>"]*[\w/])?
            | (?!\w\.){host}[a-z]{{2,}}/[^\s<>"]*[\w/]""",
        "emoji": "(?!)" if ascii_only else EMOJI,
        "digits": (f"{ASCII_PHONE} | " if phones else "")
        + rf"""
            (?:(?<![\w.])\.|v(?=\d+\.\d))?\d++(?:[.,:/'x\u2013-]\d++){{0,20}}(?:{_UNITS})?(?!{more}|_|'\d)""",
        "face": r"""
            :[-'^]{0,2}(?:[()\[\]|*]+|[/\\](?![\w/\\])|[dpox3s](?!\w))
            | ;[-'^]{0,2}(?:[()\[\]*]+|[dp](?!\w))
            | =[-']?(?:[()|]+|[/\\](?![\w/\\])|[dpo3](?!\w))
            | </?3+(?!\w) | \^[_.-]?\^ | -_+- | >[._]<
            | (?:t[._]t|o[._]o|u[._]u|x[._]x)(?!\w|\.[^\W\d](?!\w))""",
        "dotted": rf"{one}(?:\.{one})+(?:\.(?!\w))?(?!\w)",
        # Not "I. Am", nor what "K. Bye" and "U. Too" are in text messages.
        "initial": r"(?-i:(?:[A-HJL-TV-Z]|(?<=[A-Z]\.\s)[KU])\.(?=\s+[A-Z]))",
        "other": f"{alone}{run}",
        "end": f"[.{STRONG_ENDS}]++",
    }
    text = "|".join(f"(?P<{name}>{part})" for name, part in parts.items())
    return re.compile(text, re.VERBOSE | re.IGNORECASE | (re.ASCII if ascii_only else re.UNICODE))


@cache
def _marks() -> str:
    """Signs that belong to the letter before; `\\w` alone would cut words at them (हिन्दी)."""
    return "".join(
        chr(point)
        for point in range(0x300, min(sys.maxunicode, 0x1FFFF))
        if unicodedata.category(chr(point)) in ("Mn", "Mc")
        and not 0xFE00 <= point <= 0xFE0F  # variation selectors belong to emoji
    )
