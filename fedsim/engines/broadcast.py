"""Arrays that go to many workers: written once into shared memory, freed after the last use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from flwr.app import Array, ArrayRecord, RecordDict

from fedsim.errors import FedsimError


@dataclass(frozen=True)
class SharedRecord:
    """Where an ArrayRecord lies: segment name and (array name, dtype, shape, stype, start, end)."""

    segment: str
    arrays: tuple[tuple[str, str, tuple[int, ...], str, int, int], ...]

    def read(self) -> ArrayRecord:
        """The record with its own copy of the bytes."""
        memory = SharedMemory(self.segment)
        try:
            buffer = memory.buf
            assert buffer is not None  # None only after close()
            record = ArrayRecord()
            for name, dtype, shape, stype, start, end in self.arrays:
                record[name] = Array(dtype, shape, stype, bytes(buffer[start:end]))
            return record
        finally:
            memory.close()


Packed = dict[str, object]  # record name -> SharedRecord, or the record itself where small


def unpack(packed: Packed) -> RecordDict:
    """The content of a message, in the worker."""
    content = RecordDict()
    for name, record in packed.items():
        content[name] = record.read() if isinstance(record, SharedRecord) else record  # type: ignore[assignment]
    return content


class Broadcaster:
    """Keeps one shared segment for each distinct ArrayRecord object among the open messages."""

    def __init__(self) -> None:
        self._segments: dict[int, tuple[SharedMemory, SharedRecord, ArrayRecord]] = {}
        self._users: dict[int, set[str]] = {}

    def pack(self, message_id: str, content: RecordDict) -> Packed:
        """What to send for `content`; its arrays stay shared until `release(message_id)`."""
        packed: Packed = {}
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                packed[name] = self._share(record)
                self._users.setdefault(id(record), set()).add(message_id)
            else:
                packed[name] = record
        return packed

    def release(self, message_id: str) -> None:
        """The message has been answered; free the segments that no other open message uses."""
        for key in [k for k, users in self._users.items() if message_id in users]:
            self._users[key].discard(message_id)
            if not self._users[key]:
                self._free(key)

    def close(self) -> None:
        """Free everything."""
        for key in list(self._segments):
            self._free(key)

    def _share(self, record: ArrayRecord) -> SharedRecord:
        # Keyed by identity: the server puts one record object into all messages of a round. The
        # entry holds the object, so that its id cannot be taken by another.
        if id(record) not in self._segments:
            size = sum(len(array.data) for array in record.values())
            _require_room(size)
            try:
                memory = SharedMemory(create=True, size=max(size, 1))
            except OSError as error:
                raise FedsimError(
                    f"A model of {size / 1e6:.1f} MB cannot be put into shared memory "
                    f"({error.strerror}); raise the limit, or use engine.name=local."
                ) from None
            buffer = memory.buf
            assert buffer is not None  # None only after close()
            entries, start = [], 0
            for name, array in record.items():
                end = start + len(array.data)
                buffer[start:end] = array.data
                entries.append((name, array.dtype, tuple(array.shape), array.stype, start, end))
                start = end
            shared = SharedRecord(memory.name, tuple(entries))
            self._segments[id(record)] = (memory, shared, record)
        return self._segments[id(record)][1]

    def _free(self, key: int) -> None:
        memory, _, _ = self._segments.pop(key)
        self._users.pop(key, None)
        memory.close()
        memory.unlink()


def _require_room(size: int) -> None:
    """Shared memory that overflows kills the process without a word: look before writing."""
    folder = Path("/dev/shm")
    if folder.is_dir() and shutil.disk_usage(folder).free < size:
        raise FedsimError(
            f"{folder} has no room for a model of {size / 1e6:.0f} MB; enlarge it (Docker: "
            "--shm-size), or use engine.name=local."
        )
