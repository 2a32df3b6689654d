"""A look at all messages as they pass: the same text twice, and users who are no persons."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from fedsim.errors import FedsimError
from fedsim.registry import nearest

_SAME, _FEWEST = 0.9, 10  # share of a file's messages, and messages, that make it the same text
_NOTED = 0.05
_LONG = 20  # characters; shorter messages ("ok", "good night") are said again and again
_NAMED = 5
_TELEPHONE, _LONGEST = 9, 15  # digits that tell numbers apart, and a number has at most
_DIGITS, _NO_CHANCE = 15, 9  # of a spreadsheet's number; zeros behind them that are no chance
_WORDS = 5  # of a name; few people's has as many
_SHOWN = 12  # characters of a word, before and after a place in it
_PLACEHOLDERS = frozenset(
    (
        *("deleted", "removed", "none", "null", "nan", "n/a", "na", "nil", "undefined", "unknown"),
        *("anonymous", "anon", "guest", "system", "deleted user", "deleted account", "deactivated"),
        *("automoderator", "administrator", "admin", "mailer-daemon", "noreply", "no-reply"),
        *("0", "-", "?", "user", "client"),
    )
)
# UTF-8 that was read as Windows-1252 or Latin-1, and what stands for bytes that were no text.
_GARBLED = re.compile(
    "[\x80-\x9f\ufffd]|\u00e2\u20ac|\u00c2[\xa0-\xbf]"
    "|\u00c3[\xa0-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
_GARBLED_SHARE = 0.001
_PROGRAM = re.compile(r"(?:^|[\W_\d])bots?(?:$|[\W_\d])|bot\d*$", re.IGNORECASE)


class Watch:
    """Messages pass through `over` unchanged; `began` says which file they are of.

    drop_users: names that somebody asked to leave out. once: whether repeated messages will be
    left out anyway, so that they are no matter. hints: where sentences are put about what may
    not be meant, when all have passed. dropped: `drop_users` and those of the recipe.
    """

    def __init__(
        self, drop_users: Iterable[str], dropped: Iterable[str], once: bool, hints: list[str]
    ) -> None:
        self._asked, self._dropped = tuple(drop_users), frozenset(dropped)
        self._once, self._hints = once, hints
        self._files: list[Path] = []
        self._starts = array("q")
        self._marks = array("q")
        self._long = array("b")
        self._rows: Counter[str] = Counter()
        self._garbled, self._example = 0, ""

    def began(self, file: Path) -> None:
        """What passes now is of this file."""
        self._files.append(file)
        self._starts.append(len(self._marks))

    def over(self, messages: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """The messages; FedsimError at their end where a file holds what another holds already,
        where a name that was to be left out is nobody's, or where ids were rounded."""
        for user, text in messages:
            self._rows[user] += 1
            if not text.isascii() and (found := _GARBLED.search(text)):
                self._garbled += 1
                self._example = self._example or _word_at(text, found.start())
            if user not in self._dropped and not self._once:
                self._marks.append(hash((user, text)))
                self._long.append(len(text) >= _LONG)
            yield user, text
        for name in self._asked:
            if name not in self._rows:
                hint = nearest(name, self._rows)
                # A list of all users helps nobody to find one.
                hint = hint if hint.startswith("did you mean") else "check how it is written."
                raise FedsimError(f"data.drop_users names '{name}', who wrote nothing: {hint}")
        people = {name: rows for name, rows in self._rows.items() if name not in self._dropped}
        self._hints += [
            *self._repeats(),
            *self._wrongly_decoded(),
            *_no_persons(people),
            *_sentences(people),
            *_alike(people),
            *_numbers(people),
        ]
        _need_whole_ids(people)

    def _wrongly_decoded(self) -> Iterator[str]:
        """What is said about text that was read in another encoding before it came here."""
        rows = self._rows.total()
        if self._garbled > _GARBLED_SHARE * rows:
            yield (
                f"{self._garbled:,} of {rows:,} messages hold what is left of another encoding, "
                f"such as '{self._example}': somebody read UTF-8 as Windows-1252, or lost "
                "characters; export the text again as UTF-8."
            )

    def _repeats(self) -> Iterator[str]:
        """What is said about text that is there several times."""
        if not len(self._marks):
            return
        _, first, which = np.unique(
            np.frombuffer(self._marks, np.int64), return_index=True, return_inverse=True
        )
        starts = np.frombuffer(self._starts, np.int64)
        source = np.searchsorted(starts, first, "right")[which] - 1  # the file that had it first
        for number, start in enumerate(starts):
            end = starts[number + 1] if number + 1 < len(starts) else len(which)
            earlier = source[start:end] < number
            if earlier.any():
                yield from self._of_file(number, source[start:end][earlier], int(end - start))
        long = np.frombuffer(self._long, np.int8) > 0
        again = long & (first[which] < np.arange(len(which)))
        if again.sum() > _NOTED * long.sum():
            yield (
                f"{again.sum():,} of {long.sum():,} messages of at least {_LONG} characters "
                f"({again.sum() / long.sum():.0%}) repeat an earlier one of the same user word for "
                "word, and what is repeated is memorized more: data.deduplicate keeps one of each."
            )

    def _of_file(self, number: int, sources: np.ndarray, rows: int) -> Iterator[str]:
        share = len(sources) / rows
        other = self._files[int(np.bincount(sources).argmax())]
        said = (
            f"{self._files[number]}: {share:.0%} of its {rows:,} messages are in {other} already, "
            "of the same users and word for word"
        )
        if share >= _SAME and rows >= _FEWEST:
            raise FedsimError(
                f"{said}: give one of the two, or write data.deduplicate=true, which keeps one of "
                "each."
            )
        if share > _NOTED:
            yield f"{said}: data.deduplicate keeps one of each."


