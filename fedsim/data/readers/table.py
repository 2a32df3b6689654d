"""The user's own data: JSONL, CSV or Parquet with a user and a text column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.data.readers.base import READERS, Row
from fedsim.data.readers.columns import Columns, Rows
from fedsim.data.readers.json_text import json_fault, parsed
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = {
    ".jsonl": "_jsonl",
    ".ndjson": "_jsonl",
    ".csv": "_csv",
    ".tsv": "_csv",
    ".parquet": "_parquet",
}


@READERS.register("table")
class Table(Columns):
    """One row is one message; rows without text are skipped, rows without a user are errors.

    The name's ending says the format: .jsonl or .ndjson (one object a line), .csv, .tsv (with a
    header line), .parquet. Text is UTF-8.
    """

    def takes(self, file: Path) -> bool:
        """Whether the ending is known."""
        return super().takes(file) and file.suffix.lower() in _FORMATS

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) row by row."""
        for file in files:
            if not self.takes(file):
                raise FedsimError(
                    f"{file}: the ending '{file.suffix}' names no known format: "
                    f"give a file that ends in {', '.join(_FORMATS)}."
                )
            yield from self.checked(getattr(self, _FORMATS[file.suffix.lower()])(file))

    def _jsonl(self, file: Path) -> Rows:
        for number, line in numbered_lines(file):
            if not line.strip():
                continue
            place = f"{file}, line {number}"
            try:
                row = parsed(line)
            except (ValueError, RecursionError) as error:
                raise FedsimError(
                    f"{place}: is not valid JSON ({json_fault(error)}): mend or remove the line."
                ) from error
            if not isinstance(row, dict):
                raise FedsimError(
                    f'{place}: is not a JSON object: write {{"{self.user}": ..., '
                    f'"{self.text}": ...}} on each line.'
                )
            self.need_columns(place, list(row))
            yield place, row[self.user], row[self.text]

    def _csv(self, file: Path) -> Rows:
        lines = (line for _, line in numbered_lines(file))
        first = next(lines, None)
        if first is None:
            raise FedsimError(f"{file}: is empty: it needs a header line and rows.")
        start = 1
        try:
            delimiter = self._delimiter(file, first)
            table = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
            header = next(table)
            self.need_columns(f"{file}, line 1", header)
            user, text = header.index(self.user), header.index(self.text)
            start = table.line_num + 1
            for row in table:
                place = f"{file}, line {start}"
                start = table.line_num + 1
                if not row:
                    continue
                if len(row) != len(header):
                    raise FedsimError(
                        f"{place}: has {len(row)} fields where the header has {len(header)}: "
                        f"put a field that holds {_called(delimiter)} or a line end in double "
                        "quotes."
                    )
                yield place, row[user], row[text]
        except csv.Error as error:
            fault, cure = _csv_fault(error)
            raise FedsimError(
                f"{file}, line {start}: is not valid CSV ({fault}): {cure}."
            ) from error

    def _delimiter(self, file: Path, header: str) -> str:
        """The usual one of the ending, or the one of spreadsheets whose header has our columns."""
        usual = "\t" if file.suffix.lower() == ".tsv" else ","
        for delimiter in (usual, ",", ";", "\t"):
            with suppress(csv.Error):  # a long header is one long field with the wrong delimiter
                names = next(csv.reader([header], delimiter=delimiter))
                if self.user in names and self.text in names:
                    return delimiter
        return usual

    def _parquet(self, file: Path) -> Rows:
        return self.arrow_rows(file, self._batches(file), "Parquet")

    def _batches(self, file: Path) -> Iterator[pa.RecordBatch]:
        from pyarrow import parquet

        table = parquet.ParquetFile(file)
        self.need_columns(str(file), table.schema_arrow.names)
        yield from table.iter_batches(columns=[self.user, self.text], batch_size=65_536)


def _called(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}[delimiter]


def _csv_fault(error: csv.Error) -> tuple[str, str]:
    """What is wrong, and the cure; the library's own advice is for programmers."""
    said = str(error)
    if "field limit" in said:
        return (
            f"a field of more than {csv.field_size_limit():,} characters",
            "close the double quote that opens the field, or shorten the text",
        )
    if "new-line character" in said:
        return (
            "a carriage return outside of double quotes",
            "save the file with line ends as Windows or Linux write them",
        )
    return said, "check the double quotes of the row that starts there"
