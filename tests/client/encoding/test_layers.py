"""Streams of layers: both clients against a fake server, and the assembly of layers without one."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import AsyncClient, Client, Layer, LayersDone
from bertstream.client._encoding.layers import LayerAssembly
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import HEADS, HIDDEN, LAYERS, attentions, span_vector, states, tensor, vector
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_status import PATIENCE

LAST = LAYERS


@pytest.mark.parametrize("split", [0, 1, 4])
@pytest.mark.parametrize("wire", [None, "float16"])
def test_layers_come_in_order_and_whole(server: FakeServer, client: Any, split: int, wire: Any) -> None:
    server.does.split_rows = split
    *layers, done = client.stream_layers(["ab", "cde"], ["hidden_states", "attentions"], wire_type=wire)
    kinds = [(0, "hidden_states"), (1, "hidden_states"), (1, "attentions"), (2, "hidden_states"), (2, "attentions")]
    assert [(each.text_index, each.layer, each.kind) for each in layers] == [
        (i, *kind) for i in (0, 1) for kind in kinds
    ]
    for layer in layers:
        key = ["text:ab", "text:cde"][layer.text_index]
        wanted = states(key, layer.layer) if layer.kind == "hidden_states" else attentions(key, layer.layer)
        np.testing.assert_array_equal(layer.array, wanted)
        assert layer.array.dtype == (np.float16 if wire else np.float32)
        assert layer.heads == (tuple(range(HEADS)) if layer.kind == "attentions" else ())
        assert layer.tokens == list(key)
        assert (layer.token_ids.tolist(), layer.offsets[:2].tolist()) == (list(map(ord, key)), [[0, 1], [1, 2]])
    assert isinstance(done, LayersDone)
    assert done.usage == sdk.Usage(2, 15, 0)
    assert done.timings == sdk.Timings(None, None, 0.5, 2.0)
    assert [(row.token_count, "".join(row.tokens), row.pooled) for row in done.outputs] == [
        (7, "text:ab", None),
        (8, "text:cde", None),
    ]


def test_some_layers_heads_and_vectors(server: FakeServer, client: Any) -> None:
    outputs = ["hidden_states", "attentions", "pooled", "pooler_output", "pooled_spans"]
    spans = [[(0, 2), (1, 2)]]
    *layers, done = client.stream_layers("ab", outputs, layers=[0, -1], heads=[-1], spans=spans)
    assert [(each.kind, each.layer) for each in layers] == [
        ("hidden_states", 0),
        ("hidden_states", 2),
        ("attentions", 2),
    ]
    np.testing.assert_array_equal(layers[2].array, attentions("text:ab", 2, [HEADS - 1]))
    assert layers[2].heads == (HEADS - 1,)
    (output,) = done.outputs
    np.testing.assert_array_equal(output.pooled, vector("text:ab"))
    np.testing.assert_array_equal(output.pooler_output, -vector("text:ab"))
    np.testing.assert_array_equal(output.pooled_spans, [span_vector("text:ab", *span) for span in spans[0]])
    (layer, _) = client.stream_layers("ab", ["last_hidden_state"])
    assert (layer.kind, layer.layer) == ("hidden_states", LAST)
    assert server.seen.requests[-1].options.priority == types.PRIORITY_INTERACTIVE


def test_a_layer_is_seen_before_the_last_is_computed(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    stream = client.stream_layers("ab")
    first = next(stream)
    seen = list(server.seen.layers)  # of which the server computes the next meanwhile
    assert (first.layer, seen) == (0, [(0, 0), (0, 1)][: len(seen)])
    assert (0, LAST) not in server.seen.layers
    server.does.layer_gate.set()
    assert [event.layer for event in stream if isinstance(event, Layer)] == [1, 2]
    assert server.seen.layers == [(0, 0), (0, 1), (0, 2)]


def test_closing_early_cancels_the_call(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    stream = client.stream_layers(["ab"] * 500)
    next(stream)
    assert not server.seen.cancelled.is_set()
    stream.close()
    assert server.seen.cancelled.wait(20)
    server.does.layer_gate.set()
    time.sleep(0.1)
    assert len(server.seen.layers) < 10


def test_dropping_the_generator_cancels_the_call(server: FakeServer) -> None:
    with Client(server.address) as client:
        for _ in client.stream_layers(["ab"] * 5000):
            break
        gc.collect()
        assert server.seen.cancelled.wait(20)


def test_a_slow_reader_slows_the_server(server: FakeServer, client: Any) -> None:
    stream = client.stream_layers(["x" * 1000] * 100, ["attentions"])  # 12 MB a layer, of which gRPC takes some ahead
    next(stream)
    time.sleep(0.5)
    assert len(server.seen.layers) < 100  # of 200
    stream.close()


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_stream_is_not_resumed(server: FakeServer, client: Any, after: int) -> None:
    server.does.breaks.append((after, status(Code.UNAVAILABLE, "gone", "WORKER_LOST")))
    seen: list[Any] = []
    with pytest.raises(sdk.Unavailable, match="the stream of layers was interrupted: gone") as caught:
        seen.extend(client.stream_layers("ab"))
    assert caught.value.reason == "WORKER_LOST"
    assert server.seen.rpcs["StreamLayers"] == 1


def test_a_stream_that_has_not_begun_is_tried_again(server: FakeServer, client: Any) -> None:
    server.does.breaks.append((0, status(Code.UNAVAILABLE, "busy")))
    assert len(list(client.stream_layers("ab"))) == LAYERS + 2
    assert server.seen.rpcs["StreamLayers"] == 2


def test_errors_have_the_index_of_the_text(client: Any) -> None:
    with pytest.raises(sdk.InvalidArgument, match="is bad") as caught:
        list(client.stream_layers(["a", "bad"]))
    assert caught.value.fields == [("inputs.texts[1]", "bad")]


def test_a_stream_that_ends_early(server: FakeServer, client: Any) -> None:
    server.does.bad_answer = True
    with pytest.raises(sdk.Internal, match="before it was complete"):
        list(client.stream_layers("ab"))


def test_a_deadline(server: FakeServer, client: Any) -> None:
    server.does.layer_gate = threading.Event()
    with pytest.raises(sdk.DeadlineExceeded):
        list(client.stream_layers("ab", timeout=0.2))
    server.does.layer_gate.set()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("of one kind", {"texts": ["a", ["b"]]}),
        ("at least one text", {"texts": []}),
        ("outputs must be", {"texts": ["a"], "outputs": []}),
        ("embeddings", {"texts": ["a"], "outputs": ["attentions"], "layers": [0]}),
        ("spans go with", {"texts": ["a"], "spans": [[(0, 1)]]}),
    ],
)
def test_misuse_shows_at_once(client: Any, message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(client, "client", client).stream_layers(**arguments)


def test_a_closed_client_says_so(server: FakeServer, connect: Any) -> None:
    client = connect(server.address)
    stream = client.stream_layers("ab")
    client.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_closing_the_client_cancels(server: FakeServer) -> None:
    client = Client(server.address)
    server.does.layer_gate = threading.Event()
    stream = client.stream_layers("ab")
    next(stream)
    client.close()
    with pytest.raises(sdk.Cancelled):
        list(stream)


async def test_closing_the_asynchronous_client_cancels(server: FakeServer) -> None:
    server.does.layer_gate = threading.Event()
    client = AsyncClient(server.address)
    stream = client.stream_layers("ab")
    await anext(stream)
    following = asyncio.create_task(_rest(stream))
    await asyncio.sleep(0.1)
    await client.close()
    with pytest.raises(sdk.Cancelled):
        await following


async def test_cancelling_a_task_cancels_the_call(server: FakeServer) -> None:
    server.does.layer_gate = threading.Event()
    async with AsyncClient(server.address) as client:
        task = asyncio.create_task(_rest(client.stream_layers("ab")))
        await server.seen.call_of("StreamLayers")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.seen.cancelled.wait, PATIENCE)


async def _rest(stream: Any) -> list[Any]:
    return [event async for event in stream]


def started(*token_counts: int, heads: int = 0) -> encoding.StreamLayersResponse:
    options = encoding.EncodingOptions(attention_heads=range(heads))
    message = encoding.LayersStarted(token_counts=token_counts, options=options)
    return encoding.StreamLayersResponse(started=message)


def rows(first: int, count: int, width: int = HIDDEN, **fields: Any) -> encoding.StreamLayersResponse:
    message = encoding.TensorRows(**{"source": encoding.ROW_SOURCE_HIDDEN_STATE, "first_row": first, **fields})
    message.rows.CopyFrom(tensor(np.ones((count, width), np.float32), types.DATA_TYPE_FLOAT32))
    return encoding.StreamLayersResponse(rows=message)


COMPLETED = encoding.StreamLayersResponse(completed=encoding.LayersCompleted())
BROKEN: dict[str, list[encoding.StreamLayersResponse]] = {
    "nothing in it": [encoding.StreamLayersResponse()],
    "rows before the start": [rows(0, 3)],
    "completed before the start": [COMPLETED],
    "completed too soon": [started(3), rows(0, 2), COMPLETED],
    "a gap": [started(3), rows(0, 1), rows(2, 1)],
    "rows twice": [started(3), rows(0, 2), rows(0, 2)],
    "too many rows": [started(3), rows(0, 4)],
    "other widths": [started(3), rows(0, 1), rows(1, 1, 4)],
    "no such text": [started(3), rows(0, 3, text_index=1)],
    "no such source": [started(3), rows(0, 3, source=encoding.RowSource.ValueType(7))],
    "no heads": [started(3), rows(0, 3, 3, source=encoding.ROW_SOURCE_ATTENTION)],
    "rows of other texts": [started(3, heads=1), rows(0, 3, 4, source=encoding.ROW_SOURCE_ATTENTION)],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_messages_that_make_no_sense(messages: list[encoding.StreamLayersResponse]) -> None:
    assembly = LayerAssembly()
    for message in messages[:-1]:
        assembly.receive(message)
    with pytest.raises(sdk.Internal, match="unexpected answer"):
        assembly.receive(messages[-1])


def test_rows_of_several_texts_may_interleave() -> None:
    assembly = LayerAssembly()
    messages = [started(2, 3), rows(0, 1), rows(0, 2, text_index=1), rows(1, 1), rows(2, 1, text_index=1), COMPLETED]
    events = [assembly.receive(message) for message in messages]
    assert [isinstance(event, Layer) for event in events] == [False, False, False, True, True, False]
    assert isinstance(events[-1], LayersDone)
    assembly.ended()


def test_a_layer_in_one_message_is_not_copied() -> None:
    assembly = LayerAssembly()
    assembly.receive(started(3))
    layer = assembly.receive(rows(0, 3))
    assert isinstance(layer, Layer)
    assert not layer.array.flags.owndata
