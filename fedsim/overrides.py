"""`section.key=value` as it is typed: the path of keys, and the value as TOML reads it."""

from __future__ import annotations

import tomllib
from typing import Any

from fedsim.errors import FedsimError


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
