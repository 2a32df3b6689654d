"""Sentences as a phone keyboard predicts them: words, emoji, classes for numbers and addresses."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Literal

from fedsim.data.emoji import is_emoji, qualified
from fedsim.data.patterns import pattern
from fedsim.data.vocabulary import ADDRESS, NUMBER, UNKNOWN

# Longer tokens are keys, hashes or a finger left on a key: nobody is offered one, and a keyboard
# holds an array as wide as its longest word.
LONGEST = 50
# A word with more digits is a number in disguise: an account, a license plate, a pasted key.
_MOST_DIGITS = 3
# Characters that people type for an apostrophe; and marks without width, which copied text has in
# the middle of words too.
_ALIKE = str.maketrans(
    dict.fromkeys("\u2019\u2018\u02bc\u00b4\u2032\uff07`", "'")
    | dict.fromkeys("\u00ad\u2060\ufeff\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e", "")
    | dict.fromkeys("\u2066\u2067\u2068\u2069", "")
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LAYERS = 3  # dumps have entities of entities (&amp;lt;)
_ONLY_DOTS = re.compile("[.]+")
_GOES_ON = frozenset(",;")
# A dot after one of these ends no sentence.
_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "eg", "ie", "approx"),
        *("dept", "gen", "sgt", "capt", "rev", "hon", "mt"),
    )
)
# Kinds of tokens that stand for a class, whatever they are.
_CLASSES = {"number": NUMBER, "address": ADDRESS, "net": ADDRESS, "unknown": UNKNOWN}
_FACES = frozenset(("emoji", "face"))

Emoji = Literal["keep", "drop"]
Case = Literal["fold", "keep"]
Numbers = Literal["class", "keep"]
Sentences = Literal["split", "keep"]


@dataclass(frozen=True)
class Tokenization:
    """How text is cut into sentences and words; the defaults are those of a phone keyboard.

    emoji: "keep" has each as a word, "drop" leaves them out. case: "fold" lower-cases. numbers:
    "class" writes <number> for each, "keep" has them as words. sentences: "split" ends one after
    . ! ? and at a line's end, "keep" has a whole message as one.
    """

    emoji: Emoji = "keep"
    case: Case = "fold"
    numbers: Numbers = "class"
    sentences: Sentences = "split"


class Tokenizer:
    """Cuts messages, and counts what they lose on the way.

    dropped: tokens left out, by the reason. signs: characters that are no part of a word, by
    their kind. changed: what was altered, by what it was.
    """

    def __init__(self, how: Tokenization | None = None) -> None:
        self.how = Tokenization() if how is None else how
        self.dropped: Counter[str] = Counter()
        self.signs: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def sentences(self, message: str) -> list[list[str]]:
        """The sentences of a message as lists of words; none of them is empty.

        A face after the end of a sentence belongs to it. Words joined by spaces are cut into the
        same words again.
        """
        text = self.prepared(message)
        find = pattern(text.isascii(), self.how.numbers == "class")
        fold, split = self.how.case == "fold", self.how.sentences == "split"
        out: list[list[str]] = []
        now: list[str] = []
        ended, used, ends = False, 0, 0
        for match in find.finditer(text):
            kind, token = match.lastgroup, match[0]
            if kind == "words":
                plain = (token.lower() if fold else token).replace(",", " ").split()
                used += len(token) - token.count(" ") - token.count(",")
                found = plain if len(token) <= LONGEST else self._short(plain)
            else:
                size = len("".join(token.split()))
                used += size
                if kind == "end" or kind == "line":
                    ends += size
                    if not (split and now):
                        continue
                    ended = ended or kind == "line" or _ends(token, now[-1], text, match.end())
                    if kind == "line":
                        out.append(now)
                        now, ended = [], False
                    continue
                found = self._short(self._word(str(kind), token))
            if not found:
                continue
            if ended and kind not in _FACES:
                out.append(now)
                now, ended = [], False
            now += found
        if now:
            out.append(now)
        self.signs["that end a sentence (. ! ? ...)"] += ends
        self.signs["other than letters, digits, emoji"] += len("".join(text.split())) - used
        return out

    def _word(self, kind: str, token: str) -> list[str]:
        """What stands in the sentence for a token: one word or none."""
        how = self.how
        if kind in _CLASSES:
            return [_CLASSES[kind]]
        if kind == "tag":
            self.signs["in HTML tags"] += len("".join(token.split()))
            return []
        if kind in _FACES:
            if how.emoji == "keep":
                return [qualified(token) if kind == "emoji" else token]
            self.dropped["emoji (data.emoji=drop)"] += 1
            return []
        if how.numbers == "class" and (kind == "digits" or _is_code(token)):
            return [NUMBER]
        if kind == "initial":
            token = token.removesuffix(".")
        elif kind == "dotted":
            token = token.removesuffix(".") + "."
        return [unicodedata.normalize("NFC", token.lower()) if how.case == "fold" else token]

    def _short(self, found: list[str]) -> list[str]:
        """The words without those that are none."""
        short = [word for word in found if len(word) <= LONGEST]
        if len(short) < len(found):
            self.dropped[f"of more than {LONGEST} characters"] += len(found) - len(short)
        return short

    def prepared(self, message: str) -> str:
        """The message in Unicode's normal form C, its entities decoded, its apostrophes alike."""
        if "&" in message:
            for _ in range(_LAYERS):
                message, found = _ENTITY.subn(_decoded, message)
                self.changed["HTML entities (decoded)"] += found
        if message.isascii():
            return message.replace("`", "'")
        text = unicodedata.normalize("NFC", message).translate(_ALIKE)
        return unicodedata.normalize("NFC", text)  # a mark may have lost what stood before it


def sentences(message: str, how: Tokenization | None = None) -> list[list[str]]:
    """The sentences of a message as lists of words."""
    return Tokenizer(how).sentences(message)


def words(message: str, how: Tokenization | None = None) -> list[str]:
    """The words of a message, of all its sentences."""
    return [word for sentence in sentences(message, how) for word in sentence]


def typed_length(word: str) -> int:
    """How many keys a word takes: its characters, and one for an emoji."""
    return 1 if is_emoji(word) else len(word)


def pieces(length: int, max_words: int) -> Iterator[int]:
    """The lengths of the consecutive pieces of at most `max_words` into which a sentence is cut."""
    while length > max_words:
        yield max_words
        length -= max_words
    if length:
        yield length


def _decoded(entity: re.Match[str]) -> str:
    """The character of an HTML entity; a name that there is not stays."""
    said = entity[0]
    return html.unescape(said) if said[1] == "#" else html5.get(said[1:], said)


def _ends(marks: str, word: str, text: str, place: int) -> bool:
    """Whether the marks between `word` and `place` end a sentence."""
    if not _ONLY_DOTS.fullmatch(marks):
        return True
    after = text[place : place + 1]
    if len(marks) > 1:
        return after not in _GOES_ON
    if after in _GOES_ON or after.isalnum() or after == "_":
        return False
    word = word.lower()
    return word not in _TITLES and not (
        word == "no" and text[place : place + 2].strip()[:1].isdigit()
    )


def _is_code(token: str) -> bool:
    """Whether a word is a number in disguise."""
    if token.isalpha():
        return False
    return token.isdecimal() or sum(map(str.isdecimal, token)) > _MOST_DIGITS
