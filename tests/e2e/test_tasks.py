"""Every task head of every family, through gRPC, gives the answers of transformers."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bertstream.client import Client, FailedPrecondition, InvalidArgument
from tests.support import task_reference as reference
from tests.support.checkpoints import CORPUS
from tests.support.heads import FAMILIES, HEAD_MAKERS
from tests.support.hosted import hosted

NEAR = 1e-5
Checkpoint = Callable[[str], Path]
LONG = " ".join(CORPUS[:4] * 12)
STRATEGIES = ("none", "simple", "first", "average", "max")


@pytest.fixture(scope="module")
def client(checkpoint: Checkpoint, compile_cache: Path) -> Iterator[Client]:
    """Yield a client of a server of all tiny checkpoints with heads."""
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted({name: checkpoint(name) for name in HEAD_MAKERS}, compile_cache, Path(folder)) as address,
        Client(address) as connected,
    ):
        yield connected


def near(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= NEAR


def same_ranking(ours: list[tuple[Any, float]], theirs: list[tuple[Any, float]]) -> None:
    """Assert that both have the same things with the same scores in the same order, but for equal scores."""
    assert len(ours) == len(theirs)
    scores = dict(theirs)
    for (what, score), (their, their_score) in zip(ours, theirs, strict=True):
        assert near(score, their_score)
        assert what == their or near(scores.get(what, their_score), their_score)


def mask_of(directory: Path) -> str:
    mask: str = reference.tokenizer(directory).mask_token
    return mask


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text", ["The quick [MASK] fox", "[MASK] answers questions about [MASK].", "今天[MASK]气很好。", "Der [MASK] Fuchs"]
)
def test_fill_mask(client: Client, checkpoint: Checkpoint, family: str, text: str) -> None:
    name = f"{family}-mlm"
    directory = checkpoint(name)
    theirs = reference.pipeline("fill-mask", directory)(text.replace("[MASK]", mask_of(directory)), top_k=7)
    masks = theirs if isinstance(theirs[0], list) else [theirs]
    for spelled in (text, text.replace("[MASK]", mask_of(directory))):
        ours = client.fill_mask(spelled, top_k=7, model=name)
        assert len(ours) == len(masks)
        for candidates, mask in zip(ours, masks, strict=True):
            same_ranking([(c.token_id, c.score) for c in candidates], [(t["token"], t["score"]) for t in mask])
            written = {each["token"]: (each["token_str"], each["sequence"]) for each in mask}
            for each in candidates:
                assert written.get(each.token_id, (each.token, each.sequence)) == (each.token, each.sequence)


@pytest.mark.parametrize("name", ["bert-pretraining", "bert-cased-mlm", "bert-untied-mlm", "electra-wide-mlm"])
def test_fill_mask_of_odd_checkpoints(client: Client, checkpoint: Checkpoint, name: str) -> None:
    text = "A model [MASK] answers questions"
    theirs = reference.pipeline("fill-mask", checkpoint(name))(text)
    (ours,) = client.fill_mask(text, model=name)
    same_ranking([(c.token_id, c.score) for c in ours], [(t["token"], t["score"]) for t in theirs])


def test_targets(client: Client, checkpoint: Checkpoint) -> None:
    text, targets = "The quick [MASK] fox", ["fox", "the", "in"]
    theirs = reference.pipeline("fill-mask", checkpoint("bert-mlm"))(text, targets=targets)
    (ours,) = client.fill_mask(text, targets=targets, model="bert-mlm")
    same_ranking([(c.token, c.score) for c in ours], [(t["token_str"], t["score"]) for t in theirs])


def test_many_texts_are_as_each_alone(client: Client) -> None:
    texts = [f"{text[:40]} [MASK] {text[40:]}" for text in CORPUS] * 3
    together = client.fill_mask(texts, model="bert-mlm")
    for text, ours in zip(texts, together, strict=True):
        (alone,) = client.fill_mask(text, model="bert-mlm")
        same_ranking([(c.token_id, c.score) for c in ours[0]], [(c.token_id, c.score) for c in alone])


@pytest.mark.parametrize("family", FAMILIES)
def test_score_text(client: Client, checkpoint: Checkpoint, family: str) -> None:
    name = f"{family}-mlm"
    texts = ["The quick brown fox jumps", "狐狸跳过了懒狗", ""]
    for text, ours in zip(texts, client.score_text(texts, model=name), strict=True):
        theirs = reference.token_log_probabilities(checkpoint(name), text)
        assert len(ours.log_probabilities) == len(theirs)
        assert all(near(one, other) for one, other in zip(ours.log_probabilities, theirs, strict=True))
        assert math.isclose(ours.score, theirs.sum(), abs_tol=1e-4)


@pytest.mark.parametrize("name", ["bert-nsp", "bert-pretraining"])
def test_next_sentence(client: Client, checkpoint: Checkpoint, name: str) -> None:
    pairs = [(CORPUS[0], CORPUS[1]), (CORPUS[4], CORPUS[5]), ("fox", ""), (LONG, LONG)]
    for (first, second), ours in zip(pairs, client.next_sentence(pairs, model=name), strict=True):
        assert near(ours, reference.next_sentence(checkpoint(name), first, second))
    assert near(client.next_sentence(pairs[0], model=name), client.next_sentence(pairs, model=name)[0])


CLASSIFIERS = [
    *(f"{family}-classifier" for family in FAMILIES),
    *("bert-multi-label", "roberta-multi-label", "bert-regression", "distilbert-regression", "electra-cross-encoder"),
]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classify(client: Client, checkpoint: Checkpoint, name: str) -> None:
    classifier = reference.pipeline("text-classification", checkpoint(name))
    texts = [*CORPUS[:6], "", "fox"]
    for text, ours in zip(texts, client.classify(texts, model=name), strict=True):
        theirs = classifier(text, top_k=None)
        same_ranking([(each.label, each.score) for each in ours], [(t["label"], t["score"]) for t in theirs])
    theirs = classifier({"text": CORPUS[0], "text_pair": CORPUS[3]}, top_k=None)
    ours = client.classify((CORPUS[0], CORPUS[3]), model=name)
    same_ranking([(each.label, each.score) for each in ours], [(t["label"], t["score"]) for t in theirs])


@pytest.mark.parametrize("name", ["roberta-classifier", "bert-multi-label", "distilbert-regression"])
@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_functions(client: Client, checkpoint: Checkpoint, name: str, function: Any) -> None:
    classifier = reference.pipeline("text-classification", checkpoint(name))
    theirs = classifier(CORPUS[2], top_k=2, function_to_apply=function)
    ours = client.classify(CORPUS[2], top_k=2, function=function, model=name)
    same_ranking([(each.label, each.score) for each in ours], [(t["label"], t["score"]) for t in theirs])


@pytest.mark.parametrize("name", ["bert-classifier", "roberta-classifier"])
def test_classify_what_is_too_long(client: Client, checkpoint: Checkpoint, name: str) -> None:
    classifier = reference.pipeline("text-classification", checkpoint(name))
    for text, sent in ((LONG * 3, LONG * 3), ((LONG * 2, LONG * 3), {"text": LONG * 2, "text_pair": LONG * 3})):
        theirs = classifier(sent, top_k=None, truncation=True, max_length=512)
        ours = client.classify(text, model=name)
        same_ranking([(each.label, each.score) for each in ours], [(t["label"], t["score"]) for t in theirs])


@pytest.mark.parametrize("name", ["bert-nli", "roberta-nli"])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [["sport", "weather", "animals"], ["sport"]])
def test_zero_shot(client: Client, checkpoint: Checkpoint, name: str, multi_label: bool, labels: list[str]) -> None:
    classifier = reference.pipeline("zero-shot-classification", checkpoint(name))
    texts = [CORPUS[0], CORPUS[2]]
    answers = client.zero_shot(texts, labels, multi_label=multi_label, model=name)
    for text, ours in zip(texts, answers, strict=True):
        theirs = classifier(text, labels, multi_label=multi_label)
        expected = list(zip(theirs["labels"], theirs["scores"], strict=True))
        same_ranking([(each.label, each.score) for each in ours], expected)
    theirs = classifier(texts[0], labels, multi_label=multi_label, hypothesis_template="It is about {}!")
    (ours,) = client.zero_shot(texts[:1], labels, multi_label=multi_label, template="It is about {}!", model=name)
    expected = list(zip(theirs["labels"], theirs["scores"], strict=True))
    same_ranking([(each.label, each.score) for each in ours], expected)


@pytest.mark.parametrize("name", ["bert-cross-encoder", "roberta-cross-encoder", "electra-cross-encoder"])
def test_rerank(client: Client, checkpoint: Checkpoint, name: str) -> None:
    classifier = reference.pipeline("text-classification", checkpoint(name))
    function = "none" if name == "bert-cross-encoder" else "sigmoid"
    documents = list(CORPUS)
    theirs = [
        classifier({"text": "a quick fox", "text_pair": document}, function_to_apply=function)["score"]
        for document in documents
    ]
    ours = client.rerank("a quick fox", documents, model=name)
    assert [each.score for each in ours] == sorted((each.score for each in ours), reverse=True)
    assert sorted(each.index for each in ours) == list(range(len(documents)))
    assert all(near(each.score, theirs[each.index]) for each in ours)
    assert [each.index for each in client.rerank("a quick fox", documents, top_k=2, model=name)] == [
        each.index for each in ours[:2]
    ]


NER = [*(f"{family}-ner" for family in FAMILIES), "bert-cased-ner"]


def entities_of(ours: Any) -> list[tuple[Any, ...]]:
    return [(each.label, each.word, each.start, each.end) for each in ours]


def expected_entities(theirs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(t.get("entity_group", t.get("entity")), t["word"], t["start"], t["end"]) for t in theirs]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")  # transformers', of byte-level BPE
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NER)
def test_entities(client: Client, checkpoint: Checkpoint, name: str, strategy: Any) -> None:
    recogniser = reference.pipeline("token-classification", checkpoint(name))
    texts = [*CORPUS, "fox", "a b", "New York\nBerlin"]
    for text, ours in zip(texts, client.entities(texts, aggregation=strategy, model=name), strict=True):
        theirs = recogniser(text, aggregation_strategy=strategy)
        assert entities_of(ours) == expected_entities(theirs)
        assert all(near(one.score, other["score"]) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", [strategy for strategy in STRATEGIES if strategy != "none"])
@pytest.mark.parametrize("stride", [0, 1, 100])
@pytest.mark.parametrize("name", ["bert-ner", "roberta-ner", "xlm-roberta-ner"])
def test_entities_of_long_texts_in_windows(
    client: Client, checkpoint: Checkpoint, name: str, strategy: Any, stride: int
) -> None:
    """Compare with transformers, but where an edge cuts a word or an entity, of which its pipeline makes two."""
    recogniser = reference.pipeline("token-classification", checkpoint(name))
    theirs = expected_entities(recogniser(LONG, aggregation_strategy=strategy, stride=stride))
    ours = entities_of(client.entities(LONG, aggregation=strategy, windows=True, stride=stride, model=name))
    assert all(one[2] <= other[2] and one[3] <= other[3] for one, other in pairwise(ours))
    windows = window_bounds(checkpoint(name), stride)
    assert len(windows) > 1
    odd = [(edge, edge) for start, end in windows for edge in (start, end)]
    odd += [each[2:] for each in ours if not any(start <= each[2] and each[3] <= end for start, end in windows)]
    # In long texts only, transformers makes one token of those at one place, such as "▁" and the letter behind it.
    odd += [(one[2], max(one[3], other[3])) for one, other in pairwise(ours) if other[2] < one[3]]
    odd += [each[2:] for each in ours + theirs if not each[1].strip()]
    assert apart_from(odd, ours) == apart_from(odd, theirs)


def window_bounds(directory: Path, stride: int) -> list[tuple[int, int]]:
    """Return the range of characters of LONG that each window has."""
    windows = reference.tokenizer(directory)(
        LONG,
        truncation=True,
        max_length=512,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    return [(min(start for start, end in each if end), each[-2][1]) for each in windows["offset_mapping"]]


def apart_from(spans: list[tuple[Any, ...]], entities: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the entities that touch none of these ranges of characters."""
    return [each for each in entities if not any(start <= each[3] and each[2] <= end for start, end in spans)]


