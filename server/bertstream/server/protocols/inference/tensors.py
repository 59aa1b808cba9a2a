"""Read the tensors of requests, and write those of responses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid
from bertstream.server.protocols.inference import inference_pb2

# What the elements of inputs can be: the field of typed contents, and NumPy's name for raw ones.
_INTEGERS: Mapping[str, tuple[str, str]] = {"INT32": ("int_contents", "<i4"), "INT64": ("int64_contents", "<i8")}
_BYTES = "BYTES"
# Parameters of tensors that say how they lie in a body of HTTP, which KServe's client also sends over gRPC.
OF_HTTP = frozenset({"binary_data", "binary_data_size"})
_LENGTH = 4  # bytes in front of each element of BYTES
_MOST_DIMENSIONS, _MOST_SIZE = 2, (1 << 31) - 1  # of an input; more elements than that come in no message
_DATATYPES = {
    "<f4": "FP32",
    "<f2": "FP16",
    "<i2": "BF16",
    "<i4": "INT32",
    "<i8": "INT64",
}  # as bits where there is no name
_SIZES = {"FP32": 4, "FP16": 2, "BF16": 2, "INT32": 4, "INT64": 8, _BYTES: _LENGTH}  # the least of an element


@dataclass(frozen=True, slots=True)
class Spec:
    """Describe a tensor by its name, the type of its elements and its shape.

    The first dimension is the batch; -1 stands for it, and for all others that depend on the request.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Strings:
    """Hold a tensor of texts: its elements, row by row."""

    shape: tuple[int, ...]
    values: Sequence[str]


Array = NDArray[np.generic] | Strings


