"""Answers equal those of transformers 4's question answering pipeline, where both are given the same logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import AutoTokenizer

from bertstream.server.core.errors import RequestError
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.answers import AnswerQuestions
from bertstream.server.core.tasks.base import Rows
from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.bertstream_v1.tasks.answers import parse_answer_questions
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, tokenization_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE
from tests.server.core.tasks.stubs import StubModel, prepare, share_of, stub_model
from tests.support.checkpoints import CORPUS

Floats = NDArray[np.float64]
Found = dict[str, Any]

FAMILIES = [
    *("bert", "bert-cased", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert"),
    "deberta-v2",
]
SEED = 5
PAIRS = [
    ("Who jumps?", CORPUS[0]),
    ("What are words?", CORPUS[-1]),
    ("谁跳过了懒狗？", CORPUS[4]),
    ("Wer springt?", f"  {CORPUS[2]}\n\n{CORPUS[3]}  "),
    (" ", "A question of nothing but a space."),
    ("fox?", "fox Fox FOX fox. Fox! fox, fox"),
    ("[SEP] typed [CLS] by hand?", "The [SEP] answer [CLS] <s> is </s> typed [MASK] too"),
    ("One?", "one"),
    ("Where is it long?", " ".join(CORPUS) * 3),
]


class Setting:
    """A tokenizer, read by us and by transformers, and made-up logits for its tokens."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.model: StubModel = stub_model(checkpoint, folder, "question_answering")
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        random = np.random.default_rng(SEED)
        self._by_id = random.normal(size=(self.model.description.vocabulary_size, 2)) * 2
        self._by_place = random.normal(size=(512, 2))

    def probabilities(self, ids: Sequence[int], in_context: NDArray[np.bool_]) -> Floats:
        """Return the probability of each token to be an answer's first and last; the first token's is of no answer.

        [n, 2] for the n tokens of a window.
        """
        allowed = in_context.copy()
        allowed[0] = True
        logits = np.where(allowed[:, None], self._by_id[list(ids)] + self._by_place[: len(ids)], -10000.0)
        powers: Floats = np.exp(logits - logits.max(axis=0))
        probabilities: Floats = powers / powers.sum(axis=0)
        return probabilities

    def tensors(self, rows: Rows[Any], task: AnswerQuestions) -> Mapping[str, NDArray[Any]]:
        """Return the tensors that workers give for these rows."""
        assert rows.batch.spans is not None
        assert task.output_options.head is not None
        k, longest = task.output_options.head.top_k, task.output_options.head.max_answer_tokens
        found: dict[str, list[list[float]]] = {"starts": [], "ends": [], "scores": []}
        none = []
        parts = np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1])
        for part, first, length in zip(parts, rows.batch.spans.starts, rows.batch.spans.lengths, strict=True):
            in_context = np.zeros(part.size, np.bool_)
            in_context[first : first + length] = True
            probabilities = self.probabilities(part.tolist(), in_context)
            none.append(probabilities[0].prod())
            best = [*_best(probabilities, in_context, longest)][:k]
            padded = np.array([*best, *[(0.0, -1, -1)] * (k - len(best))]).T
            for name, column in zip(("scores", "starts", "ends"), padded.tolist(), strict=True):
                found[name].append(column)
        types = {"scores": np.float32, "starts": np.int32, "ends": np.int32}
        named = {f"answer_spans.{name}": np.array(values, types[name]) for name, values in found.items()}
        return {**named, "answer_spans.none": np.array(none, np.float32)}

    def expected(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_length: int = 384,
        stride: int = 128,
        longest: int = 15,
        no_answer: bool = False,
        whole_words: bool = True,
    ) -> list[Found]:
        """Find the answers by the pipeline's definition."""
        windows = self._tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
        )
        found: list[Found] = []
        none = []
        for encoding in windows.encodings:
            in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids])
            probabilities = self.probabilities(encoding.ids, in_context)
            none.append(probabilities[0].prod())
            for score, first, last in [*_best(probabilities, in_context, longest)][
                : 2 * top_k + 10 if whole_words else top_k
            ]:
                start, end = encoding.offsets[first][0], encoding.offsets[last][1]
                if whole_words:
                    start = encoding.word_to_chars(encoding.token_to_word(first), 1)[0]
                    end = encoding.word_to_chars(encoding.token_to_word(last), 1)[1]
                text = context[start:end]
                same = next((each for each in found if each["text"].lower() == text.lower()), None)
                if same:
                    same["score"] += score
                else:
                    found.append({"text": text, "score": score, "start": start, "end": end})
        if no_answer:
            found.append({"text": "", "score": min(none), "start": 0, "end": 0})
        return sorted(found, key=lambda each: -float(each["score"]))[:top_k]


