"""`Parameters` and tables as Flower records, and back."""

from __future__ import annotations

import io
from dataclasses import fields
from math import prod
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsim.parameters import Layout, Parameters
from fedsim.updates import ChunkUpdate, UserResult


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
    return out.getvalue()


def to_record(parameters: Parameters) -> ArrayRecord:
    """Named arrays in Flower's own format, byte for byte what `Array(ndarray)` gives.

    Built through the public four-argument constructor, since `np.save` into a BytesIO costs
    several times the copy itself.
    """
    record = ArrayRecord()
    for name, view in parameters.items():
        array = np.asarray(view, np.float32, order="C")  # ascontiguousarray loses 0-d
        data = _npy_header(array.dtype, array.shape) + array.tobytes()
        record[name] = Array(str(array.dtype), array.shape, "numpy.ndarray", data)
    return record


def from_record(record: ArrayRecord) -> Parameters:
    """A float32 copy of a record's arrays in one buffer."""
    layout = Layout(tuple(record), tuple(tuple(a.shape) for a in record.values()))
    out = Parameters.zeros(layout)
    for part, array in zip(layout.slices, record.values(), strict=True):
        count, dtype = prod(array.shape), np.dtype(array.dtype)
        start = len(array.data) - count * dtype.itemsize
        out.flat[part] = np.frombuffer(array.data, dtype, count, start)
    return out


def encode_update(update: ChunkUpdate) -> RecordDict:
    """A train reply: the sum as arrays, one column for each field of the users' results."""
    content = RecordDict()
    content["update"] = to_record(update.total)
    columns: dict[str, Any] = {
        f.name: [getattr(r, f.name) for r in update.results] for f in fields(UserResult)
    }
    content["results"] = MetricRecord(columns)
    content["failures"] = ConfigRecord(
        {"users": list(update.failures), "reasons": list(update.failures.values())}
    )
    return content


def decode_update(content: RecordDict) -> ChunkUpdate:
    """The inverse of `encode_update`."""
    columns = content.metric_records["results"]
    values: list[Any] = [columns[f.name] for f in fields(UserResult)]
    failures: Any = content.config_records["failures"]
    return ChunkUpdate(
        from_record(content.array_records["update"]),
        [UserResult(*row) for row in zip(*values, strict=True)],
        dict(zip(failures["users"], failures["reasons"], strict=True)),
    )
