"""Both clients against a fake server: any outputs, spans, and bulk streams of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import SpannedText
from bertstream.client._types import Output
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import HEADS, HIDDEN, LAYERS, attentions, span_vector, states, vector
from tests.client.fake_server import Code, FakeServer, status

EVERYTHING: list[Output] = ["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions"]
TEXTS: list[Any] = ["a", ("b", "c"), ["d", "e"], [5, 6], "é" * 9]
KEYS = ["text:a", "pair:b|c", "words:d|e", "ids:5,6", "text:" + "é" * 9]
GONE = status(Code.UNAVAILABLE, "gone")


def options_seen(server: FakeServer) -> encoding.EncodingOptions:
    """Return the options in effect of the last stream."""
    assert server.seen.options is not None
    return server.seen.options


@pytest.mark.parametrize("split", [0, 1, 5])
def test_everything(server: FakeServer, client: Any, split: int) -> None:
    server.does.split_rows, server.does.reverse = split, True
    for output, key in zip(client.forward(TEXTS, EVERYTHING), KEYS, strict=True):
        np.testing.assert_array_equal(output.pooled, vector(key))
        np.testing.assert_array_equal(output.pooler_output, -vector(key))
        np.testing.assert_array_equal(output.last_hidden_state, states(key))
        assert list(output.hidden_states) == list(range(LAYERS + 1))
        for layer, array in output.hidden_states.items():
            np.testing.assert_array_equal(array, states(key, layer))
        assert list(output.attentions) == list(range(1, LAYERS + 1))
        assert output.heads == tuple(range(HEADS))
        for layer, array in output.attentions.items():
            np.testing.assert_array_equal(array, attentions(key, layer))
        assert output.token_count == len(key)
        assert output.token_ids.tolist() == list(map(ord, key))
        assert output.tokens == list(key)
        assert output.offsets.tolist() == [[index, index + 1] for index in range(len(key))]


@pytest.mark.parametrize("split", [0, 4])
@pytest.mark.parametrize("wire", ["float16", "bfloat16", "int8"])
def test_wire_types_of_rows(server: FakeServer, client: Any, split: int, wire: Any) -> None:
    server.does.split_rows = split
    for output, key in zip(client.forward(TEXTS, EVERYTHING, wire_type=wire), KEYS, strict=True):
        wanted, atol = attentions(key, 2), 0.01 if wire == "int8" else 0
        np.testing.assert_allclose(output.attentions[2], wanted, atol=atol)
        np.testing.assert_allclose(output.hidden_states[0], states(key, 0), atol=6 if wire != "float16" else 0)


def test_some_layers_and_heads(server: FakeServer, client: Any) -> None:
    (output,) = client.forward("ab", ["hidden_states", "attentions"], layers=[0, -1], heads=[2, 0])
    assert (list(output.hidden_states), list(output.attentions)) == ([0, LAYERS], [LAYERS])
    np.testing.assert_array_equal(output.attentions[LAYERS], attentions("text:ab", LAYERS, [2, 0]))
    assert output.heads == (2, 0)
    options = options_seen(server)
    assert list(options.hidden_state_layers) == [0, -1]
    assert (list(options.attention_layers), list(options.attention_heads)) == ([-1], [2, 0])
    (output,) = client.forward("ab", ["hidden_states", "attentions"], layers=0, attention_layers=1, heads=-1)
    assert (list(output.hidden_states), list(output.attentions)) == ([0], [1])
    assert output.attentions[1].shape == (1, 7, 7)


def test_the_embeddings_are_left_out_of_attentions_however_they_are_counted(server: FakeServer, client: Any) -> None:
    outputs: list[Output] = ["hidden_states", "attentions"]
    for layers in ([0, 1], [-LAYERS - 1, 1]):
        (output,) = client.forward("ab", outputs, layers=layers)
        assert (list(output.hidden_states), list(output.attentions)) == ([0, 1], [1])
        kinds = [(event.kind, event.layer) for event in list(client.stream_layers("ab", outputs, layers=layers))[:-1]]
        assert kinds == [("hidden_states", 0), ("hidden_states", 1), ("attentions", 1)]
    assert server.seen.rpcs["GetModel"] == 1
    for call in (client.forward, lambda *args, **options: list(client.stream_layers(*args, **options))):
        with pytest.raises(ValueError, match="embeddings"):
            call("ab", ["attentions"], layers=-LAYERS - 1)
        with pytest.raises(sdk.RpcError):  # given as attention_layers, it is refused by the server
            call("ab", ["attentions"], attention_layers=-LAYERS - 1)


def test_options_arrive(server: FakeServer, client: Any) -> None:
    client.forward("a", ["pooled"], pooling="max", pooling_layers=[1, 2], offset_unit="utf8_bytes")
    options = options_seen(server)
    assert options.pooling == encoding.PoolingOptions(mode=encoding.POOLING_MODE_MAX, layers=[1, 2])
    assert options.priority == types.PRIORITY_INTERACTIVE
    assert (options.offset_unit, list(options.token_outputs)) == (3, [1, 2])
    list(client.forward_stream(["a"], ["pooled"]))
    assert options_seen(server).priority == types.PRIORITY_UNSPECIFIED


@pytest.mark.parametrize("has_pooler", [True, False])
def test_outputs_that_are_not_named(server: FakeServer, client: Any, has_pooler: bool) -> None:
    server.does.model.has_pooler = has_pooler
    (output,) = client.forward("a")
    assert (output.pooler_output is not None) == has_pooler
    assert output.pooled is not None
    assert output.last_hidden_state is not None
    assert (output.pooled_spans, output.hidden_states, output.attentions, output.heads) == (None, {}, {}, ())


MISUSE: list[tuple[str, dict[str, Any]]] = [
    ("outputs must be", {"outputs": []}),
    ("outputs must be", {"outputs": "pooled"}),
    ("outputs must be one of", {"outputs": ["best"]}),
    ("embeddings", {"outputs": ["attentions"], "layers": 0}),
    ("embeddings", {"outputs": ["attentions", "hidden_states"], "layers": [0]}),
    ("pooling_layers", {"outputs": ["pooled"], "layers": [1]}),
    ("heads goes with", {"outputs": ["hidden_states"], "heads": [1]}),
    ("attention_layers goes with", {"outputs": ["hidden_states"], "attention_layers": [1]}),
    ("offset_unit", {"outputs": ["pooled"], "offset_unit": "words"}),
    ("span_unit", {"outputs": ["pooled_spans"], "spans": [[]], "span_unit": "lines"}),
    ("spans go with", {"outputs": ["pooled"], "spans": [[]]}),
    ("spans go with", {"outputs": ["pooled_spans"]}),
    ("one list of", {"outputs": ["pooled_spans"], "spans": [[], []]}),
]


@pytest.mark.parametrize(("message", "arguments"), MISUSE, ids=str)
def test_misuse(client: Any, message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        client.forward(["a"], **arguments)


def test_spans(server: FakeServer, client: Any) -> None:
    spans: list[Any] = [[(0, 1), (0, 4)], [], [(2, 3)], np.array([[1, 2], [3, 7]]), ((0, 1) for _ in range(3))]
    vectors = client.encode_spans(TEXTS, spans)
    expected = [[(0, 1), (0, 4)], [], [(2, 3)], [(1, 2), (3, 7)], [(0, 1)] * 3]
    for row, key, some in zip(vectors, KEYS, expected, strict=True):
        wanted = np.array([span_vector(key, *span) for span in some], np.float32).reshape(-1, HIDDEN)
        np.testing.assert_array_equal(row, wanted)
    assert server.seen.unit == encoding.SPAN_UNIT_CHARACTERS


def test_more_spans_than_one_message_has_room_for(server: FakeServer, client: Any) -> None:
    texts = [f"t{index}" for index in range(40)]
    spans = [[(start, start + 1) for start in range(5000)] for _ in texts]
    vectors = client.encode_spans(texts, spans, unit="words", pooling="max", dimensions=2)
    assert [row.shape for row in vectors] == [(5000, 2)] * 40
    np.testing.assert_array_equal(vectors[39][4999], span_vector("text:t39", 4999, 5000)[:2])
    assert server.seen.unit == encoding.SPAN_UNIT_WORDS
    assert list(options_seen(server).outputs) == [encoding.ENCODING_OUTPUT_POOLED_SPANS]
    assert server.seen.messages > 2


def test_spans_beside_other_outputs(server: FakeServer, client: Any) -> None:
    server.does.split_rows = 2
    texts, outputs = ["ab", "cd"], ["pooled", "hidden_states", "pooled_spans"]
    rows = client.forward(texts, outputs, spans=[[(0, 1)], [(1, 2), (0, 2)]], span_unit="tokens", layers=[1])
    assert [row.pooled_spans.shape for row in rows] == [(1, HIDDEN), (2, HIDDEN)]
    assert all(row.hidden_states[1].shape == (7, HIDDEN) for row in rows)
    assert server.seen.unit == encoding.SPAN_UNIT_TOKENS
    spanned = [SpannedText("ab", [(0, 1)]), SpannedText(("c", "d"), [])]
    (batch,) = client.forward_stream(spanned, outputs)
    assert [row.pooled_spans.shape for row in batch.outputs] == [(1, HIDDEN), (0, HIDDEN)]


@pytest.mark.parametrize(
    ("kind", "spans"),
    [
        (TypeError, [(0, 4)]),
        (TypeError, [[(0, 4, 5)]]),
        (TypeError, [[(0, 4), (5,)]]),
        (TypeError, [[(0.5, 4)]]),
        (TypeError, ["ab"]),
        (TypeError, [None]),
        (ValueError, [[(3, 3)]]),
        (ValueError, [[(-1, 3)]]),
        (ValueError, [[(0, 2**31)]]),
        (ValueError, []),
    ],
)
def test_spans_that_are_none(client: Any, kind: type[Exception], spans: Any) -> None:
    with pytest.raises(kind, match=r"span"):
        client.encode_spans("text", spans)


def test_a_text_without_its_spans(client: Any) -> None:
    with pytest.raises(TypeError, match="SpannedText"):
        list(client.forward_stream(["a"], ["pooled_spans"]))
    with pytest.raises(TypeError, match="a text is"):
        list(client.forward_stream([SpannedText("a", [])], ["pooled"]))


@pytest.mark.parametrize("ordered", [True, False])
def test_streams_of_outputs(server: FakeServer, client: Any, ordered: bool) -> None:
    server.does.split_rows, server.does.hold_first, server.does.reverse = 3, 20, True
    items = [(100 + index, f"t{index}") for index in range(50)]
    batches = list(client.forward_stream(items, ["hidden_states"], layers=[1], ordered=ordered, batch_size=7))
    pairs = [(item, row) for batch in batches for item, row in zip(batch.ids.tolist(), batch.outputs, strict=True)]
    assert ([item for item, _ in pairs] == list(range(100, 150))) == ordered
    assert sorted(item for item, _ in pairs) == list(range(100, 150))
    for item, row in pairs:
        np.testing.assert_array_equal(row.hidden_states[1], states(f"text:t{item - 100}", 1))


def test_failed_items_of_a_stream_of_outputs(client: Any) -> None:
    (batch,) = client.forward_stream(["a", "bad", "c"], ["pooled"], on_error="collect")
    assert (batch.ids.tolist(), len(batch)) == ([0, 2], 2)
    assert [failure.id for failure in batch.errors] == [1]
    with pytest.raises(sdk.InvalidArgument, match="item 1"):
        client.forward(["a", "bad"], ["pooled"])


def test_a_connection_that_breaks_between_the_parts_of_a_text(server: FakeServer, client: Any) -> None:
    server.does.split_rows = 2
    server.does.break_parts = 5
    server.does.breaks.append((0, GONE))
    rows = client.forward(["abc", "def"], ["hidden_states"])
    for row, key in zip(rows, ["text:abc", "text:def"], strict=True):
        np.testing.assert_array_equal(row.hidden_states[0], states(key, 0))
    assert server.seen.rpcs["StreamEncodings"] == 2


def test_few_large_answers_are_under_way(server: FakeServer, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "text:" + "x" * 20
    size = states(key).nbytes * (LAYERS + 1)
    monkeypatch.setattr("bertstream.client._calls.stream.HELD_BYTES", 10 * size)
    server.does.model.default_max_length = len(key)
    taken = given = ahead = 0

    def texts() -> Any:
        nonlocal taken
        for _ in range(500):
            taken += 1
            yield "x" * 20

    for batch in client.forward_stream(texts(), ["hidden_states"], batch_size=4):
        given += len(batch)
        ahead = max(ahead, taken - given)
    assert given == 500
    assert ahead <= 3 * 10
    assert server.seen.most_under_way <= 10


def test_answers_that_make_no_sense(server: FakeServer, client: Any) -> None:
    for broken in ("row", "missing", "heads", "spans", "tokens", "two"):
        server.does.broken_part = broken
        server.does.split_rows = 3 if broken in ("row", "missing", "heads") else 0
        with pytest.raises(sdk.Internal, match="unexpected answer"):
            client.forward(
                ["abc", "def"], ["hidden_states", "attentions", "pooled_spans"], spans=[[(0, 1)], [(0, 1)]], timeout=60
            )


def test_a_deadline_ends_it(server: FakeServer, client: Any) -> None:
    client.model()
    server.does.stall = threading.Event()
    with pytest.raises(sdk.DeadlineExceeded):
        client.forward(["a"], timeout=0.2)