def _best(probabilities: Floats, in_context: NDArray[np.bool_], longest: int) -> Iterator[tuple[float, int, int]]:
    """Yield the score, first and last token of all possible answers of a window, best first."""
    within = probabilities * in_context[:, None]
    products = np.tril(np.triu(np.outer(within[:, 0], within[:, 1])), longest - 1)
    for place in np.argsort(-products, axis=None, kind="stable")[: np.count_nonzero(products)].tolist():
        first, last = divmod(place, len(probabilities))
        yield float(products[first, last]), first, last


@pytest.fixture(scope="module")
def settings() -> dict[str, Setting]:
    return {}


@pytest.fixture(params=FAMILIES)
def setting(
    request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path
) -> Setting:
    return _setting(request.param, checkpoint, settings, tmp_path)


@pytest.fixture
def bert(checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path) -> Setting:
    return _setting("bert", checkpoint, settings, tmp_path)


def _setting(name: str, checkpoint: Callable[[str], Path], made: dict[str, Setting], folder: Path) -> Setting:
    if name not in made:
        made[name] = Setting(checkpoint(name), folder)
    return made[name]


def _effective(model: StubModel, priority: int = INTERACTIVE, **options: Any) -> tasks_pb2.AnswerOptions:
    return parse_answer_questions(tasks_pb2.AnswerOptions(**options), model, priority, "options").effective


def _task(setting: Setting, **options: Any) -> AnswerQuestions:
    return parse_answer_questions(tasks_pb2.AnswerOptions(**options), setting.model, INTERACTIVE, "options").task


def _sent(pairs: Sequence[tuple[str, str]], bad: Sequence[int] = ()) -> SentItems:
    questions, contexts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Sent(Pairs(questions, contexts), "inputs", "inputs", bad)


def _answers(setting: Setting, pairs: Sequence[tuple[str, str]], **options: Any) -> list[list[Found]]:
    task = _task(setting, **options)
    rows = task.prepare(_sent(pairs))
    assert not rows.failed
    return _by_item(write(task.answer(rows, share_of(rows, range(len(pairs)), setting.tensors(rows, task)))))


def _by_item(message: Any) -> list[list[Found]]:
    columns = zip(message.texts, message.scores, message.starts, message.ends, strict=True)
    answers = iter([dict(zip(("text", "score", "start", "end"), each, strict=True)) for each in columns])
    return [[next(answers) for _ in range(count)] for count in message.answer_counts]


def _assert_same(found: list[list[Found]], expected: list[list[Found]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [each | {"score": 0} for each in ours] == [each | {"score": 0} for each in theirs]
        np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], atol=1e-6)


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("no_answer", [True, False])
@pytest.mark.parametrize("top_k", [1, 4])
def test_answers(setting: Setting, top_k: int, no_answer: bool, whole_words: bool) -> None:
    found = _answers(setting, PAIRS, top_k=top_k, allow_no_answer=no_answer, allow_partial_words=not whole_words)
    asked: dict[str, Any] = {"top_k": top_k, "no_answer": no_answer, "whole_words": whole_words}
    _assert_same(found, [setting.expected(*pair, **asked) for pair in PAIRS])


@pytest.mark.parametrize(
    ("max_length", "stride", "longest"), [(64, 16, 15), (64, 0, 15), (80, 1, 3), (100, 40, 1), (70, 30, 64)]
)
def test_long_contexts(setting: Setting, max_length: int, stride: int, longest: int) -> None:
    found = _answers(
        setting,
        PAIRS,
        top_k=3,
        max_length=max_length,
        stride=stride,
        max_answer_tokens=longest,
        allow_no_answer=True,
    )
    asked: dict[str, Any] = {"max_length": max_length, "stride": stride, "longest": longest}
    _assert_same(found, [setting.expected(*pair, top_k=3, no_answer=True, **asked) for pair in PAIRS])


