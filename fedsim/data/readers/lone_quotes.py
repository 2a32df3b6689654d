"""Lone double quotes in tables without quoting: rows that look like one message of one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim.errors import FedsimError

SPARK = (
    "escapes a double quote with a backslash, as Spark writes CSV: write data.quoting=backslash."
)
AS_TEXT = "takes quotes as part of the text"
Lines = Sequence[tuple[int, str]]  # with their numbers


@dataclass(frozen=True)
class _Inside:
    """Lines of one field that look like rows.

    users: who would have written them, those of lines without a space behind a delimiter (`tight`)
    and with one (`spaced`). whole: whether no line of the field is other than a row.
    """

    users: list[str]
    tight: list[str]
    spaced: list[str]
    whole: bool
    refusal: str


class LoneQuotes:
    """Fields over several lines of which some look like rows of their own.

    A quote that opens such a field and a quote that closes it can be lone ones of two rows: what
    stands between would then be one person's text. CSV is no different where both are meant, so
    the lines inside tell: as rows they have the header's number of fields, with something in the
    user's and in another. With tabs that is certain enough. Other delimiters are common in text,
    so there

    - one such line is enough if its user is somebody's name in the file, before or after it;
    - without, the names have to be made of the same kinds of characters as users' names are, no
      space follows the delimiter unless rows have one, too, and either there are two such lines
      or the field has no others.

    fields, user: how many columns there are, and which is the user's; None where a folder
    names the user.
    """

    def __init__(self, fields: int, delimiter: str, user: int | None, file: Path) -> None:
        self._fields, self._delimiter, self._user, self._file = fields, delimiter, user, file
        self._users: set[str] = set()
        self._waiting: dict[str, str] = {}  # name to refusal, should it be a user's
        self._strange: list[_Inside] = []
        self._spaced = 0  # rows with a space behind a delimiter, less those without

    def check(self, row: list[str], lines: Lines) -> None:
        """FedsimError naming the first and the last line of a doubtful field."""
        if len(row) != self._fields:
            return
        if self._user is not None:
            name = row[self._user].strip()
            if name in self._waiting:
                raise FedsimError(self._waiting[name])
            self._users.add(name)
        if len(lines) == 1:
            self._spaced += 1 if any(cell.startswith(" ") for cell in row[1:]) else -1
            return
        inside = self._inside(row, lines)
        if not inside.users:
            return
        if self._delimiter == "\t" or not self._users.isdisjoint(inside.users):
            raise FedsimError(inside.refusal)
        for name in inside.users:
            self._waiting.setdefault(name, inside.refusal)
        self._strange.append(inside)

    def end(self) -> None:
        """FedsimError for the first field whose lines are rows of users who have no other."""
        for inside in self._strange:
            names = inside.tight + (inside.spaced if self._spaced > 0 else [])
            names = [name for name in names if self._user is None or self._is_like_a_user(name)]
            if len(names) > (0 if inside.whole and len(names) == len(inside.users) else 1):
                raise FedsimError(inside.refusal)

    def _is_like_a_user(self, name: str) -> bool:
        """Whether it has the kinds of characters that all users have, and none that nobody has."""
        kinds = _kinds(name)
        every = [_kinds(user) for user in self._users]
        return kinds <= frozenset().union(*every) and kinds >= frozenset.intersection(*every)

    def _inside(self, row: list[str], lines: Lines) -> _Inside:
        """The lines that look like rows, but for the one where the row's own user stands."""
        broken = next((n for n, cell in enumerate(row) if "\n" in cell or "\r" in cell), 0)
        own = 0 if self._user is None or self._user < broken else len(lines) - 1
        if self._user == broken:
            own = -1
        names: dict[bool, list[str]] = {True: [], False: []}
        whole = True
        for index, (_, line) in enumerate(lines):
            fields = line.rstrip("\r\n").split(self._delimiter)
            if fields == [""]:
                continue
            fits = len(fields) == self._fields
            whole = whole and fits
            if index != own and fits and (name := self._writer(fields)):
                names[any(one.startswith(" ") for one in fields[1:])].append(name)
        return _Inside(
            names[True] + names[False], names[False], names[True], whole,
            self._refusal(lines, whole),
        )  # fmt: skip

    def _writer(self, fields: list[str]) -> str:
        """Who wrote a line if it is a row; nothing where a name or all else is missing."""
        cells = [one.strip('" ') for one in fields]
        user = self._user or 0
        return cells[user] if any(cells[:user] + cells[user + 1 :]) else ""

    def _refusal(self, lines: Lines, whole: bool) -> str:
        place = f"{self._file}, lines {lines[0][0]} to {lines[-1][0]}"
        if '\\"' in lines[0][1]:
            return f"{place}: {SPARK}"
        cure = (
            f"write data.quoting=none (data show --no-quoting), which {AS_TEXT}"
            if whole
            else "remove the two quotes, or put each text that holds a quote or the delimiter in "
            "double quotes, its own quotes twice"
        )
        return (
            f"{place}: a double quote opens in the first and closes in the last, but lines in it "
            f"look like rows of their own, whose text would all be one person's: {cure}; or "
            "data.quoting=csv where one message really has these lines."
        )


def _kinds(name: str) -> frozenset[str]:
    """The kinds of characters in a name: letters, digits, and each sign by itself."""
    return frozenset("a" if c.isalpha() else "0" if c.isdigit() else c for c in name)
