r"""Tables whose text is escaped with backslashes, as MySQL and PostgreSQL (COPY) write them.

A tab, a line end or a backslash in a text is `\t`, `\n`, `\\` there, or the character itself behind
a backslash, and `\N` is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fedsim.data.drops import Hint
from fedsim.data.readers.lines import LONGEST_BYTES
from fedsim.errors import FedsimError

NULL = r"\N"
_MEANS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OPEN = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")  # an odd number of backslashes
_SEEN = re.compile(r"\\[ntr'\\]")
_SHARE, _FEWEST = 0.01, 3  # of texts with escapes, from where it is said


def escaped_rows(
    lines: Iterator[tuple[int, str]], delimiter: str, file: Path
) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row, without the escapes; nothing is an empty field."""
    field = re.compile(rf"(?:[^\\{re.escape(delimiter)}]|\\.|\\\Z)*", re.DOTALL)
    for number, line in lines:
        bare = line.rstrip("\r\n")
        while _OPEN.search(bare) and (more := next(lines, None)):
            bare = bare + "\n" + more[1].rstrip("\r\n")
            if len(bare) > LONGEST_BYTES:
                raise FedsimError(
                    f"{file}, line {number}: goes on for more than {LONGEST_BYTES >> 20} MiB, "
                    "since each line ends in a backslash: leave data.quoting=escapes out."
                )
        if not bare:
            continue
        fields, at = list[str](), 0
        while at <= len(bare):
            found = field.match(bare, at)
            assert found is not None  # it may be empty
            fields.append(_plain(found[0]))
            at = found.end() + 1
        yield number, fields


def _plain(written: str) -> str:
    if written == NULL:
        return ""
    return _ESCAPE.sub(lambda one: _MEANS.get(one[1], one[1]), written)


class Escapes:
    """Watches texts that are read as they stand for what looks escaped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows, self._escaped, self._null, self._first = 0, 0, False, ""

    def check(self, number: int, row: list[str], text: int) -> None:
        """Note what is in a row; text: the index of the column."""
        self._rows += 1
        self._null = self._null or NULL in row
        if "\\" in row[text] and (found := _SEEN.search(row[text])):
            self._escaped += 1
            self._first = self._first or f"line {number} ({found[0]})"

    def end(self, said: bool) -> Hint | None:
        """What there is to say about the file; FedsimError where it has `\\N`, too, so that the
        escapes are certain, unless the user has said how quotes are meant (`said`)."""
        escapes = f"{self._file}, {self._first}: {self._escaped:,} of {self._rows:,} texts have "
        escapes += "escapes such as \\n, \\t or \\', as MySQL and PostgreSQL write them"
        if self._null and self._escaped and not said:
            raise FedsimError(
                f"{escapes}, and \\N stands for nothing: write data.quoting=escapes, which reads "
                "them; or data.quoting=csv where the backslashes are text."
            )
        if self._escaped >= max(_FEWEST, _SHARE * self._rows):
            return Hint(f"{escapes}, and are read as they stand: data.quoting=escapes reads them.")
        return None
