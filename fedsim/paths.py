"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from fedsim.errors import FedsimError


def expanded(path: str, key: str) -> Path:
    """The path with `~` resolved; FedsimError naming `key` for a home that is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FedsimError(f"{key}='{path}': there is no such home folder: check it.") from error
