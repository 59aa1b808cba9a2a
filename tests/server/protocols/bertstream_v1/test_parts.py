"""Whatever the sizes, the messages together hold all outputs, and each has at most about 1 MiB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.server.core import splitting
from bertstream.server.core.layout import AnswerSizes, Layout
from bertstream.server.core.splitting import rows_of_text, split
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.v1 import encoding_pb2

WIDTH, HEADS = 6, (2, 0)
LIMIT = 500


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MESSAGE_BYTES", LIMIT)


def make(lengths: list[int], spans: list[int], *, int8: bool = False) -> tuple[dict[str, Any], Layout, Any]:
    """Return outputs in which each number tells its position."""
    layout = Layout(np.array(lengths, np.int32), np.array(spans, np.int32), HEADS)
    tokens, numbers = sum(lengths), sum(len(HEADS) * n * n for n in lengths)
    shapes = {
        "pooled": (len(lengths), WIDTH),
        "pooled_spans": (sum(spans), WIDTH),
        "last_hidden_state": (tokens, WIDTH),
        "hidden_states.10": (tokens, WIDTH),
        "hidden_states.2": (tokens, WIDTH),
        "attentions.1": (numbers,),
    }
    dtype: Any = np.int8 if int8 else np.float32
    tensors: dict[str, Any] = {
        name: (np.arange(np.prod(s)) % 101).astype(dtype).reshape(s) for name, s in shapes.items()
    }
    if int8:
        rows = {name: shape[0] for name, shape in shapes.items()} | {
            "attentions.1": sum(len(HEADS) * n for n in lengths)
        }
        tensors |= {f"{name}.scales": np.arange(count, dtype=np.float32) for name, count in rows.items()}
    size = 1 if int8 else 4
    return tensors, layout, AnswerSizes(size * WIDTH, 3 * size * WIDTH, size * len(HEADS), size * WIDTH)


def gather(messages: list[encoding_pb2.Encodings], int8: bool) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Return all numbers of all messages, by output."""
    found: dict[str, list[np.ndarray[Any, Any]]] = {}

    def add(name: str, tensor: Any) -> None:
        if tensor.data_type:
            found.setdefault(name, []).append(np.frombuffer(tensor.data, np.int8 if int8 else np.float32))
            if int8:
                found.setdefault(f"{name}.scales", []).append(np.frombuffer(tensor.scales, np.float32))

    for message in messages:
        add("pooled", message.pooled)
        add("pooled_spans", message.pooled_spans)
        add("last_hidden_state", message.last_hidden_state.values)
        for states in message.hidden_states:
            add(f"hidden_states.{states.layer}", states.states.values)
        for weights in message.attentions:
            assert tuple(weights.heads) == HEADS
            add(f"attentions.{weights.layer}", weights.weights)
    return found


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("lengths", [[1], [3, 1, 2, 4, 1], [40], [2, 40, 1], [1] * 30, [17, 23]])
def test_the_messages_together_are_the_outputs(lengths: list[int], int8: bool) -> None:
    tensors, layout, sizes = make(lengths, [i % 3 for i in range(len(lengths))], int8=int8)
    parts = list(split(tensors, layout, sizes.of(layout.lengths, layout.span_counts)))
    messages = []
    for part in parts:
        wire.write_part(message := encoding_pb2.Encodings(), part)
        messages.append(message)
    done = [text for part in parts if not part.more for text in range(part.first, part.last)]
    assert done == list(range(len(lengths)))
    for name, pieces in gather(messages, int8).items():
        np.testing.assert_array_equal(np.concatenate(pieces), tensors[name].reshape(-1))
    for part, message in zip(parts, messages, strict=True):
        assert message.ByteSize() < 3 * LIMIT + 4 * WIDTH * 4 * (part.last - part.first)
        assert [states.layer for states in message.hidden_states] in ([], [2], [10], [2, 10])


def test_parts_of_one_text_say_where_they_belong() -> None:
    tensors, layout, sizes = make([40], [0])
    parts = list(split(tensors, layout, sizes.of(layout.lengths, layout.span_counts)))
    assert parts[0].rows is None
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    rows = 0
    for part in parts[1:]:
        wire.write_part(message := encoding_pb2.Encodings(), part)
        if message.attentions:
            assert message.attentions[0].first_row == rows
            rows += len(message.attentions[0].weights.data) // (4 * 40)
            assert message.attentions[0].more_rows == (rows < 80)
    assert rows == 80


def test_rows_of_a_text_are_matrices() -> None:
    tensors, layout, _ = make([3, 20], [0, 0])
    widths = {rows.name: rows.values.shape[1] for rows in rows_of_text(tensors, layout, 1)}
    assert widths == {"attentions.1": 20, "hidden_states.2": 6, "hidden_states.10": 6, "last_hidden_state": 6}