def test_windows_repeat_the_question(setting: Setting) -> None:
    question, context = "Who is it?", " ".join(CORPUS)
    rows = _task(setting, max_length=64, stride=16).prepare(_sent([("One?", "one"), (question, context)]))
    spans = rows.batch.spans
    assert spans is not None
    assert rows.items.tolist() == [0, *[1] * (rows.items.size - 1)]
    assert rows.items.size > 3
    assert spans.counts.tolist() == [1] * rows.items.size
    assert len(set(spans.starts[1:].tolist())) == 1
    assert (rows.batch.lengths <= 64).all()
    assert (spans.starts + spans.lengths < rows.batch.lengths).all()
    assert not rows.truncated.any()


def test_answers_that_read_the_same_are_one(bert: Setting) -> None:
    (answers,) = _answers(bert, [("fox?", "fox Fox FOX fox")], top_k=9, max_answer_tokens=1)
    assert len(answers) == 1
    expected = bert.expected("fox?", "fox Fox FOX fox", top_k=9, longest=1)[0]
    assert answers[0]["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert (answers[0]["start"], answers[0]["end"]) == (expected["start"], expected["end"])


@pytest.mark.parametrize(("unit", "encoding", "width"), [("UTF16_UNITS", "utf-16-le", 2), ("UTF8_BYTES", "utf-8", 1)])
def test_offset_units(setting: Setting, unit: str, encoding: str, width: int) -> None:
    asked = tokenization_pb2.OffsetUnit.Value(f"OFFSET_UNIT_{unit}")
    options: dict[str, Any] = {"top_k": 5, "allow_no_answer": True}
    by_unit = _answers(setting, PAIRS, offset_unit=asked, **options)
    by_code_point = _answers(setting, PAIRS, **options)
    assert any(answer["start"] for answers in by_unit for answer in answers)
    for (_, context), ours, expected in zip(PAIRS, by_unit, by_code_point, strict=True):
        for answer, same in zip(ours, expected, strict=True):
            assert answer["text"] == same["text"]
            for end in ("start", "end"):
                assert answer[end] == len(context[: same[end]].encode(encoding)) // width


def test_some_items_of_a_message(setting: Setting) -> None:
    task = _task(setting, max_length=64, stride=16, top_k=3, allow_no_answer=True)
    rows = task.prepare(_sent(PAIRS))
    tensors = setting.tensors(rows, task)
    whole = _by_item(write(task.answer(rows, share_of(rows, range(len(PAIRS)), tensors))))
    for items in ([0], [3, 7], [len(PAIRS) - 1], [5, 6, 7, 8]):
        assert _by_item(write(task.answer(rows, share_of(rows, items, tensors)))) == [whole[item] for item in items]


def test_what_cannot_be_answered(bert: Setting) -> None:
    pairs = [
        ("Who?", "the fox"),
        ("", "the fox"),
        ("Who?", ""),
        ("Who?", " \t\n "),
        ("fox " * 30, "the fox"),
        ("fox " * 15, "the fox " * 30),
        ("Who?", "bytes"),
        ("What?", "the dog"),
    ]
    task = _task(bert, max_length=32, stride=14)
    rows = task.prepare(_sent(pairs, bad=[6]))
    assert {index: (error.reason, error.message) for index, error in sorted(rows.failed.items())} == {
        1: ("INVALID_EMPTY_TEXT", "inputs[1]: the question is empty"),
        2: ("INVALID_EMPTY_TEXT", "inputs[2]: the context has no tokens"),
        3: ("INVALID_EMPTY_TEXT", "inputs[3]: the context has no tokens"),
        4: (
            "INVALID_TEXT_LENGTH",
            "inputs[4]: the question leaves no room for its context in 32 tokens (see options.max_length)",
        ),
        5: (
            "INVALID_WINDOWS",
            "inputs[5]: stride must be less than the 14 tokens that each window has room for (see options.stride)",
        ),
        6: ("INVALID_UTF8", "inputs[6]: the bytes are not UTF-8"),
    }
    assert rows.items.tolist() == [0, 7]
    answers = _by_item(write(task.answer(rows, share_of(rows, [0, 7], bert.tensors(rows, task)))))
    _assert_same(answers, [bert.expected(*pairs[index], max_length=32, stride=14) for index in (0, 7)])


def test_errors_name_the_options_by_their_path(bert: Setting) -> None:
    sent = replace(_sent([("fox " * 15, "the fox " * 30)]), options="options.answer")
    for options, reason, field in (
        ({"max_length": 32, "stride": 14}, "INVALID_WINDOWS", "stride"),
        ({"max_length": 16, "stride": 1}, "INVALID_TEXT_LENGTH", "max_length"),
        ({"max_length": 2, "stride": 1}, "INVALID_TRUNCATION", "max_length"),
    ):
        error = _task(bert, **options).prepare(sent).failed[0]
        assert error.reason == reason
        assert error.message.endswith(f"(see options.answer.{field})")


def test_nothing_that_can_be_answered(bert: Setting) -> None:
    rows = _task(bert).prepare(_sent([("", ""), ("Who?", "")]))
    assert sorted(rows.failed) == [0, 1]
    assert rows.items.size == rows.batch.ids.size == 0


def test_effective_options(bert: Setting) -> None:
    plain = _effective(bert.model)
    assert (plain.model, plain.max_length, plain.stride, plain.top_k, plain.max_answer_tokens) == (
        "stub",
        384,
        128,
        1,
        15,
    )
    assert plain.priority == types_pb2.PRIORITY_INTERACTIVE
    assert plain.offset_unit == tokenization_pb2.OFFSET_UNIT_CODE_POINTS
    assert _effective(bert.model, max_length=100).stride == 50
    assert _effective(bert.model, max_length=100, stride=0).stride == 0
    assert _effective(bert.model, BULK).priority == types_pb2.PRIORITY_BULK


def test_a_model_for_short_texts(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = stub_model(checkpoint("bert"), tmp_path, "question_answering", default_max_length=64)
    found = _effective(model)
    assert (found.max_length, found.stride) == (64, 32)


def test_output_options(bert: Setting) -> None:
    whole = _task(bert, top_k=3, max_answer_tokens=7).output_options
    assert whole.outputs == ("answer_spans",)
    assert whole.head is not None
    assert (whole.head.name, whole.head.top_k, whole.head.max_answer_tokens) == ("question_answering", 16, 7)
    partial = _task(bert, top_k=3, allow_partial_words=True).output_options
    assert partial.head is not None
    assert partial.head.top_k == 3


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"max_length": 513}, "options.max_length", "INVALID_RANGE"),
        ({"max_length": -1}, "options.max_length", "INVALID_RANGE"),
        ({"stride": -1}, "options.stride", "INVALID_RANGE"),
        ({"max_length": 64, "stride": 64}, "options.stride", "INVALID_RANGE"),
        ({"top_k": -1}, "options.top_k", "INVALID_RANGE"),
        ({"top_k": 1001}, "options.top_k", "INVALID_RANGE"),
        ({"max_answer_tokens": -1}, "options.max_answer_tokens", "INVALID_RANGE"),
        ({"offset_unit": 77}, "options.offset_unit", "INVALID_ENUM"),
        ({"priority": 77}, "options.priority", "INVALID_ENUM"),
    ],
)
def test_options_that_make_no_sense(bert: Setting, options: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(RequestError) as raised:
        _task(bert, **options)
    assert (raised.value.reason, raised.value.violations[0].field) == (reason, field)


def test_inputs_that_are_no_pairs(bert: Setting) -> None:
    batch = types_pb2.TextBatch(texts=types_pb2.Texts(texts=["Who?"]))
    with pytest.raises(RequestError) as raised:
        prepare(_task(bert), batch)
    assert raised.value.reason == "INVALID_INPUT_KIND"


def test_a_model_without_the_head(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = stub_model(checkpoint("bert"), tmp_path, "fill_mask")
    with pytest.raises(RequestError) as raised:
        parse_answer_questions(tasks_pb2.AnswerOptions(), model, INTERACTIVE, "options")
    assert raised.value.reason == "HEAD_NOT_AVAILABLE"
    assert raised.value.metadata["heads"] == "fill_mask"
