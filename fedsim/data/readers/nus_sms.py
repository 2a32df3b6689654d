"""The NUS SMS corpus: one XML of messages, usually inside a zip."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user, reason
from fedsim.data.readers.safe_xml import xml_events
from fedsim.errors import FedsimError

# What zipfile and the parser raise for damaged, encrypted (RuntimeError) or exotic input.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)
# Text packs to a tenth or so; an archive beyond both bounds is made to fill memory or time.
_BLOCK = 1 << 16
_LARGE_BYTES, _MOST_PACKED = 64 << 20, 100


@READERS.register("nus_sms")
class NusSms(Reader):
    """`<message><text>...</text><source><userProfile><userID>...`, streamed.

    A zip is read where it lies and nothing is unpacked to a file, so no name in it leads anywhere.
    """

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(userID, text) in the order of the file."""
        for file in files:
            yield Began(file)
            try:
                with _xml(file) as stream:
                    yield from _messages(stream, file)
            except _DAMAGE as error:
                raise FedsimError(
                    f"{file}: is damaged ({reason(error)}): get the corpus again."
                ) from error


@contextmanager
def _xml(file: Path) -> Iterator[IO[bytes]]:
    """The XML inside a zip, or the file itself."""
    if file.suffix.lower() != ".zip":
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        found = [one for one in archive.infolist() if one.filename.lower().endswith(".xml")]
        if len(found) != 1:
            raise FedsimError(f"{file}: holds {len(found)} XML files: give an archive with one.")
        unpacked, packed = found[0].file_size, found[0].compress_size
        if unpacked > _LARGE_BYTES and unpacked > _MOST_PACKED * packed:
            raise FedsimError(
                f"{file}: unpacks {packed:,} bytes to {unpacked:,}, as no text does: "
                "get the corpus from a source that you trust."
            )
        with archive.open(found[0]) as stream:
            yield stream


def _messages(stream: IO[bytes], file: Path) -> Iterator[Row]:
    events = xml_events(iter(partial(stream.read, _BLOCK), b""))
    _, root = next(events)
    count, depth = 0, 1
    for event, element in events:
        depth += 1 if event == "start" else -1
        if event == "end" and element.tag == "message":
            count += 1
            place = f"{file}, message {count}"
            user = check_user(element.findtext("source/userProfile/userID"), place, "userID")
            text = element.findtext("text") or ""
            yield (user, check_text(text, place)) if text else Dropped("without text", user)
        if depth == 1:
            root.clear()  # or the tree would grow to the size of the file