@pytest.mark.parametrize("strategy", ["none", "simple"])
@pytest.mark.parametrize("ignored", [[], ["O", "B-PER", "PER"]], ids=str)
def test_ignored_labels(client: Client, checkpoint: Checkpoint, strategy: Any, ignored: list[str]) -> None:
    recogniser = reference.pipeline("token-classification", checkpoint("bert-ner"))
    for text in CORPUS:
        theirs = recogniser(text, aggregation_strategy=strategy, ignore_labels=ignored)
        ours = client.entities(text, aggregation=strategy, ignored_labels=ignored, model="bert-ner")
        assert entities_of(ours) == expected_entities(theirs)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("name", ["bert-ner", "roberta-ner"])
def test_entities_of_words(client: Client, checkpoint: Checkpoint, name: str) -> None:
    words = ["The", "quick", "brown", "Fuchs", "überrascht", "niemanden"]
    recogniser = reference.pipeline("token-classification", checkpoint(name))
    for strategy in ("none", "simple", "first"):
        theirs = recogniser(words, is_split_into_words=True, aggregation_strategy=strategy)
        ours = client.entities([words], aggregation=strategy, model=name)[0]
        assert entities_of(ours) == expected_entities(theirs[0] if isinstance(theirs[0], list) else theirs)


QUESTIONS = [
    ("What does the fox do?", CORPUS[0]),
    ("Wer springt?", CORPUS[2]),
    ("狐狸在做什么？", CORPUS[4]),
    ("What is a word?", LONG),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"stride": 0}, {"top_k": 3}, {"top_k": 4, "allow_no_answer": True}], ids=str)
