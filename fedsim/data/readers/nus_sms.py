"""The NUS SMS corpus: one XML of messages, usually inside a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from fedsim.data.readers.base import READERS, Reader, check_text, check_user
from fedsim.errors import FedsimError


@READERS.register("nus_sms")
class NusSms(Reader):
    """`<message><text>...</text><source><userProfile><userID>...`, streamed."""

    def read(self, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
        """Yield (userID, text) in the order of the file."""
        for file in files:
            try:
                with _xml(file) as stream:
                    yield from _messages(stream, file)
            except (zipfile.BadZipFile, ElementTree.ParseError, EOFError) as error:
                raise FedsimError(f"{file}: is damaged ({error}): get the corpus again.") from error


@contextmanager
def _xml(file: Path) -> Iterator[IO[bytes]]:
    """The XML inside a zip, or the file itself."""
    if file.suffix.lower() != ".zip":
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".xml")]
        if len(names) != 1:
            raise FedsimError(f"{file}: holds {len(names)} XML files: give an archive with one.")
        with archive.open(names[0]) as stream:
            yield stream


def _messages(stream: IO[bytes], file: Path) -> Iterator[tuple[str, str]]:
    events = ElementTree.iterparse(stream, events=("start", "end"))
    _, root = next(events)
    count = 0
    for event, element in events:
        if event == "start" or element.tag != "message":
            continue
        count += 1
        place = f"{file}, message {count}"
        user = check_user(element.findtext("source/userProfile/userID"), place, "userID")
        text = element.findtext("text") or ""
        root.clear()  # or the tree would grow to the size of the file
        if text:
            yield user, check_text(text, place)
