# ruff: noqa: N802 - rpcs are named as in the .proto files
"""A TaskService whose answers follow from the texts, with scores that float32 represents exactly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import Message

from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tasks_pb2_grpc as tasks_grpc
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import cost, keys_of, split
from tests.client.fake_status import Code, abort, refuse_bad, status

LABELS = ("negative", "neutral", "positive")
MASK = "[MASK]"


class Found(NamedTuple):
    """A labelled word, or token."""

    label: str
    score: float
    word: str
    start: int
    end: int
    place: int


def content(key: str) -> str:
    """Return the text of a key, without its kind."""
    return key.partition(":")[2]


def choice_keys(lists: tasks.ChoiceLists) -> list[str]:
    """Return a key for each prompt with its choices."""
    choices = split(list(lists.choices), lists.choice_counts)
    return ["|".join([f"choices:{prompt}", *some]) for prompt, some in zip(lists.prompts, choices, strict=True)]


def falling(count: int) -> list[float]:
    """Return the scores 1/2, 1/4 and so on."""
    return [0.5 ** (index + 1) for index in range(count)]


def tokens_for_mask(mask: int, options: tasks.FillMaskOptions) -> list[tuple[str, int]]:
    """Return the candidates for a mask: the targets, or t0, t1 and so on."""
    targets = [(word, len(word)) for word in options.targets] + [
        (f"t{number}", number) for number in options.target_ids
    ]
    return (targets or [(f"t{mask}{rank}", 10 * mask + rank) for rank in range(99)])[: options.top_k]


def filled(text: str, mask: int, token: str) -> str:
    """Return the text with one mask filled."""
    parts = text.split(MASK)
    return MASK.join(parts[: mask + 1]) + token + MASK.join(parts[mask + 1 :])


def log_probabilities(text: str) -> list[float]:
    """Return a log-probability for each character."""
    return [-ord(character) / 128 for character in text]


def next_probability(key: str) -> float:
    return len(content(key)) % 8 / 8


def labels_of(key: str) -> list[int]:
    """Return the numbers of the labels, the best first."""
    return [(len(key) + place) % len(LABELS) for place in range(len(LABELS))]


def relevance(document: str) -> float:
    return sum(map(ord, document)) % 32 / 32


def words_of(key: str, options: tasks.ClassifyTokenOptions) -> list[Found]:
    """Return the words of a text; capitalised ones are labelled ENT, all others O."""
    text, found = content(key).replace("|", " "), list[Found]()
    ignored = () if options.keep_all_labels else tuple(options.ignored_labels) or ("O",)
    alone = options.aggregation == tasks.AGGREGATION_STRATEGY_NONE
    for number, match in enumerate(re.finditer(r"\S+", text), 1):
        label = "ENT" if match[0][0].isupper() else "O"
        name = f"B-{label}" if alone and label != "O" else label
        if name not in ignored:
            found.append(Found(name, 1 / number, match[0].lower(), match.start(), match.end(), number))
    return found


def answers_to(key: str, options: tasks.AnswerOptions) -> list[tuple[str, float, int, int]]:
    """Return the words of the context in their order, and after them "no answer", if that is allowed."""
    context = content(key).partition("|")[2]
    spans = [(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", context)]
    spans += [("", 0, 0)] if options.allow_no_answer else []
    return [(text, score, start, end) for (text, start, end), score in zip(spans, falling(99), strict=False)][
        : options.top_k
    ]


def probabilities_of(key: str) -> list[float]:
    """Return the probabilities of choices, which add up to 1."""
    count = content(key).count("|")
    return [*falling(count - 1), 0.5 ** (count - 1)]


def mask_candidates(keys: Sequence[str], options: tasks.FillMaskOptions) -> tasks.MaskCandidates:
    answer = tasks.MaskCandidates(mask_counts=[content(key).count(MASK) for key in keys])
    for key in keys:
        for mask in range(content(key).count(MASK)):
            candidates = tokens_for_mask(mask, options)
            answer.mask_positions.append(mask + 1)
            answer.candidate_counts.append(len(candidates))
            answer.scores.extend(falling(len(candidates)))
            for token, number in candidates:
                answer.tokens.append(token)
                answer.token_ids.append(number)
                if not options.omit_sequences:
                    answer.sequences.append(filled(content(key), mask, token))
    return answer


def text_scores(keys: Sequence[str], options: tasks.ScoreTextOptions) -> tasks.TextScores:
    answer = tasks.TextScores()
    for text in map(content, keys):
        answer.token_counts.append(len(text))
        answer.token_ids.extend(map(ord, text))
        answer.log_probabilities.extend(log_probabilities(text))
        answer.scores.append(sum(log_probabilities(text)))
    return answer


def next_sentences(keys: Sequence[str], options: tasks.NextSentenceOptions) -> tasks.NextSentences:
    return tasks.NextSentences(probabilities=map(next_probability, keys))


def text_labels(keys: Sequence[str], options: tasks.ClassifyTextOptions) -> tasks.TextLabels:
    answer, count = tasks.TextLabels(labels=LABELS), options.top_k or len(LABELS)
    factor = 8 if options.function == tasks.SCORE_FUNCTION_NONE else 1
    for key in keys:
        answer.label_counts.append(len(labels_of(key)[:count]))
        answer.label_ids.extend(labels_of(key)[:count])
        answer.scores.extend(factor * score for score in falling(len(LABELS))[:count])
    return answer


def zero_shot_labels(keys: Sequence[str], options: tasks.ZeroShotOptions) -> tasks.ZeroShotLabels:
    answer, count = tasks.ZeroShotLabels(label_count=len(options.labels)), len(options.labels)
    for key in keys:
        answer.label_indexes.extend((len(key) + place) % count for place in range(count))
        answer.scores.extend(falling(count))
    return answer


def relevances(keys: Sequence[str], options: tasks.RerankOptions) -> tasks.Relevances:
    return tasks.Relevances(scores=[relevance(key.partition("|")[2]) for key in keys])


def entities(keys: Sequence[str], options: tasks.ClassifyTokenOptions) -> tasks.Entities:
    found = [words_of(key, options) for key in keys]
    answer = tasks.Entities(entity_counts=map(len, found))
    for key, word in ((key, word) for key, words in zip(keys, found, strict=True) for word in words):
        answer.labels.append(word.label)
        answer.scores.append(word.score)
        answer.words.append(word.word)
        if not key.startswith("ids:"):
            answer.starts.append(word.start)
            answer.ends.append(word.end)
        if options.aggregation == tasks.AGGREGATION_STRATEGY_NONE:
            answer.token_indexes.append(word.place)
    return answer


def answers(keys: Sequence[str], options: tasks.AnswerOptions) -> tasks.Answers:
    found = [answers_to(key, options) for key in keys]
    message = tasks.Answers(answer_counts=map(len, found))
    for text, score, start, end in (each for some in found for each in some):
        message.texts.append(text)
        message.scores.append(score)
        message.starts.append(start)
        message.ends.append(end)
    return message


def choices(keys: Sequence[str], options: tasks.ChooseOptions) -> tasks.Choices:
    found = [probabilities_of(key) for key in keys]
    return tasks.Choices(choice_counts=map(len, found), probabilities=[each for some in found for each in some])


def weights_of(text: str) -> dict[int, float]:
    """Return the weight of each character of a text, by its number."""
    return {ord(each): text.count(each) / 4 for each in sorted(set(text))}


def sparse_vectors(keys: Sequence[str], options: tasks.SparseOptions) -> tasks.SparseVectors:
    answer = tasks.SparseVectors()
    for key in keys:
        weights = dict(list(weights_of(options.prompt + content(key)).items())[: options.top_k or None])
        answer.weight_counts.append(len(weights))
        answer.token_ids.extend(weights)
        answer.weights.extend(weights.values())
        answer.tokens.extend(map(chr, weights) if options.include_tokens else ())
    return answer


class Head(NamedTuple):
    """A task head of the fake server."""

    compute: Callable[[Sequence[str], Any], Message]
    predictions: str  # the field of PredictedItems
    response: Any = None
    field: str = ""  # of the response
    path: str = "inputs.texts"


HEADS: dict[str, Head] = {
    "fill_mask": Head(mask_candidates, "candidates", tasks.FillMasksResponse, "candidates"),
    "score_text": Head(text_scores, "scores", tasks.ScoreTextsResponse, "scores"),
    "next_sentence": Head(
        next_sentences, "next_sentences", tasks.PredictNextSentencesResponse, "next_sentences", "inputs.pairs"
    ),
    "classify_text": Head(text_labels, "labels", tasks.ClassifyTextsResponse, "labels"),
    "zero_shot": Head(zero_shot_labels, "zero_shot_labels", tasks.ClassifyZeroShotResponse, "labels"),
    "rerank": Head(relevances, "relevances"),
    "classify_tokens": Head(entities, "entities", tasks.ClassifyTokensResponse, "entities"),
    "answer": Head(answers, "answers", tasks.AnswerQuestionsResponse, "answers", "inputs"),
    "choose": Head(choices, "choices", tasks.ChooseAnswersResponse, "choices", "inputs.prompts"),
    "encode_sparse": Head(sparse_vectors, "sparse_vectors", tasks.EncodeSparseResponse, "vectors"),
}


def effective(options: Any) -> Any:
    """Return the options with their defaults filled in."""
    done = type(options)()
    done.CopyFrom(options)
    done.model, done.priority = options.model or "tiny", options.priority or types.PRIORITY_INTERACTIVE
    fields = done.DESCRIPTOR.fields_by_name
    if "truncation" in fields:
        done.truncation.max_length = options.truncation.max_length or 32
        done.truncation.strategy = options.truncation.strategy or types.TRUNCATION_STRATEGY_LONGEST_FIRST
        done.truncation.side = options.truncation.side or types.TRUNCATION_SIDE_RIGHT
    if "offset_unit" in fields:
        done.offset_unit = options.offset_unit or tokenization.OFFSET_UNIT_CODE_POINTS
    if "function" in fields:
        done.function = options.function or tasks.SCORE_FUNCTION_SOFTMAX
    if isinstance(done, tasks.FillMaskOptions):
        done.top_k = options.top_k or 5
    if isinstance(done, tasks.AnswerOptions):
        done.top_k, done.max_length = options.top_k or 1, options.max_length or 384
        done.stride = options.stride if options.HasField("stride") else 128
        done.max_answer_tokens = options.max_answer_tokens or 15
    if isinstance(done, tasks.ClassifyTokenOptions):
        done.aggregation = options.aggregation or tasks.AGGREGATION_STRATEGY_SIMPLE
    if isinstance(done, tasks.ZeroShotOptions):
        done.hypothesis_template = options.hypothesis_template or "This example is {}."
    return done


class FakeTasks(tasks_grpc.TaskServiceServicer):
    """The rpcs of task heads; `self` is a FakeServer."""

    def FillMasks(self: Any, request: Any, context: Any) -> Any:
        return self.predict("FillMasks", "fill_mask", keys_of(request.inputs), request, context)

    def ScoreTexts(self: Any, request: Any, context: Any) -> Any:
        return self.predict("ScoreTexts", "score_text", keys_of(request.inputs), request, context)

    def PredictNextSentences(self: Any, request: Any, context: Any) -> Any:
        return self.predict("PredictNextSentences", "next_sentence", keys_of(request.inputs), request, context)

    def ClassifyTexts(self: Any, request: Any, context: Any) -> Any:
        return self.predict("ClassifyTexts", "classify_text", keys_of(request.inputs), request, context)

    def ClassifyZeroShot(self: Any, request: Any, context: Any) -> Any:
        keys = keys_of(types.TextBatch(texts=request.inputs))
        return self.predict("ClassifyZeroShot", "zero_shot", keys, request, context)

    def RerankTexts(self: Any, request: Any, context: Any) -> tasks.RerankTextsResponse:
        self._enter("RerankTexts", request, context)
        documents = list(request.documents)
        refuse_bad(documents, context, "documents")
        order = sorted(range(len(documents)), key=lambda index: -relevance(documents[index]))
        best = order[: request.options.top_k or None]
        answer = tasks.RerankTextsResponse(options=effective(request.options), document_indexes=best)
        answer.scores.extend(relevance(documents[index]) for index in best)
        cost(answer, len(documents), sum(map(len, documents)))
        if self.does.bad_answer:
            answer.document_indexes.append(0)
        return answer

    def ClassifyTokens(self: Any, request: Any, context: Any) -> Any:
        return self.predict("ClassifyTokens", "classify_tokens", keys_of(request.inputs), request, context)

    def AnswerQuestions(self: Any, request: Any, context: Any) -> Any:
        keys = keys_of(types.TextBatch(pairs=request.inputs))
        return self.predict("AnswerQuestions", "answer", keys, request, context)

    def ChooseAnswers(self: Any, request: Any, context: Any) -> Any:
        return self.predict("ChooseAnswers", "choose", choice_keys(request.inputs), request, context)

    def EncodeSparse(self: Any, request: Any, context: Any) -> Any:
        return self.predict("EncodeSparse", "encode_sparse", keys_of(request.inputs), request, context)

    def StreamPredictions(self: Any, requests: Any, context: Any) -> Iterator[tasks.StreamPredictionsResponse]:
        self._enter("StreamPredictions", None, context)
        given = next(requests).options
        name = given.WhichOneof("task")
        head, options = HEADS[name], effective(getattr(given, name))
        self.seen.task, which = options, {name: options}
        started = tasks.PredictionStarted(options=tasks.PredictionOptions(**which))
        started.window.max_items = self.does.window
        yield tasks.StreamPredictionsResponse(started=started)
        for ids, keys, errors in self._answers(requests, context):
            items = tasks.PredictedItems(ids=ids, errors=errors)
            if keys and not self.does.bad_answer:
                getattr(items, head.predictions).CopyFrom(head.compute(keys, options))
                cost(items, len(keys), sum(map(len, keys)))
            yield tasks.StreamPredictionsResponse(items=items)

    def predict(self: Any, rpc: str, name: str, keys: list[str], request: Any, context: Any) -> Any:
        """Return a unary answer."""
        self._enter(rpc, request, context)
        assert 0 < len(keys) <= self.does.model.limits.max_texts
        head = HEADS[name]
        refuse_bad(keys, context, head.path)
        _refuse_senseless(name, keys, context)
        self.stalled()
        options = effective(request.options)
        answer = head.response(options=options, **{head.field: head.compute(keys, options)})
        cost(answer, len(keys), sum(map(len, keys)))
        if self.does.bad_answer:
            _repeat_last(getattr(answer, head.field))
        return answer


def _refuse_senseless(name: str, keys: list[str], context: Any) -> None:
    for index, key in enumerate(keys):
        field, reason = "", ""
        if name == "fill_mask" and MASK not in key:
            field, reason = f"inputs.texts[{index}]", "INVALID_MASK"
        if name == "choose" and "|" not in key:
            field, reason = f"inputs.choice_counts[{index}]", "INVALID_EMPTY_LIST"
        if field:
            abort(context, status(Code.INVALID_ARGUMENT, f"{field} is wrong", reason, ((field, "wrong"),)))


def _repeat_last(columns: Any) -> None:
    """Change an answer so that one column is longer than it should be."""
    column = [getattr(columns, field.name) for field, _ in columns.ListFields() if field.is_repeated][-1]
    column.append(column[-1])
