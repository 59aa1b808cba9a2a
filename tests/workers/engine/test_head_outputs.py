"""Test task heads, in batches with each other and with plain encoding, against each text's own naive numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bertstream.workers.contract import (
    HeadName,
    HeadOptions,
    Output,
    OutputOptions,
    PoolingMode,
    ScoreFunction,
    Spans,
    SparseActivation,
    SparsePooling,
    SparseStrategy,
    Work,
)
from bertstream.workers.engine import vocabulary
from bertstream.workers.engine.answers import best_answers
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.heads import HEAD_OUTPUTS
from bertstream.workers.engine.outputs import STATE_OUTPUTS
from bertstream.workers.engine.vocabulary import Candidates, fill
from tests.support.works import LAST_LAYER, VOCABULARY, FakeProgram, fake_logits, fake_states, make_work

FUNCTIONS: tuple[ScoreFunction, ...] = get_args(ScoreFunction)
TEXT_HEADS: tuple[HeadName, ...] = ("next_sentence", "sequence_classification", "multiple_choice")
ANSWERS = HeadOptions("question_answering", top_k=3, max_answer_tokens=2)
STRATEGIES: tuple[SparseStrategy, ...] = get_args(SparseStrategy)
ACTIVATIONS: tuple[SparseActivation, ...] = get_args(SparseActivation)


def compute(*works: Work, program: FakeProgram | None = None) -> list[dict[str, Tensor]]:
    return run(program or FakeProgram(), prepare(works, LAST_LAYER))


def with_spans(work: Work, counts: Sequence[int], starts: Sequence[int], ids: Sequence[int] | None = None) -> Work:
    """Add spans of one token each."""
    columns = (np.array(counts, np.int32), np.array(starts, np.int32), np.ones(len(starts), np.int32))
    spans = Spans(*columns, None if ids is None else np.array(ids, np.int32))
    return replace(work, batch=replace(work.batch, spans=spans))


def texts_of(work: Work) -> list[Tensor]:
    """Return the last states of each text."""
    batch = work.batch
    ids = torch.from_numpy(batch.ids).split(batch.lengths.tolist())
    types = None if batch.type_ids is None else torch.from_numpy(batch.type_ids).split(batch.lengths.tolist())
    return [
        fake_states(text, None if types is None else types[i], torch.arange(len(text)), LAST_LAYER)
        for i, text in enumerate(ids)
    ]


def scored(function: str, logits: Tensor) -> Tensor:
    if function == "none":
        return logits
    return torch.sigmoid(logits) if function == "sigmoid" else torch.softmax(logits, 1)


def best_first(scores: Tensor, ids: Sequence[int], k: int) -> tuple[list[list[int]], list[list[float]]]:
    """Return the k best of each row, the lower id first where equal."""
    rows = [sorted(zip(ids, row, strict=True), key=lambda each: (-each[1], each[0]))[:k] for row in scores.tolist()]
    return [[i for i, _ in row] for row in rows], [[score for _, score in row] for row in rows]


def masked_logits(work: Work) -> Tensor:
    """Return the logits of the masked tokens, [S, V]."""
    spans = work.batch.spans
    assert spans is not None
    texts = np.repeat(np.arange(len(spans.counts)), spans.counts).tolist()
    states = [texts_of(work)[text][start] for text, start in zip(texts, spans.starts.tolist(), strict=True)]
    return fake_logits("fill_mask", torch.stack(states)) if states else torch.zeros(0, VOCABULARY)


def sparse(work: Work, options: HeadOptions) -> dict[str, Tensor]:
    """Return the weights of each text as a whole: all of its tokens' logits at once."""
    rows = []
    for text in texts_of(work):
        weights = fake_logits("fill_mask", text).relu().log1p()
        weights = weights.log1p() if options.sparse.activation == "log1p_relu" else weights
        pooled = (weights.amax(0) if options.sparse.strategy == "max" else weights.sum(0)).tolist()
        best = sorted(range(VOCABULARY), key=lambda i: (-pooled[i], i))[: options.top_k or None]
        rows.append([(i, pooled[i]) for i in sorted(best) if pooled[i] > 0])
    entries = [entry for row in rows for entry in row]
    return {
        "sparse_weights.counts": torch.tensor([len(row) for row in rows], dtype=torch.int32),
        "sparse_weights.ids": torch.tensor([i for i, _ in entries], dtype=torch.int32),
        "sparse_weights.weights": torch.tensor([weight for _, weight in entries]),
    }


