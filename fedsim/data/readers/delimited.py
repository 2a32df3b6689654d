"""Rows of CSV and TSV: the delimiter, the quotes, and what is said where they do not fit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fedsim.data.readers.escaped import escaped_rows
from fedsim.data.readers.lines import LONGEST_BYTES
from fedsim.data.readers.lone_quotes import AS_TEXT, SPARK, LoneQuotes
from fedsim.errors import FedsimError

Quoting = Literal["csv", "backslash", "none", "escapes"]
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ESCAPED = re.compile(r'(\\+)"')
_MOST_LINES = 10_000  # of one row; more are not one message but a quote that was never closed


@dataclass
class Header:
    """The first line of a file: its names, the delimiter between them, the line it stands on."""

    names: list[str]
    delimiter: str
    line: int
    spaced: bool = False  # whether a space follows each delimiter, and is no part of a field


@dataclass
class _Taken:
    """The lines that the row being parsed was made of."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    def of(self, lines: Iterable[tuple[int, str]]) -> Iterator[str]:
        """The lines, noting each."""
        for number, line in lines:
            self.lines.append((number, line))
            if len(self.lines) > _MOST_LINES:
                raise csv.Error("field limit")
            yield line


def header_of(lines: Iterator[tuple[int, str]], file: Path, wanted: tuple[str, str]) -> Header:
    """The header, with the delimiter that gives it the wanted columns, else the most columns.

    A line `sep=;` before it, which Excel writes and obeys, is taken at its word. Empty lines and
    comments (`# ...`) before it are no header.
    """
    lines = (one for one in lines if one[1].strip() and not one[1].startswith("# "))
    number, line = next(lines, (0, ""))
    said = _EXCEL.fullmatch(line)
    if said:
        number, line = next(lines, (0, ""))
    if not line:
        raise FedsimError(f"{file}: is empty: it needs a header line and rows.")
    usual = "\t" if ".tsv" in file.suffixes[-2:] else ","
    readings: dict[str, list[str]] = {}
    for delimiter in [said[1]] if said else dict.fromkeys((usual, *DELIMITERS)):
        with suppress(csv.Error):
            readings[delimiter] = _names(next(csv.reader([line], delimiter=delimiter)))
    if not readings:
        raise FedsimError(f"{file}, line {number}: is no header line: write the columns' names.")
    fit = [one for one, names in readings.items() if all(column in names for column in wanted)]
    best = fit[0] if fit else max(readings, key=lambda one: len(readings[one]))
    _, *others = line.split(best)
    spaced = bool(others) and all(cell.startswith(" ") for cell in others)
    return Header(readings[best], best, number, spaced)


def _names(cells: list[str]) -> list[str]:
    """The names; spaces around them, as in `user, text`, are no part of them."""
    return [cell.strip() for cell in cells]


def rows_of(
    lines: Iterator[tuple[int, str]],
    header: Header,
    file: Path,
    user: int | None,
    quoting: Quoting | None,
) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row after the header; FedsimError naming the line of a bad one.

    quoting: "csv", quotes inside of quotes are doubled; "backslash", as Spark writes them; "none",
    a quote is a character like any other and each line is a row; "escapes", quotes are text, and
    escapes are read as databases write them. None is "csv", too, but a field
    over several lines that look like rows is refused: there a lone quote would make several
    people's text one person's. user: the index of the user's column, if there is one.
    """
    if quoting == "none":
        found = _plain(lines, header)
    elif quoting == "escapes":
        found = escaped_rows(lines, header.delimiter, file)
    else:
        found = _quoted(lines, header, file, user, quoting)
    before: list[str] = []  # the row before, whose quote may be to blame
    for number, row in found:
        if len(row) != len(header.names):
            if not header.spaced and any(cell.startswith(' "') for cell in (*before, *row)):
                raise FedsimError(
                    f"{file}, line {number}: has {len(row)} fields where the header has "
                    f"{len(header.names)}, because of the space between the delimiter and a double "
                    "quote, which is part of the text there: remove that space, or write the "
                    "header's names with a space between them, too."
                )
            called = DELIMITERS.get(header.delimiter, f"'{header.delimiter}'")
            cures = {
                "none": f"take {called} out of the text",
                "escapes": f"write a backslash before {called} in a text",
            }
            quoted = f"put a field that holds {called} or a line end in double quotes"
            cure = cures.get(quoting or "csv", quoted)
            raise FedsimError(
                f"{file}, line {number}: has {len(row)} fields where the header has "
                f"{len(header.names)}: {cure}."
            )
        yield number, row
        before = row


def _plain(lines: Iterator[tuple[int, str]], header: Header) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if bare := line.rstrip("\r\n"):
            yield number, bare.split(header.delimiter)


def _quoted(
    lines: Iterator[tuple[int, str]],
    header: Header,
    file: Path,
    user: int | None,
    quoting: Quoting | None,
) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_BYTES)  # as long as a line may be, for the whole process
    if quoting == "backslash":
        lines = ((number, _ESCAPED.sub(_doubled, line)) for number, line in lines)
    taken = _Taken()
    doubts = LoneQuotes(len(header.names), header.delimiter, user, file)
    table = csv.reader(
        taken.of(lines),
        delimiter=header.delimiter,
        strict=True,
        skipinitialspace=header.spaced,
    )
    while True:
        taken.lines.clear()
        try:
            row = next(table, None)
        except csv.Error as error:
            raise _fault(error, taken.lines, header, file, quoting) from error
        if row is None:
            doubts.end()
            return
        if not row:
            continue
        if quoting is None:
            doubts.check(row, taken.lines)
        yield taken.lines[0][0], row


def _doubled(escaped: re.Match[str]) -> str:
    """A quote after backslashes as CSV writes it: an odd one escapes it, pairs are backslashes."""
    pairs, odd = divmod(len(escaped[1]), 2)
    return "\\" * pairs + ('""' if odd else '"')


def _fault(
    error: csv.Error,
    lines: list[tuple[int, str]],
    header: Header,
    file: Path,
    quoting: Quoting | None,
) -> FedsimError:
    """What is wrong, and a cure that works; the library's own advice is for programmers."""
    (first, start), (last, end) = lines[0], lines[-1]
    place = f"{file}, line {first}" if first == last else f"{file}, lines {first} to {last}"
    said = str(error)
    naive = len(start.rstrip("\r\n").split(header.delimiter))
    as_text = f", or write data.quoting=none, which {AS_TEXT}" if naive == len(header.names) else ""
    if "field limit" in said or "unexpected end of data" in said:
        return FedsimError(
            f"{file}, line {first}: is not valid CSV (the double quote that opens there is not "
            f"closed): close or remove it{as_text}."
        )
    if "new-line character" in said:
        return FedsimError(
            f"{place}: is not valid CSV (a carriage return outside of double quotes): save the "
            "file with line ends as Windows or Linux write them."
        )
    if quoting is None and '\\"' in start + end:
        return FedsimError(f"{place}: {SPARK}")
    return FedsimError(
        f"{place}: is not valid CSV (text after the double quote that closes a field): write a "
        f"quote inside of a quoted field twice{as_text}."
    )
