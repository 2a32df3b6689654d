"""TensorFlow Federated's exports of Stack Overflow and the like: an SQLite or an HDF5 file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user, reason
from fedsim.data.readers.lines import LONGEST_BYTES
from fedsim.data.readers.tf_example import bytes_features
from fedsim.errors import FedsimError
from fedsim.registry import nearest

_ENDINGS = (".sqlite", ".sqlite3", ".db", ".h5", ".hdf5")
_SQLITE, _HDF5 = b"SQLite format 3\0", b"\x89HDF\r\n\x1a\n"
_COLUMNS = ("split_name", "client_id", "serialized_example_proto")
_BLOCK = 4096


@READERS.register("tff")
class Tff(Reader):
    """One example is one message, its words in the feature `tokens`; the client is the user.

    SQLite: the table `examples` of TFF's SqlClientData, with tf.train.Example records. HDF5: the
    groups `examples/<client>` of its HDF5ClientData, for which h5py has to be installed.
    """

    text: str = "tokens"
    split: str | None = None  # of an SQLite file: train, heldout or test; all without it

    def takes(self, file: Path) -> bool:
        """SQLite and HDF5 files by their ending."""
        return super().takes(file) and file.suffix.lower() in _ENDINGS

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(client, text) in the order of the file."""
        for file in files:
            yield Began(file)
            with file.open("rb") as stream:
                start = stream.read(16)
            if start.startswith(_HDF5):
                rows = self._hdf5(file)
            elif start == _SQLITE:
                rows = self._sqlite(file)
            else:
                raise FedsimError(
                    f"{file}: is neither an SQLite nor an HDF5 file: unpack a download that ends "
                    "in .lzma with `unxz -F lzma`, one in .tar.bz2 with `tar -xjf`."
                )
            for place, user, text in rows:
                if not text:
                    yield Dropped("without text", user)
                    continue
                yield user, check_text(_decoded(text, place), place)

    def _sqlite(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        # Immutable: no lock or journal is left beside somebody's file.
        address = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(address, uri=True)) as store:
                store.text_factory = bytes
                store.execute("PRAGMA trusted_schema = OFF")
                _need_table(store, file)
                wanted = "" if self.split is None else " WHERE split_name = ?"
                values = () if self.split is None else (self.split,)
                query = f"SELECT client_id, serialized_example_proto FROM examples{wanted}"
                row = 0
                for client, record in store.execute(query, values):
                    row += 1
                    place = f"{file}, example {row}"
                    if isinstance(client, bytes):
                        client = _decoded(client, place)
                    yield place, check_user(client, place, "client_id"), self._text(record, place)
                if not row and self.split is not None:
                    found = store.execute("SELECT DISTINCT split_name FROM examples")
                    names = [str(name, "utf-8", "replace") for (name,) in found if name]
                    raise FedsimError(
                        f"{file}: has no split '{self.split}': {nearest(self.split, names)}"
                    )
        except (sqlite3.Error, OverflowError) as error:
            raise _damaged(file, error) from error

    def _text(self, record: object, place: str) -> bytes:
        """The words of a tf.train.Example record."""
        try:
            features = bytes_features(record if isinstance(record, bytes) else b"\xff")
        except ValueError as error:
            raise FedsimError(f"{place}: is {error}: get the file again.") from error
        if self.text not in features:
            raise FedsimError(
                f"{place}: has no feature '{self.text}' ({nearest(self.text, features)}): name "
                "the right one with data.text_column."
            )
        if not features[self.text]:
            raise FedsimError(
                f"{place}: the feature '{self.text}' holds no text: name another one with "
                "data.text_column."
            )
        return b" ".join(features[self.text])

    def _hdf5(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        if self.split is not None:
            raise FedsimError(
                f"{file}: reader.split='{self.split}' has no effect with HDF5, which has a file "
                "for each split: give that file."
            )
        try:
            import h5py
        except ImportError:
            raise FedsimError(
                f"{file}: reading HDF5 needs the package h5py: run `pip install h5py`."
            ) from None
        try:
            with h5py.File(file, "r") as store:
                examples = _inside(store, "examples", h5py, f"{file}")
                for client in examples if isinstance(examples, h5py.Group) else ():
                    place = f"{file}, client '{client}'"
                    user = check_user(client, place, "client")
                    group = _inside(examples, client, h5py, place)
                    yield from self._rows(group, h5py, user, place)
        # What h5py raises for damaged files; MemoryError for a length that is not there.
        except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
            raise _damaged(file, error) from error

    def _rows(
        self, group: Any, h5py: Any, user: str, place: str
    ) -> Iterator[tuple[str, str, bytes]]:
        if not isinstance(group, h5py.Group) or self.text not in group:
            names = list(group) if isinstance(group, h5py.Group) else []
            raise FedsimError(
                f"{place}: has no data set '{self.text}' ({nearest(self.text, names)}): name the "
                "right one with data.text_column."
            )
        data = _inside(group, self.text, h5py, place)
        if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "OS":
            raise FedsimError(
                f"{place}: '{self.text}' is no list of texts: name another with data.text_column."
            )
        # Texts of a fixed width may be any width, and compressed to nothing.
        block = min(_BLOCK, LONGEST_BYTES // max(1, data.dtype.itemsize))
        if not block:
            raise FedsimError(
                f"{place}: '{self.text}' has texts of {data.dtype.itemsize:,} bytes, which no "
                "message has: write them as strings of variable length."
            )
        for first in range(0, len(data), block):
            for row, text in enumerate(data[first : first + block], first + 1):
                if not isinstance(text, bytes):
                    raise FedsimError(
                        f"{place}, row {row}: is no text: name another data set with "
                        "data.text_column."
                    )
                yield f"{place}, row {row}", user, text


def _need_table(store: sqlite3.Connection, file: Path) -> None:
    """FedsimError where `examples` is not a plain table with the three columns."""
    made = store.execute("SELECT type, sql FROM sqlite_master WHERE name = 'examples'").fetchall()
    # A view or a virtual table could compute anything, for ever.
    plain = len(made) == 1 and made[0][0] == b"table"
    plain = plain and bytes(made[0][1] or b"").upper().startswith(b"CREATE TABLE")
    listed = store.execute("PRAGMA table_info(examples)")
    columns = {str(row[1], "utf-8", "replace") for row in listed}
    if not plain or not columns.issuperset(_COLUMNS):
        raise FedsimError(
            f"{file}: has no table 'examples' with the columns {', '.join(_COLUMNS)}: of SQLite "
            "files those of TFF's SqlClientData are read; export another one's messages as CSV."
        )


def _inside(group: Any, name: str, h5py: Any, place: str) -> Any:
    """A member that lies in the file itself; HDF5 can point to other files, also to read raw."""
    if not isinstance(group, h5py.Group) or name not in group:
        raise FedsimError(
            f"{place}: has no group '{name}': give a file as TFF's HDF5ClientData reads it."
        )
    here = isinstance(group.get(name, getlink=True), h5py.HardLink)
    found = group[name] if here else None
    if here and isinstance(found, h5py.Dataset):
        here = not found.external and not found.is_virtual
    if not here:
        raise FedsimError(
            f"{place}: '{name[:60]}' leads to another place, which is not read: copy the data into "
            "this file."
        )
    return found


def _decoded(text: bytes, place: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise FedsimError(
            f"{place}: byte {error.start + 1} (0x{text[error.start]:02x}) is not UTF-8: "
            "write the file again with UTF-8 text."
        ) from error


def _damaged(file: Path, error: BaseException) -> FedsimError:
    return FedsimError(f"{file}: is damaged ({reason(error)}): get the file again.")
