"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fedsim.errors import FedsimError


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file, fsync, rename over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
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


def remove_temporaries(folder: Path, of: str = "*") -> None:
    """Remove what writers of the file `of` (of all files) left that were killed half-way.

    Nobody may be writing them meanwhile.
    """
    for temporary in folder.glob(f".{of}.*.tmp"):
        with contextlib.suppress(OSError):
            temporary.unlink()
