"""Rows with a user and a text column: the columns are there, once, and hold what they should."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import Reader, Row, check_text, check_user, reason
from fedsim.errors import FedsimError
from fedsim.registry import nearest

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Iterator[tuple[str, object, object]]  # place, user, text


class Columns(Reader):
    """The base of readers of tables; rows without text are skipped, rows without user errors."""

    user: str = "user"
    text: str = "text"

    def checked(self, rows: Rows) -> Iterator[Row]:
        """(user, text) of the rows, or FedsimError naming the place of the first bad one."""
        for place, user, text in rows:
            name = check_user(user, place, self.user)
            if text is None or text == "":
                yield Dropped("without text", name)
                continue
            if not isinstance(text, str):
                raise FedsimError(
                    f"{place}: '{self.text}' is not a text but {type(text).__name__}: "
                    "write it in quotes, or name another column with data.text_column."
                )
            yield name, check_text(text, place)

    def need_columns(self, place: str, columns: list[str]) -> None:
        """FedsimError where a column is missing or occurs twice."""
        for key, column in (("user", self.user), ("text", self.text)):
            if columns.count(column) == 1:
                continue
            if column in columns:
                raise FedsimError(f"{place}: the column '{column}' occurs twice: rename one.")
            raise FedsimError(
                f"{place}: has no column '{column}' ({nearest(column, columns)}): name the right "
                f"one with data.{key}_column."
            )

    def arrow_rows(self, file: Path, batches: Iterable[pa.RecordBatch], kind: str) -> Rows:
        """The rows of Arrow batches; FedsimError that calls the file `kind` where it is damaged."""
        import pyarrow as pa

        row = 0
        try:
            for batch in batches:
                columns = [batch.column(name) for name in (self.user, self.text)]
                for column in columns:
                    column.validate(full=True)  # offsets in a damaged file may lead anywhere
                users, texts = (column.to_pylist() for column in columns)
                for user, text in zip(users, texts, strict=True):
                    row += 1
                    yield f"{file}, row {row}", user, text
        except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
            if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
                raise FedsimError(
                    f"{file}, after row {row}: holds text that is not UTF-8: write the column as "
                    "UTF-8 strings."
                ) from error
            raise FedsimError(
                f"{file}: cannot be read as {kind} ({reason(error)}): write the file again."
            ) from error
