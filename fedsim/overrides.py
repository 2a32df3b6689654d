"""Settings as they are given: `section.key=value` as it is typed, or Python's own values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedsim.errors import FedsimError

# One text, many, or a mapping: {"server.rounds": 3}, {"server": {"rounds": 3}}.
Given = str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]]


def pairs(given: Given) -> list[tuple[list[str], Any]]:
    """(keys, value) of each, in their order. Raises FedsimError for what is no setting."""
    if isinstance(given, str):
        return [parse(given)]
    if isinstance(given, Mapping):
        return list(_flat(given, []))
    if not isinstance(given, Iterable):
        raise FedsimError(f"{given!r} is no setting; write 'section.key=value', or a dict.")
    return [pair for part in given for pair in pairs(part)]


def _flat(tree: Mapping[str, Any], above: list[str]) -> Iterator[tuple[list[str], Any]]:
    for key, value in tree.items():
        path = [*above, *str(key).split(".")]
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, _plain(value)


def _plain(value: Any) -> Any:
    """The value as TOML would have it: NumPy's numbers and paths come from notebooks."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.item() if hasattr(value, "item") else value


def parse(text: str) -> tuple[list[str], Any]:
    """(keys, value) of an override; what is no TOML value is the text itself.

    Raises FedsimError where there is no key.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise FedsimError(
            f"'{text}' is not an override; write it as section.key=value, and a list without a "
            "space after its commas."
        )
    try:
        tree = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError):
        tree = {}
    # A line break would begin a second key, which is not what an override is.
    value = tree["value"] if tree.keys() == {"value"} else raw
    return key.strip().split("."), value
