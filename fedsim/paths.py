"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from fedsim.errors import FedsimError
from fedsim.showing import first_hidden


def expanded(path: str, key: str) -> Path:
    """The path with `~` resolved; FedsimError naming `key` for a home that is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FedsimError(f"{key}='{path}': there is no such home folder: check it.") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file; no error where nothing of that name can be."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_new(path: Path, key: str = "--out") -> None:
    """Raise FedsimError, naming `key`, for a path at which no folder should or can be made.

    That it does not exist is for others to say.
    """
    if not path.name:
        raise FedsimError(f"{key} '{path}' names no new folder; give it a name.")
    if char := first_hidden(str(path)):
        raise FedsimError(
            f"{key} {path} has a character that is not shown (U+{ord(char):04X}); choose another "
            "name."
        )
    try:
        there = next(above for above in (path, *path.absolute().parents) if above.exists())
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise FedsimError(f"{key} {path}: {error.strerror}; choose another name.") from None
    if there != path and not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise FedsimError(
            f"{key} {path} cannot be made, since {there} is no folder that can be written into; "
            "choose another."
        )
