"""Hidden states and attention weights of layers, each text with its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from msgspec import field
from numpy.typing import NDArray

from bertstream.server.core.encoding import Encoded
from bertstream.server.core.errors import invalid
from bertstream.server.core.layout import outputs_of
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.preparation import Prepared
from bertstream.server.protocols.bertstream_v1.validation.encoding import AskedEncoding, parse_encoding
from bertstream.server.protocols.http.answers import HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.common_options import (
    TokenizedRequest,
    fill,
    named_as_in_body,
    priority_of,
    truncation_of,
)
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import own_form
from bertstream.server.protocols.http.texts import TextsOrIds, sent_of
from bertstream.server.protocols.http.vectors import base64_of, encode_request, listed
from bertstream.server.protocols.tei_v1.choosing import ANY
from bertstream.v1 import encoding_pb2, tokenization_pb2
from bertstream.workers.contract import INTERACTIVE

_ADVICE = "ask for fewer layers or shorter texts, or use StreamLayers"
_OUTPUTS = {
    "hidden_states": encoding_pb2.ENCODING_OUTPUT_HIDDEN_STATES,
    "attentions": encoding_pb2.ENCODING_OUTPUT_ATTENTIONS,
}


class LayersRequest(TokenizedRequest, kw_only=True):
    """The body; layer 0 is the embeddings' output, and numbers below 0 count from the last layer."""

    inputs: TextsOrIds
    layers: int | list[int] = -1
    outputs: list[Literal["hidden_states", "attentions"]] = field(default_factory=lambda: ["hidden_states"])
    heads: list[int] | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    encoding_format: Literal["float", "base64"] = "float"


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return the endpoint."""
    state = {"layer": 6, "shape": [3, 4], "values": "zczMPc3MTD6amZk+zczMPc3MTD6amZk+zczMPc3MTD6amZk+zczMPc3MTD6amZk+"}
    answer = {
        "model": "all-MiniLM-L6-v2",
        "data": [
            {"index": 0, "token_ids": [101, 4937, 102], "tokens": ["[CLS]", "cat", "[SEP]"], "hidden_states": [state]}
        ],
        "usage": {"inputs": 1, "input_tokens": 3, "truncated_inputs": 0},
    }
    example = {"inputs": "A cat sleeps.", "layers": [0, -1], "encoding_format": "base64"}
    about = "Give the hidden states and the attention weights of layers, for each token."
    handle = partial(layers, models)
    return (Endpoint("POST", "/v1/layers", handle, own_form, about, LayersRequest, example=example, answer=answer),)


async def layers(models: Models, request: LayersRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the layers of all texts, as `StreamLayers` gives them one by one."""
    model = chosen(models, call, request.model, ANY)
    with named_as_in_body():
        plan = plan_of(request, model)
        sent = sent_of(request.inputs, "inputs", model.limits.max_texts)
        prepared, encoded = await encode_request(model, plan, sent, call, _ADVICE)
    return HttpAnswer([part async for part in _written(request, model, prepared, encoded)])


def plan_of(request: LayersRequest, model: ServedModel) -> AskedEncoding:
    """Return the plan of a request. Raises as `parse_encoding` does."""
    states, weights = _layers(request, model.description.layers)
    options = encoding_pb2.EncodingOptions(
        truncation=truncation_of(request),
        priority=priority_of(request),
        outputs=[_OUTPUTS[output] for output in request.outputs],
        token_outputs=[tokenization_pb2.TOKENIZATION_OUTPUT_TOKENS],
        hidden_state_layers=states,
        attention_layers=weights,
    )
    fill(options, {"attention_heads": request.heads, "add_special_tokens": request.add_special_tokens})
    if request.heads and "attentions" not in request.outputs:
        raise invalid("heads", "they mean something only with attentions among the outputs", "INVALID_COMBINATION")
    if None not in (request.prompt, request.prompt_name):
        raise invalid("prompt_name", "give this or prompt, not both", "INVALID_COMBINATION")
    fill(options, {"prompt": request.prompt, "prompt_name": request.prompt_name})
    return parse_encoding(options, model.name, model.description, INTERACTIVE)


def _layers(request: LayersRequest, last: int) -> tuple[list[int], list[int]]:
    """Return the layers of states, and those of weights, which the embeddings do not have. Raises INVALID_ARGUMENT."""
    asked = [request.layers] if isinstance(request.layers, int) else request.layers
    for path, given in (("layers", asked), ("outputs", request.outputs)):
        if not given:
            raise invalid(path, "the list is empty", "INVALID_EMPTY_LIST")
    for index, layer in enumerate(asked):
        if not -last - 1 <= layer <= last:
            raise invalid(f"layers[{index}]", f"it is not between {-last - 1} and {last}", "INVALID_RANGE")
    numbers = [layer % (last + 1) for layer in asked]
    attending = [number for number in numbers if number]
    if "attentions" in request.outputs and not attending:
        raise invalid("layers", "the embeddings, layer 0, have no attentions", "INVALID_COMBINATION")
    return (
        numbers if "hidden_states" in request.outputs else [],
        attending if "attentions" in request.outputs else [],
    )


async def _written(
    request: LayersRequest, model: ServedModel, prepared: Prepared, encoded: Encoded
) -> AsyncIterator[bytes]:
    """Yield the answer in parts, one for each text; their numbers are written in turn with other calls."""
    yield b'{"model":%b,"data":[' % dumped(model.name)
    count = int(prepared.layout.lengths.size)
    for index in range(count):
        outputs = [
            await _output(output, index, request.encoding_format, prepared, encoded) for output in request.outputs
        ]
        text = dumped({"index": index, **_tokens(prepared, index)})[:-1]
        yield b"".join([b"," * (index > 0), text, *outputs, b"}"])
    usage = {
        "inputs": count,
        "input_tokens": int(prepared.batch.ids.size),
        "truncated_inputs": int(prepared.truncated.sum()),
    }
    yield b'],"usage":%b}' % dumped(usage)


def _tokens(prepared: Prepared, text: int) -> Mapping[str, Any]:
    tokens, lengths = prepared.tokens, prepared.layout.lengths
    assert tokens.tokens is not None
    start = int(lengths[:text].sum())
    which = slice(start, start + int(lengths[text]))
    return {"token_ids": tokens.ids[which].tolist(), "tokens": tokens.tokens[which]}


async def _output(output: str, text: int, encoding_format: str, prepared: Prepared, encoded: Encoded) -> bytes:
    """Return an output of a text as a member of its object, after a comma."""
    written = []
    for layer, values in _values(output, text, prepared, encoded):
        head = dumped({"layer": layer, "shape": values.shape})[:-1]
        written.append(b'%b,"values":%b}' % (head, await _numbers(values, encoding_format)))
    return b",%b:[%b]" % (dumped(output), b",".join(written))


def _values(output: str, text: int, prepared: Prepared, encoded: Encoded) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each layer of an output of a text: states [tokens, width], or weights [heads, tokens, tokens]."""
    layout, length = prepared.layout, int(prepared.layout.lengths[text])
    for name in outputs_of(encoded.tensors):
        kind, _, layer = name.partition(".")
        if kind == output:
            values = encoded.tensors[name][layout.rows(name, text, text + 1)].astype(np.float32, copy=False)
            shape = (len(layout.heads), length, length) if output == "attentions" else (length, -1)
            yield int(layer), np.ascontiguousarray(values.reshape(shape))


async def _numbers(values: NDArray[np.float32], encoding_format: str) -> bytes:
    if encoding_format == "base64":
        await asyncio.sleep(0)
        return dumped(base64_of(values))
    return b"".join(await listed(values, lambda _, row: row))
