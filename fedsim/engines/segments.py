"""Segments of shared memory, and the arrays of a message laid out in them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord

from fedsim.errors import FedsimError

ALIGNMENT = 64  # bytes; an array that begins elsewhere is slower to add


@dataclass(frozen=True)
class SharedRecord:
    """Where an ArrayRecord lies: segment name and (array name, dtype, shape, stype, start, end)."""

    segment: str
    arrays: tuple[tuple[str, str, tuple[int, ...], str, int, int], ...]


Packed = dict[str, object]  # record name -> SharedRecord, or the record itself where small


class Segment(SharedMemory):
    """Shared memory that may be closed while somebody looks at it: it goes with the last view."""

    def close(self) -> None:
        """Unmap it, now or when it is garbage."""
        try:
            super().close()
        except BufferError:  # the mapping goes with the last view; its file is not needed for that
            if (file := getattr(self, "_fd", -1)) >= 0:
                os.close(file)
                self._fd = -1

    def bytes(self) -> np.ndarray:
        """Its content, uint8. Who holds a part of the array, or a memoryview of it, keeps it."""
        return np.frombuffer(self.buf, np.uint8)  # type: ignore[arg-type]  # None once closed


def create(size: int) -> Segment:
    """A new segment. Raises FedsimError where there is no room for it."""
    _require_room(size)
    try:
        return Segment(create=True, size=max(size, 1))
    except OSError as error:
        raise FedsimError(
            f"A model of {size / 1e6:.1f} MB cannot be put into shared memory "
            f"({error.strerror}); raise the limit, or use engine.name=local."
        ) from None


def size_of(record: ArrayRecord) -> int:
    """Bytes that the record takes in a segment."""
    return sum(_aligned(len(array.data)) for array in record.values())


def write(record: ArrayRecord, segment: Segment, start: int = 0) -> SharedRecord:
    """Copy a record's arrays to `start`, which is aligned, but for what lies there already."""
    content = segment.bytes()
    entries = []
    for name, array in record.items():
        end = start + len(array.data)
        data = np.frombuffer(array.data, np.uint8)
        if len(data) and data.ctypes.data != content[start:].ctypes.data:  # else it was made here
            content[start:end] = data
        entries.append((name, array.dtype, tuple(array.shape), array.stype, start, end))
        start += _aligned(len(array.data))
    return SharedRecord(segment.name, tuple(entries))


def view(shared: SharedRecord, content: np.ndarray) -> ArrayRecord:
    """The record whose arrays lie in `content`, a segment's bytes: read-only, not copied."""
    whole = memoryview(content).toreadonly()  # type: ignore[arg-type]
    record = ArrayRecord()
    for name, dtype, shape, stype, start, end in shared.arrays:
        record[name] = Array(dtype, shape, stype, b"")
        # The constructor takes nothing but bytes, which would be a copy.
        record[name].data = whole[start:end]  # type: ignore[assignment]
    return record


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _require_room(size: int) -> None:
    """Shared memory that overflows kills the process without a word: look before writing."""
    folder = Path("/dev/shm")
    if folder.is_dir() and shutil.disk_usage(folder).free < size:
        raise FedsimError(
            f"{folder} has no room for a model of {size / 1e6:.0f} MB; enlarge it (Docker: "
            "--shm-size), or use engine.name=local."
        )
