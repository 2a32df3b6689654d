"""The arrays of a worker's replies: in shared memory that the main process owns and reads in place.

A worker that is killed leaves nothing behind, since it never makes a segment. How large its
replies are is known from the first one, whose arrays go through the pipe.
"""

from __future__ import annotations

import weakref

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from fedsim.engines.segments import (
    Packed,
    Segment,
    SharedRecord,
    create,
    size_of,
    view,
    write,
)
from fedsim.errors import FedsimError

SPARE = 2  # beside one being filled by each worker: one that is read, and one that has come


class _Slot:
    """A segment, whether a worker fills it, and whether somebody still looks at the reply in it."""

    def __init__(self, size: int) -> None:
        self.segment = create(size)
        self.segment.bytes()[:] = 0  # takes the memory now: later there may be none
        self.size = size
        self.lent = False
        self._reply: weakref.ref[np.ndarray] | None = None

    def read(self, packed: Packed) -> RecordDict:
        """The reply in it."""
        # Every view of the reply keeps this array alive, whatever it was made through.
        content = self.segment.bytes()[:]
        self._reply = weakref.ref(content)
        return _content(packed, content)

    @property
    def held(self) -> bool:
        """Whether a view of the last reply is left."""
        return self._reply is not None and self._reply() is not None

    def close(self) -> None:
        """Give the memory back, where views are left with the last of them."""
        self.segment.unlink()
        self.segment.close()


class Inbox:
    """The main process's end: segments that go to whichever worker is free."""

    def __init__(self, workers: int) -> None:
        self._most = workers + SPARE
        self._slots: list[_Slot] = []
        self._given_up: list[_Slot] = []

    def offer(self, size: int) -> str | None:
        """A segment of at least `size` bytes for a worker to fill, until `take_back`; None where
        none can be had."""
        self._given_up = [slot for slot in self._given_up if slot.held]
        for slot in [s for s in self._slots if s.size < size and not s.lent]:
            self._give_up(slot)
        free = next((slot for slot in self._slots if not slot.held and not slot.lent), None)
        if free is None and size:
            held = [slot for slot in self._slots if slot.held]
            if len(self._slots) >= self._most and held:  # who keeps replies keeps their memory
                self._give_up(held[0])
            try:
                free = _Slot(size)
            except FedsimError:  # a pipe is slower and needs no room
                return None
            self._slots.append(free)
        if free is None:
            return None
        free.lent = True
        return free.segment.name

    def take_back(self, name: str | None) -> None:
        """The worker is done with the segment of that name, or dead."""
        for slot in self._slots:
            slot.lent = slot.lent and slot.segment.name != name

    def read(self, packed: Packed) -> RecordDict:
        """What the worker replied; arrays in a segment stay as they are while a view is left."""
        names = {r.segment for r in packed.values() if isinstance(r, SharedRecord)}
        slot = next((s for s in self._slots if s.segment.name in names), None)
        return slot.read(packed) if slot else _content(packed, np.empty(0, np.uint8))

    def close(self) -> None:
        """Give back all memory that no view needs."""
        for slot in list(self._slots):
            self._give_up(slot)

    def _give_up(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        self._given_up.append(slot)
        slot.close()


class Outbox:
    """The end of one of so many workers."""

    def __init__(self, workers: int) -> None:
        self._most = workers + SPARE
        self._segments: dict[str, Segment] = {}

    def memory(self, name: str | None) -> np.ndarray | None:
        """The segment of that name, for a reply to be made in."""
        return self._segment(name).bytes() if name else None

    def pack(self, content: RecordDict, name: str | None) -> tuple[Packed, int]:
        """What to send for a reply, and the bytes of its arrays, which go to the segment `name`
        where there is one that is large enough."""
        arrays = {n: r for n, r in content.items() if isinstance(r, ArrayRecord)}
        size = sum(size_of(record) for record in arrays.values())
        packed: Packed = dict(content.items())
        segment = self._segment(name) if name and size else None
        if segment is not None and segment.size >= size:
            start = 0
            for key, record in arrays.items():
                packed[key] = write(record, segment, start)
                start += size_of(record)
        else:
            for record in arrays.values():
                for array in record.values():
                    array.data = bytes(array.data)  # no copy, but of one that was made in place
        return packed, size

    def _segment(self, name: str) -> Segment:
        if name not in self._segments:
            if len(self._segments) == self._most:  # the oldest was given up
                self._segments.pop(next(iter(self._segments))).close()
            self._segments[name] = Segment(name)
        return self._segments[name]


def _content(packed: Packed, content: np.ndarray) -> RecordDict:
    out = RecordDict()
    for name, record in packed.items():
        out[name] = view(record, content) if isinstance(record, SharedRecord) else record  # type: ignore[assignment]
    return out
