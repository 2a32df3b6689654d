"""Writing files so that a reader never sees half of one, and clearing what dead writers left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import time
from pathlib import Path

from fedsim.errors import FedsimError

_ABANDONED_S = 86_400.0  # of another machine's writers one cannot know whether they live
_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname()) or "here"
# `.NAME.HOST-PID.tmp`; without a host as earlier versions wrote it, and with more after the id
# where one process drafts the same thing twice.
_TEMPORARY = re.compile(r"\..*\.(?:(?P<host>[A-Za-z0-9-]*)-)?(?P<pid>\d+)(?:_\w+)?\.tmp", re.DOTALL)

_cleared: set[str] = set()  # folders in which this process has looked for those of dead ones


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write to a temporary file, fsync, rename over `path`. mode: of a new file, less the umask;
    0o600 for what only this user may ever read."""
    temporary = path.with_name("".join(affixes(path.name)))
    clear_temporaries(path.parent, once=True)
    try:
        temporary.touch(mode=mode)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FedsimError(
            f"Cannot write {path} ({error.strerror}); free space or choose another folder."
        ) from None
    finally:  # also after a Ctrl-C; once it is renamed there is nothing to remove
        with contextlib.suppress(OSError):
            temporary.unlink()


def affixes(name: str) -> tuple[str, str]:
    """How what this process calls a file or folder `name`, until it is whole, begins and ends.

    More may stand between them, after an underscore.
    """
    return f".{name}.{_HOST}-{os.getpid()}", ".tmp"


def clear_temporaries(folder: Path, once: bool = False) -> None:
    """Remove what processes that have ended left half-written in a folder, files and folders.

    Whatever it was that they wrote. `once`: not again in this process. What cannot be removed,
    since the folder may only be read, stays.
    """
    if once and str(folder) in _cleared:
        return
    _cleared.add(str(folder))
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.endswith(".tmp") and _abandoned(entry):
                _remove(Path(entry.path))


def remove_temporaries(folder: Path, of: str = "*") -> None:
    """Remove what writers of the file `of` (of all files) left that were killed half-way.

    Nobody may be writing them meanwhile.
    """
    for temporary in folder.glob(f".{of}.*.tmp"):
        _remove(temporary)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether the process that writes a temporary file has ended."""
    named = _TEMPORARY.fullmatch(entry.name)
    if named is None:
        return False
    if named["host"] in (None, _HOST):
        return not _lives(int(named["pid"]))
    return entry.stat(follow_symlinks=False).st_mtime < time.time() - _ABANDONED_S


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
