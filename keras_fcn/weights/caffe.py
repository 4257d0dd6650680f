"""Reads `.caffemodel` files without Caffe.

A `.caffemodel` is one protobuf message, NetParameter, of several hundred megabytes. This module
parses its outer level itself, over a memory map; the protobuf library parses the few fields of each
layer that hold weights. Values stay bytes until they are read.
"""

import collections
import contextlib
import math
import mmap
import os
from collections.abc import Iterator

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from keras_fcn.spec import SKIPS
from keras_fcn.weights.entries import Contents, Entry, damaged_file

# Fields of NetParameter: layers of the old format (V1) and of the current one.
_LAYERS_V1, _LAYERS = 2, 100
# Limits far above every Caffe network, which bound the time and memory that a file can cost.
_MAX_FIELDS = 100_000
_MAX_LAYER_BYTES = 2**31 - 4096
_MAX_AXES = 32
_MAX_SCALES = 2**16
# NVIDIA's fork of Caffe stores values of these types as bytes: DOUBLE, FLOAT and FLOAT16.
_RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@contextlib.contextmanager
def open_caffemodel(path: str | os.PathLike) -> Iterator[Contents]:
    """Yields the contents of a `.caffemodel`, in Caffe's names and layout.

    Layers without blobs are skipped. Blobs of the legacy shape (num, channels, height, width) lose
    the leading axes of length 1 that pad a matrix or vector. The `Scale` layers `scale_pool4` and
    `scale_pool3` become the scales of the skips; a skip without one has the scale 1.

    Args:
        path: A file written by any version of Caffe, or by NVIDIA's fork, also in half precision.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.caffemodel`, or damaged.
    """
    with contextlib.ExitStack() as stack:
        with damaged_file(path, ".caffemodel file of Caffe"):
            file = stack.enter_context(open(path, "rb"))
            contents = _contents(file)
        yield contents


def _contents(file):
    entries = {}
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        budget = iter(range(_MAX_FIELDS))
        layers = [
            field
            for field in _fields(buffer, 0, len(buffer), budget)
            if field[0] in (_LAYERS_V1, _LAYERS)
        ]
        for _, start, size in layers:
            if size > _MAX_LAYER_BYTES:
                raise ValueError(f"a layer at byte {start} holds {size} bytes")
            # Counts the fields, so that protobuf does not parse millions of empty ones.
            collections.deque(_fields(buffer, start, start + size, budget), maxlen=0)
    if not layers:
        raise ValueError("it holds no layers")
    for number, start, size in layers:
        layer = _parse_layer(file, number, start, size)
        name = layer.name.decode(errors="replace")
        for index, blob in enumerate(layer.blobs):
            variable = ("kernel", "bias")[index] if index < 2 else f"blob {index}"
            if (name, variable) in entries:
                raise ValueError(f"it holds layer {name!r} twice")
            shape = _shape(blob, name)
            entries[name, variable] = Entry(shape, _reader(file, number, start, size, index, shape))
    skip_scales = {}
    for pool in SKIPS:
        scale = entries.pop((f"scale_{pool}", "kernel"), None)
        if scale is not None:
            skip_scales[pool] = _distinct(scale, f"scale_{pool}")
        elif (f"score_{pool}", "kernel") in entries:
            skip_scales[pool] = (1.0,)
    if not entries:
        raise ValueError("none of its layers holds weights")
    return Contents(entries, skip_scales)


def _distinct(entry, name):
    """Returns the distinct values of an entry, which must be a number or one per channel."""
    if math.prod(entry.shape) > _MAX_SCALES:
        raise ValueError(f"layer {name!r} holds {math.prod(entry.shape)} scales")
    return tuple(np.unique(entry.read()).tolist())


def _reader(file, number, start, size, index, shape):
    return lambda: _values(_parse_layer(file, number, start, size).blobs[index]).reshape(shape)


