"""The user's own data: JSONL, CSV or Parquet with a user and a text column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedsim.data.readers.base import READERS, Reader, check_text, check_user
from fedsim.data.readers.lines import numbered_lines
from fedsim.errors import FedsimError
from fedsim.registry import nearest

Rows = Iterator[tuple[str, object, object]]  # place, user, text


_FORMATS = {
    ".jsonl": "_jsonl",
    ".ndjson": "_jsonl",
    ".csv": "_csv",
    ".tsv": "_csv",
    ".parquet": "_parquet",
}


@READERS.register("table")
class Table(Reader):
    """One row is one message; rows without text are skipped, rows without a user are errors.

    The name's ending says the format: .jsonl or .ndjson (one object a line), .csv, .tsv (with a
    header line), .parquet. Text is UTF-8.
    """

    user: str = "user"
    text: str = "text"

    def takes(self, file: Path) -> bool:
        """Whether the ending is known."""
        return super().takes(file) and file.suffix.lower() in _FORMATS

    def read(self, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
        """Yield (user, text) row by row."""
        for file in files:
            if not self.takes(file):
                raise FedsimError(
                    f"{file}: the ending '{file.suffix}' names no known format: "
                    f"give a file that ends in {', '.join(_FORMATS)}."
                )
            rows: Rows = getattr(self, _FORMATS[file.suffix.lower()])(file)
            for place, user, text in rows:
                name = check_user(user, place, self.user)
                if text is None or text == "":
                    continue
                if not isinstance(text, str):
                    raise FedsimError(
                        f"{place}: '{self.text}' is not a text but {type(text).__name__}: "
                        "write it in quotes, or name another column with data.text_column."
                    )
                yield name, check_text(text, place)

    def _jsonl(self, file: Path) -> Rows:
        for number, line in numbered_lines(file):
            if not line.strip():
                continue
            place = f"{file}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FedsimError(
                    f"{place}: is not valid JSON ({error}): mend or remove the line."
                ) from error
            if not isinstance(row, dict):
                raise FedsimError(
                    f'{place}: is not a JSON object: write {{"{self.user}": ..., '
                    f'"{self.text}": ...}} on each line.'
                )
            self._need_columns(place, list(row))
            yield place, row[self.user], row[self.text]

    def _csv(self, file: Path) -> Rows:
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        lines = (line for _, line in numbered_lines(file))
        table = csv.reader(lines, delimiter=delimiter, strict=True)
        start = 1
        try:
            header = next(table, None)
            if header is None:
                raise FedsimError(f"{file}: is empty: it needs a header line and rows.")
            self._need_columns(f"{file}, line 1", header)
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
                        "put a field that holds a comma or a line end in double quotes."
                    )
                yield place, row[user], row[text]
        except csv.Error as error:
            raise FedsimError(
                f"{file}, line {start}: is not valid CSV ({error}): check the double quotes of "
                "the row that starts there."
            ) from error

    def _parquet(self, file: Path) -> Rows:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(file)
            self._need_columns(str(file), table.schema_arrow.names)
            row = 0
            for batch in table.iter_batches(columns=[self.user, self.text], batch_size=65_536):
                users = batch.column(self.user).to_pylist()
                texts = batch.column(self.text).to_pylist()
                for user, text in zip(users, texts, strict=True):
                    row += 1
                    yield f"{file}, row {row}", user, text
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise FedsimError(
                f"{file}: cannot be read as Parquet ({reason}): write the file again."
            ) from error
        except UnicodeDecodeError as error:
            raise FedsimError(
                f"{file}, after row {row}: holds text that is not UTF-8: write the column as "
                "UTF-8 strings."
            ) from error

    def _need_columns(self, place: str, columns: list[str]) -> None:
        for key, column in (("user", self.user), ("text", self.text)):
            if columns.count(column) == 1:
                continue
            if column in columns:
                raise FedsimError(f"{place}: the column '{column}' occurs twice: rename one.")
            raise FedsimError(
                f"{place}: has no column '{column}' ({nearest(column, columns)}): name the right "
                f"one with data.{key}_column."
            )
