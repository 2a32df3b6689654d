"""TensorFlow's `tf.train.Example` records, as far as text needs them, without TensorFlow."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_TYPES = descriptor_pb2.FieldDescriptorProto


def bytes_features(record: bytes) -> dict[str, list[bytes]]:
    """The features by name; those that hold numbers are empty lists.

    Raises ValueError where it is no such record.
    """
    example = _example()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError("not a tf.train.Example record") from error
    features = example.features.feature
    return {name: list(features[name].bytes_list.value) for name in features}


@cache
def _example() -> Any:
    """The message class, from tensorflow/core/example/{example,feature}.proto.

    In a pool of its own, so that it and an imported TensorFlow do not meet. Lists of numbers are
    left out: they are unknown fields here, which parsing skips.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    text = _message(file, "BytesList")
    _field(text, "value", 1, _TYPES.TYPE_BYTES, repeated=True)
    _field(_message(file, "Feature"), "bytes_list", 1, ".t.BytesList")
    features = _message(file, "Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, _TYPES.TYPE_STRING)
    _field(entry, "value", 2, ".t.Feature")
    _field(features, "feature", 1, ".t.Features.FeatureEntry", repeated=True)
    _field(_message(file, "Example"), "features", 1, ".t.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def _message(file: Any, name: str) -> Any:
    return file.message_type.add(name=name)


def _field(message: Any, name: str, number: int, kind: int | str, repeated: bool = False) -> None:
    field = message.field.add(name=name, number=number)
    field.label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
    if isinstance(kind, str):
        field.type, field.type_name = _TYPES.TYPE_MESSAGE, kind
    else:
        field.type = kind
