"""The user's own data: JSON, CSV or Parquet with a user and a text column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Row, TextReader
from fedsim.data.readers.columns import Columns, Rows, folder_values
from fedsim.data.readers.delimited import Header, Quoting, header_of, rows_of
from fedsim.data.readers.escaped import NULL, Escapes
from fedsim.data.readers.json_stream import JsonStream
from fedsim.data.readers.json_text import json_fault, parsed
from fedsim.data.readers.lines import numbered_lines
from fedsim.data.readers.packed import bare_suffix, opened
from fedsim.errors import FedsimError
from fedsim.registry import nearest

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {
    ".jsonl": "_jsonl",
    ".ndjson": "_jsonl",
    ".json": "_json",
    ".csv": "_csv",
    ".tsv": "_csv",
    ".parquet": "_parquet",
}
_WORDS = 3  # a header's name has fewer


@READERS.register("table")
class Table(Columns, TextReader):
    """One row is one message; rows without text are skipped, rows without a user are errors.

    The name's ending says the format: .jsonl or .ndjson (one object a line), .json (the same, or
    an array of objects), .csv, .tsv (with a header line), .parquet; but for the last, the files
    may be packed (.gz, .bz2, .xz, .zst). Text is UTF-8, or in `encoding`. How quotes are meant in
    CSV: see `delimited.rows_of`.
    """

    quoting: Quoting | None = None
    form: Literal["json", "csv"] | None = None  # of files whose ending does not say it

    def takes(self, file: Path) -> bool:
        """Whether the ending is known."""
        return super().takes(file) and (self.form is not None or bare_suffix(file) in FORMATS)

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) row by row."""
        for file in files:
            yield Began(file)
            if not self.takes(file):
                raise FedsimError(
                    f"{file}: the ending '{file.suffix}' names no known format: "
                    f"give a file that ends in {', '.join(FORMATS)}."
                )
            kind = FORMATS.get(bare_suffix(file), f"_{self.form}")
            self._need_effect(file, kind)
            yield from self.checked(getattr(self, kind)(file))

    def _need_effect(self, file: Path, kind: str) -> None:
        """FedsimError for an option that the file's format does not know."""
        for key, value, known in (
            ("quoting", self.quoting, kind == "_csv"),
            ("encoding", self.encoding, kind != "_parquet"),
        ):
            if value is not None and not known:
                raise FedsimError(
                    f"{file}: data.{key}={value} has no effect with a file that ends in "
                    f"'{bare_suffix(file)}': leave it out."
                )

    def _jsonl(self, file: Path) -> Rows:
        for number, line in numbered_lines(file, self.encoding):
            if not line.strip():
                continue
            place = f"{file}, line {number}"
            try:
                row = parsed(line)
            except (ValueError, RecursionError) as error:
                raise FedsimError(
                    f"{place}: is not valid JSON ({json_fault(error)}): mend or remove the line."
                ) from error
            yield place, *self._of_object(row, file, place)

    def _json(self, file: Path) -> Rows:
        """An array of objects, or objects one after the other, as a file .json may have them."""
        with opened(file) as stream:
            document = JsonStream(stream, file, self.encoding)
            if document.begins() == "[":
                for number, _ in enumerate(document.elements(), 1):
                    place = f"{file}, row {number}"
                    yield place, *self._of_object(document.value(), file, place)
                document.end()
                return
            number = 0
            while document.begins():
                number += 1
                place = f"{file}, row {number}"
                yield place, *self._of_object(document.value(), file, place)

    def _of_object(self, row: Any, file: Path, place: str) -> tuple[object, object]:
        if not isinstance(row, dict):
            raise FedsimError(
                f'{place}: is not a JSON object: write {{"{self.user}": ..., '
                f'"{self.text}": ...}} on each line.'
            )
        _need_rows(row, place, (self.user, self.text))
        return self.row_of(row, file, place)

    def _csv(self, file: Path) -> Rows:
        lines = numbered_lines(file, self.encoding)
        header = header_of(lines, file, (self.user, self.text))
        folders = folder_values(file)
        in_folder = self.user not in header.names and self.user in folders
        names = [*header.names, self.user] if in_folder else header.names
        if self.user not in names and self.text not in names:
            _need_header(header, f"{file}, line {header.line}", (self.user, self.text))
        self.need_columns(f"{file}, line {header.line}", names)
        user, text = (names.index(column) for column in (self.user, self.text))
        whose = None if in_folder else user
        escapes = Escapes(file)
        for number, row in rows_of(lines, header, file, whose, self.quoting):
            if self.quoting not in ("escapes", "backslash"):
                escapes.check(number, row, text)
            if row[text].strip() == self.text and _names_again(row, header):
                yield Dropped("that repeat the header line")
            else:
                name = folders[self.user] if whose is None else row[whose]
                yield f"{file}, line {number}", name, None if row[text] == NULL else row[text]
        if hint := escapes.end(self.quoting is not None):
            yield hint

    def _parquet(self, file: Path) -> Rows:
        return self.arrow_rows(file, self._batches(file), "Parquet")

    def _batches(self, file: Path) -> Iterator[pa.RecordBatch]:
        from pyarrow import parquet

        table = parquet.ParquetFile(file)
        columns = self.top_columns(file, table.schema_arrow)
        yield from table.iter_batches(columns=columns, batch_size=65_536)


def _names_again(row: list[str], header: Header) -> bool:
    """Whether the row is the header line of a file that was put behind another."""
    return [cell.strip("\ufeff ") for cell in row] == header.names


def _need_header(header: Header, place: str, wanted: tuple[str, str]) -> None:
    """FedsimError where the first line is, or may be, a row."""
    line = header.delimiter.join(wanted)
    # Something in it is a text, or no name at all.
    if any(len(name.split()) >= _WORDS or not name for name in header.names):
        raise FedsimError(
            f"{place}: looks like a row, not like a header line with the names of the columns: "
            f"write a line such as '{line}' above it."
        )
    if len(header.names) == len(wanted):
        raise FedsimError(
            f"{place}: has no column '{wanted[0]}' ({nearest(wanted[0], header.names)}): name the "
            "right ones with data.user_column and data.text_column; or, if that line is a row, "
            f"write '{line}' above it."
        )


def _need_rows(row: dict[str, Any], place: str, wanted: tuple[str, str]) -> None:
    """FedsimError where an object holds rows, or users with their texts, instead of being a row."""
    tops = {column.split(".")[0] for column in wanted}
    lists = {key: value for key, value in row.items() if isinstance(value, list) and value}
    if tops & row.keys() or not lists:
        return
    for key, value in lists.items():
        if all(isinstance(one, dict) for one in value):
            raise FedsimError(
                f"{place}: the rows lie in the list '{key}' inside of an object: write that list "
                f"alone (jq '.{key}' FILE does)."
            )
    if len(lists) == len(row) and all(isinstance(one, str) for one in next(iter(lists.values()))):
        raise FedsimError(
            f"{place}: each name has a list of its texts: write one object for each text, "
            f'{{"{wanted[0]}": "{next(iter(lists))}", "{wanted[1]}": ...}}.'
        )