def reference(work: Work, output: Output) -> dict[str, Tensor]:
    options, spans = work.output_options.head, work.batch.spans
    if output == "last_hidden_state":
        return {output: torch.cat(texts_of(work))}
    assert options is not None
    if output == "label_scores":
        scores = scored(options.function, fake_logits(options.name, torch.stack([text[0] for text in texts_of(work)])))
        if not options.top_k:
            return {output: scores}
        ids, best = best_first(scores, range(scores.shape[1]), options.top_k)
        return {f"{output}.ids": torch.tensor(ids, dtype=torch.int32), f"{output}.scores": torch.tensor(best)}
    if output == "token_label_scores":
        return {output: scored(options.function, fake_logits(options.name, torch.cat(texts_of(work))))}
    if output == "sparse_weights":
        return sparse(work, options)
    assert spans is not None
    if output == "answer_spans":
        logits = fake_logits(options.name, torch.cat(texts_of(work)))
        places = work.batch.lengths, spans.starts, spans.lengths
        found = best_answers(logits, *places, options.top_k, options.max_answer_tokens)
        return {f"{output}.{name}": values for name, values in found.items()}
    logits = masked_logits(work)
    if output == "token_log_probabilities":
        assert spans.ids is not None
        return {output: torch.log_softmax(logits, 1)[range(len(logits)), torch.from_numpy(spans.ids).long()]}
    targets = options.targets or range(VOCABULARY)
    ids = best_first(logits[:, list(targets)], targets, options.top_k)[0]
    chosen = torch.tensor(ids, dtype=torch.int32).reshape(-1, min(options.top_k, len(targets)))
    return {f"{output}.ids": chosen, f"{output}.scores": torch.softmax(logits, 1).gather(1, chosen.long())}


def check(works: Sequence[Work]) -> None:
    for work, found in zip(works, compute(*works), strict=True):
        expected: dict[str, Tensor] = {}
        for output in work.output_options.outputs:
            expected |= reference(work, output)
        assert sorted(found) == sorted(expected)
        for name, values in expected.items():
            assert found[name].is_contiguous()
            torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-5)


def label_output_options(
    heads: Sequence[HeadName], output: Output, top_k: st.SearchStrategy[int]
) -> st.SearchStrategy[OutputOptions]:
    head = st.builds(HeadOptions, st.sampled_from(heads), st.sampled_from(FUNCTIONS), top_k)
    return st.builds(lambda options: OutputOptions((output,), head=options), head)


