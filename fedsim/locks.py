"""One process at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from fedsim.errors import FedsimError

try:
    import fcntl
except ImportError:  # Windows, where two processes on one run are not noticed
    fcntl = None  # type: ignore[assignment]

_PATIENCE_S = 0.3  # who only asks for the holder has the lock for a moment


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it ends with the process. FedsimError where another one holds it."""
    path = folder / ".lock"
    try:
        file = path.open("ab+", buffering=0)  # never removed: a waiting process may have it open
    except OSError as error:
        raise FedsimError(
            f"Cannot write {path}: {error.strerror}; continue the run where it can be written."
        ) from None
    with file:
        _take(file, folder)
        yield


@contextmanager
def locked_file(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock that is a file of its own, waiting for whoever holds it.

    Yields whether it is held, which without `wait` it may not be. On a system or a disk without
    locks nobody waits.
    """
    with path.open("ab+", buffering=0) as file:
        held = True
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held = False
            except OSError:
                pass
        yield held


def holder(folder: Path) -> str | None:
    """The id of the process that holds the folder's lock; None where none does.

    "unknown" where it does not say, or where the system cannot be asked.
    """
    try:
        with (folder / ".lock").open("rb", buffering=0) as file:
            if fcntl is None:
                return "unknown"
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _id_in(file)
    except FileNotFoundError:
        return None
    except OSError:
        return "unknown"
    return None


def _id_in(file: FileIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip() or "unknown"


def _take(file: FileIO, folder: Path) -> None:
    """Lock an open file until it is closed, and leave the process's id in it."""
    if fcntl is None:
        return
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.01)
                continue
            raise FedsimError(
                f"{folder} is in use by another process (id {_id_in(file)}); wait until it has "
                "ended, or stop it."
            ) from None
        except OSError:
            return  # a file system without locks
    with suppress(OSError):  # on a full disk others learn less
        file.truncate(0)
        file.write(str(os.getpid()).encode())
