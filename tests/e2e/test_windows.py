"""Long texts in windows have the vectors and scores that one makes of their windows by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client, InvalidArgument, LongTexts, WindowPooling, WireType
from tests.support.checkpoints import TEXTS
from tests.support.hosted import hosted

Checkpoint = Callable[[str], Path]
NEAR = 1e-5
LENGTH, STRIDE = 40, 7
LONG: LongTexts = "windows"
SOME = (*TEXTS[:4], "", "fox", "word " * 150, "the quick brown fox jumps " * 30)


@pytest.fixture(scope="module")
def client(checkpoint: Checkpoint, compile_cache: Path) -> Iterator[Client]:
    models = {"topics": checkpoint("bert-classifier"), "reranker": checkpoint("bert-cross-encoder")}
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted(models, compile_cache, Path(folder)) as address,
        Client(address) as connected,
    ):
        yield connected


def windows_of(client: Client, texts: Any, **options: Any) -> list[list[Any]]:
    """Return the tokens of each window of each text."""
    found: list[list[Any]] = [[] for _ in texts]
    for tokens in client.tokenize(texts, max_length=LENGTH, stride=STRIDE, overflow=True, **options):
        found[tokens.text_index].append(tokens)
    assert any(len(each) > 2 for each in found)
    assert any(len(each) == 1 for each in found)
    return found


def pooled(rows: Any, windows: list[Any], how: WindowPooling) -> Any:
    if how == "max":
        return np.max(rows, axis=0)
    weights = [len(each.token_ids) for each in windows] if how == "weighted" else None
    return np.average(rows, axis=0, weights=weights)


@pytest.mark.parametrize("how", ["mean", "max", "weighted"])
@pytest.mark.parametrize("normalize", [False, True])
def test_one_vector_of_windows(client: Client, how: WindowPooling, normalize: bool) -> None:
    windows = windows_of(client, SOME)
    want = []
    for each in windows:
        vector = pooled(client.encode(each, normalize=normalize), each, how)
        want.append(vector / np.linalg.norm(vector) if normalize else vector)
    cut: dict[str, Any] = {"max_length": LENGTH, "stride": STRIDE, "normalize": normalize}
    got = client.encode(SOME, long_texts=LONG, window_pooling=how, **cut)
    np.testing.assert_allclose(got, want, atol=NEAR)
    streamed = client.encode_stream(SOME, long_texts=LONG, window_pooling=how, batch_size=3, **cut)
    np.testing.assert_allclose(np.concatenate([each.vectors for each in streamed]), got, atol=NEAR)
    alone = client.encode(SOME[-1], long_texts=LONG, window_pooling=how, **cut)
    np.testing.assert_allclose(alone, got[-1], atol=NEAR)  # whatever else is in the batch


def test_a_vector_of_each_window(client: Client) -> None:
    windows = windows_of(client, SOME)
    got = client.encode_windows(SOME, max_length=LENGTH, stride=STRIDE)
    assert [len(each) for each in got] == [len(each) for each in windows]
    for found, each in zip(got, windows, strict=True):
        np.testing.assert_allclose(found, client.encode(each), atol=NEAR)


def test_vectors_of_windows_in_other_types(client: Client) -> None:
    cut: dict[str, Any] = {"max_length": LENGTH, "long_texts": LONG, "normalize": True}
    exact = client.encode(SOME, **cut)
    wire_types: dict[WireType, float] = {"float16": 1e-3, "bfloat16": 4e-3, "int8": 4e-3}
    for wire_type, near in wire_types.items():
        np.testing.assert_allclose(client.encode(SOME, wire_type=wire_type, **cut), exact, atol=near)


def test_labels_of_windows(client: Client) -> None:
    windows = windows_of(client, SOME)
    found = client.classify([tokens for each in windows for tokens in each])
    rows = [[one.score for one in sorted(labels, key=lambda label: label.label_id)] for labels in found]
    ends = np.cumsum([len(each) for each in windows])[:-1]
    hows: tuple[WindowPooling, ...] = ("mean", "max", "weighted")
    for how in hows:
        got = client.classify(SOME, max_length=LENGTH, stride=STRIDE, long_texts=LONG, window_pooling=how)
        for labels, scores, each in zip(got, np.split(np.array(rows), ends), windows, strict=True):
            want = pooled(scores, each, how)
            assert [label.label_id for label in labels] == np.argsort(-want, kind="stable").tolist()
            np.testing.assert_allclose([label.score for label in labels], np.sort(want)[::-1], atol=NEAR)
    best = client.classify(SOME, max_length=LENGTH, stride=STRIDE, long_texts=LONG, top_k=2)
    assert [len(each) for each in best] == [2] * len(SOME)


def test_documents_in_windows(client: Client) -> None:
    query = "a quick fox"
    windows = windows_of(client, [(query, each) for each in SOME], model="reranker", truncation="only_second")
    pairs = [tokens for each in windows for tokens in each]
    scores = iter([float(found[0].score) for found in client.classify(pairs, model="reranker", function="none")])
    want = [max(next(scores) for _ in each) for each in windows]
    cut: dict[str, Any] = {"max_length": LENGTH, "stride": STRIDE, "long_texts": LONG, "model": "reranker"}
    ranked = client.rerank(query, SOME, function="none", **cut)
    assert [each.index for each in ranked] == np.argsort(-np.array(want), kind="stable").tolist()
    np.testing.assert_allclose([each.score for each in ranked], sorted(want, reverse=True), atol=NEAR)


def test_what_does_not_go_with_windows(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="POOLED alone"):
        client.encode_spans(["fox"], [[(0, 3)]], long_texts=LONG)
    with pytest.raises(InvalidArgument, match="not between 0 and"):
        client.encode("fox", long_texts=LONG, stride=5000)
    with pytest.raises(InvalidArgument, match="only_first"):
        client.encode([("a", "b")], long_texts=LONG)
    with pytest.raises(InvalidArgument, match="only with windows"):
        client.encode("fox", stride=3)
    with pytest.raises(ValueError, match="one of 'cut', 'windows'"):
        client.encode("fox", long_texts="all")  # type: ignore[arg-type]
