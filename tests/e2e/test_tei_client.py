"""`tei-client`, a client of text-embeddings-inference, works unchanged: the numbers are those of our own client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.imports import ROOT

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]
PAIR = ("The quick brown fox", "It jumps")


@pytest.fixture(scope="module")
def client(documented: str) -> Iterator[Client]:
    with Client(documented) as opened:
        yield opened


@pytest.fixture(scope="module", params=["sync", "async"])
def theirs(request: pytest.FixtureRequest, documented: str) -> Any:
    """Return all of its answers, from either half of it."""
    command = [sys.executable, "-m", "tests.support.tei_client", documented, request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_vectors(theirs: Any, client: Client) -> None:
    ours = client.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(np.array(theirs["embed"], np.float32), ours, atol=1e-6)
    (tokens,) = client.forward(TEXTS[0], ["last_hidden_state"])
    np.testing.assert_array_equal(np.array(theirs["embed_all"][0], np.float32), tokens.last_hidden_state)


def test_tokens(theirs: Any, client: Client) -> None:
    ours = client.tokenize(TEXTS)
    assert [[token["id"] for token in each["tokens"]] for each in theirs["tokenize"]] == [
        each.token_ids.tolist() for each in ours
    ]
    first = [token["text"] for token in theirs["tokenize"][0]["tokens"]]
    assert first == ["[CLS]", "The", "quick", "brown", "fox", "[SEP]"]
    assert theirs["decode"] == ["[CLS] [MASK] [SEP]", "[MASK]"]


def test_labels(theirs: Any, client: Client) -> None:
    ours = [*client.classify(TEXTS, model="nli"), client.classify(PAIR, model="nli")]
    for given, labels in zip([*theirs["classify"], *theirs["classify_pair"]], ours, strict=True):
        assert [each["label"] for each in given["scores"]] == [each.label for each in labels]
        scores = [each["score"] for each in given["scores"]]
        np.testing.assert_allclose(scores, [each.score for each in labels], atol=1e-6)


def test_ranks(theirs: Any, client: Client) -> None:
    ours = client.rerank(TEXTS[0], TEXTS, model="reranker", function="sigmoid", truncation="longest_first")
    assert [(each["index"], each["text"]) for each in theirs["rerank"]["ranks"]] == [
        (each.index, TEXTS[each.index]) for each in ours
    ]
    scores = [each["score"] for each in theirs["rerank"]["ranks"]]
    np.testing.assert_allclose(scores, [each.score for each in ours], atol=1e-6)


def test_what_it_tells_of_models(theirs: Any, client: Client) -> None:
    told, model = theirs["info"], client.model("")
    assert (told["server_model_id"], told["server_model_sha"]) == (model.name, model.revision)
    assert (told["server_model_type"], told["max_input_length"]) == ("embedding", model.default_max_length)
    assert theirs["info_of_reranker"]["server_model_type"] == "reranker"
    assert theirs["prompt_names"] == []
