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
_PLACEHOLDERS = frozenset(
    (
        *("deleted", "removed", "none", "null", "nan", "n/a", "na", "nil", "undefined", "unknown"),
        *("anonymous", "anon", "guest", "system", "deleted user", "deleted account", "deactivated"),
        *("automoderator", "administrator", "admin", "mailer-daemon", "noreply", "no-reply"),
        *("0", "-", "?", "user", "client"),
    )
)
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

    def began(self, file: Path) -> None:
        """What passes now is of this file."""
        self._files.append(file)
        self._starts.append(len(self._marks))

    def over(self, messages: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """The messages; FedsimError at their end where a file holds what another holds already,
        or where a name that was to be left out is nobody's."""
        for user, text in messages:
            self._rows[user] += 1
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
        self._hints += [*self._repeats(), *_no_persons(people), *_alike(people)]

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


def _alike(rows: dict[str, int]) -> Iterator[str]:
    """Users whose names differ only by capitals, spaces or forms of the same letters."""
    groups: dict[str, list[str]] = {}
    for name in rows:
        groups.setdefault(_folded(name), []).append(name)
    several = [names for names in groups.values() if len(names) > 1]
    if several:
        one, other = several[0][:2]
        yield (
            f"{len(several):,} names are written in several ways that differ by capitals, spaces "
            f"or forms of a letter only, such as '{one}' and '{other}', and are several users: if "
            "they are one person, write them alike."
        )


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    seen = (char for char in text if not char.isspace() and unicodedata.category(char) != "Cf")
    return "".join(seen)
