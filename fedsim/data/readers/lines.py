"""Lines of UTF-8 text with their numbers, and a clear sentence where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedsim.errors import FedsimError

_BOM = b"\xef\xbb\xbf"


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line with its line end); FedsimError for NUL bytes and non-UTF-8."""
    with file.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise FedsimError(f"{file}, line 1: is UTF-16 text: save the file as UTF-8.")
                raw = raw.removeprefix(_BOM)
            if b"\0" in raw:
                raise FedsimError(
                    f"{file}, line {number}: holds a NUL byte, so the file is damaged or not "
                    "UTF-8 text: mend that line or save the file as UTF-8."
                )
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise FedsimError(
                    f"{file}, line {number}: byte {error.start + 1} (0x{raw[error.start]:02x}) is "
                    "not UTF-8: save the file as UTF-8 "
                    "(for example `iconv -f latin1 -t utf-8 OLD > NEW`)."
                ) from error
            yield number, line