def _fields(buffer, position, end, budget):
    """Yields (number, start, size) of each bytes field of a message, and checks the others."""
    while position < end:
        if next(budget, None) is None:
            raise ValueError(f"it holds more than {_MAX_FIELDS} fields")
        key, position = _varint(buffer, position, end)
        number, wire_type = key >> 3, key & 7
        size = 0
        if wire_type == _BYTES:
            size, position = _varint(buffer, position, end)
        elif wire_type == _VARINT:
            _, position = _varint(buffer, position, end)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire_type} at byte {position}")
        if size > end - position:
            raise ValueError(
                f"a field at byte {position} claims {size} bytes, {end - position} are left"
            )
        if wire_type == _BYTES:
            yield number, position, size
        position += size


def _varint(buffer, position, end):
    value = 0
    for shift in range(0, 70, 7):
        if position == end:
            raise ValueError(f"it ends within a number, at byte {position}")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number at byte {position} is longer than 10 bytes")


def _parse_layer(file, number, start, size):
    file.seek(start)
    return _MESSAGES[number].FromString(file.read(size))


def _shape(blob, name):
    if blob.HasField("shape"):
        if len(blob.shape) > 10 * _MAX_AXES + 8:
            raise ValueError(f"a blob of layer {name!r} has more than {_MAX_AXES} axes")
        shape = tuple(_BLOB_SHAPE.FromString(blob.shape).dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    if len(shape) == 4 and shape[:2] == (1, 1):
        shape = shape[3:] if shape[2] == 1 else shape[2:]
    if any(size < 0 for size in shape):
        raise ValueError(f"a blob of layer {name!r} has the shape {shape}")
    present = _values(blob).size
    if math.prod(shape) != present:
        raise ValueError(
            f"a blob of layer {name!r} has the shape {shape} and {present} values, packed"
        )
    return shape


def _values(blob):
    if blob.HasField("raw_data"):
        if blob.raw_data_type not in _RAW_TYPES:
            raise ValueError(f"NVIDIA's Caffe wrote a blob of the type {blob.raw_data_type}")
        values = np.frombuffer(blob.raw_data, _RAW_TYPES[blob.raw_data_type])
        with np.errstate(over="ignore"):
            return values.astype("float32", copy=False)
    if blob.HasField("double_data"):
        with np.errstate(over="ignore"):
            return np.frombuffer(blob.double_data, "<f8").astype("float32")
    return np.frombuffer(blob.data, "<f4")


def _messages():
    """Returns message classes for the fields that hold weights.

    The packed numbers `data`, `double_data` and the message `shape` are declared as bytes, which is
    their wire type: protobuf would turn each number into a Python object.
    """
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="keras_fcn/caffe.proto", package="keras_fcn")

    def add(name, *fields):
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated = kind == types.TYPE_MESSAGE or field == "dim"
            message.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=".keras_fcn.Blob" if kind == types.TYPE_MESSAGE else None,
                label=types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL,
            )

    int32, int64, data = types.TYPE_INT32, types.TYPE_INT64, types.TYPE_BYTES
    sizes = [("num", 1, int32), ("channels", 2, int32), ("height", 3, int32), ("width", 4, int32)]
    values = ("data", 5, data), ("shape", 7, data), ("double_data", 8, data)
    add("Blob", *sizes, *values, ("raw_data_type", 10, int32), ("raw_data", 12, data))
    add("BlobShape", ("dim", 1, int64))
    add("V1Layer", ("name", 4, data), ("blobs", 6, types.TYPE_MESSAGE))
    add("Layer", ("name", 1, data), ("blobs", 7, types.TYPE_MESSAGE))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def message_class(name):
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"keras_fcn.{name}"))

    return (
        {_LAYERS_V1: message_class("V1Layer"), _LAYERS: message_class("Layer")},
        message_class("BlobShape"),
    )


_MESSAGES, _BLOB_SHAPE = _messages()
