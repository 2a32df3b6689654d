"""Files as they lie, or packed with gzip, bzip2, xz or Zstandard: one stream of bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

from fedsim.errors import FedsimError

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
# A file says by its first bytes how it is packed; none of these begins a text.
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_BZIP2 = (b"BZh", b"1AY&SY")  # and a digit between
_SKIPPED = b"\x2a\x4d\x18"  # after 0x50 to 0x5f: pzstd begins with notes to itself
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError)
_LONGEST_WINDOW = 2**31  # of `zstd --long=31`, as the Reddit dumps are packed
_PIECE = 1024  # of a bomb, a kilobyte unpacks to 32 MiB


def bare_suffix(file: Path) -> str:
    """The ending that says the format, in lower case: ".csv" for "Messages.CSV.gz"."""
    bare = Path(file.stem) if file.suffix.lower() in ENDINGS else file
    return bare.suffix.lower()


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of the file; FedsimError while they are read if it is damaged."""
    with file.open("rb") as raw:
        start = raw.read(10)
        raw.seek(0)
        try:
            with _unpacker(raw, start, file) as stream:
                yield stream
        except _DAMAGE as error:
            raise _damaged(file, error) from error
        except OSError as error:
            if error.errno is not None:  # of the disk, not of what was unpacked
                raise
            raise _damaged(file, error) from error


def _unpacker(raw: BufferedReader, start: bytes, file: Path) -> Any:
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(_BZIP2[0]) and start[4:] == _BZIP2[1]:
        return bz2.BZ2File(raw)
    if start.startswith(_XZ):
        return lzma.LZMAFile(raw)
    if start.startswith(_ZSTD) or (start[:1] and start[0] >> 4 == 5 and start[1:4] == _SKIPPED):
        return _zstandard(raw, file)
    return raw


def _zstandard(raw: BufferedReader, file: Path) -> Any:
    """By Arrow; where the window is too long for it, by the package zstandard."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(file), compression="zstd") as trial:
            trial.read(1)
    except OSError as error:
        if "memory" not in str(error):
            raise
        return BufferedReader(_LongWindow(raw, file))
    # An input stream of Arrow has no readline.
    return BufferedReader(_Arrow(pa.input_stream(raw, compression="zstd")))


class _Arrow(RawIOBase):
    """A stream of Arrow as one of Python."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the stream reaches."""
        return int(self._stream.readinto(buffer))


class _LongWindow(RawIOBase):
    """Zstandard with a window of up to 2 GiB; a stream that ends too early is an EOFError."""

    def __init__(self, raw: BufferedReader, file: Path) -> None:
        try:
            import zstandard
        except ImportError:
            raise FedsimError(
                f"{file}: was packed with a long window, for which the package zstandard is "
                f"needed: run `pip install zstandard`, or unpack it with `zstd -d --long=31`."
            ) from None
        self._raw = raw
        self._new = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW).decompressobj
        self._error = zstandard.ZstdError
        self._unpacker = self._new()
        self._inside = False
        self._waiting, self._packed = b"", b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as what is unpacked reaches."""
        while not self._waiting:
            self._packed = self._packed or self._raw.read(_PIECE)
            if not self._packed:
                if self._inside:
                    raise EOFError("the stream ends too early")
                return 0
            self._unpack()
        size = min(len(buffer), len(self._waiting))
        buffer[:size], self._waiting = self._waiting[:size], self._waiting[size:]
        return size

    def _unpack(self) -> None:
        try:
            self._waiting = self._unpacker.decompress(self._packed)
        except self._error as error:
            raise EOFError(str(error)) from error
        self._inside, self._packed = not self._unpacker.eof, self._unpacker.unused_data
        if self._unpacker.eof:  # another frame may follow
            self._unpacker = self._new()


def _damaged(file: Path, error: BaseException) -> FedsimError:
    said = str(error).strip().splitlines()
    return FedsimError(
        f"{file}: cannot be unpacked ({said[0].rstrip('.') if said else type(error).__name__}), "
        "so it is damaged or cut off: get the file again."
    )
