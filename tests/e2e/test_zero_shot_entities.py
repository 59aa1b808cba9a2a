"""Entities by the caller's labels, through every door, are those of the checkpoint run as its authors do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertstream.client import Client, Entity, FailedPrecondition, InvalidArgument
from tests.support.checkpoints import CORPUS
from tests.support.gliner import reference
from tests.support.hosted import free_port, hosted
from tests.support.web import JSON, ask

NEAR = 5e-5  # the head multiplies what the sums of states differ by
MODELS = ("gliner", "gliner-bert")
LABELS = ["animal", "big city", "Wetter"]
TEXTS = [*CORPUS, "", " ", "fox", "Angela's fox-trot, in_2015!", "\u2603\u2602 \u16a0\u16a1", "The fox. " * 40]
Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="module")
def served(checkpoint: Checkpoint, compile_cache: Path) -> Iterator[tuple[Client, str]]:
    """Yield a client, and the URL of HTTP."""
    models, port = {name: checkpoint(name) for name in MODELS}, free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted(models, compile_cache, Path(folder), port) as address,
        Client(address) as connected,
    ):
        yield connected, f"http://127.0.0.1:{port}"


@pytest.fixture
def client(served: tuple[Client, str]) -> Client:
    return served[0]


def same(ours: list[Entity], theirs: list[Any]) -> None:
    assert [(each.label, each.start, each.end) for each in ours] == [each[:3] for each in theirs]
    assert [each.score for each in ours] == pytest.approx([each[3] for each in theirs], abs=NEAR, rel=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, {}),
        ({"nested": True, "threshold": 0.6}, {"nested": True, "threshold": 0.6}),
        ({"multi_label": True, "nested": True, "threshold": 0.4}, {"multi": True, "nested": True, "threshold": 0.4}),
    ],
)
def test_entities_are_those_of_the_authors(
    client: Client, checkpoint: Checkpoint, name: str, options: Any, given: Any
) -> None:
    theirs = [reference(checkpoint(name)).entities(text, LABELS, **given) for text in TEXTS]
    ours = client.entities(TEXTS, labels=LABELS, model=name, **options)
    for text, each, expected in zip(TEXTS, ours, theirs, strict=True):
        same(each, expected)
        assert [entity.word for entity in each] == [text[entity.start : entity.end] for entity in each]
    assert sum(map(len, ours)) > 20
    streamed = {
        item: result
        for batch in client.predict_stream("entities", TEXTS, labels=LABELS, model=name, **options)
        for item, result in zip(batch.ids.tolist(), batch.results, strict=True)
    }
    assert [streamed[item] for item in range(len(TEXTS))] == ours


@pytest.mark.parametrize("name", MODELS)
def test_a_text_has_the_same_answer_alone(client: Client, name: str) -> None:
    options: Any = {"labels": LABELS, "model": name, "threshold": 0.3, "multi_label": True}
    together = client.entities(TEXTS, **options)
    assert [client.entities(text, **options) for text in TEXTS[:4]] == together[:4]


def test_windows_and_lists_of_words(client: Client, checkpoint: Checkpoint) -> None:
    own = reference(checkpoint("gliner"))
    long = " ".join(CORPUS[:4] * 3)
    cut = client.entities(long, labels=LABELS, model="gliner")
    same(cut, own.entities(long, LABELS))
    whole = client.entities(long, labels=LABELS, model="gliner", windows=True)
    assert whole[-1].end > cut[-1].end + 100
    words = ["The", "quick", "brown", "fox"]
    (found,) = client.entities([words], labels=LABELS, model="gliner")
    same(found, own.entities(" ".join(words), LABELS))


def test_entities_by_http(served: tuple[Client, str]) -> None:
    client, url = served
    body = {"inputs": CORPUS[0], "labels": LABELS, "threshold": 0.4, "nested": True, "model": "gliner-bert"}
    answer = ask(f"{url}/v1/entities", json.dumps(body).encode(), JSON)
    assert answer.status == 200, answer.text
    ours = client.entities(CORPUS[0], labels=LABELS, threshold=0.4, nested=True, model="gliner-bert")
    keys = ("entity_group", "word", "start", "end")
    assert [[each[key] for key in keys] for each in answer.json] == [[e.label, e.word, e.start, e.end] for e in ours]
    unnamed = ask(f"{url}/v1/entities", json.dumps({"inputs": "fox", "labels": ["animal"]}).encode(), JSON)
    assert unnamed.status == 200, unnamed.text  # by the first model that finds entities


def test_what_such_a_model_is(client: Client) -> None:
    found = {model.name: model for model in client.models()}
    assert [found[name].heads for name in MODELS] == [("zero_shot_entities",)] * 2
    assert [found[name].architecture for name in MODELS] == ["GLiNER"] * 2
    assert client.encode("fox", model="gliner").shape == (36,)
    with pytest.raises(InvalidArgument, match=r"options\.labels: the list is empty; say what to look for"):
        client.entities("fox", model="gliner")
    with pytest.raises(FailedPrecondition, match="has no head sequence_classification"):
        client.classify("fox", model="gliner")
    with pytest.raises(InvalidArgument, match="more than 509 tokens, which leaves no room"):
        client.entities("fox", model="gliner", labels=["fox " * 600])
