from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bertstream.workers.contract import (
    LayerCombination,
    Output,
    OutputOptions,
    Pooling,
    PoolingMode,
    Spans,
    WireType,
    Work,
)
from bertstream.workers.engine import outputs as outputs_module
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.outputs import to_wire
from bertstream.workers.programs.interface import Encoded
from tests.support.works import HIDDEN, LAST_LAYER, FakeProgram, fake_pool, fake_states, make_work

MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
COMBINATIONS: tuple[LayerCombination, ...] = get_args(LayerCombination)
OUTPUTS: tuple[Output, ...] = ("pooled", "pooler_output", "last_hidden_state")  # the others need a real program


def compute(*works: Work, program: FakeProgram | None = None) -> list[dict[str, torch.Tensor]]:
    return run(program or FakeProgram(), prepare(works, LAST_LAYER))


def texts_of(work: Work) -> list[dict[int, torch.Tensor]]:
    """Return the states of each text by layer, computed alone."""
    batch, texts, start = work.batch, [], 0
    for length in batch.lengths.tolist():
        ids = torch.from_numpy(batch.ids[start : start + length])
        types = None if batch.type_ids is None else torch.from_numpy(batch.type_ids[start : start + length])
        places = torch.arange(length)
        texts.append({layer: fake_states(ids, types, places, layer) for layer in range(LAST_LAYER + 1)})
        start += length
    return texts


def reference(work: Work) -> dict[str, torch.Tensor]:
    """Return the outputs of a work in float32, computed naively."""
    texts = texts_of(work)
    found: dict[str, torch.Tensor] = {}
    for output in work.output_options.outputs:
        if output == "last_hidden_state":
            found[output] = torch.cat([text[LAST_LAYER] for text in texts])
        elif output == "pooler_output":
            found[output] = torch.stack([torch.tanh(text[LAST_LAYER][0] * 0.5) for text in texts])
        else:
            assert work.output_options.pooling is not None
            found[output] = torch.stack([pooled(text, work.output_options.pooling) for text in texts])
    return found


def pooled(text: dict[int, torch.Tensor], pooling: Pooling) -> torch.Tensor:
    if pooling.mode == "pooler":
        vector = torch.tanh(text[LAST_LAYER][0] * 0.5)
    else:
        states = [text[layer] for layer in pooling.layers]
        if pooling.combination == "concatenate":
            vector = fake_pool(torch.cat(states, dim=1), pooling.mode)
        else:
            total = torch.stack(states).sum(0)
            vector = fake_pool(total / len(states) if pooling.combination == "mean" else total, pooling.mode)
    vector = vector[: pooling.dimensions] if pooling.dimensions else vector
    return vector / vector.norm().clamp(min=1e-12) if pooling.normalize else vector


def check(works: Sequence[Work]) -> None:
    for work, found in zip(works, compute(*works), strict=True):
        expected = reference(work)
        assert list(found) == list(expected)
        for name, values in expected.items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("mode", "combination"), list(itertools.product(MODES, COMBINATIONS)))
def test_every_pooling(mode: PoolingMode, combination: LayerCombination) -> None:
    layers: tuple[int, ...] = (LAST_LAYER,) if mode == "pooler" else (0, 2, 3)
    works = [
        make_work(1, [3, 1, 5, 3], output_options=OutputOptions(("pooled",), Pooling(mode, layers, combination))),
        make_work(
            2,
            [2, 5],
            output_options=OutputOptions(("pooled",), Pooling(mode, layers, combination, True, 4)),
            first_id=50,
        ),
    ]
    check(works)