def _word_at(text: str, at: int) -> str:
    """The word around a place, shortened, with what cannot be printed as its number."""
    start = max([text.rfind(space, 0, at) + 1 for space in " \n\t"] + [at - _SHOWN])
    word = "".join(text[start : at + _SHOWN].split(None, 1)[:1])
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in word)


def _no_persons(rows: dict[str, int]) -> Iterator[str]:
    """Users whose names are those of placeholders or programs."""
    found = [
        name
        for name in rows
        if name.casefold().strip("[]()<>{}* ") in _PLACEHOLDERS or _PROGRAM.search(name)
    ]
    found.sort(key=lambda name: -rows[name])
    if found:
        named = ", ".join(f"'{name}' ({rows[name]:,} rows)" for name in found[:_NAMED])
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        yield (
            f"{named}{more} may be placeholders or programs and no persons: data.drop_users leaves "
            "users out by name."
        )


def _sentences(rows: dict[str, int]) -> Iterator[str]:
    """Users of one message whose names are as long as a sentence: a line of a program, perhaps."""
    found = [name for name, times in rows.items() if times == 1 and len(name.split()) >= _WORDS]
    if found:
        yield (
            f"{len(found):,} users have names of {_WORDS} words or more and wrote one message, "
            f"such as '{found[0][:80]}': these may be lines of a program and no persons; "
            "data.drop_users leaves users out by name."
        )


def _alike(rows: dict[str, int]) -> Iterator[str]:
    """Users whose names differ only by capitals, spaces or forms of the same letters."""
    groups: dict[str, list[str]] = {}
    for name in rows:
        groups.setdefault(_folded(name), []).append(name)
    several = [names for names in groups.values() if len(names) > 1]
    if several:
        one, other = several[0][:2]
        yield (
            f"{len(several):,} names are written in several ways that differ by capitals, spaces, "
            f"a ~ before them or forms of a letter only, such as '{one}' and '{other}', and are "
            "several users: if they are one person, write them alike."
        )


def _numbers(rows: dict[str, int]) -> Iterator[str]:
    """Telephone numbers of which one has the country's code and another has not."""
    groups: dict[str, list[str]] = {}
    for name in rows:
        digits = re.sub(r"[\s()./+-]", "", name)
        if digits.isdecimal() and _TELEPHONE <= len(digits) <= _LONGEST:
            groups.setdefault(digits[-_TELEPHONE:], []).append(name)
    several = [
        names
        for names in groups.values()
        if len(names) > 1 and any(name.startswith("+") for name in names)
    ]
    if several:
        one, other = several[0][:2]
        yield (
            f"{len(several):,} telephone numbers are written in several ways, such as '{one}' and "
            f"'{other}', and are several users: if they are one person, write them alike."
        )


def _need_whole_ids(rows: dict[str, int]) -> None:
    """FedsimError where ids have no more than a spreadsheet's 15 digits, zeros behind them.

    Raised where that many zeros are there by chance in one of a billion lists of ids.
    """
    ids = [name for name in rows if name.isdecimal() and len(name) > _DIGITS]
    zeros = sum(len(name) - _DIGITS for name in ids)
    if zeros >= _NO_CHANCE and all(set(name[_DIGITS:]) == {"0"} for name in ids):
        raise FedsimError(
            f"All {len(ids):,} user ids of more than {_DIGITS} digits, such as '{ids[0]}', end in "
            "zeros: a spreadsheet has rounded them, so that several people may share one. Write "
            "the column again as text, from where all digits are."
        )


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    seen = (char for char in text if not char.isspace() and unicodedata.category(char) != "Cf")
    return "".join(seen).removeprefix("~")  # WhatsApp's sign of who is no contact
