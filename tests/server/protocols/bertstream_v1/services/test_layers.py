"""How a stream of layers is cut into groups of texts and into steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertstream.server.core.dispatch import cut
from bertstream.server.protocols.bertstream_v1.services.layers import step_costs, steps_of
from bertstream.server.protocols.bertstream_v1.validation.encoding import parse_encoding
from bertstream.v1 import encoding_pb2 as e
from bertstream.workers.contract import INTERACTIVE, Batch, OutputOptions, Pooling
from tests.server.protocols.bertstream_v1.validation.support import description

LAST = 5


def batch_of(lengths: list[int]) -> Batch:
    return Batch(np.zeros(sum(lengths), np.int32), np.array(lengths, np.int32))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("batch_tokens", [100, 100_000])
def test_two_steps_of_a_group_fit_the_bound_on_bytes(weights: bool, batch_tokens: int) -> None:
    outputs = [e.ENCODING_OUTPUT_HIDDEN_STATES, *([e.ENCODING_OUTPUT_ATTENTIONS] if weights else [])]
    plan = parse_encoding(e.EncodingOptions(outputs=outputs), "mine", description(), INTERACTIVE)
    model: Any = SimpleNamespace(
        limits=SimpleNamespace(stream_bytes=200_000),
        description=description(),
        dispatcher=SimpleNamespace(batch_tokens=batch_tokens),
    )
    lengths = [100] * 20 + [10] * 50 + [1] * 30
    groups = [each for _, each in cut(batch_of(lengths), *step_costs(plan, batch_of(lengths), model))]
    assert sum(group.lengths.size for group in groups) == len(lengths)
    for group in groups:
        long = group.lengths.astype(np.int64)
        size = int((4 * 36 * long + (3 * 4 * long * long if weights else 0)).sum())
        assert group.lengths.size == 1 or (2 * size <= 200_000 and group.ids.size <= batch_tokens)
    assert len(groups) < len(lengths)


def test_steps_go_from_layer_to_layer_and_end_with_the_vectors() -> None:
    output_options = OutputOptions(
        ("pooled", "hidden_states", "attentions", "last_hidden_state"),
        Pooling("mean", (1, 5)),
        hidden_layers=(0, 3),
        attention_layers=(2, 3),
        attention_heads=(1,),
    )
    steps = steps_of(output_options, LAST)
    assert [step.outputs for step in steps] == [
        ("hidden_states",),
        ("attentions",),
        ("hidden_states", "attentions"),
        ("hidden_states",),
        ("pooled",),
    ]
    assert [step.hidden_layers for step in steps[:4:3]] == [(0,), (LAST,)]
    assert steps[1].attention_layers == (2,)