OUTPUT_OPTIONS = st.builds(
    lambda outputs, mode, layers, combination, normalize, dimensions: OutputOptions(
        tuple(outputs),
        Pooling(mode, (LAST_LAYER,) if mode == "pooler" else tuple(layers), combination, normalize, dimensions)
        if "pooled" in outputs
        else None,
    ),
    st.lists(st.sampled_from(OUTPUTS), min_size=1, unique=True),
    st.sampled_from(MODES),
    st.lists(st.integers(0, LAST_LAYER), min_size=1, unique=True),
    st.sampled_from(COMBINATIONS),
    st.booleans(),
    st.integers(0, HIDDEN),
)
WORKS = st.lists(
    st.builds(
        make_work,
        st.integers(),
        st.lists(st.integers(1, 6), min_size=1, max_size=5),
        output_options=OUTPUT_OPTIONS,
        first_id=st.integers(0, 900),
        type_ids=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(WORKS)
@settings(max_examples=60)
def test_mixed_output_options_give_each_work_its_own_in_its_own_order(works: list[Work]) -> None:
    check(works)


def test_type_ids_in_some_works_only() -> None:
    check([make_work(1, [3, 2], type_ids=True), make_work(2, [4]), make_work(3, [1, 3], type_ids=True)])


def test_texts_are_sorted_so_that_equal_lengths_are_neighbours() -> None:
    batch = prepare([make_work(1, [2, 5, 2]), make_work(2, [5, 1])], LAST_LAYER)
    assert batch.lengths == [5, 5, 2, 2, 1]
    assert batch.starts.tolist() == [0, 5, 10, 12, 14]
    assert batch.place.tolist() == [2, 0, 3, 1, 4]
    assert batch.type_ids is None


def test_no_layer_is_asked_for_that_nobody_wants() -> None:
    program = FakeProgram()
    low = OutputOptions(("pooled",), Pooling("mean", (1, 0)))
    compute(make_work(1, output_options=low), program=program)
    compute(
        make_work(1, output_options=low),
        make_work(2, output_options=OutputOptions(("pooler_output",))),
        program=program,
    )
    compute(make_work(1, output_options=OutputOptions(("last_hidden_state",))), program=program)
    assert program.layers_asked == [[0, 1], [0, 1, LAST_LAYER], [LAST_LAYER]]


class Recorded(FakeProgram):
    """Give the vectors of one pooling, which are all 7, and the states of any layers, for texts of up to 10 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.replays: list[list[int]] = []

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        ready = poolings & {Pooling("mean", (LAST_LAYER,))}
        if len(ids) > 10 or not ready:
            return super().encode(ids, type_ids, lengths, layers, poolings)
        found = super().encode(ids, type_ids, lengths, layers, poolings - ready)
        self.replays.append(list(found.states))
        return replace(found, vectors={each: torch.full((len(lengths), HIDDEN), 7.0) for each in ready})


def test_vectors_that_come_along_need_no_states() -> None:
    program = Recorded()
    own, states = make_work(1, [3, 2]), make_work(2, [2], output_options=OutputOptions(("last_hidden_state",)))
    first = make_work(3, [2], output_options=OutputOptions(("pooled",), Pooling("cls", (LAST_LAYER,))))
    lower = make_work(4, [2], output_options=OutputOptions(("pooled",), Pooling("mean", (1,))))
    for others in ([], [states], [first], [lower, states], [own]):
        vectors, *found = compute(own, *others, program=program)
        assert torch.equal(vectors["pooled"], torch.full((2, HIDDEN), 7.0))
        for other, outputs in zip(others, found, strict=True):
            torch.testing.assert_close(outputs, vectors if other is own else reference(other), atol=1e-6, rtol=1e-5)
    assert program.replays == [[], [LAST_LAYER], [LAST_LAYER], [1, LAST_LAYER], []]


def test_vectors_that_do_not_come_along_are_pooled_from_states() -> None:
    program = Recorded()
    large = make_work(1, [6, 5])
    (found,) = compute(large, program=program)
    torch.testing.assert_close(found, reference(large), atol=1e-6, rtol=1e-5)
    assert program.layers_asked == [[LAST_LAYER]]
    assert program.replays == []


def test_answers_are_plain_arrays_of_their_own() -> None:
    """They are not views into the batch, which they would keep alive, and are usable outside inference mode."""
    one, other = compute(make_work(1, [2, 3]), make_work(2, [1]))
    assert one["pooled"].numpy().shape == (2, HIDDEN)
    assert other["pooled"].untyped_storage().nbytes() == HIDDEN * 4


VALUES = torch.tensor([[0.5, -1.27, 3.0], [0.0, 0.0, 0.0], [1e-4, -1e-4, 5e-5]])


@pytest.mark.parametrize(("wire_type", "dtype"), [("float32", "float32"), ("float16", "float16")])
def test_float_wire_types(wire_type: WireType, dtype: str) -> None:
    found = to_wire("pooled", VALUES, wire_type)
    assert list(found) == ["pooled"]
    np.testing.assert_array_equal(found["pooled"].numpy(), VALUES.numpy().astype(dtype))


def test_bfloat16_travels_as_integers() -> None:
    bits = to_wire("pooled", VALUES, "bfloat16")["pooled"].numpy()
    assert bits.dtype == np.int16
    back = torch.from_numpy(bits).view(torch.bfloat16)
    assert torch.equal(back, VALUES.to(torch.bfloat16))


def test_int8_has_a_scale_for_each_row_and_takes_rows_of_zeros() -> None:
    found = to_wire("pooled", VALUES, "int8")
    integers, scales = found["pooled"].numpy(), found["pooled.scales"].numpy()
    assert integers.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.shape == (3,)
    assert np.abs(integers).max(axis=1).tolist() == [127, 0, 127]
    assert scales[1] > 0
    np.testing.assert_allclose(integers * scales[:, None], VALUES.numpy(), atol=float(scales.max()) / 2 + 1e-9)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4))
def test_int8_is_within_half_a_step(row: list[float]) -> None:
    values = torch.tensor([row])
    found = to_wire("x", values, "int8")
    back = found["x"].double() * found["x.scales"].double().unsqueeze(1)
    step = max(map(abs, row)) / 127
    assert (back - values.double()).abs().max() <= step * 0.5001 + 1e-37


@pytest.mark.parametrize("wire_type", get_args(WireType))
def test_wire_types_of_every_output(wire_type: Any) -> None:
    output_options = OutputOptions(OUTPUTS, Pooling("mean", (LAST_LAYER,), dimensions=3), wire_type)
    found = compute(make_work(1, [2, 3], output_options=output_options))[0]
    rows = {"pooled": (2, 3), "pooler_output": (2, HIDDEN), "last_hidden_state": (5, HIDDEN)}
    assert {name: tuple(found[name].shape) for name in rows} == rows
    assert all(values.is_contiguous() for values in found.values())
    if wire_type == "int8":
        assert found["last_hidden_state.scales"].shape == (5,)


@pytest.mark.parametrize("wire_type", get_args(WireType))
@pytest.mark.parametrize(("combination", "width"), [("mean", HIDDEN), ("concatenate", 2 * HIDDEN)])
def test_spans_of_which_there_are_none(wire_type: Any, combination: LayerCombination, width: int) -> None:
    nothing = np.zeros(0, np.int32)
    output_options = OutputOptions(("pooled_spans",), Pooling("max", (1, 2), combination, True), wire_type)
    batch = replace(make_work(1, [2, 3]).batch, spans=Spans(np.zeros(2, np.int32), nothing, nothing))
    found = compute(replace(make_work(1, output_options=output_options), batch=batch))[0]
    assert tuple(found["pooled_spans"].shape) == (0, width)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_many_long_spans_are_not_gathered_at_once(
    combination: LayerCombination, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    class Counting(FakeProgram):
        def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
            rows.append(len(states))
            return super().pool(states, lengths, mode, skipped)

    monkeypatch.setattr(outputs_module, "SPAN_ROWS", 8)
    spans = Spans(np.array([6], np.int32), np.arange(6, dtype=np.int32), np.array([1, 7, 10, 2, 3, 4], np.int32))
    output_options = OutputOptions(("pooled_spans",), Pooling("mean", (1, 2), combination))
    work = make_work(1, [14], output_options=output_options)
    work = replace(work, batch=replace(work.batch, spans=spans))
    (found,) = run(Counting(), prepare([work], LAST_LAYER))
    assert max(rows) == 10  # the length of the longest span
    monkeypatch.setattr(outputs_module, "SPAN_ROWS", 1000)
    torch.testing.assert_close(found, compute(work)[0])