@st.composite
def tasks(draw: st.DrawFn) -> Work:
    """Draw any work of any head, or of none."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    work = make_work(0, lengths, first_id=draw(st.integers(0, 900)), type_ids=draw(st.booleans()))
    plain = st.just(OutputOptions(("last_hidden_state",)))
    texts = label_output_options(TEXT_HEADS, "label_scores", st.integers(0, 6))
    tokens = label_output_options(("token_classification",), "token_label_scores", st.just(0))
    kind = draw(st.sampled_from(["plain", "texts", "tokens", "answers", "masks", "ids", "sparse"]))
    if kind == "sparse":
        pooling = SparsePooling(draw(st.sampled_from(STRATEGIES)), draw(st.sampled_from(ACTIVATIONS)))
        head = HeadOptions("fill_mask", top_k=draw(st.sampled_from([0, 1, 3, VOCABULARY + 2])), sparse=pooling)
        return replace(work, output_options=OutputOptions(("sparse_weights",), head=head))
    if kind in ("plain", "texts", "tokens"):
        return replace(work, output_options=draw({"plain": plain, "texts": texts, "tokens": tokens}[kind]))
    if kind == "answers":
        options = replace(ANSWERS, top_k=draw(st.integers(1, 5)), max_answer_tokens=draw(st.integers(1, 4)))
        starts = [draw(st.integers(0, length - 1)) for length in lengths]
        sizes = [draw(st.integers(0, length - start)) for length, start in zip(lengths, starts, strict=True)]
        spans = Spans(np.ones(len(lengths), np.int32), np.array(starts, np.int32), np.array(sizes, np.int32))
        batch = replace(work.batch, spans=spans)
        return replace(work, batch=batch, output_options=OutputOptions(("answer_spans",), head=options))
    masks = [draw(st.lists(st.integers(0, length - 1), unique=True)) for length in lengths]
    counts, starts = [len(each) for each in masks], [start for each in masks for start in each]
    ids = [draw(st.integers(0, VOCABULARY - 1)) for _ in starts]
    if kind == "ids":
        return with_spans(
            replace(work, output_options=OutputOptions(("token_log_probabilities",), head=MASKS)), counts, starts, ids
        )
    targets = tuple(draw(st.lists(st.integers(0, VOCABULARY - 1), unique=True, max_size=5)))
    options = replace(MASKS, top_k=draw(st.integers(1, VOCABULARY + 2)), targets=targets)
    outputs: tuple[Output, ...] = ("mask_candidates", "token_log_probabilities")
    return with_spans(
        replace(work, output_options=OutputOptions(outputs[: draw(st.integers(1, 2))], head=options)),
        counts,
        starts,
        ids,
    )


MASKS = HeadOptions("fill_mask", top_k=3)


@given(st.lists(tasks(), min_size=1, max_size=6), st.sampled_from([1, 4 * VOCABULARY * 3, 1 << 20]))
@settings(max_examples=200)
def test_mixed_tasks_give_each_work_its_own(works: list[Work], logits_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "LOGITS_BYTES", logits_bytes)
        check(works)


def test_works_share_what_a_head_computes_and_only_their_own_rows_go_through_it() -> None:
    program, labels = FakeProgram(), HeadOptions("sequence_classification")
    classify = make_work(1, [3, 1], output_options=OutputOptions(("label_scores",), head=labels))
    fill = with_spans(
        make_work(2, [4, 2], output_options=OutputOptions(("mask_candidates",), head=MASKS)), [2, 1], [1, 3, 0]
    )
    restricted = replace(fill, output_options=OutputOptions(("mask_candidates",), head=replace(MASKS, targets=(4, 2))))
    score = with_spans(
        make_work(3, [5], output_options=OutputOptions(("token_log_probabilities",), head=MASKS)),
        [3],
        [0, 2, 4],
        [1, 2, 3],
    )
    entities = make_work(
        4, [4], output_options=OutputOptions(("token_label_scores",), head=HeadOptions("token_classification"))
    )
    others = replace(
        classify, output_options=OutputOptions(("label_scores",), head=replace(labels, function="none", top_k=2))
    )
    compute(classify, make_work(5, [9]), fill, restricted, score, entities, others, entities, program=program)
    assert sorted(program.heads_run) == [("fill_mask", 9), ("sequence_classification", 4), ("token_classification", 8)]
    program = FakeProgram()
    compute(make_work(1, [3]), program=program)
    assert program.heads_run == []


class OfMeans(FakeProgram):
    """Classify texts by the mean of their states."""

    @property
    def whole_text_heads(self) -> dict[str, PoolingMode]:
        return {"sequence_classification": "mean"}


def test_a_head_may_read_the_mean_of_a_text() -> None:
    output_options = OutputOptions(("label_scores",), head=HeadOptions("sequence_classification"))
    works = [make_work(1, [3, 1], output_options=output_options), make_work(2, [4], output_options=output_options)]
    program = OfMeans()
    for work, found in zip(works, compute(*works, make_work(3, [2]), program=program), strict=False):
        means = torch.stack([text.mean(0) for text in texts_of(work)])
        want = torch.softmax(fake_logits("sequence_classification", means), 1)
        torch.testing.assert_close(found["label_scores"], want)
    assert program.heads_run == [("sequence_classification", 3)]


def test_products_with_the_vocabulary_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "LOGITS_BYTES", 4 * VOCABULARY * 4)
    program, tokens = FakeProgram(), list(range(9))
    output_options = OutputOptions(("mask_candidates",), head=MASKS)
    works = [
        with_spans(make_work(i, [9], output_options=output_options, first_id=9 * i), [9], tokens) for i in range(2)
    ]
    compute(*works, program=program)
    assert [rows for _, rows in program.heads_run] == [4, 4, 4, 4, 2]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sparse_vectors_never_have_more_logits_than_fit(
    strategy: SparseStrategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that fit go together, also those of several works; a long one goes in parts, whatever its neighbours."""
    monkeypatch.setattr(vocabulary, "LOGITS_BYTES", 4 * VOCABULARY * 4)
    program, head = FakeProgram(), HeadOptions("fill_mask", sparse=SparsePooling(strategy))
    options = OutputOptions(("sparse_weights",), head=head)
    few = replace(options, head=replace(head, top_k=2))
    works = [make_work(1, [9, 1], output_options=options), make_work(2, [2, 1], output_options=few)]
    together = compute(*works, program=program)
    assert [rows for _, rows in program.heads_run] == [4, 4, 1, 4]
    for work, found in zip(works, together, strict=True):
        (alone,) = compute(work)
        assert found["sparse_weights.weights"].numel()
        assert all(torch.equal(found[name], alone[name]) for name in alone)
    assert together[1]["sparse_weights.counts"].tolist() == [2, 2]


def test_sparse_vectors_of_bfloat16_states_are_float32() -> None:
    class Half(FakeProgram):
        def logits(self, head: str, states: Tensor) -> Tensor:
            return super().logits(head, states).bfloat16()

    options = OutputOptions(("sparse_weights",), head=HeadOptions("fill_mask"))
    (found,) = compute(make_work(1, [3, 4], output_options=options), program=Half())
    dtypes = [str(found[f"sparse_weights.{name}"].numpy().dtype) for name in ("counts", "ids", "weights")]
    assert dtypes == ["int32", "int32", "float32"]


