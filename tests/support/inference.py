"""Call a server by the Open Inference Protocol as any client does that was made from its .proto file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from bertstream.server.protocols.inference import inference_pb2 as pb
from tests.support.spoken import SpokenCalls

_TYPES = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP16": "<f2", "BF16": "<i2"}
_NAMES = {"i8": "INT64", "i4": "INT32", "f4": "FP32"}


class InferenceCalls(SpokenCalls):
    """Call any rpc of the service, by its name alone."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel, pb.DESCRIPTOR)

    def call(self, rpc: str, request: Message, **options: Any) -> Any:
        """Return the answer of a unary call."""
        return self.one(f"GRPCInferenceService/{rpc}", request, **options)

    def infer(self, request: pb.ModelInferRequest, **options: Any) -> Any:
        """Return the response to a request."""
        return self.call("ModelInfer", request, **options)

    def stream(self, requests: Iterable[Message], **options: Any) -> Iterator[Any]:
        """Return the responses to the requests of a stream."""
        return self.many("GRPCInferenceService/ModelStreamInfer", requests, **options)


def raw_strings(texts: Sequence[str | bytes]) -> bytes:
    """Return texts as the raw contents of BYTES."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)


def request_of(
    model: str = "",
    outputs: Sequence[str] = (),
    *,
    id: str = "",
    parameters: Mapping[str, bool | int | float | str] | None = None,
    **inputs: Sequence[str] | NDArray[Any],
) -> pb.ModelInferRequest:
    """Return a request with raw contents: inputs are lists of texts, as [n, 1], or arrays."""
    request = pb.ModelInferRequest(model_name=model, id=id)
    request.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs)
    for name, values in inputs.items():
        if isinstance(values, np.ndarray):
            request.inputs.add(name=name, datatype=_NAMES[values.dtype.str[1:]], shape=values.shape)
            request.raw_input_contents.append(values.tobytes())
        else:
            request.inputs.add(name=name, datatype="BYTES", shape=(len(values), 1))
            request.raw_input_contents.append(raw_strings(values))
    for name, value in (parameters or {}).items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    return request


def outputs_of(response: Any) -> dict[str, Any]:
    """Return a response's outputs by their names: arrays, or for BYTES nested lists of texts."""
    found = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        shape = tuple(output.shape)
        if output.datatype == "BYTES":
            found[output.name] = np.array(_strings(raw), object).reshape(shape).tolist()
        else:
            found[output.name] = np.frombuffer(raw, _TYPES[output.datatype]).reshape(shape)
    return found


def _strings(raw: bytes) -> list[str]:
    found, position = [], 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        found.append(raw[position + 4 : end].decode())
        position = end
    return found