def test_answers(client: Client, checkpoint: Checkpoint, family: str, options: dict[str, Any]) -> None:
    name, options = f"{family}-qa", {"max_answer_tokens": 6, "max_length": 64, "stride": 20, **options}
    found = client.answer(QUESTIONS, model=name, **options)
    for (question, context), ours in zip(QUESTIONS, found, strict=True):
        theirs = reference.answers(checkpoint(name), question, context, **options)
        listed = ours if isinstance(ours, list) else [ours]
        same_ranking([(each.text, each.score) for each in listed], [(t["text"], t["score"]) for t in theirs])
        for each in listed:
            assert each.text == context[each.start : each.end]


@pytest.mark.parametrize("family", FAMILIES)
def test_choices(client: Client, checkpoint: Checkpoint, family: str) -> None:
    name = f"{family}-choice"
    questions = [("The fox", ["jumps over the dog", "sleeps", ""]), (CORPUS[4], [CORPUS[5]]), ("Why?", list(CORPUS))]
    for (prompt, choices), ours in zip(questions, client.choose(questions, model=name), strict=True):
        theirs = reference.choose(checkpoint(name), prompt, choices)
        assert all(near(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_model_serves_encoding_and_its_heads_at_once(client: Client) -> None:
    described = {model.name: model for model in client.models()}
    assert described["bert-pretraining"].heads == ("fill_mask", "next_sentence")
    assert described["bert-ner"].labels[:2] == ("O", "B-PER")
    assert client.encode(["fox"], model="bert-pretraining").shape == (1, 36)
    with pytest.raises(FailedPrecondition, match="fill_mask, next_sentence") as raised:
        client.classify("fox", model="bert-pretraining")
    assert raised.value.reason == "HEAD_NOT_AVAILABLE"


def test_clear_errors(client: Client) -> None:
    cases: list[tuple[str, str, Callable[[], Any]]] = [
        ("INVALID_MASK", "inputs.texts[1]", lambda: client.fill_mask(["a [MASK]", "no mask"], model="bert-mlm")),
        (
            "INVALID_TARGET",
            "options.targets[1]",
            lambda: client.fill_mask("a [MASK]", targets=["fox", "not one token"], model="bert-mlm"),
        ),
        (
            "INVALID_EMPTY_LIST",
            "inputs.choice_counts[1]",
            lambda: client.choose([("a", ["b"]), ("c", [])], model="bert-choice"),
        ),
    ]
    for reason, field, call in cases:
        with pytest.raises(InvalidArgument) as raised:
            call()
        assert raised.value.reason == reason
        assert field in [violation.path for violation in raised.value.fields]