def test_texts_without_masks() -> None:
    options = replace(MASKS, top_k=100)
    found, other = compute(
        with_spans(make_work(1, [3, 2], output_options=OutputOptions(("mask_candidates",), head=options)), [0, 0], []),
        with_spans(
            make_work(2, [3], output_options=OutputOptions(("token_log_probabilities",), head=options)), [0], [], []
        ),
    )
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "mask_candidates.ids": (0, VOCABULARY),
        "mask_candidates.scores": (0, VOCABULARY),
    }
    assert tuple(other["token_log_probabilities"].shape) == (0,)


def test_ties_go_to_the_lower_id() -> None:
    """The last two labels of the fake are equal."""
    output_options = OutputOptions(("label_scores",), head=HeadOptions("sequence_classification", "none", 4))
    (found,) = compute(make_work(1, [1] * 40, output_options=output_options))
    ids = found["label_scores.ids"].tolist()
    assert all(row.index(3) == row.index(2) + 1 for row in ids)
    fill = OutputOptions(("mask_candidates",), head=replace(MASKS, top_k=VOCABULARY))
    target = OutputOptions(("mask_candidates",), head=replace(MASKS, top_k=2, targets=(VOCABULARY - 1, VOCABULARY - 2)))
    every, two = compute(
        *(with_spans(make_work(1, [5], output_options=output_options), [1], [2]) for output_options in (fill, target))
    )
    order = every["mask_candidates.ids"][0].tolist()
    assert order.index(VOCABULARY - 1) == order.index(VOCABULARY - 2) + 1
    assert two["mask_candidates.ids"].tolist() == [[VOCABULARY - 2, VOCABULARY - 1]]


@pytest.mark.parametrize("k", [1, 2, 7, 300])
def test_ties_where_the_candidates_end_go_to_the_lower_id(k: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(k).integers(0, 4, (50, 300)).astype(np.float32))
    candidates = Candidates(np.arange(50), k, (), 300, torch.device("cpu"))
    fill([candidates], logits, lambda states: states, 300)
    assert torch.equal(candidates.found[".ids"].long(), logits.sort(dim=1, descending=True, stable=True).indices[:, :k])


def test_numbers_are_float32_whatever_the_states_and_the_wire_type() -> None:
    class Half(FakeProgram):
        def hidden_states(
            self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
        ) -> list[Tensor]:
            return [each.bfloat16() for each in super().hidden_states(ids, type_ids, lengths, layers)]

        def logits(self, head: str, states: Tensor) -> Tensor:
            assert states.dtype == torch.bfloat16
            return super().logits(head, states.float()).bfloat16()

    fill = OutputOptions(("mask_candidates",), wire_type="int8", head=MASKS)
    label = OutputOptions(("label_scores",), wire_type="bfloat16", head=HeadOptions("next_sentence"))
    answer = replace(
        with_spans(make_work(3, [4]), [1], [1]), output_options=OutputOptions(("answer_spans",), head=ANSWERS)
    )
    works = [
        with_spans(make_work(1, [3], output_options=fill), [1], [1]),
        make_work(2, [2], output_options=label),
        answer,
    ]
    found = {
        name: str(values.numpy().dtype) for each in compute(*works, program=Half()) for name, values in each.items()
    }
    assert found == {
        "mask_candidates.ids": "int32",
        "mask_candidates.scores": "float32",
        "label_scores": "float32",
        "answer_spans.starts": "int32",
        "answer_spans.ends": "int32",
        "answer_spans.scores": "float32",
        "answer_spans.none": "float32",
    }


def test_answers_are_arrays_of_their_own() -> None:
    output_options = OutputOptions(("token_label_scores",), head=HeadOptions("token_classification"))
    one, other = compute(
        make_work(1, [2, 300], output_options=output_options), make_work(2, [1], output_options=output_options)
    )
    assert one["token_label_scores"].numpy().shape == (302, 5)
    assert other["token_label_scores"].untyped_storage().nbytes() == 5 * 4


@pytest.mark.parametrize("top_k", [1, 50])
def test_answers_are_as_many_as_asked_for_whatever_the_texts(top_k: int) -> None:
    """Pieces of one job, computed in different batches, can then be joined."""
    output_options = OutputOptions(("answer_spans",), head=replace(ANSWERS, top_k=top_k))
    (short,) = compute(with_spans(make_work(1, [3], output_options=output_options), [1], [1]))
    (long,) = compute(with_spans(make_work(1, [9, 4], output_options=output_options), [1, 1], [1, 1]))
    assert short["answer_spans.starts"].shape == (1, top_k)
    assert long["answer_spans.scores"].shape == (2, top_k)


def test_every_output_has_one_maker() -> None:
    names = {name for names in get_args(Output) for name in get_args(names)}
    assert names == {*STATE_OUTPUTS, *HEAD_OUTPUTS}
    assert not STATE_OUTPUTS.keys() & HEAD_OUTPUTS.keys()