@dataclass(frozen=True, slots=True)
class InputTensor:
    """Hold one input: its elements row by row, integers as an array and bytes as a list."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    integers: NDArray[np.int64]
    elements: Sequence[bytes] = ()


def read_inputs(message: inference_pb2.ModelInferRequest, taken: Mapping[str, Sequence[str]]) -> dict[str, InputTensor]:
    """Return the inputs by their names.

    taken: the types that each input may have, by its name. Raises INVALID_ARGUMENT, naming the tensor.
    """
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        about = f"there are {len(raws)} for {len(message.inputs)} inputs: each input has one, or none has"
        raise invalid("raw_input_contents", about, "INVALID_LENGTHS")
    found: dict[str, InputTensor] = {}
    for index, given in enumerate(message.inputs):
        name = given.name
        if name not in taken:
            raise bad_tensor(name, f"there is no such input; there are {', '.join(taken)}")
        if name in found:
            raise bad_tensor(name, "it is given twice")
        if given.datatype not in taken[name]:
            raise bad_tensor(name, f"its type is {given.datatype[:20]!r}, and must be {' or '.join(taken[name])}")
        if unknown := given.parameters.keys() - OF_HTTP:
            raise bad_tensor(name, f"there is no parameter {min(unknown)[:80]!r} of an input here")
        found[name] = _read(given, raws[index] if raws else None)
    return found


def shown(name: str) -> str:
    """Return a name that a caller gave as a message may have it: in one line, and not too long."""
    return "".join(char if char.isprintable() else "?" for char in name[:80])


def bad_tensor(name: str, about: str) -> RequestError:
    """Return the error for an input or output that is wrong as a whole."""
    return invalid(shown(name) or "inputs", about, "INVALID_TENSOR")


def _read(given: inference_pb2.ModelInferRequest.InferInputTensor, raw: bytes | None) -> InputTensor:
    if len(given.shape) > _MOST_DIMENSIONS:
        raise bad_tensor(given.name, f"it has {len(given.shape)} dimensions, and may have at most {_MOST_DIMENSIONS}")
    shape = tuple(given.shape)
    if not all(0 <= size <= _MOST_SIZE for size in shape):
        raise bad_tensor(given.name, f"a dimension of {list(shape)} is below 0 or above {_MOST_SIZE}")
    count = math.prod(shape)
    if raw is not None and given.HasField("contents"):
        raise bad_tensor(given.name, "it has both contents and raw_input_contents")
    if given.datatype == _BYTES:
        listed = list(given.contents.bytes_contents) if raw is None else split_elements(raw, given.name, count)
        _check_count(given.name, len(listed), shape)
        return InputTensor(given.name, _BYTES, shape, np.zeros(0, np.int64), listed)
    field, dtype = _INTEGERS[given.datatype]
    if raw is None:
        values = np.array(getattr(given.contents, field), dtype)
    elif len(raw) % np.dtype(dtype).itemsize:
        raise bad_tensor(given.name, f"its {len(raw)} bytes are no whole number of elements")
    else:
        values = np.frombuffer(raw, dtype)
    _check_count(given.name, values.size, shape)
    return InputTensor(given.name, given.datatype, shape, values.reshape(shape).astype(np.int64, copy=False))


def _check_count(name: str, elements: int, shape: tuple[int, ...]) -> None:
    if elements != math.prod(shape):
        raise bad_tensor(name, f"it has {elements} elements, and its shape {list(shape)} asks for {math.prod(shape)}")


def split_elements(raw: bytes, name: str, count: int) -> list[bytes]:
    """Return the elements of BYTES, each of which follows its length. Raises INVALID_TENSOR."""
    return list(_elements(raw, name, count))


def _elements(raw: bytes, name: str, count: int) -> Iterator[bytes]:
    position, end = 0, len(raw)
    for _ in range(count):
        if position == end:
            return
        first = position + _LENGTH
        position = first + int.from_bytes(raw[position:first], "little")
        if first > end or position > end:
            raise bad_tensor(name, "its bytes end within an element; each follows its length, of 4 bytes")
        yield raw[first:position]
    if position != end:
        raise bad_tensor(name, f"it has {end - position} bytes more than the elements of its shape")


def join_elements(values: Sequence[str]) -> bytes:
    """Return texts as the elements of BYTES."""
    encoded = [value.encode() for value in values]
    return b"".join(part for each in encoded for part in (len(each).to_bytes(_LENGTH, "little"), each))


def write_output(response: inference_pb2.ModelInferResponse, name: str, values: Array) -> None:
    """Add an output to a response, with raw contents."""
    if isinstance(values, Strings):
        datatype, raw = _BYTES, join_elements(values.values)
    else:
        datatype, raw = _DATATYPES[values.dtype.str], values.tobytes()
    response.outputs.add(name=name, datatype=datatype, shape=values.shape)
    response.raw_output_contents.append(raw)


def least_bytes(specs: Sequence[Spec], texts: int, width: int) -> int:
    """Return how many bytes outputs have at least, for a batch of texts that are padded to `width` tokens."""
    sizes = [[width if size < 0 else size for size in spec.shape[1:]] for spec in specs]
    return sum(texts * math.prod(size) * _SIZES[spec.datatype] for spec, size in zip(specs, sizes, strict=True))


def pad(values: NDArray[np.generic], lengths: NDArray[np.integer], width: int) -> NDArray[np.generic]:
    """Return rows of all texts end to end as a batch with zeros behind each text: [T, ...] -> [n, width, ...]."""
    padded = np.zeros((lengths.size, width, *values.shape[1:]), values.dtype)
    padded[np.arange(width) < lengths[:, None]] = values
    return padded


def pad_squares(
    values: NDArray[np.generic], lengths: NDArray[np.integer], heads: int, width: int
) -> NDArray[np.generic]:
    """Return weights of all texts as a batch [n, heads, width, width], with zeros around each text's.

    values: flat, [heads, t, t] of each text, end to end.
    """
    padded = np.zeros((lengths.size, heads, width, width), values.dtype)
    first = 0
    for text, length in enumerate(lengths.tolist()):
        last = first + heads * length * length
        padded[text, :, :length, :length] = values[first:last].reshape(heads, length, length)
        first = last
    return padded


def classified(scores: NDArray[np.generic], best: int, labels: Sequence[str]) -> Strings:
    """Return the best labels of each text, best first, as "score:number:label": [n, L] -> [n, best]."""
    order = np.argsort(-scores.astype(np.float32), axis=1, kind="stable")[:, :best]
    rows = zip(np.take_along_axis(scores, order, 1).tolist(), order.tolist(), strict=True)
    values = [f"{score:f}:{label}:{labels[label]}" for each in rows for score, label in zip(*each, strict=True)]
    return Strings(order.shape, values)
