"""Lines of UTF-8 text with their numbers, and a clear sentence where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from fedsim.errors import FedsimError

_BOM = b"\xef\xbb\xbf"
# Far more than a message has; without a bound a file without line ends would fill the memory.
LONGEST_BYTES = 16 << 20


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line with its line end).

    Raises FedsimError for NUL bytes, text that is not UTF-8 and lines of more than 16 MiB.
    """
    with file.open("rb") as stream:
        for number in count(1):
            raw = stream.readline(LONGEST_BYTES + 1)
            if not raw:
                return
            place = f"{file}, line {number}"
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise FedsimError(f"{place}: is UTF-16 text: save the file as UTF-8.")
                raw = raw.removeprefix(_BOM)
            yield number, _decoded(raw, place)


def _decoded(raw: bytes, place: str) -> str:
    if b"\0" in raw:
        raise FedsimError(
            f"{place}: holds a NUL byte, so the file is damaged or not UTF-8 text: "
            "mend that line or save the file as UTF-8."
        )
    if len(raw) > LONGEST_BYTES:
        raise FedsimError(
            f"{place}: has more than {LONGEST_BYTES >> 20} MiB, which no message has: "
            "write one message a line."
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise FedsimError(
            f"{place}: byte {error.start + 1} (0x{raw[error.start]:02x}) is "
            "not UTF-8: save the file as UTF-8 "
            "(for example `iconv -f latin1 -t utf-8 OLD > NEW`)."
        ) from error
