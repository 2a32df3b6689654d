"""Rows with a user and a text column: the columns are there, once, and hold what they should."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from fedsim.data.drops import Changed, Dropped, Hint
from fedsim.data.readers.base import Reader, Row, check_text, check_user, reason
from fedsim.errors import FedsimError
from fedsim.registry import nearest

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Iterator[tuple[str, object, object] | Dropped | Hint]  # place, user, text
_NOBODY = "__HIVE_DEFAULT_PARTITION__"


class Columns(Reader):
    """The base of readers of tables; rows without text are skipped, rows without user errors.

    A column may lie inside another: `author.id`. The user may stand in the folder's name instead,
    as in `user=ann/part-0.parquet`.
    """

    user: str = "user"
    text: str = "text"
    no_text: tuple[str, ...] = ()  # what stands where the text was taken away, in any case
    no_user: Literal["refuse", "drop"] = "refuse"  # what becomes of rows whose user is null
    quoted: str | None = None  # what begins a line of somebody else's words

    def checked(self, rows: Rows) -> Iterator[Row]:
        """(user, text) of the rows, or FedsimError naming the place of the first bad one."""
        for row in rows:
            if isinstance(row, Dropped | Hint):
                yield row
                continue
            place, user, text = row
            if isinstance(user, dict):
                raise FedsimError(f"{place}: '{self.user}' {_object('name', 'user')}")
            if user == _NOBODY:
                yield Dropped(f"in a folder of nobody's ({_NOBODY})")
                continue
            if user is None and self.no_user == "drop":
                yield Dropped(f"without {self.user}")
                continue
            name = check_user(user, place, self.user)
            # NaN is what pandas writes where there is nothing.
            if text is None or text == "" or text != text:
                yield Dropped("without text", name)
                continue
            if not isinstance(text, str):
                raise FedsimError(f"{place}: '{self.text}' {_no_text(text)}")
            if len(text) <= _LONGEST_NOTE and _bare(text) in map(_bare, self.no_text):
                yield Dropped(f"whose text is {' or '.join(self.no_text)}", name)
                continue
            if self.quoted is not None:
                text, lines = _own_words(text, self.quoted)
                if lines and not text.strip():
                    yield Dropped("that only quote somebody else", name)
                    continue
                if lines:
                    yield Changed("lines that quote somebody else and were left out", lines)
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

    def row_of(self, row: dict[str, Any], file: Path, place: str) -> tuple[object, object]:
        """(user, text) of a row that may hold others inside."""
        user, text = (_inside(row, path) for path in (self.user, self.text))
        if user is _MISSING:
            user = folder_values(file).get(self.user, _MISSING)
        if _MISSING in (user, text):
            columns = [*_paths(row), *folder_values(file)]
            self.need_columns(place, columns)
            # The column is there and lies in something that is null.
            user, text = (None if value is _MISSING else value for value in (user, text))
        return user, text

    def arrow_rows(self, file: Path, batches: Iterable[pa.RecordBatch], kind: str) -> Rows:
        """The rows of Arrow batches; FedsimError that calls the file `kind` where it is damaged."""
        import pyarrow as pa

        row = 0
        folder_user = folder_values(file).get(self.user)
        try:
            for batch in batches:
                texts = _column(batch, self.text).to_pylist()
                if folder_user is not None and not _has(batch.schema, self.user):
                    users: list[Any] = [folder_user] * len(texts)
                else:
                    column = _column(batch, self.user)
                    _need_exact(column, f"{file}, after row {row}: the {self.user}")
                    users = column.to_pylist()
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

    def top_columns(self, file: Path, schema: pa.Schema) -> list[str]:
        """The columns of the schema that hold the two; FedsimError where one is missing."""
        paths = list(_arrow_paths(schema))
        self.need_columns(str(file), [*paths, *(set(folder_values(file)) - set(paths))])
        wanted = (self.user, self.text)
        return [name for name in schema.names
                if any(path == name or path.startswith(f"{name}.") for path in wanted)]  # fmt: skip


_MISSING = object()
_LONGEST_NOTE = 60  # characters of what stands where a text was taken away


def _bare(text: str) -> str:
    """The text without spaces and capitals: `[ Removed by Reddit ]` is `[removedbyreddit]`."""
    return "".join(text.split()).casefold()


def _own_words(text: str, quoted: str) -> tuple[str, int]:
    """The text without its lines that begin with the sign, also as an entity, and how many."""
    signs = (quoted, escape(quoted), escape(escape(quoted)))
    lines = text.split("\n")
    own = [line for line in lines if not line.lstrip().startswith(signs)]
    return "\n".join(own), len(lines) - len(own)


def folder_values(file: Path) -> dict[str, str]:
    """What the names of the file's folders say, as Hive and Spark write them: {"user": "ann"}."""
    parts = (part.partition("=") for part in file.parts[:-1])
    return {key: unquote(value) for key, equals, value in parts if key and equals}


def _inside(row: Mapping[str, Any], path: str) -> Any:
    """The value at a path of keys with dots between, the longest key first."""
    if path in row:
        return row[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        inner = row.get(".".join(parts[:length]))
        if isinstance(inner, dict):
            return _inside(inner, ".".join(parts[length:]))
    return _MISSING


def _paths(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in row.items():
        yield before + key
        if isinstance(value, dict) and before.count(".") < 3:
            yield from _paths(value, f"{before}{key}.")


def _arrow_paths(fields: Any, before: str = "") -> Iterator[str]:
    import pyarrow as pa

    for field in fields:
        yield before + field.name
        if pa.types.is_struct(field.type):
            yield from _arrow_paths(field.type, f"{before}{field.name}.")


def _has(schema: pa.Schema, path: str) -> bool:
    return path in _arrow_paths(schema)


def _column(batch: pa.RecordBatch, path: str) -> Any:
    """The column at the path, checked: offsets in a damaged file may lead anywhere."""
    import pyarrow as pa
    from pyarrow import compute

    names = [name for name in batch.schema.names if path == name or path.startswith(f"{name}.")]
    name = max(names, key=len)
    column = batch.column(name)
    column.validate(full=True)
    if path != name:
        column = compute.struct_field(column, path[len(name) + 1 :].split("."))
    # Some programs write text without saying that it is.
    binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    return column.cast(pa.large_string()) if binary else column


def _need_exact(column: pa.Array, place: str) -> None:
    """FedsimError where numbers of a short float are so large that it skips some."""
    import pyarrow as pa
    from pyarrow import compute

    most = {pa.float16(): 2**11, pa.float32(): 2**24}.get(column.type)
    if most is None:
        return
    largest = compute.max(compute.abs(column.cast(pa.float64()))).as_py()
    if largest is not None and largest >= most:
        raise FedsimError(
            f"{place} {largest:.0f} is a number of the type {column.type}, which was rounded "
            f"beyond {most:,}, so that several people may share it: write the column again as "
            "text or as whole numbers, from where all digits are."
        )


def _object(what: str, key: str) -> str:
    """What is said about a value that holds others, after its column."""
    return (
        f"is not a {what} but an object: name a column inside of it as 'outer.inner' with "
        f"data.{key}_column; pandas writes what is read here with "
        "to_json(orient='records', lines=True)."
    )


def _no_text(value: object) -> str:
    if isinstance(value, dict):
        return _object("text", "text")
    return (
        f"is not a text but {type(value).__name__}: write it in quotes, or name another column "
        "with data.text_column."
    )
