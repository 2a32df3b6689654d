"""`Parameters` and tables as Flower records, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields
from math import prod
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsim.engines.replies import room
from fedsim.parameters import Layout, Parameters
from fedsim.updates import ChunkUpdate, UserResult

SUM = "sum"
CORRECTION = "correction"  # the record of what a client adds to each local step


Record = TypeVar("Record", ArrayRecord, MetricRecord, ConfigRecord)


def record_of(content: RecordDict, name: str, kind: type[Record]) -> Record:
    """The record of that name and kind; KeyError where there is none.

    `content.array_records` and the like make reference cycles, which keep a model's bytes alive
    until the next garbage collection.
    """
    record = content[name]
    if not isinstance(record, kind):
        raise KeyError(name)
    return record


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
    return out.getvalue()


def zeros_for_reply(size: int) -> np.ndarray:
    """`size` zeros, int64, in the memory that the reply goes to, where the engine offers some."""
    header = _npy_header(np.dtype(np.int64), (size,))
    memory = room(len(header) + 8 * size)
    if memory is None:
        return np.zeros(size, np.int64)
    memory[: len(header)] = np.frombuffer(header, np.uint8)
    values = memory[len(header) :].view(np.int64)
    values[:] = 0
    return values


def _sum(total: np.ndarray) -> ArrayRecord:
    """The record of the sum; not copied where it is one of `zeros_for_reply`."""
    start = len(_npy_header(total.dtype, total.shape))
    memory = room(start + total.nbytes)
    if memory is None or memory[start:].ctypes.data != total.ctypes.data:
        return ArrayRecord({SUM: _array(total)})
    record = ArrayRecord()
    record[SUM] = Array(str(total.dtype), total.shape, "numpy.ndarray", b"")
    # The constructor takes nothing but bytes, which would be a copy.
    record[SUM].data = memoryview(memory)  # type: ignore[arg-type, assignment]
    return record


def _array(values: np.ndarray) -> Array:
    values = np.asarray(values, order="C")  # ascontiguousarray loses 0-d
    content = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    data = b"".join((_npy_header(values.dtype, values.shape), content))  # copied once
    return Array(str(values.dtype), values.shape, "numpy.ndarray", data)


def _values(array: Array) -> np.ndarray:
    """The scalars of an array in a row; a view of the message's bytes."""
    count, dtype = prod(array.shape), np.dtype(array.dtype)
    return np.frombuffer(array.data, dtype, count, len(array.data) - count * dtype.itemsize)


def to_record(parameters: Parameters) -> ArrayRecord:
    """Named arrays in Flower's own format, byte for byte what `Array(ndarray)` gives.

    Built through the public four-argument constructor, since `np.save` into a BytesIO costs
    several times the copy itself.
    """
    record = ArrayRecord()
    for name, view in parameters.items():
        record[name] = _array(np.asarray(view, np.float32))
    return record


def from_record(record: ArrayRecord) -> Parameters:
    """A float32 copy of a record's arrays in one buffer."""
    layout = Layout(tuple(record), tuple(tuple(a.shape) for a in record.values()))
    out = Parameters.zeros(layout)
    for part, array in zip(layout.slices, record.values(), strict=True):
        out.flat[part] = _values(array)
    return out


def correction_record(values: np.ndarray) -> ArrayRecord:
    """One run of float32 as a record."""
    return ArrayRecord({CORRECTION: _array(np.asarray(values, np.float32))})


def correction_in(content: RecordDict) -> np.ndarray | None:
    """A copy of the correction that a message carries; None where it carries none."""
    if CORRECTION not in content:
        return None
    return _values(record_of(content, CORRECTION, ArrayRecord)[CORRECTION]).copy()


def encode_update(update: ChunkUpdate) -> RecordDict:
    """A train reply: the sum, one column for each field of the users' results, the failures."""
    content = failed(update.failures)
    if update.results:
        content["update"] = _sum(update.total)
        columns: dict[str, Any] = {
            f.name: [getattr(r, f.name) for r in update.results] for f in fields(UserResult)
        }
        content["results"] = MetricRecord(columns)
    return content


def timed(content: RecordDict, worker: int, seconds: float) -> RecordDict:
    """The reply with what its training took, and which worker says so."""
    content["timing"] = MetricRecord({"worker": worker, "seconds": seconds})
    return content


def about_round(content: RecordDict, round: int) -> RecordDict:
    """The reply with the round that it belongs to, so that no earlier one passes for it."""
    content["about"] = ConfigRecord({"round": round})
    return content


def round_of(content: RecordDict) -> int:
    """The round that a reply says it belongs to; KeyError where it says none."""
    told: Any = record_of(content, "about", ConfigRecord)
    return told["round"]


def timing_in(content: RecordDict) -> tuple[str, float] | None:
    """The worker of a reply and the seconds that its clients trained, where it says so."""
    if "timing" not in content:
        return None
    timing: Any = record_of(content, "timing", MetricRecord)
    return str(timing["worker"]), float(timing["seconds"])


def failed(failures: Mapping[int, str]) -> RecordDict:
    """The reply that says of users why there is nothing from them."""
    record = ConfigRecord({"users": list(failures), "reasons": list(failures.values())})
    return RecordDict({"failures": record})


def failures_in(content: RecordDict) -> dict[int, str]:
    """User -> reason, of those that a reply says have failed."""
    if "failures" not in content:
        return {}
    failures: Any = record_of(content, "failures", ConfigRecord)
    return dict(zip(failures["users"], failures["reasons"], strict=True))


def users_in(content: RecordDict) -> list[int]:
    """The users that a reply speaks of."""
    told: list[int] = list(failures_in(content))
    for name in ("results", "metrics"):
        if name in content:
            columns: Any = record_of(content, name, MetricRecord)
            told += columns.get("user", [])
    return told


def decode_update(content: RecordDict) -> ChunkUpdate:
    """The inverse of `encode_update`."""
    failures = failures_in(content)
    if "results" not in content:
        return ChunkUpdate(np.zeros(0, np.int64), [], failures)
    columns = record_of(content, "results", MetricRecord)
    values: list[Any] = [columns[f.name] for f in fields(UserResult)]
    results = [UserResult(*row) for row in zip(*values, strict=True)]
    total = _values(record_of(content, "update", ArrayRecord)[SUM])
    return ChunkUpdate(total, results, failures)
