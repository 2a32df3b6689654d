"""Arrays that go to many workers: written once into shared memory, freed after the last use."""

from __future__ import annotations

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

PAGE = 4096  # bytes, by which the system may round a size up


class Broadcaster:
    """Keeps one shared segment for each distinct ArrayRecord object among the open messages.

    The last one that was freed is kept for the next record of its size: new memory has to be
    mapped page by page, here and in every worker.
    """

    def __init__(self) -> None:
        self._spare: Segment | None = None
        self._segments: dict[int, tuple[Segment, SharedRecord, ArrayRecord]] = {}
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
        self._give_up_spare()

    def _share(self, record: ArrayRecord) -> SharedRecord:
        # Keyed by identity: the server puts one record object into all messages of a round. The
        # entry holds the object, so that its id cannot be taken by another.
        if id(record) not in self._segments:
            segment = self._segment(size_of(record))
            self._segments[id(record)] = (segment, write(record, segment), record)
        return self._segments[id(record)][1]

    def _segment(self, size: int) -> Segment:
        """The spare one, where it is as large as a new one would be."""
        segment, self._spare = self._spare, None
        if segment is not None and 0 <= segment.size - size < PAGE:
            return segment
        self._spare = segment
        self._give_up_spare()
        return create(size)

    def _free(self, key: int) -> None:
        segment, _, _ = self._segments.pop(key)
        self._users.pop(key, None)
        self._give_up_spare()
        self._spare = segment

    def _give_up_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare.unlink()
            self._spare = None


class Receiver:
    """The worker's end: looks at the arrays where they lie, and keeps the newest segment mapped,
    since the messages of a round share one."""

    def __init__(self) -> None:
        self._segments: dict[str, Segment] = {}

    def unpack(self, packed: Packed) -> RecordDict:
        """The content of a message; its arrays are read-only views."""
        shared = {n: r for n, r in packed.items() if isinstance(r, SharedRecord)}
        self.close(but={record.segment for record in shared.values()})
        content = RecordDict()
        for name, record in packed.items():
            content[name] = self._view(record) if isinstance(record, SharedRecord) else record  # type: ignore[assignment]
        return content

    def close(self, but: set[str] | None = None) -> None:
        """Unmap all segments but those of some names."""
        for name in self._segments.keys() - (but or set()):
            self._segments.pop(name).close()

    def _view(self, record: SharedRecord) -> ArrayRecord:
        if record.segment not in self._segments:
            self._segments[record.segment] = Segment(record.segment)
        return view(record, self._segments[record.segment].bytes())
