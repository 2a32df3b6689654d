"""What a reader is: declared options, and a stream of (user, text) out of files."""

from __future__ import annotations

import stat
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from fedsim.data.drops import Changed, Dropped, Drops, Hint
from fedsim.data.readers.encodings import need_encoding
from fedsim.data.readers.names import is_rounded, tidied
from fedsim.errors import FedsimError
from fedsim.options import Options
from fedsim.registry import Registry


@dataclass(frozen=True)
class Began:
    """Yielded by a reader before what it reads of a file."""

    file: Path


# (user, text), or what there is to say instead
Row = tuple[str, str] | Dropped | Changed | Hint | Began


class Reader(Options):
    """A file format; the fields of a subclass are its options in a recipe's [reader] table.

    Options called `user` and `text` name columns; `data.user_column` and `data.text_column` set
    them.
    """

    def takes(self, file: Path) -> bool:
        """Whether a file found in a folder is meant; other files beside the text are left out."""
        return not file.name.startswith(".")

    def read(
        self,
        files: Sequence[Path],
        drops: Drops | None = None,
        began: Callable[[Path], None] | None = None,
    ) -> Iterator[tuple[str, str]]:
        """Yield (user, text) message by message, in the order of the files.

        What is left out or altered is counted in `drops`; `began` is called with each file before
        its messages. Raises FedsimError naming file and line
        or row for input that is not of this format, and where there is no message at all.
        """
        drops = Drops() if drops is None else drops
        for file in files:
            need_file(file)
        found, untidy = False, Untidy(drops)
        try:
            for row in self.messages(files):
                if isinstance(row, tuple):
                    found = True
                    yield untidy.name(row[0]), row[1]
                elif isinstance(row, Began):
                    if began is not None:
                        began(row.file)
                elif isinstance(row, Dropped) and row.user is not None:
                    drops.note(Dropped(row.reason, untidy.name(row.user)))
                else:
                    drops.note(row)
        except OSError as error:
            raise FedsimError(
                f"{error.filename or files[0]}: cannot be read ({error.strerror or error}): "
                "check the file and its permissions."
            ) from error
        if not found:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            why = ", ".join(f"{n:,} {reason}" for reason, n in drops.rows.dropped.most_common(3))
            why = f" ({drops.rows.dropped.total():,} rows left out: {why})" if why else ""
            raise FedsimError(
                f"{files[0]}{more}: holds no message{why}: give a file with text in it."
            )

    @abstractmethod
    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) of each message, a `Dropped` for each row that is left out, a `Changed`
        for what is altered, a `Hint` for what may not be meant; the files are regular ones."""


class TextReader(Reader):
    """A format of plain text, which may be in any encoding; UTF-8 where none is named."""

    encoding: Annotated[str | None, AfterValidator(lambda n: n and need_encoding(n))] = None


class Untidy:
    """Counts the names that are read in another form than they were written in."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._seen: set[str] = set()

    def name(self, written: str) -> str:
        """The name in its one form; each that differs is counted once."""
        name, changes = tidied(written)
        if changes and written not in self._seen:
            self._seen.add(written)
            for what in changes:
                self._drops.note(Changed(what))
        return name


_EXACT = 2**53
READERS: Registry[type[Reader]] = Registry("reader")


def need_file(file: Path) -> None:
    """FedsimError for what is no regular file: opening a pipe would wait for ever."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FedsimError(f"{file}: cannot be read ({reason}): check the path.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise FedsimError(f"{file}: is {kind} where a file is needed: give the path of a file.")


def reason(error: BaseException) -> str:
    """What another library says about a damaged file, in one clause."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".")[:200] if lines else type(error).__name__


def check_user(user: object, place: str, column: str = "user") -> str:
    """A user's name as text; numbers are taken as names. FedsimError where there is none."""
    if isinstance(user, float) and user.is_integer():
        # Beyond this a float skips whole numbers, as a spreadsheet does at 15 digits.
        user = repr(user) if abs(user) < _EXACT else f"{user:.2E}"
    if isinstance(user, float) and user == user:
        raise FedsimError(
            f"{place}: the {column} {user} is a number with decimals, which is nobody's id: name "
            "another column with data.user_column, or write the column again as text."
        )
    if isinstance(user, int) and not isinstance(user, bool):
        user = str(user)
    if user is None or user == "" or user != user:  # NaN: pandas' nothing
        user = None
    if isinstance(user, str) and is_rounded(user):
        raise FedsimError(
            f"{place}: the {column} '{user}' is a number that was rounded, so that several people "
            "may share it: write the column again as text, from where all digits are."
        )
    if not isinstance(user, str) or not tidied(user)[0]:
        what = "no" if user is None else "an unusable"
        raise FedsimError(
            f"{place}: {what} {column}; every row needs the name of the user who wrote it: "
            "fill it in or remove the row."
        )
    return check_text(user, place)


def check_text(text: str, place: str) -> str:
    """The text itself; FedsimError where it holds NUL or half a surrogate pair."""
    if "\0" in text:
        raise FedsimError(
            f"{place}: holds a NUL byte, so the file is damaged or not UTF-8 text: "
            "save it as UTF-8 and try again."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FedsimError(
            f"{place}: holds half of a surrogate pair, which is no character: "
            "write the text as proper UTF-8."
        ) from error
    return text
