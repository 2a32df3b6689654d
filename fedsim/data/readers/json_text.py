"""JSON out of a file or a line, and what is wrong with it in a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedsim.data.readers.packed import ENDINGS
from fedsim.errors import FedsimError


class _Repeated(ValueError):
    """A key that an object has twice."""


def parsed(text: str | bytes) -> Any:
    """The value; a key that an object has twice is an error, since Python would drop one.

    Raises what `json_fault` explains: ValueError or RecursionError.
    """
    return json.loads(text, object_pairs_hook=as_object)


def load_json(file: Path) -> Any:
    """The value of a whole file, in UTF-8, UTF-16 or UTF-32; FedsimError where it is not JSON."""
    if file.suffix.lower() in ENDINGS:
        raise FedsimError(f"{file}: is packed, and files of its format are not read so: unpack it.")
    try:
        return parsed(file.read_bytes())
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise FedsimError(
            f"{file}{line}: is not valid JSON ({json_fault(error)}): get or write the file again."
        ) from error


def json_fault(error: Exception) -> str:
    """Why `json.loads` refused a text, without advice that helps only programmers."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not {error.encoding}"
    if isinstance(error, _Repeated):
        return str(error)
    return "a number of thousands of digits"  # the one other thing that json refuses


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError where it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Repeated(f"the key '{twice[:60]}' occurs twice in one object")
    return found
